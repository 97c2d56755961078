"""Export: a submission's transcripts where their owner wants them, below a bucket's prefix or in a shared folder.

A submission has a folder of its own there. Its manifest is written last, and removed before any file that it names is
replaced: who sees a manifest sees all that it names. It says nothing of when or by whom it was written, so that a
publisher that comes again leaves the same bytes.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import re
import threading
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath
from typing import Any, Protocol
from urllib.parse import SplitResult, urlsplit

from scheduler.channels import handed_out
from stenopool.domain import Transcript
from stenopool.errors import StoreError, UsageError
from stenopool.formats import format_of, render
from storage.desk import Submission
from storage.objects import ObjectStore
from storage.publisher import PublisherTranscript
from storage.stores import open_store
from workers.ingest import Stopped
from workers.publish import TEMPORARY, output_name, write_atomically
from workers.publisher import SENT_AS, record_of_transcript

MANIFEST = "manifest.json"
SCHEMA, VERSION = "stenopool/manifest", 1

#: Bytes of a name, before what is added to it: with that, 255 are enough for it everywhere.
_LONGEST = 180
#: Of a bucket that is not the farm's: a publisher waits for it half a minute at most, and others wait for him.
_ATTEMPTS, _TIMEOUT = 3, 8.0
#: What a folder refuses until somebody mends it; all else may pass.
_REFUSALS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR)


# Where


def destination_of(given: str, *, store: str, roots: Sequence[str]) -> str:
    """A destination in full, if this farm exports to it.

    Args:
        given: s3://bucket/prefix, or a folder.
        store: the farm's own object store, as its URL. A bucket is on its server, unless the URL has another endpoint.
        roots: STENOPOOL_EXPORTS: folders, and buckets on other servers, that may be named.

    Raises:
        UsageError: it does not, and why.
    """
    if given.startswith("s3://"):
        return _bucket_of(given, store, roots)
    if "://" in given:
        raise UsageError(f"{given}: transcripts go to a folder, or to s3://bucket/prefix")
    folder = Path(given).expanduser().resolve()
    allowed = [Path(root).expanduser().resolve() for root in roots if not root.startswith("s3://")]
    if not any(folder.is_relative_to(root) for root in allowed):
        below = f"below {', '.join(map(str, allowed))}" if allowed else "nowhere"
        raise UsageError(
            f"{given}: this farm writes to folders {below}; have its operator name a folder that all of its machines "
            "share in STENOPOOL_EXPORTS, or choose a bucket"
        )
    if not store.startswith("s3://") and store:
        own = Path(urlsplit(store).path if store.startswith("file:") else store).resolve()
        if folder.is_relative_to(own) or own.is_relative_to(folder):
            raise UsageError(f"{given}: there are the farm's own objects; choose another folder")
    return str(folder)


def _bucket_of(given: str, store: str, roots: Sequence[str]) -> str:
    own = urlsplit(store) if store.startswith("s3://") else None
    wanted = urlsplit(given)
    if not wanted.query and own is not None:
        wanted = wanted._replace(query=own.query)
    open_store(wanted.geturl())  # as far as that can be known without asking
    elsewhere = bool(wanted.query) and (own is None or wanted.query != own.query)
    if elsewhere and not any(_is_below(wanted, urlsplit(root)) for root in roots):
        raise UsageError(
            f"{given}: this farm writes to buckets on its own server; have its operator name this one in "
            "STENOPOOL_EXPORTS, or leave out what is behind the question mark"
        )
    if own is not None and (_is_below(wanted, own) or _is_below(own, wanted)):
        raise UsageError(f"{given}: there are the farm's own objects; choose another bucket or prefix")
    return wanted._replace(path=wanted.path.rstrip("/")).geturl()


def _is_below(one: SplitResult, other: SplitResult) -> bool:
    """Whether a bucket's prefix is another's, or lies below it."""
    same = (one.scheme, one.netloc, one.query) == (other.scheme, other.netloc, other.query)
    return same and f"{one.path.strip('/')}/".startswith(f"{other.path.strip('/')}/".removeprefix("/"))


def folder_of(submission: Submission) -> str | None:
    """Where a submission's files are, or will be; None where they are kept in the farm's own store alone."""
    if submission.destination is None:
        return None
    if not submission.destination.startswith("s3://"):
        return str(Path(submission.destination) / str(submission.id))
    parts = urlsplit(submission.destination)
    return parts._replace(path=f"{parts.path}/{submission.id}").geturl()


# What


def export(
    submission: Submission,
    transcripts: Sequence[Transcript],
    place: Place,
    stop: threading.Event,
    publisher: Sequence[tuple[str, PublisherTranscript, bytes]] = (),
) -> bool:
    """Write a submission's transcripts and their manifest; what is there already stays. False if all of it was there.

    Args:
        transcripts: what is shown of it, one per channel.
        stop: no further file is written once it is set.
        publisher: files of its publisher's own (`workers.publisher.files_of`).

    Raises:
        StoreError: the place does not answer, or refuses.
        Stopped: `stop` was set.
    """
    files = dict(files_of(submission, transcripts))
    manifest = manifest_of(submission, transcripts, files, publisher)
    there = place.read(MANIFEST)
    if there == manifest:
        return False
    if there is not None:
        place.remove(MANIFEST)
    for (name, format, _), content in files.items():
        _unless(stop)
        place.put(name, content, format_of(format).media_type)
    for name, _, content in publisher:
        _unless(stop)
        place.put(name, content, SENT_AS)
    _unless(stop)
    place.put(MANIFEST, manifest, "application/json")
    return True


def _unless(stop: threading.Event) -> None:
    if stop.is_set():
        raise Stopped


#: A file's name, its format, and its channel: None where they are mixed or joined.
File = tuple[str, str, int | None]


def files_of(submission: Submission, transcripts: Sequence[Transcript]) -> Iterator[tuple[File, bytes]]:
    """All files of a submission, and what is in them."""
    stem = stem_of(submission.name)
    for transcript in handed_out(transcripts, submission.speakers):
        for format in submission.formats:
            name = output_name(stem, transcript.channel, format)
            yield (name, format, transcript.channel), render(transcript, format).encode()


def stem_of(name: str) -> str:
    """What the files of a recording are called, as any store takes it: letters, digits, - _ . alone."""
    plain = re.sub(r"[^\w.-]+", "-", PurePath(name).stem).strip("-.")
    return plain.encode()[:_LONGEST].decode(errors="ignore") or "transcript"


def manifest_of(
    submission: Submission,
    transcripts: Sequence[Transcript],
    files: dict[File, bytes],
    publisher: Sequence[tuple[str, PublisherTranscript, bytes]] = (),
) -> bytes:
    """The document that names the files, with their sizes and digests."""
    languages = {transcript.language for transcript in transcripts if transcript.segments}
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "version": VERSION,
        "submission": submission.id,
        "name": submission.name,
        "key": submission.idempotency_key,
        "metadata": dict(submission.metadata),
        "language": next(iter(languages)) if len(languages) == 1 else None,
        "gaps": sum(len(gap.span) for transcript in transcripts for gap in transcript.coverage.gaps) / 16_000,
        "files": [
            {
                "name": name,
                "format": format,
                "type": format_of(format).media_type,
                "channel": channel,
                "bytes": len(content),
                "sha256": hashlib.sha256(content).hexdigest(),
            }
            for (name, format, channel), content in files.items()
        ],
    }
    if publisher:  # else as it was before there were any: what is written stays
        document["publisher"] = [{"name": name, **record_of_transcript(one)} for name, one, _ in publisher]
    return (json.dumps(document, indent=2) + "\n").encode()


# How


class Place(Protocol):
    """A folder of files, each there whole or not at all. All methods raise StoreError."""

    @abstractmethod
    def read(self, name: str) -> bytes | None:
        """What is in a file; None where there is none."""

    @abstractmethod
    def put(self, name: str, content: bytes, media_type: str) -> None:
        """Write a file, replacing what is there."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""


def open_place(submission: Submission, *, store: str, roots: Sequence[str]) -> Place:
    """Where a submission's files go.

    Raises:
        StoreError: this farm exports nothing to there, or no longer.
    """
    where = str(folder_of(submission))
    try:
        destination_of(where, store=store, roots=roots)
    except UsageError as error:
        raise StoreError(str(error)) from error
    if where.startswith("s3://"):
        return _Bucket(open_store(where, attempts=_ATTEMPTS, timeout=_TIMEOUT))
    return _Folder(Path(where))


def folder_place(folder: Path) -> Place:
    """A folder of this machine, which is made if need be."""
    return _Folder(folder)


class _Bucket(Place):
    """Below a prefix of a bucket."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def read(self, name: str) -> bytes | None:
        size = self._store.size(name)
        return None if size is None else self._store.read(name, 0, size)

    def put(self, name: str, content: bytes, media_type: str) -> None:
        self._store.put(name, content, media_type)

    def remove(self, name: str) -> None:
        self._store.delete(name)


class _Folder(Place):
    """A folder that the machines of the farm share."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, name: str) -> bytes | None:
        with self._refusals():
            try:
                return (self._folder / name).read_bytes()
            except FileNotFoundError:
                return None

    def put(self, name: str, content: bytes, media_type: str) -> None:
        del media_type  # a file has none but its name
        with self._refusals():
            self._folder.mkdir(exist_ok=True, parents=True)
            write_atomically(self._folder / name, content)
            if name == MANIFEST:  # all is written: what a killed publisher had begun is nobody's
                for left in self._folder.glob(f"{TEMPORARY}*"):
                    left.unlink(missing_ok=True)

    def remove(self, name: str) -> None:
        with self._refusals():
            (self._folder / name).unlink(missing_ok=True)

    @contextlib.contextmanager
    def _refusals(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreError(
                f"{self._folder}: cannot be written to ({error.strerror}); mend it on the machine that publishes",
                retryable=error.errno not in _REFUSALS,
            ) from error
