"""Where things lie in the object store."""

from __future__ import annotations

import hashlib

#: What each kind of object lies below: rights can be given by these.
SOURCES, PCM, TRANSCRIPTS, REDACTED, MAPS = "sources", "pcm", "transcripts", "redacted", "maps"
WAVEFORMS = "waveforms"

#: What the publisher of a submission's recording offers itself.
PUBLISHER = "publisher"

#: What was sent by a URL, and is not handed in yet.
UPLOADS = "uploads"

#: Those of a submission's transcript: in full, for everybody, and what leads from the second to the first.
FILES = (TRANSCRIPTS, REDACTED, MAPS)


def source_key(file_sha256: str) -> str:
    """A file as somebody handed it in."""
    return f"{SOURCES}/{file_sha256}"


def upload_key(tenant: str, id: str) -> str:
    """A file that a tenant sends by a URL: who is another tenant finds nothing under its id."""
    return f"{UPLOADS}/{hashlib.sha256(tenant.encode()).hexdigest()[:32]}/{id}"


def is_source_key(source: str) -> bool:
    """Whether a submission's source is a file in the object store."""
    return source.startswith(f"{SOURCES}/")


def is_elsewhere(source: str) -> bool:
    """Whether a submission's source is fetched from a URL."""
    return "://" in source


def pcm_key(recording: str) -> str:
    """A recording's samples: raw little-endian int16, 16 kHz, one channel."""
    return f"{PCM}/{recording}"


def waveform_key(recording: str) -> str:
    """What is drawn of a recording's samples; it is kept as long as they are."""
    return f"{WAVEFORMS}/{recording}"


def transcript_key(submission: int, transcript: int, name: str, kind: str = TRANSCRIPTS) -> str:
    """A file of one version of a submission's transcript; no other version is ever put there.

    Args:
        kind: one of `FILES`.
    """
    return f"{kind}/{submission}/{transcript}/{name}"


def read_transcript_key(key: str) -> tuple[int, int] | None:
    """Submission and transcript of a `transcript_key`; None where it is none."""
    kind, *ids = key.split("/")[:3]
    if kind not in FILES or len(ids) < 2 or not all(id.isascii() and id.isdigit() for id in ids):
        return None
    return int(ids[0]), int(ids[1])


def publisher_key(submission: int, sha256: str) -> str:
    """A transcript of the publisher's own, by its digest: who comes late with other bytes replaces nothing."""
    return f"{PUBLISHER}/{submission}/{sha256}"


def read_publisher_key(key: str) -> tuple[int, str] | None:
    """Submission and digest of a `publisher_key`; None where it is none."""
    kind, *rest = key.split("/")
    if kind != PUBLISHER or len(rest) != 2 or not (rest[0].isascii() and rest[0].isdigit()):
        return None
    return int(rest[0]), rest[1]
