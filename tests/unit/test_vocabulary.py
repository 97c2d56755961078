"""Words to expect in a recording, from files."""

from __future__ import annotations

from pathlib import Path

import pytest

from stenopool.cli.vocabulary import read_vocabulary
from stenopool.errors import UsageError


def test_one_file_is_for_all_recordings(tmp_path: Path) -> None:
    """A word or a name on each line; blank lines and a byte order mark are nothing."""
    file = tmp_path / "names.txt"
    file.write_text("\ufeffZoë\n\n  Anne-Marie Dupont \r\nKubernetes\n", encoding="utf-8")

    assert read_vocabulary(file, "talk.mp3") == "Zoë, Anne-Marie Dupont, Kubernetes"
    assert read_vocabulary(None, "talk.mp3") is None


def test_a_folder_has_a_file_for_each(tmp_path: Path) -> None:
    """By the recording's name; one without a file has no words of its own."""
    (tmp_path / "talk.txt").write_text("Grace\n")
    (tmp_path / "empty.txt").write_text("\n")

    assert read_vocabulary(tmp_path, "shows/talk.mp3") == "Grace"
    assert read_vocabulary(tmp_path, "empty.wav") is None
    assert read_vocabulary(tmp_path, "other.mp3") is None


def test_what_cannot_be_read(tmp_path: Path) -> None:
    """One line that names the file."""
    (tmp_path / "sound.txt").write_bytes(b"\xff\xfe\xfa")

    with pytest.raises(UsageError, match=r"^--vocabulary .*gone.txt: does not exist; name a text file, or a folder"):
        read_vocabulary(tmp_path / "gone.txt", "talk.mp3")
    with pytest.raises(UsageError, match=r"^--vocabulary .*sound.txt: cannot be read as text"):
        read_vocabulary(tmp_path / "sound.txt", "talk.mp3")
