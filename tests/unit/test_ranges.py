"""Which bytes are asked for, and the header of what is sent."""

from __future__ import annotations

import struct

import pytest

from stenopool.api.ranges import Bytes, Unsatisfiable, asked
from workers.wav import wav_header


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        ("bytes=0-0", Bytes(0, 1)),
        ("bytes=10-19", Bytes(10, 20)),
        ("bytes=90-", Bytes(90, 100)),
        ("bytes=90-200", Bytes(90, 100)),
        ("bytes=-10", Bytes(90, 100)),
        ("bytes=-1000", Bytes(0, 100)),
        (" BYTES=0- ", Bytes(0, 100)),
        (None, None),
        ("", None),
        ("bytes=0-1,5-6", None),
        ("bytes=9-8", None),
        ("bytes=-", None),
        ("bytes=a-b", None),
        ("lines=0-1", None),
        ("bytes=" + "9" * 20 + "-", None),
    ],
)
def test_a_range_is_read_as_the_standard_has_it(header: str | None, wanted: Bytes | None) -> None:
    """Of a hundred bytes; what is no single range is no range."""
    assert asked(header, 100) == wanted


@pytest.mark.parametrize(("header", "size"), [("bytes=100-", 100), ("bytes=-0", 100), ("bytes=0-", 0), ("bytes=-5", 0)])
def test_a_range_that_has_nothing_is_refused(header: str, size: int) -> None:
    """It begins behind the end."""
    with pytest.raises(Unsatisfiable):
        asked(header, size)


def test_a_part_of_other_bytes_is_not_completed() -> None:
    """If-Range names what the caller has."""
    assert asked("bytes=5-", 10, if_range='"a"', tag='"a"') == Bytes(5, 10)
    assert asked("bytes=5-", 10, if_range='"b"', tag='"a"') is None
    assert asked("bytes=50-", 10, if_range='"b"', tag='"a"') is None


def test_what_is_longer_than_wav_can_say_is_rf64() -> None:
    """Two gigasamples and a few more."""
    most = (2**32 - 1 - 36) // 2
    assert wav_header(most, 1)[:8] == struct.pack("<4sI", b"RIFF", 36 + 2 * most)

    header = wav_header(most + 1, 1)

    assert (header[:4], header[12:16], header[-8:]) == (b"RF64", b"ds64", b"data\xff\xff\xff\xff")
    whole, data, frames, table = struct.unpack("<QQQI", header[20:48])
    assert (whole, data, frames, table) == (len(header) - 8 + data, 2 * (most + 1), most + 1, 0)
