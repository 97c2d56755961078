"""The ledger: what is claimed once is done once, and what comes late changes nothing."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from sqlalchemy import Engine, delete, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from stenopool.domain import Chunk, Span
from stenopool.errors import LedgerError
from storage.chunks import LEASE, Claim
from storage.database import database_clock, open_database
from storage.ledger import Ledger, Source, Work
from storage.tables import MAKING, ChunkRow, RecordingRow, SilenceRow, SourceRow, TranscriptRow, TranscriptState

S = 16_000  # one second
RECORDING, OTHER = "ab" * 32, "cd" * 32
FILE = "ef" * 32


@pytest.fixture
def engine(any_database: Engine) -> Engine:
    """On both databases."""
    return any_database


@pytest.fixture
def ledger(engine: Engine) -> Ledger:
    """A ledger that knows two recordings."""
    ledger = Ledger(engine)
    ledger.add_sources(FILE, [source(1, RECORDING), source(2, OTHER)])
    return ledger


def place(engine: Engine) -> Path | str:
    """What another process opens it by."""
    if engine.dialect.name == "sqlite":
        return Path(str(engine.url.database))
    return engine.url.render_as_string(hide_password=False)


def source(channel: int, recording: str = RECORDING, **other: Any) -> Source:
    """A channel of a minute, or of another duration."""
    return Source(
        **{"channel": channel, "recording": recording, "duration": 60 * S, "ended_early": None, "damaged": 0, **other}
    )


def plan(ledger: Ledger, chunks: int = 3, *, language: str | None = "en", **other: Any) -> Work:
    """A transcript with chunks of a second each."""
    planned = [Chunk(index=i, span=Span(i * S, (i + 1) * S)) for i in range(chunks)]
    given = {"recording": RECORDING, "work_digest": "work", "provenance": {}, "silences": [], "again": True, **other}
    return ledger.plan(language=language, chunks=planned, **given)


def table(engine: Engine, transcript: int) -> list[dict[str, Any]]:
    """All there is about a transcript's chunks."""
    with engine.begin() as connection:
        rows = connection.execute(
            select(ChunkRow.__table__).where(ChunkRow.transcript_id == transcript).order_by(ChunkRow.index)
        )
        return [dict(row) for row in rows.mappings()]


def states(engine: Engine, transcript: int) -> list[str]:
    """Each chunk's state."""
    return [row["state"] for row in table(engine, transcript)]


def set_lease(engine: Engine, transcript: int, *indices: int, seconds: float | None) -> None:
    """Let leases end that many seconds from now, by the database's clock; None: NULL."""
    until = None if seconds is None else database_clock() + seconds
    with engine.begin() as connection:
        connection.execute(
            update(ChunkRow)
            .where(ChunkRow.transcript_id == transcript, ChunkRow.index.in_(indices))
            .values(lease_until=until)
        )


def indices(claims: list[Claim]) -> list[int]:
    """The chunks claimed."""
    return [claim.index for claim in claims]


# Sources


def test_a_file_is_known_by_all_of_its_channels(ledger: Ledger) -> None:
    """What was decoded comes back as it was kept, in the order of the channels."""
    left, right = source(1, "01" * 32, duration=5, ended_early="cut", damaged=2), source(2, "02" * 32, duration=5)
    ledger.add_sources("file", [right, left])

    assert ledger.sources("file", split=True) == [left, right]
    assert ledger.sources("nobody's", split=True) == []


def test_the_mix_and_the_channels_are_known_apart(ledger: Ledger) -> None:
    """A file that was mixed is not known split, nor the other way round; both can be."""
    ledger.add_sources("file", [source(0)])

    assert ledger.sources("file", split=False) == [source(0)]
    assert ledger.sources("file", split=True) == []

    ledger.add_sources("file", [source(1), source(2, OTHER)])

    assert ledger.sources("file", split=False) == [source(0)]
    assert ledger.sources("file", split=True) == [source(1), source(2, OTHER)]


@pytest.mark.parametrize("lost", [1, 2])
def test_a_split_file_is_known_whole_or_not_at_all(engine: Engine, ledger: Ledger, lost: int) -> None:
    """With one channel missing, the other is not given out alone."""
    with engine.begin() as connection:
        connection.execute(delete(SourceRow).where(SourceRow.file_sha256 == FILE, SourceRow.channel == lost))

    assert ledger.sources(FILE, split=True) == []


def test_channels_that_are_not_there_any_more_are_forgotten(ledger: Ledger) -> None:
    """Another release of the decoder that finds fewer channels replaces what the earlier one found."""
    ledger.add_sources(FILE, [source(0)])
    ledger.add_sources(FILE, [source(1)])

    assert ledger.sources(FILE, split=True) == [source(1)]
    assert ledger.sources(FILE, split=False) == [source(0)]


def test_two_channels_may_be_one_recording(engine: Engine, ledger: Ledger) -> None:
    """Dual mono: the same samples twice are one recording, and kept twice as a source."""
    ledger.add_sources("dual", [source(1, "03" * 32), source(2, "03" * 32)])
    ledger.add_sources("dual", [source(1, "03" * 32), source(2, "03" * 32)])

    assert ledger.sources("dual", split=True) == [source(1, "03" * 32), source(2, "03" * 32)]
    with engine.begin() as connection:
        assert connection.scalar(select(func.count()).where(RecordingRow.id == "03" * 32)) == 1


# Plans


def test_a_plan_is_kept_as_it_was_made(ledger: Ledger) -> None:
    """Chunks and silences come back in order of time, whatever order the silences were given in."""
    silences = [(Span(50 * S, 60 * S), 0.25), (Span(10 * S, 20 * S), 0.125)]
    work = ledger.plan(
        RECORDING,
        "work",
        provenance={"model": "pocket"},
        language=None,
        chunks=[Chunk(index=0, span=Span(0, 10 * S)), Chunk(index=1, span=Span(20 * S, 50 * S))],
        silences=silences,
    )

    assert work == Work(
        id=work.id,
        recording=RECORDING,
        duration=60 * S,
        version=1,
        state=TranscriptState.TRANSCRIBING,
        provenance={"model": "pocket"},
        language=None,
        language_probability=None,
        chunks_total=2,
        chunks_open=2,
        sequential=False,
        document=None,
        withheld=False,
    )
    assert ledger.work(work.id) == ledger.latest(RECORDING, "work") == work
    assert ledger.spans(work.id) == ledger.open_spans(work.id) == [Span(0, 10 * S), Span(20 * S, 50 * S)]
    assert ledger.parts(work.id).silences == [(Span(10 * S, 20 * S), 0.125), (Span(50 * S, 60 * S), 0.25)]
    assert ledger.parts(work.id).results == []


def test_a_plan_is_kept_whole_or_not_at_all(engine: Engine, ledger: Ledger) -> None:
    """A plan that breaks a rule leaves nothing behind; it is a fault of the program, not of the ledger's file."""
    with pytest.raises(IntegrityError):
        plan(ledger, silences=[(Span(0, 1), 0.0), (Span(0, 2), 0.0)])

    assert ledger.latest(RECORDING, "work") is None
    with engine.begin() as connection:
        for row in (TranscriptRow, ChunkRow, SilenceRow):
            assert connection.scalar(select(func.count()).select_from(row)) == 0


def test_a_plan_needs_its_recording(ledger: Ledger) -> None:
    """No transcript of a recording that nobody decoded."""
    with pytest.raises(IntegrityError):
        plan(ledger, recording="77" * 32)


def test_a_new_plan_is_a_new_generation(engine: Engine, ledger: Ledger) -> None:
    """Generations rise by one for each recording and work; the latest is the newest, the older ones stay."""
    first = plan(ledger, 0)
    assert ledger.complete(first.id, ledger.begin_merge(first.id) or 0, TranscriptState.COMPLETED, {})
    second = plan(ledger)
    other_work = plan(ledger, work_digest="other")
    other_recording = plan(ledger, recording=OTHER)

    with engine.begin() as connection:
        rows = connection.execute(select(TranscriptRow.id, TranscriptRow.generation)).all()
    assert {row.id: row.generation for row in rows} == {
        first.id: 1,
        second.id: 2,
        other_work.id: 1,
        other_recording.id: 1,
    }
    assert ledger.latest(RECORDING, "work") == second
    assert ledger.latest(RECORDING, "other") == other_work
    assert ledger.latest(OTHER, "work") == other_recording
    assert ledger.latest(OTHER, "other") is None
    assert ledger.work(first.id).state is TranscriptState.COMPLETED


def test_no_such_transcript(ledger: Ledger) -> None:
    """A number that no transcript has is refused in a line."""
    with pytest.raises(LedgerError, match=r"^the ledger has no transcript 7$"):
        ledger.work(7)


# The life of a chunk


def test_chunks_wait_for_the_language(engine: Engine, ledger: Ledger) -> None:
    """Until the language is decided nothing can be claimed; then everything can."""
    work = plan(ledger, language=None)

    assert states(engine, work.id) == ["waiting"] * 3
    assert ledger.claim("ada", [work.id], 9) == []

    ledger.set_language(work.id, "de", 0.75)

    assert states(engine, work.id) == ["ready"] * 3
    assert (ledger.work(work.id).language, ledger.work(work.id).language_probability) == ("de", 0.75)
    assert indices(ledger.claim("ada", [work.id], 9)) == [0, 1, 2]


def test_the_language_is_decided_once(engine: Engine, ledger: Ledger) -> None:
    """A second decision changes neither the language nor the chunks that are under way."""
    work = plan(ledger, language=None)
    bystander = plan(ledger, recording=OTHER, language=None)
    ledger.set_language(work.id, "de", 0.75)
    claims = ledger.claim("ada", [work.id], 2)
    ledger.finish(claims[0], {})
    before = table(engine, work.id)

    ledger.set_language(work.id, "fr", 1.0)

    assert (ledger.work(work.id).language, ledger.work(work.id).language_probability) == ("de", 0.75)
    assert table(engine, work.id) == before
    assert states(engine, work.id) == ["done", "leased", "ready"]
    assert ledger.work(bystander.id) == bystander
    assert states(engine, bystander.id) == ["waiting"] * 3


def test_a_language_that_was_given_stays(ledger: Ledger) -> None:
    """Nobody detects what the user has said."""
    work = plan(ledger, language="en")
    ledger.set_language(work.id, "fr", 1.0)

    assert ledger.work(work.id) == work


def test_a_chunk_goes_from_ready_to_leased_to_done(engine: Engine, ledger: Ledger) -> None:
    """Each step leaves in its row what the next one needs, and nothing else."""
    work = plan(ledger, 1)
    queue = {"engine_key": "", "lane": None, "rank": 0, "crashes": 0, "blamed_at": None, "hinted_at": None}
    place = {"transcript_id": work.id, "index": 0, "start": 0, "end": S, "speech": None, "carried": None, **queue}
    ready = {"state": "ready", "attempt": 0, "fence": 0, "worker": None, "lease_until": None, "result": None}
    assert table(engine, work.id) == [place | ready]

    [claim] = ledger.claim("ada", [work.id], 1)

    assert claim == Claim(transcript=work.id, chunk=Chunk(index=0, span=Span(0, S)), fence=1)
    [row] = table(engine, work.id)
    assert row.pop("lease_until") > 0
    assert row == place | {"state": "leased", "attempt": 1, "fence": 1, "worker": "ada", "result": None}

    assert ledger.finish(claim, {"text": "hello"}) == 0

    done = {"state": "done", "attempt": 1, "fence": 1, "worker": None, "lease_until": None, "result": {"text": "hello"}}
    assert table(engine, work.id) == [place | done]
    assert ledger.parts(work.id).results == [{"text": "hello"}]


def test_claims_come_in_the_order_of_planning(ledger: Ledger) -> None:
    """First the transcript planned first, from its beginning, then the next; never more than the limit."""
    early, late = plan(ledger, 3), plan(ledger, 3, recording=OTHER)

    def claim(limit: int) -> list[tuple[int, int, Span]]:
        return [(c.transcript, c.index, c.span) for c in ledger.claim("ada", [late.id, early.id], limit)]

    assert claim(0) == claim(-1) == []
    assert claim(2) == [(early.id, 0, Span(0, S)), (early.id, 1, Span(S, 2 * S))]
    assert claim(2) == [(early.id, 2, Span(2 * S, 3 * S)), (late.id, 0, Span(0, S))]
    assert claim(9) == [(late.id, 1, Span(S, 2 * S)), (late.id, 2, Span(2 * S, 3 * S))]
    assert claim(9) == []


def test_claims_stay_within_the_transcripts_asked_for(engine: Engine, ledger: Ledger) -> None:
    """Other work is left alone, and asking for none gives none."""
    mine, theirs = plan(ledger, 2), plan(ledger, 2, recording=OTHER)

    assert ledger.claim("ada", [], 9) == []
    assert len(ledger.claim("ada", [mine.id], 9)) == 2
    assert states(engine, theirs.id) == ["ready", "ready"]


def test_each_finish_counts_once(ledger: Ledger) -> None:
    """The counter falls by one for each chunk, whatever the order; a second finish is refused and counts nothing."""
    work, bystander = plan(ledger, 3), plan(ledger, 3, recording=OTHER)
    first, second, third = ledger.claim("ada", [work.id], 3)

    assert ledger.finish(third, {"n": 3}) == 2
    assert ledger.finish(third, {"n": 33}) is None
    assert ledger.finish(first, {"n": 1}) == 1
    assert ledger.open_spans(work.id) == [second.span]
    assert ledger.finish(second, {"n": 2}) == 0
    assert ledger.finish(first, {"n": 11}) is None
    assert ledger.work(work.id).chunks_open == 0
    assert ledger.parts(work.id).results == [{"n": 1}, {"n": 2}, {"n": 3}]
    assert ledger.work(bystander.id) == bystander


def test_a_claim_that_the_database_forgot(engine: Engine, ledger: Ledger) -> None:
    """Its machine failed: who claims next has the same fence, the first of both results is kept, and counted once."""
    work = plan(ledger, 2)
    [forgotten] = ledger.claim("ada", [work.id], 1)
    before = {"state": "ready", "worker": None, "lease_until": None, "fence": forgotten.fence - 1, "attempt": 0}
    with engine.begin() as connection:
        connection.execute(update(ChunkRow).where(ChunkRow.index == forgotten.index).values(before))
    [again] = ledger.claim("bob", [work.id], 1)

    assert again.fence == forgotten.fence
    assert ledger.finish(forgotten, {"from": "ada"}) == 1
    assert ledger.finish(again, {"from": "bob"}) is None
    assert table(engine, work.id)[0]["result"] == {"from": "ada"}
    assert ledger.work(work.id).chunks_open == 1


def test_a_late_result_is_refused(engine: Engine, ledger: Ledger) -> None:
    """A worker that was taken for dead comes back: under its old fence it changes nothing, counter included."""
    work = plan(ledger, 2)
    [late] = ledger.claim("ada", [work.id], 1)
    ledger.release(["ada"])

    before = ledger.work(work.id), table(engine, work.id)
    assert ledger.finish(late, {"from": "ada"}) is None  # given back, and nobody has it
    assert (ledger.work(work.id), table(engine, work.id)) == before

    [current] = ledger.claim("bob", [work.id], 1)
    assert (current.index, current.fence) == (late.index, late.fence + 1)
    before = ledger.work(work.id), table(engine, work.id)
    assert ledger.finish(late, {"from": "ada"}) is None  # somebody else has it
    assert (ledger.work(work.id), table(engine, work.id)) == before

    assert ledger.finish(current, {"from": "bob"}) == 1
    before = ledger.work(work.id), table(engine, work.id)
    assert ledger.finish(late, {"from": "ada"}) is None  # somebody else has done it
    assert (ledger.work(work.id), table(engine, work.id)) == before
    assert ledger.parts(work.id).results == [{"from": "bob"}]


def test_the_same_worker_may_not_finish_under_its_older_fence(ledger: Ledger) -> None:
    """The fence decides, not the worker's name."""
    work = plan(ledger, 1)
    [old] = ledger.claim("ada", [work.id], 1)
    ledger.release(["ada"])
    [new] = ledger.claim("ada", [work.id], 1)

    assert ledger.finish(old, {"try": 1}) is None
    assert ledger.finish(new, {"try": 2}) == 0
    assert ledger.parts(work.id).results == [{"try": 2}]


# Sequential transcripts


def test_the_first_chunk_of_a_sequential_transcript_goes_alone(engine: Engine, ledger: Ledger) -> None:
    """Once the language is known; the others wait for the one before them."""
    known, detected = plan(ledger, sequential=True), plan(ledger, recording=OTHER, sequential=True, language=None)

    assert states(engine, known.id) == ["ready", "waiting", "waiting"]
    assert states(engine, detected.id) == ["waiting"] * 3
    ledger.set_language(detected.id, "de", 0.75)
    assert states(engine, detected.id) == ["ready", "waiting", "waiting"]


def test_a_chunk_that_is_done_tells_the_next(engine: Engine, ledger: Ledger) -> None:
    """What is carried reaches the next chunk in the transaction that finishes this one, and nobody else."""
    work = plan(ledger, sequential=True)
    bystander = plan(ledger, recording=OTHER, sequential=True)

    [first] = ledger.claim("ada", [work.id], 9)
    assert (first.index, first.carried) == (0, None)
    assert ledger.finish(first, {}, {"tokens": [1, 2]}) == 2
    assert states(engine, work.id) == ["done", "ready", "waiting"]
    [second] = ledger.claim("ada", [work.id], 9)
    assert (second.index, second.carried) == (1, {"tokens": [1, 2]})
    assert ledger.finish(second, {}) == 1
    [third] = ledger.claim("ada", [work.id], 9)
    assert (third.index, third.carried) == (2, None)
    assert ledger.finish(third, {}, {"tokens": [3]}) == 0
    assert states(engine, work.id) == ["done"] * 3
    assert states(engine, bystander.id) == ["ready", "waiting", "waiting"]


def test_what_was_told_survives_a_worker(engine: Engine, ledger: Ledger) -> None:
    """A chunk that is claimed again is told the same; a late result of the one before it changes nothing."""
    work = plan(ledger, sequential=True)
    [late] = ledger.claim("ada", [work.id], 1)
    ledger.release(["ada"])
    assert ledger.finish(late, {}, {"from": "ada"}) is None
    assert states(engine, work.id) == ["ready", "waiting", "waiting"]
    ledger.finish(ledger.claim("bob", [work.id], 1)[0], {}, {"from": "bob"})

    ledger.claim("bob", [work.id], 1)
    ledger.release(["bob"])
    assert ledger.finish(late, {}, {"from": "ada"}) is None
    [again] = ledger.claim("cyd", [work.id], 1)

    assert (again.index, again.carried) == (1, {"from": "bob"})


# Leases


def test_a_lease_is_measured_by_the_databases_clock(engine: Engine, ledger: Ledger) -> None:
    """It ends a lease's length after the claim, and as long after each renewal; the other worker's is not renewed."""
    work = plan(ledger, 2)
    ledger.claim("ada", [work.id], 1)
    ledger.claim("bob", [work.id], 1)

    def left() -> list[float]:
        with engine.begin() as connection:
            return list(connection.scalars(select(ChunkRow.lease_until - database_clock()).order_by(ChunkRow.index)))

    assert all(LEASE - 30 < seconds <= LEASE for seconds in left())

    set_lease(engine, work.id, 0, 1, seconds=5)
    ledger.renew("ada")

    ada, bob = left()
    assert LEASE - 30 < ada <= LEASE
    assert bob <= 5


def test_renewing_touches_only_leases(engine: Engine, ledger: Ledger) -> None:
    """What is done, or given back, gets no new lease."""
    work = plan(ledger, 3)
    ledger.finish(ledger.claim("ada", [work.id], 1)[0], {})
    ledger.claim("ada", [work.id], 1)
    ledger.release(["ada"])
    before = table(engine, work.id)

    ledger.renew("ada")

    assert table(engine, work.id) == before


def test_a_claim_that_its_worker_does_not_know_of_runs_out(engine: Engine, ledger: Ledger) -> None:
    """Its answer was lost: nobody would ever hear that chunk. So does one of an earlier fence."""
    work = plan(ledger, 3)
    known, _ = ledger.claim("ada", [work.id], 2)
    set_lease(engine, work.id, 0, 1, seconds=-1)
    ledger.renew("ada", [])
    assert ledger.sweep() == 2
    ledger.claim("ada", [work.id], 2)
    set_lease(engine, work.id, 0, 1, seconds=-1)
    ledger.renew("ada", [known])
    assert ledger.sweep() == 2
    again, _ = ledger.claim("ada", [work.id], 2)
    set_lease(engine, work.id, 0, 1, seconds=-1)
    ledger.renew("ada", [again])
    assert ledger.sweep() == 1

    assert states(engine, work.id) == ["leased", "ready", "ready"]


def test_the_sweep_frees_what_ran_out(engine: Engine, ledger: Ledger) -> None:
    """Leases that ended and leases without an end are void; living ones and what is done are not touched."""
    work = plan(ledger, 6)
    claims = ledger.claim("ada", [work.id], 5)
    ledger.finish(claims[4], {})
    set_lease(engine, work.id, 0, seconds=-0.5)
    set_lease(engine, work.id, 1, seconds=None)
    set_lease(engine, work.id, 2, seconds=30)
    set_lease(engine, work.id, 4, 5, seconds=-3600)  # done, and ready: no leases, whatever the column says

    assert ledger.sweep() == 2
    assert states(engine, work.id) == ["ready", "ready", "leased", "leased", "done", "ready"]
    assert [row["worker"] for row in table(engine, work.id)] == [None, None, "ada", "ada", None, None]
    assert ledger.sweep() == 0

    again = ledger.claim("bob", [work.id], 2)
    assert [(claim.index, claim.fence) for claim in again] == [(0, 2), (1, 2)]
    assert [ledger.finish(claim, {}) for claim in claims[:2]] == [None, None]


def test_a_lease_that_ran_out_unnoticed_still_counts(engine: Engine, ledger: Ledger) -> None:
    """Until the chunk is given to somebody else, a slow worker's result is welcome."""
    work = plan(ledger, 1)
    [claim] = ledger.claim("ada", [work.id], 1)
    set_lease(engine, work.id, 0, seconds=-3600)

    assert ledger.finish(claim, {}) == 0


def test_releasing_gives_back_only_what_the_named_hold(engine: Engine, ledger: Ledger) -> None:
    """Others' leases and what is done stay."""
    work = plan(ledger, 5)
    done, *_ = ledger.claim("ada", [work.id], 2)
    ledger.finish(done, {})
    for worker in ("bob", "cyd", "dan"):
        ledger.claim(worker, [work.id], 1)

    ledger.release([])
    assert states(engine, work.id) == ["done", "leased", "leased", "leased", "leased"]
    assert ledger.holders() == {"ada", "bob", "cyd", "dan"}

    ledger.release(["ada", "cyd", "nobody"])
    assert states(engine, work.id) == ["done", "ready", "leased", "ready", "leased"]
    assert ledger.holders() == {"bob", "dan"}


# Merging


def test_only_a_transcript_without_open_chunks_is_merged(ledger: Ledger) -> None:
    """One chunk that is ready or leased holds the merge back."""
    work = plan(ledger, 2)
    assert ledger.begin_merge(work.id) is None

    first, second = ledger.claim("ada", [work.id], 2)
    ledger.finish(first, {})
    assert ledger.begin_merge(work.id) is None
    assert ledger.work(work.id).state is TranscriptState.TRANSCRIBING

    ledger.finish(second, {})
    assert ledger.begin_merge(work.id) == 1
    assert ledger.work(work.id).state is TranscriptState.MERGING
    assert ledger.begin_merge(work.id + 1) is None


@pytest.mark.parametrize("language", ["en", None])
def test_a_recording_of_silence_is_merged_at_once(ledger: Ledger, language: str | None) -> None:
    """Without chunks there is nothing to wait for, not even a language."""
    work = plan(ledger, 0, language=language)

    assert ledger.begin_merge(work.id) == 1


def test_a_merge_that_was_taken_over_cannot_end(ledger: Ledger) -> None:
    """Each beginning gets a higher fence, and only the last one may end the merge, once."""
    work = plan(ledger, 0)
    stale, current = ledger.begin_merge(work.id), ledger.begin_merge(work.id)
    assert (stale, current) == (1, 2)

    assert not ledger.complete(work.id, 1, TranscriptState.COMPLETED, {"by": "stale"})
    assert ledger.work(work.id).state is TranscriptState.MERGING
    assert ledger.work(work.id).document is None

    assert ledger.complete(work.id, 2, TranscriptState.COMPLETED_WITH_GAPS, {"by": "current"})
    assert not ledger.complete(work.id, 2, TranscriptState.COMPLETED, {"by": "current, again"})
    assert not ledger.complete(work.id, 1, TranscriptState.COMPLETED, {"by": "stale"})
    assert ledger.begin_merge(work.id) is None
    assert ledger.work(work.id).state is TranscriptState.COMPLETED_WITH_GAPS
    assert ledger.work(work.id).document == {"by": "current"}


def test_nothing_ends_that_was_not_begun(ledger: Ledger) -> None:
    """A new transcript's fence is 0, and 0 ends nothing."""
    work = plan(ledger, 0)

    assert not ledger.complete(work.id, 0, TranscriptState.COMPLETED, {})
    assert ledger.work(work.id) == work


@pytest.mark.parametrize("state", list(TranscriptState))
def test_what_complete_means(engine: Engine, ledger: Ledger, state: TranscriptState) -> None:
    """A transcript is complete in each of the three states that it can end in; its samples are needed before them."""
    work = plan(ledger, 0)
    with engine.begin() as connection:
        connection.execute(update(TranscriptRow).values(state=state))

    assert ledger.work(work.id).complete is state.value.startswith("completed")
    assert is_needed(ledger, RECORDING) is (state in MAKING)


def test_the_end_of_a_merge_has_its_time(engine: Engine, ledger: Ledger) -> None:
    """By the database's clock, like the plan's."""
    work = plan(ledger, 0)
    assert ledger.complete(work.id, ledger.begin_merge(work.id) or 0, TranscriptState.COMPLETED_EMPTY, {})

    with engine.begin() as connection:
        made, ended, now = connection.execute(
            select(TranscriptRow.created_at, TranscriptRow.completed_at, database_clock())
        ).one()
    assert ended is not None
    assert now - 30 < made <= ended <= now


def is_needed(ledger: Ledger, recording: str) -> bool:
    """Whether the samples of a recording are kept."""
    removed: list[str] = []
    ledger.unless_needed(recording, lambda: removed.append(recording))
    return not removed


def test_samples_are_kept_while_any_work_on_them_is_open(ledger: Ledger) -> None:
    """Other options and other generations need them as well."""
    first, second = plan(ledger, 0), plan(ledger, 0, work_digest="other")
    plan(ledger, 0, recording=OTHER)
    assert is_needed(ledger, RECORDING)

    for work, needed in ((first, True), (second, False)):
        fence = ledger.begin_merge(work.id)
        assert fence is not None
        ledger.complete(work.id, fence, TranscriptState.COMPLETED, {})
        assert is_needed(ledger, RECORDING) is needed
    assert is_needed(ledger, OTHER)
    assert not is_needed(ledger, "nobody's")


def test_a_plan_that_is_there_is_not_made_twice(ledger: Ledger) -> None:
    """Of two processes that plan the same work, both get the one that was first."""
    first = plan(ledger, 3, again=False)
    second = plan(ledger, 5, again=False)

    assert second == first
    assert plan(ledger, 5, again=True) == first  # by force, what is not complete is gone on with
    assert plan(ledger, 3, again=False, work_digest="other").id != first.id


# Many at once


def test_threads_never_claim_the_same_chunk(ledger: Ledger) -> None:
    """Four threads on one ledger do each chunk exactly once, and one of them is told that it was the last."""
    work = plan(ledger, 200)
    together = threading.Barrier(4)

    def worker(name: str) -> list[tuple[int, int | None]]:
        together.wait()
        did = []
        while claims := ledger.claim(name, [work.id], 7):
            did += [(claim.index, ledger.finish(claim, {"index": claim.index})) for claim in claims]
        return did

    with ThreadPoolExecutor(4) as pool:
        did = [one for part in pool.map(worker, "abcd") for one in part]

    assert sorted(index for index, _ in did) == list(range(200))
    assert sorted(left for _, left in did if left is not None) == list(range(200))
    assert ledger.parts(work.id).results == [{"index": index} for index in range(200)]


def test_one_of_many_mergers_wins(ledger: Ledger) -> None:
    """Threads that begin the same merge get different fences, and one of them ends it."""
    work = plan(ledger, 0)
    together = threading.Barrier(6)

    def merger(_: int) -> tuple[int, bool]:
        together.wait()
        fence = ledger.begin_merge(work.id)
        together.wait()  # all have begun before any ends
        assert fence is not None
        return fence, ledger.complete(work.id, fence, TranscriptState.COMPLETED, {"fence": fence})

    with ThreadPoolExecutor(6) as pool:
        results = sorted(pool.map(merger, range(6)))

    assert results == [(1, False), (2, False), (3, False), (4, False), (5, False), (6, True)]
    assert ledger.work(work.id).document == {"fence": 6}


CLAIMER = """
import sys
from pathlib import Path
from storage.database import open_database
from storage.ledger import Ledger

where, transcript, worker = sys.argv[1], int(sys.argv[2]), sys.argv[3]
ledger = Ledger(open_database(where if "://" in where else Path(where)))
print("here", flush=True)
sys.stdin.readline()
while claims := ledger.claim(worker, [transcript], 3):
    for claim in claims:
        print(claim.index, claim.fence, ledger.finish(claim, {"worker": worker}), flush=True)
ledger.close()
"""


def test_processes_never_claim_the_same_chunk(engine: Engine, ledger: Ledger) -> None:
    """Two real processes that start together share the work: each chunk is done once, under its first fence."""
    work = plan(ledger, 200)
    children = [
        subprocess.Popen(
            [sys.executable, "-c", CLAIMER, str(place(engine)), str(work.id), worker],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for worker in ("ada", "bob")
    ]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "here\n"
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    outputs = [child.communicate(timeout=60)[0] for child in children]

    assert [child.returncode for child in children] == [0, 0]
    did = [line.split() for output in outputs for line in output.splitlines()]
    assert sorted(int(index) for index, _, _ in did) == list(range(200))
    assert {fence for _, fence, _ in did} == {"1"}
    assert sorted(int(left) for _, _, left in did) == list(range(200))
    by = Counter(result["worker"] for result in ledger.parts(work.id).results)
    assert (by["ada"], by["bob"]) == tuple(len(output.splitlines()) for output in outputs)


# Any order of events


class Life(RuleBasedStateMachine):
    """Workers that claim, finish late or twice, die and come back, in any order; beside it, what must be true."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.engine = open_database(Path(self.folder.name) / "ledger.sqlite")
        self.ledger = Ledger(self.engine)
        self.ledger.add_sources(FILE, [source(0)])
        self.claims: list[Claim] = []
        self.fences: Counter[int] = Counter()
        self.holder: dict[int, tuple[str, int]] = {}  # index -> worker and number of the claim
        self.done: dict[int, int] = {}  # index -> number of the result
        self.numbers = count()

    @initialize(n=st.integers(1, 6), known=st.booleans(), sequential=st.booleans())
    def planned(self, n: int, known: bool, sequential: bool) -> None:
        """A transcript of a few chunks."""
        self.work = plan(self.ledger, n, language="en" if known else None, sequential=sequential)
        self.waiting = not known
        self.sequential = sequential

    @rule()
    def language(self) -> None:
        """Somebody decides the language."""
        self.ledger.set_language(self.work.id, "en", 1.0)
        self.waiting = False

    @rule(worker=st.sampled_from("ab"), limit=st.integers(0, 3))
    def claim(self, worker: str, limit: int) -> None:
        """A worker takes the first chunks that nobody holds."""
        free = [i for i in range(self.work.chunks_total) if i not in self.holder and i not in self.done]
        if self.sequential:
            free = [i for i in free if i == len(self.done)]
        claims = self.ledger.claim(worker, [self.work.id], limit)

        assert indices(claims) == ([] if self.waiting else free[:limit])
        for claim in claims:
            self.fences[claim.index] += 1
            assert claim.fence == self.fences[claim.index]
            told = {"number": self.done[claim.index - 1]} if self.sequential and claim.index else None
            assert claim.carried == told
            self.holder[claim.index] = worker, len(self.claims)
            self.claims.append(claim)

    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        """A result arrives for any claim that there ever was."""
        if not self.claims:
            return
        at = data.draw(st.integers(0, len(self.claims) - 1))
        index = self.claims[at].index
        number = next(self.numbers)
        left = self.ledger.finish(self.claims[at], {"number": number}, {"number": number})
        if index in self.holder and self.holder[index][1] == at:
            del self.holder[index]
            self.done[index] = number
            assert left == self.work.chunks_total - len(self.done)
        else:
            assert left is None

    @rule(worker=st.sampled_from("ab"))
    def release(self, worker: str) -> None:
        """A worker is known to be dead."""
        self.ledger.release([worker])
        self.holder = {i: held for i, held in self.holder.items() if held[0] != worker}

    @rule(index=st.integers(0, 5), seconds=st.sampled_from([-1, None, 1000]))
    def sweep(self, index: int, seconds: float | None) -> None:
        """A lease runs out, or does not."""
        if index in self.holder:
            set_lease(self.engine, self.work.id, index, seconds=seconds)
        void = index in self.holder and (seconds is None or seconds < 0)
        assert self.ledger.sweep() == void
        if void:
            del self.holder[index]

    @rule()
    def merge(self) -> None:
        """Somebody would like to merge."""
        assert (self.ledger.begin_merge(self.work.id) is not None) == (len(self.done) == self.work.chunks_total)

    @invariant()
    def nothing_is_lost(self) -> None:
        """The counter is the number of chunks that are not done, and each result is the one that was accepted."""
        if hasattr(self, "work"):
            assert self.ledger.work(self.work.id).chunks_open == self.work.chunks_total - len(self.done)
            assert self.ledger.parts(self.work.id).results == [{"number": self.done[i]} for i in sorted(self.done)]
            assert self.ledger.holders() == {worker for worker, _ in self.holder.values()}

    def teardown(self) -> None:
        """Leave nothing."""
        self.ledger.close()
        self.folder.cleanup()


def test_no_order_of_events_loses_or_doubles_a_chunk() -> None:
    """Whatever happens in whatever order, the ledger and a model of ten lines agree after each step."""
    run_state_machine_as_test(
        Life,
        settings=settings(
            max_examples=10, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


def test_a_session_of_its_own_sees_what_was_committed(engine: Engine, ledger: Ledger) -> None:
    """Every method is a transaction: once it has returned, others see what it did."""
    work = plan(ledger, 1)
    other = Ledger(open_database(place(engine)))
    [claim] = other.claim("ada", [work.id], 1)

    assert ledger.holders() == {"ada"}
    assert ledger.finish(claim, {}) == 0
    assert other.work(work.id).chunks_open == 0
    with Session(engine) as session:
        assert session.scalar(select(func.count()).select_from(ChunkRow)) == 1
    other.close()
