"""What may hold a recording: opened and judged, up to its audio stream and how long that should be.

FFmpeg (through PyAV) sees one file object and nothing else: it can open no other file and no address, so a
playlist or a hostile container cannot make it read what the caller did not name. Its log stays off, PyAV's
default, because that setting belongs to the whole process.
"""

from __future__ import annotations

import contextlib
import os
import stat
import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from stenopool.errors import MediaError, MediaMissing, MediaUnreadable

HEAD = 4096  # bytes read to recognise what is not media
READ = 1 << 16  # bytes FFmpeg asks for at once
SPARE = 64 << 20  # bytes that a process can have that is not short of memory

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

ENCRYPTED = "is encrypted; decrypt it first"
_PLAYLIST = "is a playlist that points to other files; name those files instead"
_CUT_INDEX = "its index (moov) is missing or cut: the recording was not finalised; fetch it again or repair it"
#: What a file's first bytes, in lower case, say it is where that is no recording, and what to do about it.
_SIGNATURES: dict[str, tuple[bytes, ...]] = {
    _PLAYLIST: (b"#extm3u", b"[playlist]", b"ffconcat", b"<asx", b"<smil", b"<playlist"),
    "is a session description, not a recording; record the session first": (b"v=0\r\no=", b"v=0\no="),
    "is a web page, not audio or video; download the recording itself": (b"<!doctype html", b"<html"),
    "is a git LFS pointer, not the recording; run 'git lfs pull'": (b"version https://git-lfs",),
    "is a PDF document, not audio or video": (b"%pdf-",),
    "is an archive, not audio or video; unpack it first": (
        b"pk\x03\x04",
        b"\x1f\x8b",
        b"7z\xbc\xaf\x27\x1c",
        b"rar!\x1a\x07",
    ),
}

#: Containers whose length comes from a header written when the recording was whole, not from the file's size.
_TRUSTED = ("aiff", "ape", "asf", "flac", "mov", "mpc8", "tak", "tta", "w64", "wv")
#: Sample entries of MP4 for encrypted sound: the common scheme's, FairPlay's and Audible's.
_ENCRYPTED_TAGS = ("enca", "drms", "aavd")


class Source:
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


def open_source(path: Path) -> Source:
    """The file at `path`, if it may hold a recording; the caller closes it.

    Raises:
        MediaMissing: there is no such file, or it cannot be read.
        MediaUnreadable: its first bytes are those of something else.
    """
    name = shown(path)
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise MediaMissing(f"{name}: is a directory; name the files in it")
        if not stat.S_ISREG(status.st_mode):
            raise MediaMissing(f"{name}: is not a regular file; save it to one first")
        source = Source(path)
    except FileNotFoundError as error:
        raise MediaMissing(f"{name}: does not exist") from error
    except PermissionError as error:
        raise MediaMissing(f"{name}: permission denied; let this user read it") from error
    except (OSError, ValueError) as error:
        raise MediaMissing(f"{name}: cannot be opened ({getattr(error, 'strerror', error)})") from error
    try:
        refusal = _refusal(source)
    except BaseException:
        source.close()
        raise
    if refusal:
        source.close()
        raise unreadable(path, refusal)
    return source


def _refusal(source: Source) -> str | None:
    """Why these bytes are no recording, before FFmpeg, which takes some text for sound, has a look."""
    if source.size == 0:
        return "is empty (0 bytes)"
    head = source.peek(0, HEAD)
    if source.failure is not None:
        return f"cannot be read ({source.failure.strerror})"
    if not head.strip(b"\0") and not source.peek(0, 1 << 20).strip(b"\0"):
        return "holds only zero bytes, as a download that never finished does; fetch it again"
    return refusal_of(head)


def refusal_of(head: bytes) -> str | None:
    """Why what begins so is no recording, as far as its first `HEAD` bytes tell."""
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    for refusal, signatures in _SIGNATURES.items():
        if start.startswith(signatures):
            return refusal
    if start.startswith(b"<?xml") and any(mark in start for mark in (b"<mpd", b"<playlist", b"<smil", b"<asx")):
        return _PLAYLIST
    if _is_text(head):
        return "is text, not audio or video"
    return None


def _is_text(head: bytes) -> bool:
    encoding = "utf-16" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8"
    with contextlib.suppress(UnicodeDecodeError):
        # the last character may be cut in two
        text = (head if len(head) < HEAD else head[:-4]).decode(encoding)
        return all(letter.isprintable() or letter in "\t\r\n\f\ufeff" for letter in text)
    return False


def open_container(path: Path, source: Source) -> tuple[av.container.InputContainer, av.AudioStream]:
    """The source as FFmpeg sees it, and its stream to decode; `path` only names it in errors.

    Raises:
        MediaUnreadable: no container that FFmpeg knows, or no sound in it that can be decoded.
    """
    try:
        container = av.open(source, "r", container_options=SEALED, metadata_errors="replace", buffer_size=READ)
    except (av.FFmpegError, ValueError) as error:
        check_memory(error)
        raise unreadable(path, _unopened(source, error)) from error
    try:
        return container, _audio_stream(path, source, container)
    except MediaError:
        container.close()
        raise


def _unopened(source: Source, error: Exception) -> str:
    if _cut_index(source):
        return _CUT_INDEX
    if isinstance(error, av.InvalidDataError | av.ArgumentError | av.EOFError):
        return "is not audio or video, or damaged from its first bytes on"
    return f"cannot be opened as audio or video ({getattr(error, 'strerror', error)})"


def _audio_stream(path: Path, source: Source, container: av.container.InputContainer) -> av.AudioStream:
    """The audio stream to decode: the one marked as default, or else the first; all others are dropped unread."""
    streams = container.streams.audio
    if not streams:
        kinds = {stream.type for stream in container.streams}
        if container.format.name.endswith("_pipe") or container.format.name in ("gif", "ico", "apng"):
            raise unreadable(path, "is an image, not a recording")
        if _cut_index(source):
            raise unreadable(path, _CUT_INDEX)
        raise unreadable(path, "has no audio track" + ("; it is only video" if "video" in kinds else ""))
    known = [stream for stream in streams if stream.codec_context is not None]
    if not known:
        raise unreadable(path, "its audio is in a codec that FFmpeg does not know; convert it first")
    chosen = next((s for s in known if s.disposition & av.stream.Disposition.default), known[0])
    if chosen.codec_context.codec_tag in _ENCRYPTED_TAGS:
        raise unreadable(path, ENCRYPTED)
    for stream in container.streams:
        if stream.index != chosen.index:
            stream.discard = av.stream.Discard.all
    return chosen


def _cut_index(source: Source) -> bool:
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


def announced_length(
    container: av.container.InputContainer, stream: av.AudioStream, source: Source
) -> tuple[Fraction | None, bool]:
    """How long the sound should be, in seconds, and whether that can be held against the file."""
    own = None if stream.duration is None or stream.time_base is None else stream.duration * stream.time_base
    whole = None if container.duration is None else Fraction(container.duration, 1_000_000)
    name = container.format.name
    if name == "wav":  # FFmpeg cuts the length to what the file holds; the header tells what it should hold
        _, declared = _wav_header(source)
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


def announced_channels(container: av.container.InputContainer, stream: av.AudioStream, source: Source) -> int:
    """How many channels the sound should have; 0 where nobody knows."""
    if channels := stream.codec_context.channels:
        return channels
    return _wav_header(source)[0] if container.format.name == "wav" else 0  # FFmpeg knows no more than 512


def _wav_header(source: Source) -> tuple[int, Fraction | None]:
    """What a WAV's header says: channels, and how long its data last; None where it was written to a pipe unknowing."""
    at, channels, byte_rate = 12, 0, 0
    for _ in range(1000):  # chunks; a real file has a handful
        name, size, kind, n, rate = struct.unpack("<4sIHH4xI4x", source.peek(at, 24).ljust(24, b"\0"))
        if name == b"fmt " and kind in (1, 3, 6, 7, 0xFFFE):  # PCM, float, A-law, µ-law, or PCM in an extended header
            channels, byte_rate = n, rate
        if name == b"data":
            # a pipe's writer leaves 0, or the most that 31 or 32 bits hold, less some headers
            known = byte_rate and size and size & 0x7FFF_0000 != 0x7FFF_0000
            return channels, Fraction(size, byte_rate) if known else None
        at += 8 + size + size % 2
    return channels, None


def _counts_frames(source: Source) -> bool:
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


def ends_in_cut_page(source: Source) -> bool:
    """Whether the last page of an Ogg file is longer than what the file holds of it."""
    tail = source.peek(max(source.size - (1 << 16), 0), 1 << 16)
    page = tail[tail.rfind(b"OggS") :]
    segments = page[27 : 27 + page[26]] if len(page) > 26 else b""
    return page[:4] == b"OggS" and len(page) < 27 + len(segments) + sum(segments)


def check_memory(error: Exception) -> None:
    """Raises MemoryError where FFmpeg had none because there is none: a damaged file may have asked for any amount."""
    if isinstance(error, av.MemoryError):
        np.empty(SPARE, np.uint8)


def unreadable(path: Path, why: str) -> MediaUnreadable:
    """The error that says so of this source in one line."""
    return MediaUnreadable(f"{shown(path)}: {why}")


def shown(path: Path | str) -> str:
    """A name as it was given, but on one line."""
    return str(path) if str(path).isprintable() else repr(str(path))
