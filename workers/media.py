"""Any audio or video file to int16 PCM at 16 kHz: streamed, with flat memory, sample-exact.

FFmpeg (through PyAV) sees one file object and nothing else: it can open no other file and no address, so a
playlist or a hostile container cannot make it read what the caller did not name. Its log stays off, which is
PyAV's default and is never changed here, because that setting belongs to the whole process. Decoding stays in the
thread that asks for it: audio codecs gained nothing from FFmpeg's own threads when that was measured.
"""

from __future__ import annotations

import contextlib
import os
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path
from types import TracebackType
from typing import Self

import av
import numpy as np

from stenopool.domain import SAMPLE_RATE
from stenopool.errors import MediaError, MediaMissing, MediaUnreadable
from workers.resample import Pcm, Resampler

BLOCK = 10 * SAMPLE_RATE  # samples per block that a Decoder gives; the last one is shorter
HEAD = 4096  # bytes read to recognise what is not media
READ = 1 << 16  # bytes FFmpeg asks for at once

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

#: Demuxers that read other files, devices or plain text, and so never a recording.
_REFUSED = {
    *("concat", "dash", "hls", "imf", "rtp", "rtsp", "sap", "sdp", "webm_dash_manifest"),
    *("alsa", "fbdev", "kmsgrab", "lavfi", "oss", "video4linux2", "v4l2", "x11grab"),
    *("adf", "bin", "data", "ffmetadata", "idf", "image2", "image2pipe", "tty", "xbin"),
}
#: FFmpeg's options that let it open no other file and no address, and none of those demuxers.
SEALED = {
    "protocol_whitelist": "none",
    "format_whitelist": ",".join(sorted(av.formats_available - _REFUSED)),
}

_PLAYLIST = "is a playlist that points to other files; name those files instead"
_WEB_PAGE = "is a web page, not audio or video; download the recording itself"
_ARCHIVE = "is an archive, not audio or video; unpack it first"
_TEXT = "is text, not audio or video"
_CUT_INDEX = "its index (moov) is missing or cut: the recording was not finalised; fetch it again or repair it"
#: What a file's first bytes, in lower case, say it is where that is no recording, and what to do about it.
_SIGNATURES: dict[str, tuple[bytes, ...]] = {
    _PLAYLIST: (b"#extm3u", b"[playlist]", b"ffconcat", b"<asx", b"<smil"),
    "is a session description, not a recording; record the session first": (b"v=0\r\no=", b"v=0\no="),
    _WEB_PAGE: (b"<!doctype html", b"<html"),
    "is a git LFS pointer, not the recording; run 'git lfs pull'": (b"version https://git-lfs",),
    "is a PDF document, not audio or video": (b"%pdf-",),
    _ARCHIVE: (b"pk\x03\x04", b"\x1f\x8b", b"7z\xbc\xaf\x27\x1c", b"rar!\x1a\x07"),
}

#: Containers whose length comes from a header written when the recording was whole, not from the file's size.
_TRUSTED = ("aiff", "ape", "asf", "flac", "mov", "mpc8", "tak", "tta", "w64", "wv")
#: Containers whose time stamps are kept well enough to see a hole by them, and from what length on, in seconds.
#: FLAC numbers its samples; elsewhere less than FFmpeg's own bound for a jump (0.1 s) is jitter.
_STAMPED = {"flac": Fraction(1, 1000), "matroska": Fraction(1, 10), "mov": Fraction(1, 10), "ogg": Fraction(1, 10)}
#: Sample entries of MP4 for encrypted sound: the common scheme's, FairPlay's and Audible's.
_ENCRYPTED = ("enca", "drms", "aavd")
#: Bare streams of packets without a container: what lies between two packets is not time.
_BARE = ("aac", "ac3", "eac3", "mp3")

#: A frame, and the seconds that were lost to damage right before it.
Sound = tuple[av.AudioFrame, Fraction]


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


class _Source:
    """The one file that FFmpeg may read; a failing disk looks like the end of it, and is remembered."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb", buffering=0)
        self.size = path.stat().st_size
        #: For FFmpeg, which knows a few headerless formats by their suffix alone; nothing of the path goes along.
        self.name = "source" + path.suffix
        self.failure: OSError | None = None

    def read(self, size: int) -> bytes:
        try:
            return self._file.read(size)
        except OSError as error:
            self.failure = error
            return b""

    def seek(self, offset: int, whence: int = 0) -> int:
        try:
            return self._file.seek(offset, whence)
        except (OSError, ValueError):  # a damaged header asks for a place before the file
            return -1

    def tell(self) -> int:
        return self._file.tell()

    def peek(self, offset: int, size: int) -> bytes:
        """Bytes from anywhere, without moving the place that FFmpeg reads from."""
        try:
            return os.pread(self._file.fileno(), size, offset)
        except OSError as error:
            self.failure = error
            return b""

    def close(self) -> None:
        self._file.close()


def probe(path: Path) -> Probe:
    """What the source at `path` is; opens it and decodes one frame.

    Raises:
        MediaMissing: there is no such file, or it cannot be read.
        MediaUnreadable: it is there, but no sound can be had from it.
    """
    with Decoder(path) as decoder:
        return decoder.probe


class Decoder:
    """The sound of a source as blocks of int16 `[channels, n]` at 16 kHz; a context manager to be iterated once.

    Channels are mixed to one, or kept apart with `split`. What is damaged on the way becomes silence of the same
    length, so that times stay true. Making one raises the errors of `probe`; iterating raises MediaUnreadable
    only where encrypted sound follows clear sound.

    Memory is flat, but for the index of an MP4: FFmpeg holds it, about 75 bytes for each packet of the track
    (100 MB for 24 hours of AAC at 16 kHz).
    """

    def __init__(self, path: Path, *, split: bool = False) -> None:
        #: Samples given so far, per channel.
        self.samples = 0
        #: Packets that could not be decoded.
        self.damaged = 0
        #: Seconds of silence put in where packets were damaged or the time stamps leave a hole.
        self.filled = Fraction(0)
        #: Why the source ended before its own end; None where it did not, or where iteration has not come that far.
        self.ended_early: str | None = None
        self._path = path
        self._stopped: str | None = None
        self._lost = Fraction(0)  # seconds of damaged packets since the last good frame
        self._source = _opened(path)
        try:
            self._container, self._stream = _demuxed(path, self._source)
            self._bare = self._container.format.name in _BARE
            self._expected, self._trusted = _length(self._container, self._stream, self._source)
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
                    self.samples += BLOCK
                    yield block
                    block, filled = np.empty((self.channels, BLOCK), np.int16), 0
        self.samples += filled
        self.ended_early = self._verdict()
        if filled:
            yield np.ascontiguousarray(block[:, :filled])

    def _pieces(self) -> Iterator[Pcm]:
        """PCM as the resampler gives it, with silence where sound is missing."""
        resampler = Resampler(self.channels)
        shortest = _STAMPED.get(self._container.format.name.split(",")[0])
        origin = Fraction(self._container.start_time or 0, 1_000_000)
        at = Fraction(0)  # seconds pushed so far
        for frame, missing in chain(self._ahead, self._frames):
            if shortest and frame.pts is not None and frame.time_base is not None:
                ahead = frame.pts * frame.time_base - origin - at
                if shortest <= ahead <= self._longest_hole(at):
                    missing = ahead
                elif abs(ahead) >= shortest:  # a new count of time, as where recordings were joined: go on from here
                    origin += ahead
            missing = min(missing, self._longest_hole(at))
            if missing > 0:
                silence = round(missing * frame.sample_rate)
                yield from resampler.push_silence(silence, frame.sample_rate)
                self.filled += Fraction(silence, frame.sample_rate)
                at += Fraction(silence, frame.sample_rate)
            yield from resampler.push(frame)
            at += Fraction(frame.samples, frame.sample_rate)
        yield from resampler.finish()

    def _longest_hole(self, at: Fraction) -> Fraction:
        """No hole reaches past the end that the container announces."""
        return LONGEST_HOLE if self._expected is None else min(LONGEST_HOLE, self._expected - at)

    def _tasted(self) -> list[Sound]:
        """The first frames, if they are sound."""
        frames = list(islice(self._frames, TASTE))
        if not frames and self.damaged:
            raise MediaUnreadable(f"{_name(self._path)}: is damaged: none of its {self.damaged} packets can be decoded")
        if not frames:
            raise MediaUnreadable(f"{_name(self._path)}: holds no sound: its audio track is empty")
        if self._bare and self.damaged > len(frames):  # noise looks like the start of a packet now and then
            raise MediaUnreadable(f"{_name(self._path)}: is not audio or video: hardly anything in it can be decoded")
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
                stumbles += 1
                self._stopped = (error.strerror or "").lower()
            except IndexError:  # PyAV 18 trips at the end of a source whose programme gained a track on the way
                break
            else:
                return
        with contextlib.suppress(av.FFmpegError):
            yield from self._kept(self._stream.codec_context.decode(None))

    def _frames_of(self, packet: av.Packet[av.AudioStream]) -> Iterator[Sound]:
        if packet.has_sidedata("encryption_info"):
            raise MediaUnreadable(f"{_name(self._path)}: is encrypted; decrypt it first")
        try:
            frames = packet.decode()
        except av.EOFError:  # flushed twice, where the demuxer stumbled at the end
            return
        except av.FFmpegError:
            if packet.size and not (self._bare and bytes(packet)[:1] not in (b"\xff", b"\x0b")):
                # without a container, bytes that do not begin like a packet are a tag or a cover, not time
                self.damaged += 1
                self._lost += (packet.duration or 0) * (packet.time_base or Fraction(0))
            return
        yield from self._kept(frames)

    def _kept(self, frames: list[av.AudioFrame]) -> Iterator[Sound]:
        for frame in frames:
            if frame.sample_rate not in RATES:
                self.damaged += 1
            elif frame.samples:
                lost, self._lost = self._lost, Fraction(0)
                yield frame, lost

    def _verdict(self) -> str | None:
        """Why the source ended early, or None."""
        got = Fraction(self.samples, SAMPLE_RATE)
        if self._expected is not None and self._trusted:
            missing = self._expected - got
            if missing > TOLERANCE and missing > self._expected * TOLERANCE_SHARE:
                return f"the source ends at {_clock(got)}, but its header announces {_clock(self._expected)}"
            if missing <= 0:
                return None
        if self._source.failure is not None:
            return f"the source could not be read past {_clock(got)}: {self._source.failure.strerror}"
        if self._container.format.name == "ogg" and _cut_page(self._source):
            return f"the source is broken off at {_clock(got)}: its last page is cut"
        if self._stopped is not None:
            return f"the source is broken off at {_clock(got)}: {self._stopped}"
        if self._lost:
            return f"the source is broken off at {_clock(got)}: its last packet is damaged"
        return None


def _opened(path: Path) -> _Source:
    """The file, if it is one that may hold a recording."""
    name = _name(path)
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise MediaMissing(f"{name}: is a directory; name the files in it")
        if not stat.S_ISREG(status.st_mode):
            raise MediaMissing(f"{name}: is not a regular file; save it to one first")
        source = _Source(path)
    except FileNotFoundError as error:
        raise MediaMissing(f"{name}: does not exist") from error
    except PermissionError as error:
        raise MediaMissing(f"{name}: permission denied; let this user read it") from error
    except (OSError, ValueError) as error:
        raise MediaMissing(f"{name}: cannot be opened ({getattr(error, 'strerror', error)})") from error
    try:
        refusal = _not_media(source)
    except BaseException:
        source.close()
        raise
    if refusal:
        source.close()
        raise MediaUnreadable(f"{name}: {refusal}")
    return source


def _not_media(source: _Source) -> str | None:
    """Why these bytes are no recording, before FFmpeg, which takes some text for sound, has a look."""
    if source.size == 0:
        return "is empty (0 bytes)"
    head = source.peek(0, HEAD)
    if source.failure is not None:
        return f"cannot be read ({source.failure.strerror})"
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    for refusal, signatures in _SIGNATURES.items():
        if start.startswith(signatures):
            return refusal
    if start.startswith(b"<?xml") and b"<mpd" in start:
        return _PLAYLIST
    if not head.strip(b"\0") and not source.peek(0, 1 << 20).strip(b"\0"):
        return "holds only zero bytes, as a download that never finished does; fetch it again"
    if _is_text(head):
        return _TEXT
    return None


def _is_text(head: bytes) -> bool:
    encoding = "utf-16" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8"
    with contextlib.suppress(UnicodeDecodeError):
        # the last character may be cut in two
        text = head.decode(encoding) if len(head) < HEAD else head[:-4].decode(encoding, "strict")
        return all(letter.isprintable() or letter in "\t\r\n\f\ufeff" for letter in text)
    return False


def _demuxed(path: Path, source: _Source) -> tuple[av.container.InputContainer, av.AudioStream]:
    try:
        container = av.open(source, "r", container_options=SEALED, metadata_errors="replace", buffer_size=READ)
    except (av.FFmpegError, ValueError) as error:
        raise MediaUnreadable(f"{_name(path)}: {_unopened(source, error)}") from error
    try:
        return container, _sound(path, source, container)
    except MediaError:
        container.close()
        raise


def _unopened(source: _Source, error: Exception) -> str:
    if _cut_index(source):
        return _CUT_INDEX
    if isinstance(error, av.InvalidDataError | av.ArgumentError | av.EOFError):
        return "is not audio or video, or damaged from its first bytes on"
    return f"cannot be opened as audio or video ({getattr(error, 'strerror', error)})"


def _cut_index(source: _Source) -> bool:
    """Whether this is an MP4 without its index, or with a part of it: recorders write it last."""
    at, names = 0, set[bytes]()
    while at + 8 <= source.size and len(names) < 100:
        size, name, large = struct.unpack(">I4sQ", source.peek(at, 16).ljust(16, b"\0"))
        names.add(name)
        length: int = {0: source.size - at, 1: max(large, 16)}.get(size, max(size, 8))  # 0: to the end
        if name == b"moov":
            return at + length > source.size
        at += length
    return b"ftyp" in names and bool(names & {b"mdat", b"moof", b"free"})


def _cut_page(source: _Source) -> bool:
    """Whether the last page of an Ogg file is longer than what the file holds of it."""
    tail = source.peek(max(source.size - (1 << 16), 0), 1 << 16)
    page = tail[tail.rfind(b"OggS") :]
    segments = page[27 : 27 + page[26]] if len(page) > 26 else b""
    return page[:4] == b"OggS" and len(page) < 27 + len(segments) + sum(segments)


def _sound(path: Path, source: _Source, container: av.container.InputContainer) -> av.AudioStream:
    """The audio stream to decode: the one marked as default, or else the first; all others are dropped unread."""
    streams = container.streams.audio
    if not streams:
        kinds = {stream.type for stream in container.streams}
        if container.format.name.endswith("_pipe") or container.format.name in ("gif", "ico", "apng"):
            raise MediaUnreadable(f"{_name(path)}: is an image, not a recording")
        if _cut_index(source):
            raise MediaUnreadable(f"{_name(path)}: {_CUT_INDEX}")
        raise MediaUnreadable(f"{_name(path)}: has no audio track" + ("; it is only video" if "video" in kinds else ""))
    known = [stream for stream in streams if stream.codec_context is not None]
    if not known:
        raise MediaUnreadable(f"{_name(path)}: its audio is in a codec that FFmpeg does not know; convert it first")
    chosen = next((s for s in known if s.disposition & av.stream.Disposition.default), known[0])
    if chosen.codec_context.codec_tag in _ENCRYPTED:
        raise MediaUnreadable(f"{_name(path)}: is encrypted; decrypt it first")
    for stream in container.streams:
        if stream.index != chosen.index:
            stream.discard = av.stream.Discard.all
    return chosen


def _length(
    container: av.container.InputContainer, stream: av.AudioStream, source: _Source
) -> tuple[Fraction | None, bool]:
    """How long the sound should be, in seconds, and whether that can be held against the file."""
    own = None if stream.duration is None or stream.time_base is None else stream.duration * stream.time_base
    whole = None if container.duration is None else Fraction(container.duration, 1_000_000)
    name = container.format.name
    if name == "wav":  # FFmpeg cuts the length to what the file holds; the header tells what it should hold
        declared = _wav_seconds(source)
        return (declared or own), declared is not None
    if name == "aac":  # guessed from the bit rate of its first packets, which is no guide
        return None, False
    if name == "mp3":  # without the encoder's count of frames, the length is guessed from the bit rate
        return own, _counts_frames(source)
    if name.startswith("matroska"):  # the track's own length is in a tag; the file's may be that of its pictures
        tag = _tagged_seconds(stream.metadata.get("DURATION", ""))
        return tag or whole, tag is not None or (len(container.streams) == 1 and b"\x44\x89" in source.peek(0, HEAD))
    if name.startswith("mov") and own and stream.start_time and stream.time_base:  # it may begin after the pictures
        own += max(stream.start_time * stream.time_base - Fraction(container.start_time or 0, 1_000_000), Fraction(0))
    return own or whole, own is not None and name.startswith(_TRUSTED)


def _wav_seconds(source: _Source) -> Fraction | None:
    """What a WAV's header says its data last; None where it was written to a pipe and nobody knew."""
    at, byte_rate = 12, 0
    for _ in range(1000):  # chunks; a real file has a handful
        name, size, kind, rate = struct.unpack("<4sIH6xI4x", source.peek(at, 24).ljust(24, b"\0"))
        if name == b"fmt " and kind in (1, 3, 6, 7, 0xFFFE):  # PCM, float, A-law, µ-law, or PCM in an extended header
            byte_rate = rate
        if name == b"data":
            # a pipe's writer leaves 0, or the most that 31 or 32 bits hold, less some headers
            known = byte_rate and size and size & 0x7FFF_0000 != 0x7FFF_0000
            return Fraction(size, byte_rate) if known else None
        at += 8 + size + size % 2
    return None


def _counts_frames(source: _Source) -> bool:
    """Whether an MP3's first frame holds the number of frames, as most encoders write it."""
    start, tag = 0, source.peek(0, 10)
    if tag[:3] == b"ID3" and len(tag) == 10:
        start = 10 + sum((byte & 0x7F) << shift for byte, shift in zip(tag[6:], (21, 14, 7, 0), strict=True))
    frame = source.peek(start, HEAD)
    return any(mark in frame for mark in (b"Xing", b"Info", b"VBRI"))


def _tagged_seconds(tag: str) -> Fraction | None:
    """In: "00:01:02.500000000". Out: 62.5; None for what is no time."""
    try:
        hours, minutes, seconds = tag.strip("\0 ").split(":")
        return (int(hours) * 60 + int(minutes)) * 60 + Fraction(seconds) or None
    except ValueError:
        return None


def _name(path: Path) -> str:
    """The path as it was given, but on one line."""
    return str(path) if str(path).isprintable() else repr(str(path))


def _clock(seconds: Fraction) -> str:
    """In: 3725.5. Out: 1:02:05.5"""
    tenths = round(seconds * 10)
    return f"{tenths // 36_000}:{tenths // 600 % 60:02}:{tenths // 10 % 60:02}.{tenths % 10}"
