"""An object store that is away for a while: what needs it waits, is blamed on nobody, and is done later, whole."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import func, select, update

from stenopool.domain import SAMPLE_RATE as S
from stenopool.errors import LedgerError
from stenopool.formats import KEPT, render
from storage.desk import Submission
from storage.keys import transcript_key
from storage.ledger import Ledger
from storage.records import result_of_record
from storage.s3 import S3Store
from storage.tables import ChunkRow, ChunkState, Lane, SubmissionRow, SubmissionState, TranscriptRow, TranscriptState
from storage.waiting import ATTEMPTS
from storage.window import Window
from tests import sounds
from tests.faults.history import violations
from tests.faults.storm import CHUNK, PATIENT, SIDE_BY_SIDE, Storm, submit
from tests.proxy import Fault, Proxy, answer, drop, interrupt, reset
from tests.servers import BUCKET
from tests.standin import StandIn, text_of
from workers.assignment import engine_key_of
from workers.engine import EngineWorker
from workers.farm import Farm, Places
from workers.shown import transcripts_of
from workers.stages import LONG_PATIENCE, Stages

#: Ways to be away, and what is said then. The last needs somebody to mend it.
OUTAGES: dict[str, tuple[Fault | None, str]] = {
    "gone": (None, "does not answer"),
    "silent": (drop(), "does not answer"),
    "overloaded": (answer("503 Slow Down"), "cannot answer now"),
    "behind a proxy": (answer("404 Not Found"), "no object store"),
    "forbidding": (answer("403 Forbidden"), "access is refused"),
}

#: Samples of a recording that is uploaded in two parts.
LONG = 300 * S


@pytest.fixture
def farm(ledger_url: str, redis_url: str, far: S3Store) -> Iterator[Farm]:
    """A farm whose objects are behind the proxy."""
    farm = Farm(Places(database=ledger_url, broker=redis_url, store=f"s3://{BUCKET}"), lease=60)
    farm.store = far
    yield farm
    farm.close()


@pytest.fixture
def stages(farm: Farm) -> Iterator[Stages]:
    """A worker without an engine."""
    stages = Stages(farm, "stages")
    yield stages
    stages.close()


@pytest.fixture
def engine(farm: Farm) -> Iterator[EngineWorker]:
    """One with a stand-in for an engine."""
    stand_in = StandIn()
    worker = EngineWorker(farm, "engine", stand_in, engine_key_of(stand_in))  # type: ignore[arg-type]
    yield worker
    worker.close()


@pytest.fixture
def pcm() -> np.ndarray:
    """Ten seconds of noise: five chunks."""
    return np.asarray(sounds.noise(10)[0])


@pytest.fixture
def handed_in(farm: Farm, s3: S3Store, pcm: np.ndarray, tmp_path: Path) -> Submission:
    """A submission of them."""
    return submit(farm, sounds.write(tmp_path / "talk.wav", pcm[None]), s3)


@contextmanager
def outage(farm: Farm, proxy: Proxy, hasty: S3Store, kind: str) -> Iterator[str]:
    """The store is away, and the farm has little patience with it meanwhile; what is said of it."""
    fault, said = OUTAGES[kind]
    farm.store, before = hasty, farm.store
    if fault is None:
        proxy.refuse()
    else:
        proxy.always(fault)
        proxy.sever()
    yield said
    proxy.always()
    if fault is None:
        proxy.accept()
    farm.store = before


def its_time_has_come(farm: Farm) -> None:
    """For what was put off."""
    with farm.database.begin() as connection:
        connection.execute(update(SubmissionRow).values(not_before=0))


def key_of(engine: EngineWorker) -> str:
    """Of the chunks that it decodes."""
    return engine_key_of(engine.room.engine)


def admitted(farm: Farm, engine: EngineWorker) -> list[tuple[int, int]]:
    """All chunks, ready and told of."""
    window = Window(farm.database)
    window.admit(key_of(engine), Lane.NORMAL, 1000)
    return [(hint.transcript, hint.index) for hint in window.hints(key_of(engine), Lane.NORMAL, 1000, 60)]


def samples(s3: S3Store) -> dict[str, bytes]:
    """Every recording that is there."""
    return {found.key: s3.read(found.key, 0, found.size) for found in s3.list("pcm")}


def test_what_cannot_be_ingested_waits(
    farm: Farm,
    stages: Stages,
    s3: S3Store,
    proxy: Proxy,
    hasty: S3Store,
    handed_in: Submission,
    pcm: np.ndarray,
) -> None:
    """More often than a submission may kill its workers; nobody is told of it before its time, and a line says why."""
    assert len(OUTAGES) > ATTEMPTS
    for kind in OUTAGES:
        with outage(farm, proxy, hasty, kind) as said:
            stages.ingest(handed_in.id)
        waiting = farm.desk.submission(handed_in.id)
        assert waiting.state == SubmissionState.ACCEPTED
        assert said in (waiting.error or "")
        assert farm.desk.ingests(Lane.NORMAL, 10, -1) == []
        its_time_has_come(farm)
        assert farm.desk.ingests(Lane.NORMAL, 10, -1) == [handed_in.id]
    stages.ingest(handed_in.id)

    done = farm.desk.submission(handed_in.id)
    assert (done.state, done.error, done.chunks_total) == (SubmissionState.TRANSCRIBING, None, 10 // CHUNK)
    assert list(samples(s3).values()) == [pcm.tobytes()]


def test_what_is_refused_is_tried_again_less_often(
    farm: Farm, stages: Stages, proxy: Proxy, hasty: S3Store, handed_in: Submission
) -> None:
    """Somebody has to mend it first; no submission fails by it."""
    due = []
    for kind in ("gone", "forbidding"):
        with outage(farm, proxy, hasty, kind):
            stages.ingest(handed_in.id)
        with farm.database.connect() as connection:
            due.append(connection.scalar(select(SubmissionRow.not_before)) or 0.0)
        its_time_has_come(farm)

    assert due[1] - due[0] >= LONG_PATIENCE / 2


def test_there_is_never_half_a_recording(farm: Farm, stages: Stages, s3: S3Store, proxy: Proxy, tmp_path: Path) -> None:
    """Its file comes in an answer that breaks off, its samples go in requests that break off: all of them, then one."""
    long = sounds.noise(LONG // S)[0]
    submission = submit(farm, sounds.write(tmp_path / "long.wav", long[None]), s3)
    proxy.next(reset(5_000_000))
    proxy.always(interrupt(5_000_000))
    stages.ingest(submission.id)
    assert "does not answer" in (farm.desk.submission(submission.id).error or "")
    assert samples(s3) == {}

    proxy.sever()
    proxy.next(reset(5_000_000))
    proxy.always(interrupt(9_000_000))  # in the second part
    its_time_has_come(farm)
    stages.ingest(submission.id)
    assert farm.desk.submission(submission.id).state == SubmissionState.TRANSCRIBING
    assert list(samples(s3).values()) == [long.tobytes()]
    assert s3.collect_drafts(-60) == 0


def test_chunks_that_cannot_be_read_are_given_back(
    farm: Farm,
    stages: Stages,
    engine: EngineWorker,
    proxy: Proxy,
    hasty: S3Store,
    handed_in: Submission,
    pcm: np.ndarray,
) -> None:
    """None is a gap, none is blamed; workers are told of them again after a while, not at once."""
    stages.ingest(handed_in.id)
    chunks = admitted(farm, engine)
    assert len(chunks) == 5
    for kind in OUTAGES:
        with outage(farm, proxy, hasty, kind):
            engine.transcribe(chunks, suspect=False)
        with farm.database.connect() as connection:
            states = connection.execute(select(ChunkRow.state, ChunkRow.crashes, ChunkRow.worker)).all()
        assert [tuple(row) for row in states] == [(ChunkState.READY, 0, None)] * 5
        assert Window(farm.database).hints(key_of(engine), Lane.NORMAL, 10, 60) == []
    engine.transcribe(chunks, suspect=False)

    transcript = chunks[0][0]
    heard = [result_of_record(record) for record in farm.ledger.parts(transcript).results]
    assert [one.segments[0].text for one in heard] == [
        text_of(pcm[start : start + CHUNK * S]) for start in range(0, len(pcm), CHUNK * S)
    ]
    stages.merge(transcript)
    assert farm.ledger.work(transcript).state == TranscriptState.COMPLETED


def test_leases_are_renewed_of_what_a_worker_is_about(
    farm: Farm, stages: Stages, engine: EngineWorker, handed_in: Submission, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not of what it has given up, as the ledger was away for too long: they run out, and others hear these chunks."""
    stages.ingest(handed_in.id)
    chunks = admitted(farm, engine)
    held: list[int] = []

    def away(*_: object) -> None:
        held.append(len(engine.held()))
        raise LedgerError("for too long")

    with monkeypatch.context() as patched:
        patched.setattr(Ledger, "finish_all", away)
        with pytest.raises(LedgerError):
            engine.transcribe(chunks, suspect=False)
    assert (held, engine.held()) == ([5], [])

    with farm.database.begin() as connection:
        connection.execute(update(ChunkRow).values(lease_until=0))
    farm.ledger.renew("engine", engine.held())
    assert farm.ledger.sweep() == 5
    engine.transcribe(chunks, suspect=False)
    assert (farm.ledger.work(chunks[0][0]).chunks_open, engine.held()) == (0, [])


def test_a_language_that_cannot_be_detected_is_detected_later(
    farm: Farm, stages: Stages, engine: EngineWorker, s3: S3Store, proxy: Proxy, hasty: S3Store, tmp_path: Path
) -> None:
    """When the lease of whoever tried has run out."""
    file = sounds.write(tmp_path / "talk.wav", sounds.noise(4))
    submission = submit(farm, file, s3, replace(SIDE_BY_SIDE, language="auto"))
    stages.ingest(submission.id)
    [(_, transcript)] = farm.desk.submission(submission.id).transcripts
    with outage(farm, proxy, hasty, "gone"):
        engine.detect(transcript)
    assert farm.ledger.work(transcript).language is None
    engine.detect(transcript)
    assert farm.ledger.work(transcript).language is None

    with farm.database.begin() as connection:
        connection.execute(update(TranscriptRow).values(lease_until=0))
    engine.detect(transcript)
    assert farm.ledger.work(transcript).language == "en"


def test_merging_needs_no_store(
    farm: Farm, stages: Stages, engine: EngineWorker, proxy: Proxy, hasty: S3Store, handed_in: Submission
) -> None:
    """What was heard is in the ledger."""
    stages.ingest(handed_in.id)
    chunks = admitted(farm, engine)
    engine.transcribe(chunks, suspect=False)
    with outage(farm, proxy, hasty, "gone"):
        stages.merge(chunks[0][0])

    assert farm.ledger.work(chunks[0][0]).state == TranscriptState.COMPLETED


def test_what_cannot_be_published_waits(
    farm: Farm,
    stages: Stages,
    engine: EngineWorker,
    s3: S3Store,
    proxy: Proxy,
    hasty: S3Store,
    handed_in: Submission,
) -> None:
    """Its samples stay until it is; then every format is there, whole, and they are gone."""
    stages.ingest(handed_in.id)
    chunks = admitted(farm, engine)
    engine.transcribe(chunks, suspect=False)
    stages.merge(chunks[0][0])
    assert farm.desk.publishes(10, 60) == [handed_in.id]
    for kind in OUTAGES:
        with outage(farm, proxy, hasty, kind) as said:
            stages.publish(handed_in.id)
        waiting = farm.desk.submission(handed_in.id)
        assert waiting.state == SubmissionState.PUBLISHING
        assert said in (waiting.error or "")
        assert farm.desk.publishes(10, -1) == []
        its_time_has_come(farm)
        assert farm.desk.publishes(10, -1) == [handed_in.id]
    assert len(samples(s3)) == 1
    stages.publish(handed_in.id)

    done = farm.desk.submission(handed_in.id)
    assert (done.state, done.error) == (SubmissionState.COMPLETED, None)
    [transcript] = transcripts_of(farm, done)
    assert {found.key: s3.read(found.key, 0, found.size) for found in s3.list("transcripts")} == {
        transcript_key(done.id, chunks[0][0], f"transcript.{format}"): render(transcript, format).encode()
        for format in KEPT
    }
    assert samples(s3) == {}


@pytest.mark.drill
def test_an_object_store_that_is_gone_loses_nothing(
    ledger_url: str, redis_url: str, s3: S3Store, proxy: Proxy, tmp_path: Path
) -> None:
    """A farm of real processes, while its store comes and goes: nobody does anything about it, and nobody is blamed."""
    store = f"s3://{BUCKET}/{s3._prefix.rstrip('/')}?endpoint=http://127.0.0.1:{proxy.port}&region=us-east-1"
    places = Places(database=ledger_url, broker=redis_url, store=store)
    with Storm(places, tmp_path, lease=PATIENT) as storm:
        submissions = storm.hand_in(2, seconds=240)
        storm.workers(1)
        storm.until_more_is_done(within=90)
        for _ in range(2):
            proxy.refuse()
            time.sleep(2.0)
            proxy.accept()
            time.sleep(0.5)
        storm.until_ended(submissions, workers=1, within=120)

        assert violations(storm.farm.database) == []
        assert storm.differences(submissions) == []
        assert storm.done() == 240
        with storm.farm.database.connect() as connection:
            assert connection.scalar(select(func.max(ChunkRow.crashes))) == 0
        assert {storm.farm.desk.submission(one.id).state for one in submissions} == {SubmissionState.COMPLETED}
