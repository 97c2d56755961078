"""Versions of a transcript: what is done again is kept beside what was, and shown where it is no worse."""

from __future__ import annotations

import json
from pathlib import Path

from sqlalchemy import select

from stenopool.domain import Chunk, Span
from storage.chunks import Finished
from storage.desk import Submission
from storage.ledger import Queued, Source
from storage.tables import ChunkRow, Lane, SubmissionState, TranscriptState
from tests.farms import HandFarm, S, command
from tests.faults.history import violations


def versions(farm: HandFarm, submission: Submission) -> list[tuple[int, str, bool]]:
    """Number and state of each, and whether it is the one that is shown."""
    transcript = farm.now(submission).transcripts[0][1]
    shown = farm.farm.ledger.shown(transcript)
    return [
        (one.version, one.state.value, shown is not None and shown.id == one.id)
        for one in farm.farm.ledger.versions(transcript)
    ]


def test_only_the_gaps_are_tried_again(hand_farm: HandFarm) -> None:
    """All else is taken over; the version with gaps is kept, and the one without is shown, in the object store, too."""
    farm = hand_farm
    one = farm.submit(10)
    assert farm.go(failing={1, 3}) == [0, 1, 2, 3, 4]
    assert farm.now(one).state == SubmissionState.COMPLETED_WITH_GAPS

    assert farm.farm.desk.retry(one.id)
    assert farm.texts(one) == ["first0 first2 first4"], "it is shown meanwhile"
    assert farm.go("again") == [1, 3]

    assert farm.now(one).state == SubmissionState.COMPLETED
    assert farm.texts(one) == ["first0 again1 first2 again3 first4"]
    assert farm.texts(one, 1) == ["first0 first2 first4"]
    assert versions(farm, one) == [(1, "completed_with_gaps", False), (2, "completed", True)]
    assert len(farm.keys("transcripts")) == 10
    assert not farm.farm.desk.retry(one.id)
    assert [one.what for one in farm.collect()] == ["removed"], "the file, which nobody can need any more"
    assert violations(farm.farm.database) == []


def test_gaps_that_stay(hand_farm: HandFarm) -> None:
    """Fewer are shown; as many are, too, as they are the newer ones. It can be tried as often as one likes."""
    farm = hand_farm
    one = farm.submit()
    farm.go(failing={0, 1})
    for by, failing, heard in (("second", {1}, [0, 1]), ("third", {1}, [1]), ("fourth", set(), [1])):
        assert farm.farm.desk.retry(one.id)
        assert farm.go(by, failing) == heard

    assert farm.texts(one) == ["second0 fourth1 first2"]
    assert [shown for _, _, shown in versions(farm, one)] == [False, False, False, True]
    assert violations(farm.farm.database) == []


def test_a_worse_version_is_not_shown(hand_farm: HandFarm) -> None:
    """By force, all of it is done again; with more gaps than before, it is kept, and who asked gets the better one."""
    farm = hand_farm
    one = farm.submit()
    farm.go(failing={0})
    worse = farm.again(one, again=True)
    assert farm.go("worse", {1, 2}) == [0, 1, 2]

    assert versions(farm, worse) == [(1, "completed_with_gaps", True), (2, "completed_with_gaps", False)]
    assert farm.texts(worse) == farm.texts(one) == ["first1 first2"]
    assert farm.texts(worse, 2) == ["worse0"]
    assert farm.collect(keep=3600) == [], "who asked has the files of what is shown"

    better = farm.again(one, again=True)
    farm.go("better")
    assert versions(farm, one)[2] == (3, "completed", True)
    assert farm.texts(one) == farm.texts(better) == ["better0 better1 better2"]
    assert {one.what for one in farm.collect(keep=3600)} == {"put again"}, "the others have its files as well"
    assert violations(farm.farm.database) == []


def test_a_retry_that_comes_to_nothing_leaves_what_was(hand_farm: HandFarm) -> None:
    """Cancelled, or its file is gone: it has its gaps as before, and can be retried again."""
    farm = hand_farm
    one = farm.submit()
    farm.go(failing={1})
    assert farm.farm.desk.retry(one.id)
    farm.ingest()
    farm.admit()
    assert farm.farm.desk.cancel(one.id)
    assert (farm.now(one).state, farm.claim()) == (SubmissionState.COMPLETED_WITH_GAPS, [])
    assert versions(farm, one) == [(1, "completed_with_gaps", True), (2, "cancelled", False)]

    farm.collect()  # what is kept for a retry, for no time at all
    assert farm.farm.desk.retry(one.id)
    farm.go()

    ended = farm.now(one)
    assert ended.state == SubmissionState.COMPLETED_WITH_GAPS
    assert ended.error == f"{one.name}: its file is gone from the object store; submit it again"
    assert farm.texts(one) == ["first0 first2"]
    assert farm.collect() == []
    farm.again(one)  # puts the file again, and finds that the work is done
    assert farm.go() == []
    assert farm.farm.desk.retry(one.id)
    assert farm.go("again") == [1]
    assert farm.texts(one) == ["first0 again1 first2"]
    assert violations(farm.farm.database) == []


def test_two_who_retry_the_same(hand_farm: HandFarm) -> None:
    """One new version, for both."""
    farm = hand_farm
    one = farm.submit()
    two = farm.again(one)
    farm.go(failing={2})
    assert farm.farm.desk.retry(one.id)
    assert farm.farm.desk.retry(two.id)

    assert farm.go("again") == [2]

    assert farm.texts(one) == farm.texts(two) == ["first0 first1 again2"]
    assert len(versions(farm, one)) == 2
    assert violations(farm.farm.database) == []


def test_channels_are_mended_one_by_one(hand_farm: HandFarm) -> None:
    """A channel without gaps has no second version."""
    farm = hand_farm
    one = farm.submit(4, channels=2, split=True)
    farm.ingest()
    farm.admit()
    left, right = (transcript for _, transcript in farm.now(one).transcripts)
    for claim in farm.claim():
        farm.finish([claim], failing={0} if claim.transcript == right else ())
    farm.go()
    assert farm.farm.desk.retry(one.id)

    assert farm.go("again") == [0]

    assert farm.texts(one) == ["first0 first1", "again0 first1"]
    assert [one.version for one in farm.farm.ledger.versions(left)] == [1]
    assert [one.version for one in farm.farm.ledger.versions(right)] == [1, 2]
    assert violations(farm.farm.database) == []


def test_a_gap_of_a_sequential_transcript_is_told_what_it_was_told(hand_farm: HandFarm) -> None:
    """Its chunks wait for nobody: what comes before them is done."""
    ledger = hand_farm.farm.ledger
    hand_farm.farm.desk.set_tenant("ada")
    ledger.add_sources("f", [Source(channel=0, recording="r", duration=4 * S, ended_early=None, damaged=0)])
    queued = Queued(tenant="ada", engine_key="e", lane=Lane.NORMAL)
    work = ledger.plan(
        "r",
        "work",
        provenance={},
        language="en",
        chunks=[Chunk(index=i, span=Span(i * S, (i + 1) * S)) for i in range(4)],
        silences=[(Span(0, 1), 0.5)],
        sequential=True,
        queued=queued,
    )
    hand_farm.admit()
    while claims := hand_farm.claim():
        [claim] = claims
        failed = {"failed": "the device failed"} if claim.index in (1, 2) else {"failed": None}
        ledger.finish_all([Finished(claim, failed, {"after": claim.index})])
    assert ledger.complete(work.id, ledger.begin_merge(work.id) or 0, TranscriptState.COMPLETED_WITH_GAPS, {})

    mended = ledger.mend(work.id, queued)
    assert ledger.mend(work.id, queued) == mended, "it is being made already"

    assert (mended.version, mended.chunks_total, mended.chunks_open) == (2, 4, 2)
    assert ledger.parts(mended.id).silences == ledger.parts(work.id).silences
    hand_farm.admit()
    assert [(one.index, one.carried) for one in hand_farm.claim()] == [(1, {"after": 0}), (2, {"after": 1})]
    with hand_farm.farm.database.connect() as connection:
        rows = connection.execute(
            select(ChunkRow.state, ChunkRow.result).where(ChunkRow.transcript_id == mended.id).order_by(ChunkRow.index)
        ).all()
    assert [tuple(row) for row in rows] == [
        ("done", {"failed": None}),
        ("leased", None),
        ("leased", None),
        ("done", {"failed": None}),
    ]


def test_versions_on_the_command_line(named_farm: HandFarm, tmp_path: Path) -> None:
    """`show` lists them and says which is shown and why; `fetch` gives that one, or the one that is named."""
    farm = named_farm
    one = farm.submit()
    farm.go(failing={1})
    farm.again(one, again=True)
    farm.go("worse", {0, 1})

    shown = command("show", str(one.id)).output.splitlines()
    assert [line.split(maxsplit=1)[1] for line in shown if line.startswith("version")] == [
        "1: completed_with_gaps, 2.0 s of gaps, shown",
        "2: completed_with_gaps, 4.0 s of gaps, not shown: it has more gaps than one before it",
    ]
    listed = json.loads(command("show", str(one.id), "--json").output)["versions"]
    assert [(each["version"], each["standing"], each["gaps"]) for each in listed] == [
        (1, "shown", 2.0),
        (2, "withheld", 4.0),
    ]

    folder = tmp_path / "out"
    assert command("fetch", str(one.id), "-o", str(folder), "--format", "txt").exit_code == 3
    assert (folder / "talk1.txt").read_text() == "first0\nfirst2\n"
    assert command("fetch", str(one.id), "--version", "2", "-o", str(folder), "--format", "txt").exit_code == 3
    assert (folder / "talk1.txt").read_text() == "worse2\n"
    none = command("fetch", str(one.id), "--version", "3", "-o", str(folder))
    assert none.exit_code == 1
    assert none.stderr == f"stenopool: {one.id} talk1.wav: there is no version 3; see: stenopool show {one.id}\n"
    assert command("retry", str(one.id)).output == f"{one.id} is done again\n"


def test_collecting_on_the_command_line(named_farm: HandFarm) -> None:
    """What would be done, and what was."""
    farm = named_farm
    one = farm.submit()
    farm.go()
    [lost, *_] = farm.keys("transcripts")
    farm.store.delete(lost)

    assert command("collect", "--dry-run").output == f"put again\t{lost}\n1 would be put again\n"
    assert command("collect").output == f"put again\t{lost}\n1 put again\n"
    assert command("collect").output == "nothing is to be done\n"
    assert farm.now(one).state == SubmissionState.COMPLETED
