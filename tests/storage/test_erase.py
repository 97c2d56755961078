"""Deletion, holds and periods: what is to go is gone everywhere, and what is to stay stays."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, func, select, update

from stenopool.errors import LedgerError, LegalHold, StoreError
from storage import erasing as erasing_module
from storage.desk import Submission
from storage.erasing import Deletion, Erasing
from storage.folder import FolderStore
from storage.keeping import Keeping, Retention
from storage.keys import FILES, pcm_key
from storage.objects import ObjectStore
from storage.outbox import Outbox
from storage.s3 import S3Store
from storage.tables import (
    Base,
    ChunkRow,
    EventRow,
    SubmissionRow,
    SubmissionState,
    TranscriptRow,
    TranscriptState,
)
from tests.farms import HandFarm
from tests.faults.history import violations
from workers.erase import Eraser, receipt_of
from workers.shown import put_files

DAY = 86_400.0


def kept_in(*where: tuple[str, str]) -> pytest.MarkDecorator:
    """Database and store of a test's farm."""
    ids = ["-".join(each) for each in where]
    return pytest.mark.parametrize(("any_database", "store"), where, indirect=True, ids=ids)


#: One machine, and a farm; what is asked of the object store itself, of one that keeps every version.
ON_BOTH = kept_in(("sqlite", "folder"), ("postgres", "folder"))
VERSIONS_TOO = kept_in(("sqlite", "folder"), ("postgres", "versioned"))


@pytest.fixture
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    """A folder, or a bucket that keeps every version."""
    if request.param == "folder":
        return FolderStore(tmp_path / "objects")
    s3: S3Store = request.getfixturevalue("versioned")
    return s3


@pytest.fixture
def farm(
    any_database: Engine, store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[HandFarm]:
    """A farm on either database, with its objects in either store."""
    farm = HandFarm(any_database, store, tmp_path, monkeypatch)
    yield farm
    farm.stages.close()


def eraser(farm: HandFarm) -> Eraser:
    """Who deletes."""
    return Eraser(farm.farm, keep=0)


def delete(farm: HandFarm, submission: Submission, **other: Any) -> Deletion:
    """Asked for, and done."""
    its = eraser(farm)
    assert its.erasing.begin(submission.id, by="ada@desk", **other)
    assert its.go_on(submission.id)
    return deletion(farm, submission)


def deletion(farm: HandFarm, submission: Submission) -> Deletion:
    """What is known of it."""
    found = Erasing(farm.farm.database).deletion(submission.id)
    assert found is not None
    return found


def rows(farm: HandFarm) -> dict[str, int]:
    """How many there are in each table."""
    with farm.farm.database.connect() as connection:
        counts = {
            name: connection.scalar(select(func.count()).select_from(table)) or 0
            for name, table in Base.metadata.tables.items()
        }
    return {name: n for name, n in counts.items() if n}


def copies(farm: HandFarm) -> list[str]:
    """Keys of all that the object store still has, former versions included."""
    return sorted({copy.key for kind in ("sources", "pcm", *FILES) for copy in farm.store.copies(kind)})


def words(farm: HandFarm) -> str:
    """All that the database says."""
    with farm.farm.database.connect() as connection:
        return json.dumps(
            [
                [list(map(str, row)) for row in connection.execute(select(table))]
                for table in Base.metadata.tables.values()
            ]
        )


@VERSIONS_TOO
def test_all_of_it_is_gone(farm: HandFarm) -> None:
    """Rows, files, samples, every version of either; a tombstone says so."""
    submission = farm.submit(idempotency_key="my talk", metadata={"guest": "Grace"}, redact="card")
    farm.go("uttered", failing={1})
    farm.farm.desk.retry(submission.id)
    farm.go("again")
    assert len(farm.keys(f"transcripts/{submission.id}")) == 10
    transcript = farm.now(submission).transcripts[0][1]
    recording = farm.farm.ledger.work(transcript).recording

    done = delete(farm, submission, reason="the speaker asked")

    assert copies(farm) == []
    assert rows(farm) == {"submissions": 1, "tenants": 1, "shares": 1, "deletions": 1, "events": 7}
    left = words(farm)
    for secret in (
        "uttered",
        "again",
        submission.name,
        str(submission.file_sha256),
        recording,
        "my talk",
        "hotwords",
        "Grace",
    ):
        assert secret not in left
    now = farm.now(submission)
    assert (now.state, now.name, now.error, now.options) == (SubmissionState.DELETED, f"deleted-{now.id}", None, {})
    assert now.ended
    assert not now.published
    assert farm.texts(submission) == []
    outbox = Outbox(farm.farm.database)
    outbox.number()
    assert outbox.after(0)[-1].type == "submission.deleted"
    assert violations(farm.farm.database) == []
    assert done.receipt["rows"] == {
        "chunks": 6,
        "links": 1,
        "passages": 1,
        "recordings": 1,
        "redactions": 2,
        "sources": 1,
        "transcripts": 2,
    }


@VERSIONS_TOO
def test_the_receipt(farm: HandFarm) -> None:
    """What was removed where, without saying what it was; who asked, why, and when."""
    submission = farm.submit()
    farm.go()
    text = farm.store.size(f"transcripts/{submission.id}/1/transcript.txt")

    receipt = receipt_of(delete(farm, submission, reason="the speaker asked"))

    assert (receipt["state"], receipt["by"], receipt["reason"]) == ("deleted", "ada@desk", "the speaker asked")
    assert receipt["asked_at"] <= receipt["erased_at"] <= receipt["completed_at"]
    assert (receipt["kept"], receipt["error"]) == ([], None)
    by_key = {one["key_sha256"]: one for one in receipt["objects"]}
    key = hashlib.sha256(f"transcripts/{submission.id}/1/transcript.txt".encode()).hexdigest()
    assert by_key[key] == {
        "kind": "transcripts",
        "versions": 1,
        "bytes": text,
        "key_sha256": key,
        "removed": True,
    }
    kinds = [one["kind"] for one in receipt["objects"]]
    assert (kinds.count("transcripts"), kinds.count("sources")) == (5, 1)
    assert str(submission.file_sha256) not in json.dumps(receipt)
    again = eraser(farm)
    assert not again.erasing.begin(submission.id, by="eve@desk")
    assert again.go_on(submission.id)
    assert receipt_of(deletion(farm, submission)) == receipt


@VERSIONS_TOO
def test_what_another_has_as_well_stays_for_that_one(farm: HandFarm) -> None:
    """Text, results and rows; and the file, while it is needed. The last of them takes all along."""
    first = farm.submit()
    farm.go(failing={1})
    second = farm.again(first, name="copy.wav")
    farm.go()
    theirs = farm.again(first, tenant="bob")
    farm.go("bob's")
    assert farm.now(first).transcripts == farm.now(second).transcripts

    its = Eraser(farm.farm, keep=3600)
    its.erasing.begin(first.id, by="ada@desk")
    assert its.go_on(first.id)

    receipt = receipt_of(deletion(farm, first))
    assert receipt["kept"] == [{"what": "transcript", "why": "shared", "submission": second.id}]
    assert receipt["rows"] == {"links": 1}
    [source] = [one for one in receipt["objects"] if one["kind"] == "sources"]
    assert (source["removed"], source["why"]) == (False, "shared")
    assert farm.texts(second) == ["first0 first2"]
    assert farm.texts(theirs) == ["bob's0 bob's1 bob's2"]
    assert len(farm.keys(f"transcripts/{second.id}")) == 5
    assert farm.farm.desk.retry(second.id), "its file is there"
    assert farm.go("again") == [1]
    assert farm.texts(second) == ["first0 again1 first2"]

    delete(farm, farm.now(second))
    assert farm.texts(theirs) == ["bob's0 bob's1 bob's2"]
    delete(farm, farm.now(theirs))
    assert copies(farm) == []
    assert rows(farm).keys() == {"submissions", "tenants", "shares", "deletions", "events"}


@pytest.mark.parametrize(
    "stage", ["accepted", "ingested", "waiting", "decoding", "merging", "merged", "publishing", "failed"]
)
@ON_BOTH
def test_in_whatever_state_it_is(farm: HandFarm, stage: str) -> None:
    """Whoever is at it ends, or is given time to; what comes late finds nothing."""
    submission = farm.submit()
    claims = []
    if stage != "accepted":
        farm.ingest()
    if stage == "waiting":
        farm.admit()
    elif stage == "decoding":
        farm.admit()
        claims = farm.claim(2)
    elif stage in ("merging", "merged"):
        farm.hear()
        [(_, transcript)] = farm.now(submission).transcripts
        fence = farm.farm.ledger.begin_merge(transcript)
        if stage == "merged":
            farm.expire()
            farm.merge()
    elif stage == "publishing":
        farm.hear()
        farm.merge()
        assert farm.farm.desk.publishes(10, -1) == [submission.id]
        publishing = farm.farm.desk.claim("publisher", submission.id, SubmissionState.PUBLISHING)
    elif stage == "failed":
        farm.farm.desk.cancel(submission.id)

    its = eraser(farm)
    assert its.erasing.begin(submission.id, by="ada@desk")
    assert farm.now(submission).state == SubmissionState.DELETING
    if stage in ("decoding", "merging", "publishing"):
        assert not its.go_on(submission.id), "somebody is at it"
    if stage == "decoding":
        farm.finish(claims)
    elif stage == "merging":
        farm.expire()
    elif stage == "publishing":
        assert publishing is not None
        put_files(farm.farm, publishing)
        assert not farm.farm.desk.published(publishing, SubmissionState.COMPLETED)
        farm.expire()
    assert its.go_on(submission.id)
    if stage == "decoding":
        farm.finish(claims)
    elif stage == "merging":
        assert fence is not None
        assert not farm.farm.ledger.complete(transcript, fence, TranscriptState.COMPLETED, {})
    farm.go()

    assert farm.now(submission).state == SubmissionState.DELETED
    assert copies(farm) == []
    assert rows(farm).keys() <= {"submissions", "tenants", "shares", "deletions", "events"}
    assert violations(farm.farm.database) == []


@ON_BOTH
def test_while_it_is_ingested(farm: HandFarm) -> None:
    """Its worker is waited for; what it plans nevertheless, late, is removed as well."""
    submission = farm.submit()
    its = eraser(farm)

    def meanwhile() -> None:
        its.erasing.begin(submission.id, by="ada@desk")
        assert not its.go_on(submission.id), "a worker has it"
        with farm.farm.database.begin() as connection:  # and is then silent for too long
            connection.execute(update(SubmissionRow).values(lease_until=0))
        assert its.go_on(submission.id)

    farm.decoders.meanwhile = meanwhile
    farm.ingest()
    assert "transcripts" in rows(farm)

    for _ in range(2):
        farm.collect()

    assert farm.now(submission).state == SubmissionState.DELETED
    assert farm.keys() == []
    assert rows(farm).keys() == {"submissions", "tenants", "deletions", "events"}


@ON_BOTH
def test_killed_at_every_step(farm: HandFarm, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is deleting until the collector has gone on with it; the receipt has all, and nothing twice."""

    class Killed(BaseException):
        pass

    steps = [(Erasing, "erase", True), (Erasing, "listed", True), (type(farm.store), "erase", True)]
    steps.append((Erasing, "complete", False))
    submissions = [farm.submit() for _ in steps]
    farm.go()
    its = eraser(farm)
    for submission, (where, name, after) in zip(submissions, steps, strict=True):
        its.erasing.begin(submission.id, by="ada@desk")
        real = getattr(where, name)

        def die(*given: Any, real: Any = real, after: bool = after) -> None:
            if after:
                real(*given)
            raise Killed

        with monkeypatch.context() as patch:
            patch.setattr(where, name, die)
            with pytest.raises(Killed):
                its.go_on(submission.id)
        assert farm.now(submission).state == SubmissionState.DELETING
        assert receipt_of(deletion(farm, submission))["objects"] == [], "it is not complete"

    farm.collect()

    for submission in submissions:
        receipt = receipt_of(deletion(farm, submission))
        assert receipt["state"] == "deleted"
        assert len(receipt["objects"]) == 6 + receipt_pcm(receipt)
        assert all(one["removed"] for one in receipt["objects"])
        assert receipt["rows"] == {
            "chunks": 3,
            "links": 1,
            "passages": 1,
            "recordings": 1,
            "sources": 1,
            "transcripts": 1,
        }
    assert copies(farm) == []


def receipt_pcm(receipt: dict[str, Any]) -> int:
    """Samples of which a bucket still had a former version."""
    return sum(one["kind"] == "pcm" for one in receipt["objects"])


@ON_BOTH
def test_a_store_that_refuses_keeps_no_other(farm: HandFarm, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says why it is not deleted yet; the others are."""
    first, second = farm.submit(), farm.submit()
    farm.go()
    its = eraser(farm)
    for one in (first, second):
        its.erasing.begin(one.id, by="ada@desk")
    real = farm.store.erase

    def refuse(key: str) -> None:
        if key.startswith(f"transcripts/{first.id}/"):
            raise StoreError("access is refused")
        real(key)

    with monkeypatch.context() as patch:
        patch.setattr(farm.store, "erase", refuse)
        farm.collect()
    assert farm.now(second).state == SubmissionState.DELETED
    assert farm.now(first).state == SubmissionState.DELETING
    assert deletion(farm, first).error == "access is refused"

    farm.collect()
    assert farm.now(first).state == SubmissionState.DELETED
    assert deletion(farm, first).error is None


@VERSIONS_TOO
def test_a_held_one_is_not_touched(farm: HandFarm) -> None:
    """Neither by a deletion, nor by its period, nor by the collector, nor where it is cancelled."""
    submission = farm.submit()
    farm.go(failing={1})
    cancelled = farm.submit()
    farm.ingest()
    keeping = Keeping(farm.farm.database)
    for one in (submission, cancelled):
        keeping.hold(one.id, by="counsel@desk", reason="case 12")
    farm.farm.desk.cancel(cancelled.id)
    keeping.set(Retention(tenant="ada", source=0, pcm=0, chunks=0, transcript=0))
    before, texts = rows(farm), farm.texts(submission)
    objects = copies(farm)

    with pytest.raises(LegalHold, match=rf"{submission.id} is held \(case 12\) .*: stenopool release {submission.id}"):
        eraser(farm).erasing.begin(submission.id, by="ada@desk")
    assert farm.collect() == []

    assert (rows(farm), copies(farm), farm.texts(submission)) == (before, objects, texts)
    assert len(farm.keys("sources")) == 2
    assert len(farm.keys("pcm")) == 1, "of the cancelled one"
    assert keeping.release(submission.id)
    assert not keeping.release(submission.id)
    assert keeping.release(cancelled.id)
    farm.collect()
    assert copies(farm) == []
    assert farm.now(submission).state == SubmissionState.DELETED
    with pytest.raises(LedgerError, match="there is nothing left to be held"):
        keeping.hold(submission.id, by="counsel@desk")


@ON_BOTH
def test_what_a_held_one_has_as_well_stays(farm: HandFarm) -> None:
    """The receipt says why."""
    first = farm.submit()
    farm.go()
    second = farm.again(first)
    farm.go()
    Keeping(farm.farm.database).hold(second.id, by="counsel@desk")

    receipt = receipt_of(delete(farm, first))

    assert receipt["kept"] == [{"what": "transcript", "why": "legal hold", "submission": second.id}]
    [source] = [one for one in receipt["objects"] if one["kind"] == "sources"]
    assert (source["removed"], source["why"]) == (False, "legal hold")
    assert farm.texts(second) == ["first0 first1 first2"]


@ON_BOTH
def test_whoever_holds_just_now_waits_for_nobody(farm: HandFarm) -> None:
    """Samples that are there when it is held stay where they are, also when the transcript is published."""
    submission = farm.submit()
    farm.ingest()
    Keeping(farm.farm.database).hold(submission.id, by="counsel@desk")

    farm.go()

    assert len(farm.keys("pcm")) == 1
    assert farm.collect() == []


def age(farm: HandFarm, seconds: float) -> None:
    """All that has ended has ended so long ago."""
    with farm.farm.database.begin() as connection:
        connection.execute(update(SubmissionRow).values(ended_at=SubmissionRow.ended_at - seconds))
        connection.execute(
            update(TranscriptRow).values(
                completed_at=TranscriptRow.completed_at - seconds, created_at=TranscriptRow.created_at - seconds
            )
        )


@ON_BOTH
def test_each_class_has_its_period(farm: HandFarm) -> None:
    """Of that tenant; what is being made is not touched."""
    keeping = Keeping(farm.farm.database)
    keeping.set(Retention(tenant="ada", source=2 * DAY, pcm=DAY, chunks=3 * DAY, transcript=4 * DAY))
    submission = farm.submit()
    theirs = farm.submit(tenant="bob")
    farm.go()
    going_on = farm.submit()
    farm.ingest()
    samples = pcm_key(farm.farm.ledger.work(farm.now(submission).transcripts[0][1]).recording)

    assert {submission.source, samples} <= set(farm.keys())
    assert [one.which for one in farm.collect()] == [theirs.source], "nothing is set for bob"

    age(farm, 1.5 * DAY)
    assert [one.which for one in farm.collect()] == [samples]
    age(farm, DAY)
    assert [one.which for one in farm.collect()] == [submission.source]
    assert heard(farm, submission) == 3
    age(farm, DAY)
    assert [one.what for one in farm.collect()] == ["forgotten"]
    assert heard(farm, submission) == 0
    assert farm.texts(submission) == ["first0 first1 first2"]
    assert farm.collect() == []
    age(farm, DAY)
    assert [one.what for one in farm.collect()] == ["to be deleted", "deleted"]
    assert farm.now(submission).state == SubmissionState.DELETED
    assert deletion(farm, submission).reason == "kept for 4 days, as its tenant has it"
    assert deletion(farm, submission).by == "retention"

    farm.go()
    assert farm.texts(going_on) == ["first0 first1 first2"]
    assert farm.texts(theirs) == ["first0 first1 first2"]
    assert violations(farm.farm.database) == []


def heard(farm: HandFarm, submission: Submission) -> int:
    """Chunks of it whose results are kept."""
    with farm.farm.database.connect() as connection:
        n = connection.scalar(
            select(func.count())
            .select_from(ChunkRow)
            .where(
                ChunkRow.transcript_id == farm.now(submission).transcripts[0][1],
                ChunkRow.result["language"].as_string().is_not(None),
            )
        )
    return n or 0


@ON_BOTH
def test_gaps_are_tried_again_though_what_was_heard_is_forgotten(farm: HandFarm) -> None:
    """Then all of it is transcribed anew, as long as the file is kept; if that is gone, it says so."""
    Keeping(farm.farm.database).set(Retention(tenant="ada", source=DAY, chunks=0))
    submission = farm.submit()
    farm.go(failing={1})
    farm.collect()
    assert farm.farm.desk.retry(submission.id)
    assert farm.go("again") == [0, 1, 2]
    assert farm.texts(submission) == ["again0 again1 again2"]
    assert farm.texts(submission, 1) == ["first0 first2"]

    other = farm.submit()
    farm.go(failing={1})
    farm.store.delete(other.source)
    assert farm.farm.desk.retry(other.id)
    farm.go()
    assert farm.now(other).state == SubmissionState.COMPLETED_WITH_GAPS
    assert farm.now(other).error == f"{other.name}: its file is gone from the object store; submit it again"
    assert farm.texts(other) == ["first0 first2"]
    assert violations(farm.farm.database) == []


@ON_BOTH
def test_others_rows_go_in_the_same_transaction(farm: HandFarm, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever keeps something of transcripts has it removed there, and counted."""
    asked: list[tuple[int | None, list[int]]] = []

    def remove(_: object, submission: int | None, transcripts: Any) -> dict[str, int]:
        asked.append((submission, list(transcripts)))
        return {"search": len(transcripts)}

    monkeypatch.setattr(erasing_module, "REMOVERS", [*erasing_module.REMOVERS, remove])
    submission = farm.submit(channels=2, split=True)
    farm.go()
    [(_, left), (_, right)] = farm.now(submission).transcripts

    done = delete(farm, submission)

    assert asked == [(submission.id, [left, right])]
    assert done.receipt["rows"]["search"] == 2


@ON_BOTH
def test_what_an_event_said_is_blank(farm: HandFarm, tmp_path: Path) -> None:
    """Why it failed names its file."""
    (tmp_path / "diary.txt").write_text("Dear diary")
    submission = farm.order(tmp_path / "diary.txt")
    farm.go()
    assert "diary" in words(farm)

    delete(farm, submission)

    assert "diary" not in words(farm)
    with farm.farm.database.connect() as connection:
        assert set(connection.scalars(select(EventRow.error))) == {None}
