"""Where things lie in the object store."""

from __future__ import annotations

#: What each kind of object lies below.
SOURCES, PCM, TRANSCRIPTS = "sources", "pcm", "transcripts"


def source_key(file_sha256: str) -> str:
    """A file as somebody handed it in."""
    return f"{SOURCES}/{file_sha256}"


def is_source_key(source: str) -> bool:
    """Whether a submission's source is a file in the object store."""
    return source.startswith(f"{SOURCES}/")


def is_elsewhere(source: str) -> bool:
    """Whether a submission's source is fetched from a URL."""
    return "://" in source


def pcm_key(recording: str) -> str:
    """A recording's samples: raw little-endian int16, 16 kHz, one channel."""
    return f"{PCM}/{recording}"


def transcript_key(submission: int, transcript: int, name: str) -> str:
    """A file of one version of a submission's transcript; no other version is ever put there."""
    return f"{TRANSCRIPTS}/{submission}/{transcript}/{name}"


def read_transcript_key(key: str) -> tuple[int, int] | None:
    """Submission and transcript of a `transcript_key`; None where it is none."""
    kind, *ids = key.split("/")[:3]
    if kind != TRANSCRIPTS or len(ids) < 2 or not all(id.isascii() and id.isdigit() for id in ids):
        return None
    return int(ids[0]), int(ids[1])
