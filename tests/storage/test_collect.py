"""The collector: no object without a row, and no row that is shown without its objects, whoever is at it meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Engine

from stenopool.domain import Chunk, Span
from stenopool.errors import StoreError
from storage.desk import Submission
from storage.keys import pcm_key, source_key, transcript_key
from storage.needs import Needs
from storage.objects import ObjectStore
from storage.tables import SubmissionState
from tests.farms import HandFarm, S
from tests.faults.history import violations
from workers import collect
from workers.collect import Collected, Collector

#: One machine, and a farm: what differs in the one has nothing to do with what differs in the other.
pytestmark = pytest.mark.parametrize(
    ("any_database", "store"),
    [("sqlite", "folder"), ("postgres", "s3")],
    indirect=True,
    ids=["sqlite-folder", "postgres-s3"],
)


@pytest.fixture
def farm(
    any_database: Engine, store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[HandFarm]:
    """A farm on either database, with its objects in either store."""
    farm = HandFarm(any_database, store, tmp_path, monkeypatch)
    yield farm
    farm.stages.close()


def recording(farm: HandFarm, submission: Submission) -> str:
    """What it is a recording of."""
    return farm.farm.ledger.work(farm.now(submission).transcripts[0][1]).recording


def which(done: list[Collected], what: str) -> list[str]:
    """What was done to what."""
    assert {one.what for one in done} <= {what}
    return sorted(one.which for one in done)


def test_what_nobody_needs_is_removed(farm: HandFarm) -> None:
    """Of all kinds; not what is needed, nor, though nobody needs it, what was put just now, nor on a dry run."""
    done = farm.submit()
    farm.go()
    going_on = farm.submit()
    farm.ingest()
    waiting = farm.submit()
    strays = [source_key("ab" * 32), pcm_key("cd" * 32), transcript_key(99, 1, "transcript.txt"), "transcripts/stray"]
    for key in strays:
        farm.store.put(key, b"stray")
    unneeded = sorted([*strays, done.source])
    before = farm.keys()

    assert farm.collect(grace=collect.GRACE) == []
    assert which(farm.collect(dry=True), "removed") == unneeded
    assert farm.keys() == before
    assert which(farm.collect(), "removed") == unneeded

    assert set(farm.keys()) == set(before) - set(unneeded)
    assert {going_on.source, waiting.source, pcm_key(recording(farm, going_on))} <= set(farm.keys())
    assert len(farm.keys(f"transcripts/{done.id}")) == 5
    assert farm.collect() == []
    farm.go()
    assert violations(farm.farm.database) == []


def test_a_file_is_kept_as_long_as_it_can_be_retried(farm: HandFarm, tmp_path: Path) -> None:
    """What failed, was cancelled or has gaps, for the time that is set; what is done again, until it has ended."""
    with_gaps = farm.submit()
    farm.go(failing={1})
    cancelled = farm.submit()
    farm.farm.desk.cancel(cancelled.id)
    (tmp_path / "diary.txt").write_text("Dear diary")
    failed = farm.order(tmp_path / "diary.txt")
    farm.ingest()
    assert [farm.now(one).state for one in (with_gaps, cancelled, failed)] == [
        SubmissionState.COMPLETED_WITH_GAPS,
        SubmissionState.CANCELLED,
        SubmissionState.FAILED,
    ]

    assert farm.collect(keep=3600) == []
    farm.farm.desk.retry(cancelled.id)
    assert which(farm.collect(), "removed") == sorted([with_gaps.source, failed.source])
    farm.go()

    assert farm.now(cancelled).state == SubmissionState.COMPLETED


def test_files_that_are_gone_are_put_again(farm: HandFarm) -> None:
    """From the ledger, byte for byte; those that are there are not touched."""
    submission = farm.submit(channels=2, split=True)
    farm.go()
    files = {key: farm.store.read(key, 0, 1 << 20) for key in farm.keys("transcripts")}
    assert len(files) == 10
    lost = sorted(files)[:3]
    for key in lost:
        farm.store.delete(key)

    assert which(farm.collect(grace=3600, dry=True), "put again") == lost
    assert which(farm.collect(grace=3600), "put again") == lost

    assert {key: farm.store.read(key, 0, 1 << 20) for key in farm.keys("transcripts")} == files
    assert farm.collect(grace=3600) == []
    assert farm.now(submission).state == SubmissionState.COMPLETED


def test_samples_that_are_gone_are_decoded_again(farm: HandFarm) -> None:
    """None of the chunks is handed out meanwhile, and none of them is a gap in the end."""
    submission = farm.submit()
    farm.ingest()
    farm.admit()
    [claim, *_] = farm.claim(1)
    farm.store.delete(key := pcm_key(recording(farm, submission)))

    assert which(farm.collect(), "decoded again") == [key]

    assert farm.now(submission).state == SubmissionState.ACCEPTED
    farm.farm.ledger.give_back([claim])
    farm.admit()
    assert farm.claim() == []
    assert farm.collect() == [], "it is known"
    assert farm.go() == [0, 1, 2]
    assert farm.decoders.files == 2
    assert farm.now(submission).state == SubmissionState.COMPLETED
    assert farm.texts(submission) == ["first0 first1 first2"]
    assert violations(farm.farm.database) == []


def test_samples_that_are_gone_with_their_file(farm: HandFarm) -> None:
    """It fails with a line that says why, and nothing of it is left."""
    submission = farm.submit()
    farm.ingest()
    farm.store.delete(pcm_key(recording(farm, submission)))
    farm.store.delete(submission.source)

    farm.collect()
    farm.go()

    ended = farm.now(submission)
    assert ended.state == SubmissionState.FAILED
    assert ended.error == f"{submission.name}: its file is gone from the object store; submit it again"
    farm.collect()
    assert farm.keys() == []
    assert violations(farm.farm.database) == []


def test_a_transcript_for_nobody_is_given_up(farm: HandFarm) -> None:
    """A worker died between its plan and the word that it was made."""
    submission = farm.submit()

    def die() -> None:
        raise SystemExit

    farm.farm.desk.transcribing = lambda *_, **__: die()  # type: ignore[method-assign, assignment]
    with pytest.raises(SystemExit):
        farm.ingest()
    del farm.farm.desk.transcribing
    farm.farm.desk.cancel(submission.id)
    assert farm.window.waiting() != []

    done = [*farm.collect(), *farm.collect()]

    assert [one.what for one in done].count("given up") == 1
    assert farm.window.waiting() == []
    assert farm.keys() == []
    assert violations(farm.farm.database) == []


def test_a_turn_is_bounded_and_a_round_goes_on(farm: HandFarm, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each from where the last one ended, also where the store did not answer in between."""
    monkeypatch.setattr(collect, "OBJECTS", 2)
    monkeypatch.setattr(collect, "ROWS", 1)
    for at in range(7):
        farm.store.put(pcm_key(f"{at:064}"), b"stray")
    for _ in range(3):
        farm.submit(2)
    farm.go()
    for key in farm.keys("transcripts"):
        farm.store.delete(key)
    collector = Collector(farm.farm, keep=3600, grace=-60)
    fails = iter([False, False, True] * 100)
    look = farm.farm.store.list

    def sometimes(*given: str) -> Iterator[object]:
        if next(fails):
            raise StoreError("no answer", retryable=True)
        return look(*given)

    monkeypatch.setattr(farm.farm.store, "list", sometimes)
    done: list[list[Collected]] = []
    while not done or not collector.at_its_beginning:
        try:
            done.append(collector.turn())
        except StoreError:
            done.append([])

    monkeypatch.undo()
    assert max(len([one for one in turn if one.what == "removed"]) for turn in done) == 2
    assert sum(one.what == "removed" for turn in done for one in turn) == 7 + 3
    assert sorted({len(turn) for turn in done if turn and turn[0].what == "put again"}) == [5]
    assert len(farm.keys("transcripts")) == 15


def test_who_begins_waits_for_a_removal(farm: HandFarm) -> None:
    """Whoever needs what is removed just now sees that it is gone, and puts it again."""
    submission = farm.submit()
    farm.go()
    farm.farm.desk.cancel(farm.submit().id)
    needs = Needs(farm.farm.database, keep=0)
    work = farm.farm.ledger.work(farm.now(submission).transcripts[0][1])
    samples = pcm_key(work.recording)
    farm.store.put(samples, bytes(2 * work.duration))

    def plan() -> bool:
        """Begins another transcript; whether the samples are there then."""
        farm.farm.ledger.plan(
            work.recording,
            "other",
            provenance={},
            language="en",
            chunks=[Chunk(index=0, span=Span(0, S))],
            silences=[],
        )
        return farm.store.exists(samples)

    def hand_in() -> bool:
        """Hands the same file in; whether it was there, so that it was not put again."""
        put: list[str] = []
        upload = farm.store.upload

        def noted(path: Path, key: str) -> None:
            put.append(key)
            upload(path, key)

        farm.store.upload = noted  # type: ignore[method-assign]
        farm.again(submission)
        return not put

    with ThreadPoolExecutor(1) as threads:
        for key, begin in ((samples, plan), (submission.source, hand_in)):
            begun: list[Future[bool]] = []

            def remove(key: str = key, begin: object = begin, begun: list[Future[bool]] = begun) -> None:
                begun.append(threads.submit(begin))  # type: ignore[arg-type]
                with pytest.raises(TimeoutError):
                    begun[0].result(0.3)
                farm.store.delete(key)

            needs.unless_needed(key, remove)
            assert begun[0].result(30) is False
            assert needs.needed([key]) == {key}
