"""Words to expect in a recording, from files: one for all recordings, or a folder with one for each."""

from __future__ import annotations

from pathlib import Path

from stenopool.errors import UsageError


def read_vocabulary(path: Path | None, recording: str) -> str | None:
    """The words for a recording, as one text; None where there are none.

    Args:
        path: a text file with a word or a name on each line, or a folder of such files: that of talk.mp3 is talk.txt.
        recording: the recording's name.

    Raises:
        UsageError: there is no such file, or it is no text.
    """
    if path is None:
        return None
    file = path / f"{Path(recording).stem}.txt" if path.is_dir() else path
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        if path.is_dir():  # most recordings have no names of their own
            return None
        raise UsageError(f"--vocabulary {path}: does not exist; name a text file, or a folder of them") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--vocabulary {file}: cannot be read as text ({error})") from error
    return ", ".join(word for line in lines if (word := line.strip())) or None
