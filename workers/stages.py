"""The stages of a submission on the farm that need no engine: ingest, merge, publish.

Each is given an id and nothing else, looks up the rest, and may be run twice, late, or at once with itself: whoever
holds the lease does the work, and a fence keeps the late from being heard.
"""

from __future__ import annotations

import logging
import random
import re
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial
from importlib.util import find_spec
from pathlib import Path, PurePath
from typing import Any

from models.checkpoint import Checkpoint, find_checkpoint
from models.tokens import Vocabulary
from stenopool import tracing
from stenopool.config import Limits
from stenopool.domain import SAMPLE_RATE, DType, Provenance, Transcript
from stenopool.errors import (
    DiskFull,
    EngineError,
    FetchError,
    LedgerUnreachable,
    MediaBeyondLimit,
    OutOfRoom,
    StenopoolError,
    StoreError,
)
from stenopool.logs import about
from stenopool.options import options_of
from stenopool.tracing import Origin
from storage.desk import Submission
from storage.keys import is_elsewhere, is_source_key, pcm_key
from storage.ledger import Queued, Work
from storage.objects import ObjectStore
from storage.records import provenance_of_record
from storage.tables import SubmissionState
from storage.throughput import A_FILE, Done
from storage.waiting import ATTEMPTS
from workers.aggregate import aggregate
from workers.assignment import Assignment, assign, engine_key
from workers.busy import Busy
from workers.decoders import Decoders
from workers.elsewhere import Elsewhere
from workers.export import export, open_place
from workers.farm import Farm
from workers.fetch import Bounds, Fetcher
from workers.ingest import Ingested, Stopped, enough_memory
from workers.limits import beyond
from workers.origins import origin_of
from workers.patience import patiently
from workers.prepare import SourceFile, mend, prepare
from workers.publisher import keep_transcripts
from workers.shown import put_files, sent_of
from workers.source import shown

_log = logging.getLogger(__name__)

#: Seconds after which something that did not answer is tried again; where somebody has to mend it first, the second.
PATIENCE, LONG_PATIENCE = 10.0, 60.0
#: Seconds after which it is tried again where this machine had no room, or what is fetched could not be had: after the
#: first time, after the second.
PAUSES = (60.0, 600.0)


class Stages:
    """What a worker without an engine does. Close it to end what is on its way.

    Args:
        worker: this process, in the ledger.
        limits: what files may be; None for what is set where nothing is.
        fetcher: gets what lies elsewhere; None for one that knows the public internet only.
        exports: folders, and buckets on other servers, to which transcripts may be sent.
        sound: seconds that samples are kept to be listened to.
    """

    def __init__(
        self,
        farm: Farm,
        worker: str,
        limits: Limits | None = None,
        *,
        fetcher: Fetcher | None = None,
        exports: Sequence[str] = (),
        sound: float = 0.0,
    ) -> None:
        self._farm = farm
        self._worker = worker
        self._limits = limits or Limits()
        self._elsewhere = Elsewhere(fetcher or Fetcher(Bounds(size=self._limits.size)))
        self._exports = exports
        self._sound = sound
        self._decoders = Decoders(self._limits)
        self._planning = threading.Lock()
        self._busy = Busy()
        self._closing = threading.Event()

    @property
    def done(self) -> Done:
        """What it has ingested so far; a file counts as `A_FILE` more than it lasts."""
        return self._busy.done

    def close(self) -> None:
        """Give up what is on its way; it is begun again elsewhere."""
        self._closing.set()
        self._decoders.close()

    def ingest(self, id: int) -> None:
        """Decode and plan a submission: its chunks are in the ledger from then on."""
        desk = self._farm.desk
        submission = desk.claim(self._worker, id, SubmissionState.INGESTING, apart=True)
        if submission is None:
            return
        origin = Origin(id, submission.created_at)
        with about(submission=id, campaign=submission.campaign_id), tracing.span("ingest", origin, submission=id):
            self._ingest_claimed(submission)

    def _ingest_claimed(self, submission: Submission) -> None:
        desk, name = self._farm.desk, shown(submission.name)
        path: Path | None = None
        try:
            with self._busy.working(), _scratch() as folder:
                path = folder / f"source{_ending(submission.name)}"
                with enough_memory(path):
                    self._ingest(submission, path)
        except Stopped:
            patiently(lambda: desk.postponed(submission, "its worker ended", 0))
        except KeyError:
            self._fail(submission, f"{name}: its file is gone from the object store; submit it again")
        except StenopoolError as error:
            reason = f"{name}: {error}" if path is None else str(error).replace(str(path), name)
            self._not_done(submission, error, reason)

    def _ingest(self, submission: Submission, path: Path) -> None:
        with self._held(submission) as stop:
            source = SourceFile(path, submission.name)
            begin = self._whole if submission.settled is None else self._gaps
            works, file_sha256 = begin(submission, source, stop)
            # Engines have its chunks already: what is waited for here keeps nobody waiting.
            keep_transcripts(self._farm, submission, self._elsewhere, stop)
        transcripts = [(channel, work.id) for channel, work in works]
        duration = sum(work.duration for _, work in works)
        _log.info("submission %d: planned, %.1f s of sound", submission.id, duration / SAMPLE_RATE)
        patiently(lambda: self._farm.desk.transcribing(submission, transcripts, duration, file_sha256=file_sha256))
        self._busy.did(duration / SAMPLE_RATE + A_FILE)

    def _whole(
        self, submission: Submission, source: SourceFile, stop: threading.Event
    ) -> tuple[list[tuple[int, Work]], str]:
        """The transcripts of a submission, by channel, begun or known; and the hash of its file."""
        assignment = self._assignment(submission)
        self._fetch(submission.source, source.path, stop)
        prepared = prepare(
            source,
            assignment,
            self._farm.ledger,
            self._farm.store,
            ingest=self._decoders.ingest,
            planning=self._planning,
            stop=stop,
            progress=lambda _: None,
            queued=_queued(submission, assignment.provenance),
        )
        works = [(source.channel, work) for source, work in zip(prepared.sources, prepared.works, strict=True)]
        return works, prepared.file_sha256

    def _gaps(
        self, submission: Submission, source: SourceFile, stop: threading.Event
    ) -> tuple[list[tuple[int, Work]], None]:
        """New versions of the transcripts that it has, in which only their gaps are to be transcribed."""

        def decode(path: Path, store: ObjectStore, **how: Any) -> list[Ingested]:
            if not path.exists():  # where the samples are there, nothing of the file is needed
                self._fetch(submission.source, path, stop)
            return self._decoders.ingest(path, store, **how)

        mended = mend(
            source,
            [transcript for _, transcript in submission.transcripts],
            self._farm.ledger,
            self._farm.store,
            split=submission.split,
            queued=lambda work: _queued(submission, provenance_of_record(work.provenance)),
            ingest=decode,
            stop=stop,
        )
        return [(channel, work) for (channel, _), work in zip(submission.transcripts, mended, strict=True)], None

    def _fetch(self, source: str, path: Path, stop: threading.Event) -> None:
        """The file, from the object store or from elsewhere; nothing else of this machine or network is opened."""
        try:
            if is_elsewhere(source):
                self._elsewhere.fetch(source, path, stop)
            elif is_source_key(source):
                self._download(source, path)
            else:
                raise FetchError("scheme", f"{shown(source)}: is no place that workers look in; submit the file itself")
        except DiskFull as error:
            raise OutOfRoom(
                f"{path}: there is no room for it in {path.parents[1]}; make some, or set TMPDIR to another folder"
            ) from error

    def _download(self, key: str, path: Path) -> None:
        store = self._farm.store
        if reason := beyond(self._limits, size=store.size(key) or 0):
            raise MediaBeyondLimit(f"{path}: {reason}")
        store.download(key, path)

    def _not_done(self, submission: Submission, error: StenopoolError, reason: str) -> None:
        """It is tried again where that can help.

        A few times without room, and where a host elsewhere fails; whenever a host says that it should be; for ever
        where a store refuses.
        """
        desk = self._farm.desk
        tracing.failed(type(error).__name__)
        _log.warning("submission %d: %s it is not done (%s)", submission.id, submission.state.value, reason)
        elsewhere = isinstance(error, FetchError)
        if isinstance(error, FetchError) and error.later is not None:
            later = error.later * random.uniform(1.0, 1.1)  # a fleet does not come at once
            patiently(lambda: desk.postponed(submission, reason, later))
        elif isinstance(error, OutOfRoom) or (elsewhere and error.retryable):
            if submission.attempt >= ATTEMPTS:
                self._fail(submission, f"{reason} ({ATTEMPTS} times)")
            else:
                pause = PAUSES[submission.attempt - 1]
                patiently(lambda: desk.postponed(submission, reason, pause, counts=True))
        elif error.retryable:
            patiently(lambda: desk.postponed(submission, reason, PATIENCE))
        elif isinstance(error, StoreError):
            patiently(lambda: desk.postponed(submission, reason, LONG_PATIENCE))
        else:
            self._fail(submission, reason)

    def _fail(self, submission: Submission, reason: str) -> None:
        if patiently(lambda: self._farm.desk.failed(submission, reason)):
            self._recorded(submission, submission.settled or SubmissionState.FAILED)

    @staticmethod
    def _recorded(submission: Submission, state: SubmissionState) -> None:
        """It has ended: so has its trace."""
        seconds = (submission.duration or 0) / SAMPLE_RATE
        origin = Origin(submission.id, submission.created_at)
        tracing.recorded(origin, state.value, time.time(), lane=submission.lane.name.lower(), audio_seconds=seconds)

    def merge(self, id: int) -> None:
        """Merge a transcript whose chunks are all done."""
        with about(transcript=id), tracing.span("merge", origin_of(self._farm.desk, id), transcript=id):
            aggregate(self._farm.ledger, id)

    def publish(self, id: int) -> None:
        """Write a submission's transcripts into the object store, and to where it wants them."""
        desk = self._farm.desk
        submission = desk.claim(self._worker, id, SubmissionState.PUBLISHING)
        if submission is None:
            return
        origin = Origin(id, submission.created_at)
        with about(submission=id, campaign=submission.campaign_id), tracing.span("publish", origin, submission=id):
            self._publish_claimed(submission)

    def _publish_claimed(self, submission: Submission) -> None:
        desk = self._farm.desk
        try:
            with self._held(submission) as stop:
                keep_transcripts(self._farm, submission, self._elsewhere, stop)  # what could not be had before
                transcripts, _ = put_files(self._farm, submission)
                if submission.destination is not None:
                    self._export(submission, stop)
            state = _state(transcripts)
            if patiently(lambda: desk.published(submission, state)):
                _log.info("submission %d: published, %s", submission.id, state.value)
                self._recorded(submission, state)
            if is_elsewhere(submission.source) and any(transcript.coverage.gaps for transcript in transcripts):
                return  # the same bytes may not be had again: its gaps are tried again by these samples
            for transcript in transcripts:
                remove = partial(self._farm.store.delete, pcm_key(transcript.recording))
                self._farm.ledger.unless_needed(transcript.recording, remove, sound=self._sound)
        except Stopped:
            patiently(lambda: desk.postponed(submission, "its worker ended", 0))
        except StenopoolError as error:
            self._not_done(submission, error, str(error))

    def _export(self, submission: Submission, stop: threading.Event) -> None:
        transcripts = sent_of(self._farm, submission)
        try:
            place = open_place(submission, store=self._farm.places.store, roots=self._exports)
            export(submission, transcripts, place, stop)
        except StoreError as error:
            # Tried again after a minute, whatever it is: somebody else's store must not keep this farm's publishers.
            raise StoreError(f"cannot be sent to where it is wanted: {error}") from error

    @contextmanager
    def _held(self, submission: Submission) -> Iterator[threading.Event]:
        """The submission's lease is renewed meanwhile; the event is set where it is lost, or this worker ends."""
        stop, done = threading.Event(), threading.Event()

        def renew() -> None:
            renewed = time.monotonic()
            while not done.wait(min(1.0, self._farm.lease / 6)):
                age = time.monotonic() - renewed
                if self._closing.is_set() or age > self._farm.lease * 2 / 3:
                    stop.set()
                if age < self._farm.lease / 3:
                    continue
                try:
                    if not self._farm.desk.renew(submission):
                        stop.set()
                    renewed = time.monotonic()
                except LedgerUnreachable as error:
                    _log.warning("%s", error)

        thread = threading.Thread(target=renew, name="renew", daemon=True)
        thread.start()
        try:
            yield stop
        finally:
            done.set()
            thread.join()

    def _assignment(self, submission: Submission) -> Assignment:
        checkpoint, vocabulary = _model(submission.model)
        options = options_of(submission.options)
        dtype = self._dtype(checkpoint)
        return assign(checkpoint, vocabulary, options, dtype=dtype, split=submission.split, force=submission.again)

    def _dtype(self, checkpoint: Checkpoint) -> DType:
        """What the farm's engines of that model compute in; where there is none yet, what would suit this machine.

        Raises:
            EngineError: there is none, and no JAX here that could tell.
        """
        digest = checkpoint.digest
        for worker in self._farm.fleet.workers():
            if worker.model_digest == digest and worker.dtype:
                return worker.dtype  # type: ignore[return-value]
        if find_spec("jax") is None:
            raise EngineError(
                f"no engine of {checkpoint.name} works yet; start one with: stenopool worker --role engine --model "
                f"{checkpoint.name}"
            )
        return "auto"


def _queued(submission: Submission, provenance: Provenance) -> Queued:
    """Where its transcripts stand in the queue."""
    return Queued(
        tenant=submission.tenant,
        engine_key=engine_key(provenance),
        lane=submission.lane,
        priority=submission.priority,
        deadline_at=submission.deadline_at,
    )


@contextmanager
def _scratch() -> Iterator[Path]:
    """A folder that is gone afterwards."""
    try:
        folder = tempfile.TemporaryDirectory(prefix="stenopool-", ignore_cleanup_errors=True)
    except OSError as error:
        raise OutOfRoom(
            f"a folder for temporary files cannot be made ({error.strerror}); make room, or set TMPDIR elsewhere"
        ) from error
    with folder as path:
        yield Path(path)


def _ending(name: str) -> str:
    """Of a file's name: it helps to tell what the file is, where it is an ordinary one."""
    suffix = PurePath(name).suffix
    return suffix if re.fullmatch(r"\.[A-Za-z0-9]{1,10}", suffix) else ""


@lru_cache(maxsize=8)
def _model(name: str) -> tuple[Checkpoint, Vocabulary]:
    checkpoint = find_checkpoint(name)
    return checkpoint, Vocabulary(checkpoint)


def _state(transcripts: list[Transcript]) -> SubmissionState:
    """What becomes of a submission with these transcripts."""
    if any(transcript.coverage.gaps for transcript in transcripts):
        return SubmissionState.COMPLETED_WITH_GAPS
    if not any(transcript.segments for transcript in transcripts):
        return SubmissionState.COMPLETED_EMPTY
    return SubmissionState.COMPLETED
