"""Ingest: a file becomes 16 kHz samples in the object store, with a name (their hash) and its speech activity."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from models.vad import SpeechActivity, SpeechDetector
from stenopool.config import Limits
from stenopool.domain import Span
from stenopool.errors import MediaMissing, OutOfRoom
from storage.keys import pcm_key
from storage.objects import ObjectStore
from workers.media import Decoder

BYTES_PER_SAMPLE = 2  # int16


class Stopped(Exception):  # noqa: N818 - not an error: somebody asked for it
    """The ingest was asked to stop."""


class SamplesGone(KeyError):  # noqa: N818 - read as a statement
    """A recording's samples are not all in the object store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingested:
    """One channel of a file (or its mix) in the object store."""

    #: From 1; 0 for the mix of all channels.
    channel: int
    #: SHA-256 of the samples.
    recording: str
    #: Samples.
    duration: int
    ended_early: str | None
    #: Packets that did not decode and became silence.
    damaged: int
    #: None where voice activity detection was not asked for.
    activity: SpeechActivity | None


class Ingest(Protocol):
    """A way to have a file ingested: `ingest` here, or in another process."""

    def __call__(
        self,
        path: Path,
        store: ObjectStore,
        *,
        split: bool,
        vad: bool,
        stop: threading.Event,
        progress: Callable[[int], None],
    ) -> list[Ingested]:
        """See `ingest`."""


def has_pcm(store: ObjectStore, recording: str, duration: int) -> bool:
    """Whether all samples of a recording are in the store."""
    return store.size(pcm_key(recording)) == duration * BYTES_PER_SAMPLE


def read_pcm(store: ObjectStore, recording: str, duration: int, span: Span) -> np.ndarray:
    """A recording's samples in a span, int16. Raises SamplesGone where they are not all in the store."""
    if not has_pcm(store, recording, duration):
        raise SamplesGone(recording)
    try:
        raw = store.read(pcm_key(recording), span.start * BYTES_PER_SAMPLE, span.end * BYTES_PER_SAMPLE)
    except KeyError:  # just now
        raise SamplesGone(recording) from None
    return np.frombuffer(raw, "<i2")


def _listen(detectors: Sequence[SpeechDetector], block: np.ndarray) -> None:
    for detector, row in zip(detectors, block, strict=False):
        detector.feed(row)


def digest_file(path: Path) -> str:
    """SHA-256 of a file's bytes.

    Raises:
        MediaMissing: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise MediaMissing(f"{path}: cannot be read ({error.strerror})") from error


@contextmanager
def enough_memory(path: Path) -> Iterator[None]:
    """What there is no memory for, as an error that may pass."""
    try:
        yield
    except MemoryError as error:
        raise OutOfRoom(
            f"{path}: there is no memory left to decode it; decode fewer files at once, or give it more"
        ) from error


def ingest(
    path: Path,
    store: ObjectStore,
    *,
    split: bool,
    vad: bool,
    stop: threading.Event,
    progress: Callable[[int], None] = lambda _: None,
    limits: Limits | None = None,
) -> list[Ingested]:
    """Decode a file in one pass, with flat memory.

    Args:
        path: any container that FFmpeg reads.
        store: where the samples go.
        split: each channel is a recording of its own; else they are mixed.
        vad: listen for speech meanwhile.
        stop: set it to give up.
        progress: told how many samples were decoded so far.
        limits: what is more is refused; None where anything may be.

    Raises:
        MediaError: the file is no sound, or beyond the limits; one line names it and the cause.
        OutOfRoom: there is no memory left, or no disk; what was written is gone.
        Stopped: `stop` was set.
    """
    with (
        enough_memory(path),
        ExitStack() as drafts,
        ThreadPoolExecutor(1, "listen") as listener,
        Decoder(path, split=split, limits=limits) as decoder,
    ):
        channels = range(decoder.channels)
        writers = [drafts.enter_context(store.draft()) for _ in channels]
        hashes = [hashlib.sha256() for _ in channels]
        detectors = [SpeechDetector() for _ in channels] if vad else []
        # Listening takes longer than decoding, and neither holds the interpreter: they share the time.
        heard: Future[None] | None = None
        for block in decoder:
            if stop.is_set():
                raise Stopped
            for channel in channels:
                row = np.ascontiguousarray(block[channel], "<i2")
                writers[channel].write(row.data)
                hashes[channel].update(row.data)
            if heard is not None:  # no more than a block is waited for
                heard.result()
            heard = listener.submit(_listen, detectors, block)
            progress(decoder.samples)
        if heard is not None:
            heard.result()
        for writer, digest in zip(writers, hashes, strict=True):
            writer.keep(pcm_key(digest.hexdigest()))
        return [
            Ingested(
                channel=channel + 1 if split else 0,
                recording=hashes[channel].hexdigest(),
                duration=decoder.samples,
                ended_early=decoder.ended_early,
                damaged=decoder.damaged,
                activity=detectors[channel].finish() if vad else None,
            )
            for channel in channels
        ]
