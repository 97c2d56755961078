"""What FFmpeg brings along here: enough for recordings as people have them?"""

from __future__ import annotations

from collections.abc import Iterator

import av

DECODERS = ("aac", "ac3", "alac", "amrnb", "flac", "mp3", "opus", "pcm_s16le", "vorbis", "wmav2")
CONTAINERS = ("aac", "aiff", "asf", "avi", "flac", "matroska", "mov", "mp3", "mpegts", "ogg", "wav")


def version() -> str:
    """Of FFmpeg, and of PyAV, which carries it."""
    return f"FFmpeg {av.ffmpeg_version_info}, PyAV {av.__version__}"


def missing() -> Iterator[str]:
    """What it was built without, by FFmpeg's names."""
    known = {name for names in av.formats_available for name in names.split(",")}
    yield from (f"container {name}" for name in CONTAINERS if name not in known)
    for name in DECODERS:
        try:
            av.Codec(name, "r")
        except ValueError:
            yield f"codec {name}"
