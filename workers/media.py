"""Any audio or video file to int16 PCM at 16 kHz: streamed, with flat memory, sample-exact.

Decoding stays in the thread that asks for it: audio codecs gained nothing from FFmpeg's own threads when that was
measured.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path
from types import TracebackType
from typing import Self

import av
import numpy as np

from stenopool.config import Limits
from stenopool.domain import SAMPLE_RATE
from stenopool.errors import MediaBeyondLimit
from workers.limits import beyond
from workers.resample import Pcm, Resampler
from workers.source import (
    ENCRYPTED,
    announced_channels,
    announced_length,
    check_memory,
    ends_in_cut_page,
    open_container,
    open_source,
    shown,
    unreadable,
)

BLOCK = 10 * SAMPLE_RATE  # samples per block that a Decoder gives; the last one is shorter

#: A source has ended early if more than this much of what its header says is missing, and more than this share.
TOLERANCE, TOLERANCE_SHARE = Fraction(1), Fraction(1, 100)  # second; of the whole
#: Time stamps that leave a longer hole than this are not believed.
LONGEST_HOLE = Fraction(3600)  # seconds
#: How often in a row the demuxer may fail before the source counts as ended.
STUMBLES = 3
#: No recorder is slower or faster; a damaged header would have a sample become seconds, or the filter fill the memory.
RATES = range(1000, 4_000_001)  # samples per second
#: How many frames are decoded to see whether it is sound at all.
TASTE = 8

#: Containers whose time stamps are kept well enough to see a hole by them, and from what length on, in seconds.
#: FLAC numbers its samples; elsewhere less than FFmpeg's own bound for a jump (0.1 s) is jitter.
_STAMPED = {"flac": Fraction(1, 1000), "matroska": Fraction(1, 10), "mov": Fraction(1, 10), "ogg": Fraction(1, 10)}
#: Bare streams of packets without a container: what lies between two packets is not time.
_BARE = ("aac", "ac3", "eac3", "mp3")

#: A frame, and the seconds that were lost to damage right before it; None where nothing was, as with nearly all.
Sound = tuple[av.AudioFrame, Fraction | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What a source is, as its container and its first frame say."""

    #: FFmpeg's name of the container, such as "wav" or "matroska,webm".
    container: str
    #: FFmpeg's name of the codec, such as "opus".
    codec: str
    channels: int
    #: Samples per second of the source.
    sample_rate: int
    #: How long it should be, None where nobody knows; an estimate where there is no header that says so.
    seconds: float | None
    #: Whether a header says so that was written when the recording was whole.
    announced: bool


def probe(path: Path, limits: Limits | None = None) -> Probe:
    """What the source at `path` is; opens it and decodes one frame.

    Raises:
        MediaMissing: there is no such file, or it cannot be read.
        MediaUnreadable: it is there, but no sound can be had from it.
        MediaBeyondLimit: it is more than the limits allow, if there are any.
    """
    with Decoder(path, limits=limits) as decoder:
        return decoder.probe


class Decoder:
    """The sound of a source as blocks of int16 `[channels, n]` at 16 kHz; a context manager to be iterated once.

    Channels are mixed to one, or kept apart with `split`. What is damaged on the way becomes silence of the same
    length, so that times stay true. Making one raises the errors of `probe`; iterating raises MediaUnreadable
    only where encrypted sound follows clear sound, and MediaBeyondLimit where it lasts longer than was announced.

    Memory is flat, but for the index of an MP4: FFmpeg holds it, about 75 bytes for each packet of the track
    (100 MB for 24 hours of AAC at 16 kHz).
    """

    def __init__(self, path: Path, *, split: bool = False, limits: Limits | None = None) -> None:
        #: Samples given so far, per channel.
        self.samples = 0
        #: Packets that could not be decoded.
        self.damaged = 0
        #: Seconds of silence put in where packets were damaged or the time stamps leave a hole.
        self.filled = Fraction(0)
        #: Why the source ended before its own end; None where it did not, or where iteration has not come that far.
        self.ended_early: str | None = None
        self._path = path
        self._limits = limits
        self._stopped: str | None = None
        self._lost: Fraction | None = None  # seconds of damaged packets since the last good frame
        self._source = open_source(path)
        try:
            self._check(size=self._source.size)
            self._container, self._stream = open_container(path, self._source)
            self._bare = self._container.format.name in _BARE
            self._expected, self._trusted = announced_length(self._container, self._stream, self._source)
            # Before anything is decoded: FFmpeg has no better word for too many channels than that they are invalid.
            announced = float(self._expected or 0) if self._trusted else 0.0
            channels = announced_channels(self._container, self._stream, self._source)
            self._check(channels=channels, seconds=announced)
            self._frames = self._decoded()
            self._ahead = self._tasted()
        except BaseException:
            self.close()
            raise
        first, _ = self._ahead[0]
        self.probe = Probe(
            container=self._container.format.name,
            codec=self._stream.codec_context.codec.canonical_name,
            channels=first.layout.nb_channels,
            sample_rate=first.sample_rate,
            seconds=None if self._expected is None else float(self._expected),
            announced=self._trusted,
        )
        #: Rows of each block.
        self.channels = self.probe.channels if split else 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let the file go."""
        if hasattr(self, "_container"):
            self._container.close()
        self._source.close()

    def __iter__(self) -> Iterator[Pcm]:
        block, filled = np.empty((self.channels, BLOCK), np.int16), 0
        for piece in self._pieces():
            at = 0
            while at < piece.shape[1]:
                part = piece[:, at : at + BLOCK - filled]
                block[:, filled : filled + part.shape[1]] = part
                at, filled = at + part.shape[1], filled + part.shape[1]
                if filled == BLOCK:
                    self._count(BLOCK)
                    yield block
                    block, filled = np.empty((self.channels, BLOCK), np.int16), 0
        self._count(filled)
        self.ended_early = self._verdict()
        if filled:
            yield np.ascontiguousarray(block[:, :filled])

    def _count(self, samples: int) -> None:
        self.samples += samples
        self._check(seconds=self.samples / SAMPLE_RATE)

    def _check(self, **found: float) -> None:
        if self._limits is not None and (reason := beyond(self._limits, **found)):
            raise MediaBeyondLimit(f"{shown(self._path)}: {reason}")

    def _pieces(self) -> Iterator[Pcm]:
        """PCM as the resampler gives it, with silence where sound is missing."""
        resampler = Resampler(self.channels)
        shortest = _STAMPED.get(self._container.format.name.split(",")[0])
        origin = Fraction(self._container.start_time or 0, 1_000_000)
        clock = _Clock()
        for frame, missing in chain(self._ahead, self._frames):
            if shortest and frame.pts is not None and frame.time_base is not None:
                ahead = frame.pts * frame.time_base - origin - clock.seconds
                if shortest <= ahead <= self._longest_hole(clock):
                    missing = ahead
                elif abs(ahead) >= shortest:  # a new count of time, as where recordings were joined: go on from here
                    origin += ahead
            if missing and (missing := min(missing, self._longest_hole(clock))) > 0:
                silence = round(missing * frame.sample_rate)
                yield from resampler.push_silence(silence, frame.sample_rate)
                self.filled += Fraction(silence, frame.sample_rate)
                clock.add(silence, frame.sample_rate)
            yield from resampler.push(frame)
            clock.add(frame.samples, frame.sample_rate)
        yield from resampler.finish()

    def _longest_hole(self, clock: _Clock) -> Fraction:
        """No hole reaches past the end that the container announces."""
        return LONGEST_HOLE if self._expected is None else min(LONGEST_HOLE, self._expected - clock.seconds)

    def _tasted(self) -> list[Sound]:
        """The first frames, if they are sound."""
        frames = list(islice(self._frames, TASTE))
        if not frames and self.damaged:
            raise unreadable(self._path, f"is damaged: none of its {self.damaged} packets can be decoded")
        if not frames:
            raise unreadable(self._path, "holds no sound: its audio track is empty")
        if self._bare and self.damaged > len(frames):  # noise looks like the start of a packet now and then
            raise unreadable(self._path, "is not audio or video: hardly anything in it can be decoded")
        return frames

    def _decoded(self) -> Iterator[Sound]:
        stumbles = 0
        while stumbles < STUMBLES:
            try:
                for packet in self._container.demux(self._stream):
                    if packet.size:  # the empty one at the end flushes the decoder
                        stumbles, self._stopped = 0, None
                    yield from self._frames_of(packet)
            except av.FFmpegError as error:
                check_memory(error)
                stumbles += 1
                self._stopped = (error.strerror or "").lower()
            except IndexError:  # PyAV 18 trips at the end of a source whose programme gained a track on the way
                break
            else:
                return
        with contextlib.suppress(av.FFmpegError):
            yield from self._kept(self._stream.codec_context.decode(None))

    # These two give lists: a generator for each packet would cost as much as half of decoding it.

    def _frames_of(self, packet: av.Packet[av.AudioStream]) -> list[Sound]:
        if not self._bare and packet.has_sidedata("encryption_info"):
            raise unreadable(self._path, ENCRYPTED)
        try:
            frames = packet.decode()
        except av.EOFError:  # flushed twice, where the demuxer stumbled at the end
            return []
        except av.FFmpegError as error:
            check_memory(error)
            if packet.size and not (self._bare and bytes(packet)[:1] not in (b"\xff", b"\x0b")):
                # without a container, bytes that do not begin like a packet are a tag or a cover, not time
                self.damaged += 1
                lost = (packet.duration or 0) * (packet.time_base or Fraction(0))
                self._lost = (self._lost or 0) + lost
            return []
        return self._kept(frames)

    def _kept(self, frames: list[av.AudioFrame]) -> list[Sound]:
        kept: list[Sound] = []
        for frame in frames:
            if frame.sample_rate not in RATES:
                self.damaged += 1
            elif frame.samples:
                kept.append((frame, self._lost))
                self._lost = None
        return kept

    def _verdict(self) -> str | None:
        """Why the source ended early, or None."""
        got = Fraction(self.samples, SAMPLE_RATE)
        if self._expected is not None and self._trusted:
            missing = self._expected - got
            if missing > TOLERANCE and missing > self._expected * TOLERANCE_SHARE:
                return f"the source ends at {_hours(got)}, but its header announces {_hours(self._expected)}"
            if missing <= 0:
                return None
        if self._source.failure is not None:
            return f"the source could not be read past {_hours(got)}: {self._source.failure.strerror}"
        if self._container.format.name == "ogg" and ends_in_cut_page(self._source):
            return f"the source is broken off at {_hours(got)}: its last page is cut"
        if self._stopped is not None:
            return f"the source is broken off at {_hours(got)}: {self._stopped}"
        if self._lost:
            return f"the source is broken off at {_hours(got)}: its last packet is damaged"
        return None


class _Clock:
    """Exact time of what was pushed: whole samples while the rate lasts, as fractions for each frame cost much."""

    def __init__(self) -> None:
        self._before = Fraction(0)
        self._samples, self._rate = 0, 1

    def add(self, samples: int, rate: int) -> None:
        """So many samples more."""
        if rate != self._rate:
            self._before, self._samples, self._rate = self.seconds, 0, rate
        self._samples += samples

    @property
    def seconds(self) -> Fraction:
        """Since the beginning."""
        return self._before + Fraction(self._samples, self._rate)


def _hours(seconds: Fraction) -> str:
    """In: 3725.5. Out: 1:02:05.5"""
    tenths = round(seconds * 10)
    return f"{tenths // 36_000}:{tenths // 600 % 60:02}:{tenths // 10 % 60:02}.{tenths % 10}"
