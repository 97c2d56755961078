"""Publish: files that are there whole or not at all, and are not touched when nothing has changed."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from stenopool.domain import (
    Coverage,
    CoverageKind,
    CoveragePiece,
    Options,
    Provenance,
    Segment,
    Span,
    Transcript,
)
from stenopool.errors import UsageError
from stenopool.formats import FORMATS, KEPT, format_of, render
from workers.publish import output_name, publish, write_atomically

LONG_AGO = 10**18  # nanoseconds since 1970: the year 2001


def transcript(text: str = " Hello.", channel: int | None = None) -> Transcript:
    """A second of speech."""
    whole = Span(0, 16_000)
    segment = Segment(span=whole, text=text, chunk=0, avg_logprob=-0.5, compression_ratio=1, no_speech_prob=0)
    return Transcript(
        source="talk.mp3",
        recording="5e" * 32,
        duration=16_000,
        language="en",
        language_probability=None,
        segments=(segment,),
        coverage=Coverage((CoveragePiece(span=whole, kind=CoverageKind.TRANSCRIBED),)),
        provenance=Provenance(model="pocket", model_digest="d", dtype="float32", options=Options(), version="1"),
        channel=channel,
    )


@pytest.fixture
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    """The umask that the test asks for."""
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def names(folder: Path) -> list[str]:
    """All files of a folder, hidden ones, too."""
    return sorted(path.name for path in folder.iterdir())


def test_each_format_is_a_file(tmp_path: Path) -> None:
    """The folder is made; the files hold what the writers write, and their paths come back in the order asked for."""
    folder = tmp_path / "deep" / "out"

    written = publish(transcript(), folder, "talk", FORMATS)

    assert written == [folder / f"talk.{format_of(format).ending}" for format in FORMATS]
    assert written[:5] == [folder / f"talk.{format}" for format in KEPT]
    assert names(folder) == sorted({path.name for path in written})
    assert len(written) == len(FORMATS)
    for path, format in zip(written, FORMATS, strict=True):
        assert path.read_bytes() == render(transcript(), format).encode()


def test_nothing_is_asked_for(tmp_path: Path) -> None:
    """Without formats there is nothing to write, not even a folder."""
    assert publish(transcript(), tmp_path / "out", "talk", []) == []
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("channel", "stem", "expected"),
    [
        (None, "talk", "talk.srt"),
        (1, "talk", "talk.channel1.srt"),
        (12, "talk", "talk.channel12.srt"),
        (None, "talk.v2.final", "talk.v2.final.srt"),
        (2, ".hidden", ".hidden.channel2.srt"),
    ],
)
def test_names(tmp_path: Path, channel: int | None, stem: str, expected: str) -> None:
    """Split channels are told apart; a stem keeps its own dots."""
    assert output_name(stem, channel, "srt") == expected
    assert publish(transcript(channel=channel), tmp_path, stem, ["srt"]) == [tmp_path / expected]


def test_files_that_are_up_to_date_are_not_written(tmp_path: Path) -> None:
    """Their time stays, and they are not in the answer; only what changed is."""
    formats = ["txt", "json"]
    publish(transcript(), tmp_path, "talk", formats)
    for name in names(tmp_path):
        os.utime(tmp_path / name, ns=(LONG_AGO, LONG_AGO))

    assert publish(transcript(), tmp_path, "talk", formats) == []
    assert [(tmp_path / name).stat().st_mtime_ns for name in names(tmp_path)] == [LONG_AGO, LONG_AGO]

    surer = replace(transcript(), language_probability=0.5)  # which plain text does not say
    assert publish(surer, tmp_path, "talk", formats) == [tmp_path / "talk.json"]
    assert (tmp_path / "talk.txt").stat().st_mtime_ns == LONG_AGO
    assert (tmp_path / "talk.json").read_text() == render(surer, "json")
    assert names(tmp_path) == ["talk.json", "talk.txt"]


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077, 0o000], indirect=True)
def test_permissions_follow_the_umask(tmp_path: Path, umask: int) -> None:
    """As for any file that a program makes: neither private nor open by our choice."""
    [path] = publish(transcript(), tmp_path, "talk", ["txt"])

    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    """While it is replaced, it is the old one or the new one."""
    path = tmp_path / "talk.json"
    contents = (b"a" * 400_000, b"b" * 300_000)
    path.write_bytes(contents[0])
    seen = set()
    stop = threading.Event()

    def reader() -> None:
        while not stop.is_set():
            seen.add(path.read_bytes())

    thread = threading.Thread(target=reader)
    thread.start()
    for i in range(20):
        write_atomically(path, contents[i % 2])
    stop.set()
    thread.join()

    assert seen <= set(contents)
    assert path.read_bytes() == contents[1]
    assert names(tmp_path) == ["talk.json"]


@pytest.mark.parametrize("letter", ["x", "ж", "語"])
def test_names_as_long_as_names_can_be(tmp_path: Path, letter: str) -> None:
    """The temporary file's name is no longer than the file's own, which may have 255 bytes."""
    longest = (255 - len(".txt")) // len(letter.encode())
    [path] = publish(transcript(), tmp_path, letter * longest, ["txt"])

    assert path.read_text() == "Hello.\n"
    assert names(tmp_path) == [path.name]


def test_a_name_that_is_too_long(tmp_path: Path) -> None:
    """It is refused in one line."""
    with pytest.raises(UsageError, match=r"^[^\n]*x\.txt: cannot be written \(File name too long\)[^\n]*$"):
        publish(transcript(), tmp_path, "x" * 252, ["txt"])
    assert names(tmp_path) == []


@pytest.mark.parametrize(("folder", "why"), [("file", "File exists"), ("file/out", "Not a directory")])
def test_a_folder_that_cannot_be_written_to(tmp_path: Path, folder: str, why: str) -> None:
    """Below a regular file there is no folder; the line names the file, the cause and the option."""
    (tmp_path / "file").write_text("mine")

    with pytest.raises(UsageError) as error:
        publish(transcript(), tmp_path / folder, "talk", ["txt"])

    path = tmp_path / folder / "talk.txt"
    assert str(error.value) == f"{path}: cannot be written ({why}); choose another folder with -o"
    assert (tmp_path / "file").read_text() == "mine"


def test_a_folder_in_the_files_place(tmp_path: Path) -> None:
    """Nothing is left of the attempt."""
    (tmp_path / "talk.txt").mkdir()

    with pytest.raises(UsageError) as error:
        publish(transcript(), tmp_path, "talk", ["txt"])

    path = tmp_path / "talk.txt"
    assert str(error.value) == f"{path}: cannot be written (Is a directory); choose another folder with -o"
    assert names(tmp_path) == ["talk.txt"]
    assert names(path) == []


def test_a_format_that_there_is_not(tmp_path: Path) -> None:
    """It is refused before its file is made."""
    with pytest.raises(UsageError, match=r"^unknown format 'doc': choose from "):
        publish(transcript(), tmp_path / "out", "talk", ["doc"])
    assert names(tmp_path) == []
