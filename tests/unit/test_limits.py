"""Limits: what is more is refused at once, in a line that names the limit and its setting; less is as ever."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stenopool.config import Limits
from stenopool.errors import MediaBeyondLimit, MediaUnreadable
from storage.folder import FolderStore
from tests import sounds
from workers.ingest import ingest
from workers.limits import Headway, beyond
from workers.media import Decoder, probe

#: A megabyte, 3.6 seconds, two channels.
LIMITS = Limits(size=1e6, seconds=3.6, channels=2)


def refusal(path: Path, limits: Limits = LIMITS) -> str:
    """Why it is not taken; said by whoever looks at it, and before anything is decoded."""
    with pytest.raises(MediaBeyondLimit) as error:
        probe(path, limits)
    return str(error.value)


def test_what_is_just_within_is_taken() -> None:
    """The limits themselves are no excess."""
    assert beyond(LIMITS, size=1e6, channels=2, seconds=3.6) is None
    assert beyond(Limits(), size=99e9, channels=64, seconds=48 * 3600) is None


def test_a_file_that_is_too_large(tmp_path: Path) -> None:
    """Nothing of it is read."""
    path = sounds.write(tmp_path / "a.wav", sounds.noise(1))
    os.truncate(path, 1_500_000)

    assert refusal(path) == f"{path}: has 0.0015 GB, and 0.001 at most are taken; raise STENOPOOL_MAX_GB"


def test_a_file_with_too_many_channels(tmp_path: Path) -> None:
    """Mixed or apart."""
    path = sounds.write(tmp_path / "a.wav", sounds.noise(1, channels=4))

    assert refusal(path) == f"{path}: has 4 channels, and 2 at most are taken; raise STENOPOOL_MAX_CHANNELS"


def test_a_file_that_says_to_be_too_long(tmp_path: Path) -> None:
    """Its header is believed."""
    path = sounds.write(tmp_path / "a.flac", sounds.noise(6))

    most = "0.001 hours"
    assert refusal(path) == f"{path}: lasts longer than the {most} that are taken; cut it, or raise STENOPOOL_MAX_HOURS"


def test_a_file_that_turns_out_to_be_too_long(tmp_path: Path) -> None:
    """A bare stream announces nothing: it is decoded as far as it may go, and no draft is left."""
    path = sounds.write(tmp_path / "a.aac", sounds.noise(31)[0])
    limits = Limits(seconds=18.0)
    with Decoder(path, limits=limits) as decoder, pytest.raises(MediaBeyondLimit) as error:
        for _ in decoder:
            pass

    assert str(error.value).startswith(f"{path}: lasts longer than the 0.005 hours")
    assert decoder.samples == 20 * 16_000
    store = FolderStore(tmp_path / "objects")
    with pytest.raises(MediaBeyondLimit):
        ingest(path, store, split=False, vad=False, stop=threading.Event(), limits=limits)
    assert not [one for one in (tmp_path / "objects").rglob("*") if one.is_file()]


def test_a_file_within_the_limits_is_as_without(tmp_path: Path) -> None:
    """The same samples."""
    path = sounds.write(tmp_path / "a.mp3", sounds.noise(3, channels=2))
    with Decoder(path) as free, Decoder(path, limits=LIMITS) as bound:
        assert np.array_equal(np.concatenate(list(free), 1), np.concatenate(list(bound), 1))


@pytest.mark.parametrize("channels", [65, 512, 1000, 65_535])
def test_more_channels_than_ffmpeg_decodes(tmp_path: Path, channels: int) -> None:
    """It is the number that is said, not that the packets are invalid."""
    path = tmp_path / "a.wav"
    path.write_bytes(wav(channels=channels, rate=16_000, bits=16, data=bytes(2 * channels * 100)))

    assert refusal(path, Limits()).endswith(
        f"has {channels} channels, and 64 at most are taken; raise STENOPOOL_MAX_CHANNELS"
    )


def wav(*, channels: int, rate: int, bits: int, data: bytes, claimed: int | None = None) -> bytes:
    """A WAV file that claims to hold so many bytes of samples."""
    size = len(data) if claimed is None else claimed
    block = channels * bits // 8
    head = struct.pack("<HHIIHH", 1, channels, rate, min(rate * block, 2**32 - 1), min(block, 65_535), bits)
    return b"RIFF" + struct.pack("<I", min(36 + size, 2**32 - 1)) + b"WAVEfmt " + struct.pack("<I", 16) + head + (
        b"data" + struct.pack("<I", size) + data
    )  # fmt: skip


# Time


def test_who_keeps_up_is_never_lost() -> None:
    """However long it takes, and though it stood still for a while now and then."""
    headway, at = Headway(10.0), 0.0
    for second in range(4000):
        at += 0.0 if second % 100 < 9 else 1.2
        assert not headway.lost(1.0, at)


def test_who_stands_still_is_lost_when_the_patience_is_over() -> None:
    """From the moment on in which it was abreast for the last time: a fast beginning is no credit."""
    headway = Headway(10.0)

    assert not headway.lost(1.0, 3600.0)
    assert not headway.lost(10.0, 3600.0)
    assert headway.lost(0.1, 3600.0)


@given(pace=st.floats(0.0, 0.9), step=st.floats(0.1, 1.0))
def test_who_is_slow_is_lost_in_the_end(pace: float, step: float) -> None:
    """The slower, the sooner: it falls behind by what it does not do."""
    headway, now = Headway(10.0), step
    while not headway.lost(step, pace * now):
        now += step

    assert now * (1 - pace) > 10.0 - 1e-3
    assert (now - step) * (1 - pace) < 10.0 + 1e-3


# Memory

_PEAK = """
import resource, sys
from pathlib import Path
from stenopool.config import Limits
from stenopool.errors import MediaError
from workers.media import Decoder
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    with Decoder(Path(sys.argv[1]), limits=Limits()) as decoder:
        for _ in decoder: pass
    print(decoder.samples)
except MediaError as error:
    print(type(error).__name__)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def peak(path: Path) -> tuple[str, int]:
    """What becomes of a file, and how many MB that takes."""
    done = subprocess.run(
        [sys.executable, "-c", _PEAK, path],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    said, growth = done.stdout.split()
    return said, int(growth)


@pytest.mark.parametrize("kind", ["wav", "flac"])
def test_a_header_that_claims_enormous_things_costs_nothing(tmp_path: Path, kind: str) -> None:
    """Days of sound in a few bytes: refused by what it says, without room for it."""
    path = tmp_path / f"a.{kind}"
    if kind == "wav":
        path.write_bytes(wav(channels=1, rate=8000, bits=8, data=bytes(8000), claimed=2**31 - 2**17))
    else:
        data = bytearray(sounds.write(path, sounds.noise(1)).read_bytes())
        data[21] |= 0x0F  # of 36 bits that count the samples, the first 4
        data[22:26] = b"\xff" * 4
        path.write_bytes(data)

    said, growth = peak(path)

    assert said == "MediaBeyondLimit"
    assert growth < 50


def test_a_rate_that_claims_enormous_things_costs_nothing(tmp_path: Path) -> None:
    """A second of it would fill the memory: the filter's work is bounded by what rates there are."""
    path = tmp_path / "a.wav"
    path.write_bytes(wav(channels=1, rate=2**31 - 1, bits=16, data=bytes(1_000_000)))
    with pytest.raises(MediaUnreadable):
        probe(path)

    assert peak(path)[1] < 50
