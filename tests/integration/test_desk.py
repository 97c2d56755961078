"""Desk and window: what is handed in goes its way once, in its turn, and ends when somebody says so."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Engine, func, select, update

from stenopool.domain import Chunk, Span
from stenopool.errors import LedgerError, QueueFull
from storage.blame import MOST_DEATHS, PATIENCE, SUSPECTS, TIMES
from storage.chunks import Finished
from storage.database import database_clock
from storage.desk import LEASE, Desk, Order, Submission
from storage.fleet import GONE_AFTER, Fleet, Worker
from storage.ledger import Ledger, Queued, Source
from storage.tables import (
    ChunkRow,
    ChunkState,
    DeathRow,
    Lane,
    SubmissionRow,
    SubmissionState,
    TranscriptRow,
    WorkerRow,
)
from storage.waiting import ATTEMPTS
from storage.window import SLICE, Window

S = 16_000  # one second
ENGINE = "engine-key"


class Farm:
    """The views of one farm's ledger, and shortcuts to bring a submission to where a test begins."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.desk = Desk(engine)
        self.ledger = Ledger(engine, lease=60)
        self.window = Window(engine)
        self._n = 0

    def submit(self, tenant: str = "ada", **other: Any) -> Submission:
        """Something handed in."""
        given = {"name": "talk.mp3", "source": "sources/ab", "file_sha256": "ab" * 32, "model": "pocket", "options": {}}
        return self.desk.accept(Order(tenant=tenant, **(given | other)))

    def planned(self, tenant: str = "ada", chunks: int = 4, *, seconds: int = 1, **other: Any) -> Submission:
        """Something that was ingested: chunks of so many seconds each."""
        submission = self.submit(tenant, **other)
        claimed = self.desk.claim("ingester", submission.id, SubmissionState.INGESTING)
        assert claimed is not None
        self._n += 1
        recording = f"{self._n:064}"
        duration = chunks * seconds * S
        self.ledger.add_sources(
            recording, [Source(channel=0, recording=recording, duration=duration, ended_early=None, damaged=0)]
        )
        work = self.ledger.plan(
            recording,
            "work",
            provenance={},
            language="en",
            chunks=[Chunk(index=i, span=Span(i * seconds * S, (i + 1) * seconds * S)) for i in range(chunks)],
            silences=[],
            queued=Queued(tenant=tenant, engine_key=ENGINE, lane=submission.lane, priority=submission.priority),
        )
        assert self.desk.transcribing(claimed, [(0, work.id)], duration)
        return self.desk.submission(submission.id)

    def states(self, submission: Submission) -> list[str]:
        """Of its chunks."""
        with self.engine.connect() as connection:
            rows = connection.scalars(
                select(ChunkRow.state)
                .where(ChunkRow.transcript_id == submission.transcripts[0][1])
                .order_by(ChunkRow.index)
            )
            return list(rows)

    def expire(self) -> None:
        """Every lease has run out."""
        with self.engine.begin() as connection:
            for row in (ChunkRow, TranscriptRow, SubmissionRow):
                connection.execute(update(row).where(row.lease_until.is_not(None)).values(lease_until=0))

    def three_die_with_the_first(self) -> None:
        """And another, before the last of them, with a chunk that was heard since."""
        self.ledger.claim_queued("w", ENGINE, 1)
        self.expire()
        self.ledger.sweep_crashed()
        self.another_dies()
        for _ in range(2):
            self.ledger.claim_suspects("w", ENGINE)
            self.expire()
            self.ledger.sweep_crashed()

    def another_dies(self, ago: float = 2 * LEASE) -> None:
        """Of nothing that it had, for the next who tries hears that; so long ago."""
        [claim] = self.ledger.claim_queued("another", ENGINE, 1)
        self.expire()
        self.ledger.sweep_crashed()
        claims = set(self.ledger.claim_suspects("w", ENGINE))
        again = [one for one in claims if (one.transcript, one.index) == (claim.transcript, claim.index)]
        self.ledger.finish_all([Finished(one, {}) for one in again])
        self.ledger.give_back(claims.difference(again))
        self.later(ago)

    def later(self, seconds: float) -> None:
        """Whoever has died did so that much longer ago."""
        with self.engine.begin() as connection:
            connection.execute(update(ChunkRow).values(blamed_at=ChunkRow.blamed_at - seconds))
            connection.execute(update(DeathRow).values(at=DeathRow.at - seconds))


@pytest.fixture
def farm(any_database: Engine) -> Farm:
    """On both databases."""
    return Farm(any_database)


# Handing in


def test_a_submission_is_kept_as_it_was_handed_in(farm: Farm) -> None:
    """All of it, and it is accepted."""
    made = farm.submit(lane=Lane.URGENT, priority=3, deadline=60.0, split=True, options={"language": "en"})

    assert farm.desk.submission(made.id) == made
    assert (made.state, made.lane, made.priority, made.split) == (SubmissionState.ACCEPTED, Lane.URGENT, 3, True)
    assert made.options == {"language": "en"}
    assert made.deadline_at is not None
    assert made.deadline_at - made.created_at == pytest.approx(60, abs=1)
    assert farm.desk.submissions(tenant="ada") == [made]
    assert farm.desk.submissions(tenant="bob") == []
    with pytest.raises(LedgerError, match="there is no submission 99"):
        farm.desk.submission(99)


def test_a_key_is_good_for_one_submission_of_a_tenant(farm: Farm) -> None:
    """The second one with it is the first; another tenant's is another."""
    first = farm.submit(idempotency_key="k")

    assert farm.submit(idempotency_key="k", name="other.mp3") == first
    assert farm.submit("bob", idempotency_key="k").id != first.id
    assert farm.submit().id != farm.submit().id


def test_the_same_key_at_the_same_moment_is_one_submission(farm: Farm) -> None:
    """Eight at once, of a tenant whom nobody knew before."""
    with ThreadPoolExecutor(8) as threads:
        ids = set(threads.map(lambda _: farm.submit("new", idempotency_key="k").id, range(8)))

    assert len(ids) == 1


def test_a_full_queue_refuses_and_says_why(farm: Farm) -> None:
    """Until something of it has ended; other tenants do not notice."""
    farm.desk.set_tenant("ada", max_queued=2)
    first, _ = farm.submit(), farm.submit()

    with pytest.raises(
        QueueFull, match=r"^ada: 2 submissions are open, and no more than 2 may be; wait until"
    ) as error:
        farm.submit()
    assert error.value.retryable
    farm.submit("bob")
    assert farm.desk.cancel(first.id)
    farm.submit()


# Ingest and publish


def test_a_submission_is_ingested_by_one_worker(farm: Farm) -> None:
    """Who comes second gets nothing; who comes late is not heard."""
    submission = farm.submit()
    claimed = farm.desk.claim("a", submission.id, SubmissionState.INGESTING)

    assert claimed is not None
    assert farm.desk.claim("b", submission.id, SubmissionState.INGESTING) is None
    assert farm.desk.renew(claimed)
    farm.expire()
    assert farm.desk.sweep() == 1
    again = farm.desk.claim("b", submission.id, SubmissionState.INGESTING)
    assert again is not None
    assert not farm.desk.renew(claimed)
    assert not farm.desk.failed(claimed, "late")
    assert not farm.desk.transcribing(claimed, [], 0)
    assert farm.desk.failed(again, "no sound")
    assert farm.desk.submission(submission.id).error == "no sound"


def test_what_kills_its_workers_has_failed_in_the_end(farm: Farm) -> None:
    """Three of them, and a line says so; it can be tried again by hand."""
    submission = farm.submit()
    for _ in range(ATTEMPTS):
        assert farm.desk.claim("a", submission.id, SubmissionState.INGESTING)
        farm.expire()
        assert farm.desk.sweep() == 1

    ended = farm.desk.submission(submission.id)
    assert (ended.state, ended.error) == (SubmissionState.FAILED, "3 workers died ingesting it")
    assert farm.desk.claim("a", submission.id, SubmissionState.INGESTING) is None
    assert farm.desk.retry(submission.id)
    assert farm.desk.claim("a", submission.id, SubmissionState.INGESTING)


def test_what_did_not_answer_is_waited_for(farm: Farm) -> None:
    """It goes back without blame, and no worker is told of it before its time."""
    submission = farm.submit()
    for _ in range(ATTEMPTS + 2):
        claimed = farm.desk.claim("a", submission.id, SubmissionState.INGESTING)
        assert claimed is not None
        assert farm.desk.postponed(claimed, "the store does not answer", 30)

    assert farm.desk.submission(submission.id).state == SubmissionState.ACCEPTED
    assert farm.desk.ingests(Lane.NORMAL, 10, 0) == []


def test_what_there_was_no_room_for_counts(farm: Farm) -> None:
    """As one of the times that a stage may be begun; what went well has no error any more."""
    submission = farm.submit()
    for attempt in range(1, ATTEMPTS + 1):
        claimed = farm.desk.claim("a", submission.id, SubmissionState.INGESTING)
        assert claimed is not None
        assert claimed.attempt == attempt
        assert farm.desk.postponed(claimed, "the disk is full", 30, counts=True)
        assert farm.desk.submission(submission.id).error == "the disk is full"

    claimed = farm.desk.claim("a", submission.id, SubmissionState.INGESTING)
    assert claimed is not None
    assert farm.desk.transcribing(claimed, [], 0)
    ingested = farm.desk.submission(submission.id)
    assert (ingested.error, ingested.attempt) == (None, 0)


def test_workers_are_told_once_of_a_submission(farm: Farm) -> None:
    """And again after a while; tenants take turns, and the urgent have a lane of their own."""
    a = [farm.submit("ada").id for _ in range(3)]
    b = farm.submit("bob").id
    c = farm.submit("ada", lane=Lane.URGENT).id

    assert farm.desk.ingests(Lane.URGENT, 10, 60) == [c]
    assert farm.desk.ingests(Lane.NORMAL, 2, 60) == [a[0], b]
    assert farm.desk.ingests(Lane.NORMAL, 10, 60) == a[1:]
    assert farm.desk.ingests(Lane.NORMAL, 10, 60) == []
    assert farm.desk.ingests(Lane.NORMAL, 10, -1) == [*a, b]


def test_tenants_have_equal_shares_of_what_is_told(farm: Farm) -> None:
    """However many submissions one of them has waiting; those due first go first, then the highest priority."""
    many = [farm.submit("ada").id for _ in range(20)]
    high = farm.submit("ada", priority=1).id
    due = farm.submit("ada", deadline=60.0).id
    few = [farm.submit("bob").id for _ in range(2)]
    none = farm.submit("cyd").id
    farm.desk.pause(none)

    assert farm.desk.ingests(Lane.NORMAL, 6, 60) == sorted([due, high, many[0], *few])
    assert farm.desk.ingests(Lane.NORMAL, 6, 60) == many[1:7]


def test_a_submission_is_published_when_all_of_it_is_merged(farm: Farm) -> None:
    """Not before, and only once."""
    submission = farm.planned(chunks=1)
    transcript = submission.transcripts[0][1]
    assert farm.desk.publishes(10, 60) == []
    farm.window.admit(ENGINE, Lane.NORMAL, 10)
    [claim] = farm.ledger.claim_queued("w", ENGINE, 5)
    assert farm.ledger.finish_all([Finished(claim, {})]) == {claim: 0}
    assert farm.window.merges(10, 60) == [transcript]
    fence = farm.ledger.begin_merge(transcript)
    assert fence is not None
    assert farm.ledger.begin_merge(transcript) is None, "somebody is at it"
    assert farm.window.merges(10, -1) == []
    farm.ledger.complete(transcript, fence, "completed", {})  # type: ignore[arg-type]

    assert farm.desk.publishes(10, 60) == [submission.id]
    claimed = farm.desk.claim("p", submission.id, SubmissionState.PUBLISHING)
    assert claimed is not None
    assert farm.desk.claim("q", submission.id, SubmissionState.PUBLISHING) is None
    assert farm.desk.published(claimed, SubmissionState.COMPLETED)
    assert farm.desk.submission(submission.id).ended
    assert farm.desk.publishes(10, -1) == []


# The window


def test_no_more_is_ready_than_there_is_room_for(farm: Farm) -> None:
    """What is done makes room for the next."""
    farm.planned(chunks=100)

    assert farm.window.admit(ENGINE, Lane.NORMAL, 40) == 40
    assert farm.window.admit(ENGINE, Lane.NORMAL, 40) == 0
    farm.ledger.claim_queued("w", ENGINE, 10)
    assert farm.window.ready() == {(ENGINE, Lane.NORMAL): 30}
    assert farm.window.admit(ENGINE, Lane.NORMAL, 40) == 10
    assert farm.window.admit("another engine", Lane.NORMAL, 40) == 0


def test_urgent_chunks_are_claimed_first(farm: Farm) -> None:
    """Though a bulk of others was ready before."""
    bulk = farm.planned("ada", 64, lane=Lane.BULK)
    farm.window.admit(ENGINE, Lane.BULK, 64)
    urgent = farm.planned("bob", 2, lane=Lane.URGENT)
    farm.window.admit(ENGINE, Lane.URGENT, 64)

    farm.ledger.claim_queued("w", ENGINE, 4)

    assert farm.states(urgent) == ["leased", "leased"]
    assert farm.states(bulk).count("leased") == 2


def test_tenants_share_by_their_weights(farm: Farm) -> None:
    """One with a long backlog and one who comes later get what their weights say, from then on."""
    farm.desk.set_tenant("heavy", weight=3.0)
    farm.planned("early", 2000)
    farm.window.admit(ENGINE, Lane.NORMAL, 10 * SLICE)
    farm.ledger.claim_queued("w", ENGINE, 10 * SLICE)
    late, heavy = farm.planned("late", 2000), farm.planned("heavy", 2000)

    farm.window.admit(ENGINE, Lane.NORMAL, 50 * SLICE)

    with farm.engine.connect() as connection:
        admitted = dict(
            connection.execute(
                select(ChunkRow.transcript_id, func.count())
                .where(ChunkRow.state == ChunkState.READY)
                .group_by(ChunkRow.transcript_id)
            ).all()
        )
    shares = {name: admitted[one.transcripts[0][1]] / SLICE for name, one in (("late", late), ("heavy", heavy))}
    assert 9 <= shares["late"] <= 11
    assert 29 <= shares["heavy"] <= 31
    assert sum(admitted.values()) == 50 * SLICE


def test_of_many_tenants_each_has_its_turn(farm: Farm) -> None:
    """Nobody has a second one before all have had the first, however small the window is."""
    transcripts = [farm.planned(f"tenant{n}", 3 * SLICE).transcripts[0][1] for n in range(12)]
    served = []
    for _ in range(3 * len(transcripts)):
        farm.window.admit(ENGINE, Lane.NORMAL, SLICE)
        claims = farm.ledger.claim_queued("w", ENGINE, SLICE)
        assert len(claims) == SLICE
        served.append(claims[0].transcript)

    for first in range(0, len(served), len(transcripts)):
        assert sorted(served[first:][: len(transcripts)]) == transcripts


def test_within_a_tenant_the_deadline_comes_first_then_the_priority(farm: Farm) -> None:
    """And then who came first."""
    plain, high = farm.planned(chunks=1), farm.planned(chunks=1, priority=5)
    ranks = []
    for _ in range(2):
        farm.window.admit(ENGINE, Lane.NORMAL, 1)
        [claim] = farm.ledger.claim_queued("w", ENGINE, 1)
        ranks.append(claim.transcript)

    assert ranks == [high.transcripts[0][1], plain.transcripts[0][1]]


def test_a_claim_takes_what_the_hint_names_and_fills_up(farm: Farm) -> None:
    """Where some of it is gone, others whose turn it is are taken in their place."""
    submission = farm.planned(chunks=10)
    transcript = submission.transcripts[0][1]
    farm.window.admit(ENGINE, Lane.NORMAL, 10)
    hints = farm.window.hints(ENGINE, Lane.NORMAL, 100, 60)
    assert [hint.index for hint in hints] == list(range(10))
    assert farm.window.hints(ENGINE, Lane.NORMAL, 100, 60) == []

    named = [(transcript, 5), (transcript, 6)]
    assert [claim.index for claim in farm.ledger.claim_queued("a", ENGINE, 2, named)] == [5, 6]
    assert [claim.index for claim in farm.ledger.claim_queued("b", ENGINE, 2, named)] == [0, 1]
    assert farm.ledger.claim_these("c", named) == []


# Death


def test_who_dies_in_company_is_tried_apart_and_then_quarantined(farm: Farm) -> None:
    """A killer takes three workers at most: among all, among a few, alone; the others are heard."""
    submission = farm.planned(chunks=20)
    transcript = submission.transcripts[0][1]
    farm.window.admit(ENGINE, Lane.NORMAL, 20)
    assert len(farm.ledger.claim_queued("w", ENGINE, 20)) == 20
    farm.expire()
    assert farm.ledger.sweep_crashed().ready == 20
    assert farm.ledger.claim_queued("w", ENGINE, 20) == [], "suspects are not for company"
    done: set[int] = set()
    died_with: list[int] = []
    while claims := farm.ledger.claim_suspects("w", ENGINE):
        if 2 in [claim.index for claim in claims]:  # the killer
            died_with.append(len(claims))
            farm.expire()
            farm.ledger.sweep_crashed()
            farm.later(LEASE)
        else:
            farm.ledger.finish_all([Finished(claim, {"heard": claim.index}) for claim in claims])
            done.update(claim.index for claim in claims)

    assert died_with == [SUSPECTS, 1]
    assert done == set(range(20)) - {2}
    results = farm.ledger.parts(transcript).results
    assert results[2]["failed"] == f"{1 + len(died_with)} workers died with it"
    assert farm.ledger.work(transcript).chunks_open == 0


def test_where_machines_die_a_third_death_is_no_proof(farm: Farm) -> None:
    """A chunk that three workers died with, as others died of nothing, waits until none does; the sixth is enough."""
    farm.planned(chunks=3)
    farm.window.admit(ENGINE, Lane.NORMAL, 3)
    farm.three_die_with_the_first()
    assert farm.ledger.claim_suspects("w", ENGINE) == []
    assert [hint.index for hint in farm.window.hints(ENGINE, Lane.NORMAL, 10, 0)] == [2], "nobody is told of it"

    farm.another_dies(ago=0)
    assert farm.ledger.claim_suspects("w", ENGINE) == [], "another has died just now"

    farm.later(LEASE)
    assert [hint.index for hint in farm.window.hints(ENGINE, Lane.NORMAL, 10, 0)] == [0]
    deaths = 3
    while claims := farm.ledger.claim_suspects("w", ENGINE):
        assert [claim.index for claim in claims] == [0]
        farm.expire()
        swept = farm.ledger.sweep_crashed()
        farm.later(LEASE)
        deaths += 1
    assert deaths == MOST_DEATHS
    assert [index for _, index in swept.quarantined] == [0]
    assert farm.ledger.parts(swept.quarantined[0][0]).results[0]["failed"] == "6 workers died with it"


def test_when_machines_die_no_more_a_death_counts(farm: Farm) -> None:
    """Those of others were long ago: the fourth is proof."""
    farm.planned(chunks=3)
    farm.window.admit(ENGINE, Lane.NORMAL, 3)
    farm.three_die_with_the_first()
    farm.later(2 * TIMES * LEASE)
    [claim] = farm.ledger.claim_suspects("w", ENGINE)
    farm.expire()
    assert farm.ledger.sweep_crashed().quarantined == [(claim.transcript, 0)]
    assert farm.ledger.parts(claim.transcript).results[0]["failed"] == "4 workers died with it"


def test_nobody_is_tried_alone_while_nothing_is_known(farm: Farm) -> None:
    """Whose third death would be proof waits until no worker dies; what was long ago proves nothing."""
    farm.planned(chunks=2)
    farm.window.admit(ENGINE, Lane.NORMAL, 2)
    farm.ledger.claim_queued("w", ENGINE, 1)
    farm.another_dies(ago=2 * TIMES * LEASE)
    farm.ledger.claim_suspects("w", ENGINE)
    farm.expire()
    farm.ledger.sweep_crashed()
    assert farm.ledger.claim_suspects("w", ENGINE) == []
    assert farm.window.hints(ENGINE, Lane.NORMAL, 10, 0) == []

    farm.later(LEASE)
    [claim] = farm.ledger.claim_suspects("w", ENGINE)
    farm.expire()
    assert farm.ledger.sweep_crashed().quarantined == [(claim.transcript, 0)]


def test_what_a_killer_leaves_behind_is_no_proof(farm: Farm) -> None:
    """Others that it died with were heard, but it was not: a death with another killer explains itself."""
    farm.planned(chunks=8)
    farm.window.admit(ENGINE, Lane.NORMAL, 8)
    killers = {0, 5}
    for worker in ("a", "b"):
        farm.ledger.claim_queued(worker, ENGINE, 4)
    farm.expire()
    farm.ledger.sweep_crashed()
    deaths: Counter[int] = Counter(killers)
    while claims := farm.ledger.claim_suspects("w", ENGINE):
        if mine := killers.intersection(claim.index for claim in claims):
            deaths.update(mine)
            farm.expire()
            farm.ledger.sweep_crashed()
        else:
            farm.ledger.finish_all([Finished(claim, {}) for claim in claims])
        farm.later(LEASE)
    assert deaths == {0: 3, 5: 3}


def test_others_do_not_wait_with_who_waits_for_peace(farm: Farm) -> None:
    """It takes no room that others could have, and who comes now gets no credit for the time since it was ready."""
    farm.planned(chunks=8, seconds=100)
    farm.window.admit(ENGINE, Lane.NORMAL, 1)
    with farm.engine.begin() as connection:
        connection.execute(
            update(ChunkRow)
            .where(ChunkRow.state == ChunkState.READY)
            .values(crashes=3, blamed_at=database_clock(), rank=0)
        )
    assert farm.window.admit(ENGINE, Lane.NORMAL, 1) == 1
    assert len(farm.ledger.claim_queued("w", ENGINE, 9)) == 1
    assert farm.window.admit(ENGINE, Lane.NORMAL, 2) == 2

    farm.planned("bob", chunks=1)
    assert farm.window.admit(ENGINE, Lane.NORMAL, 3) == 1
    with farm.engine.connect() as connection:
        ranks = dict(
            connection.execute(
                select(TranscriptRow.tenant, func.max(ChunkRow.rank))
                .join_from(ChunkRow, TranscriptRow, ChunkRow.transcript_id == TranscriptRow.id)
                .group_by(TranscriptRow.tenant)
            ).all()
        )
    assert ranks["bob"] == ranks["ada"] > 0


def test_who_waits_for_peace_does_not_wait_for_ever(farm: Farm) -> None:
    """A machine that fails again and again keeps no recording from its end."""
    farm.planned(chunks=3)
    farm.window.admit(ENGINE, Lane.NORMAL, 3)
    farm.three_die_with_the_first()
    farm.later(PATIENCE * LEASE)
    farm.another_dies(ago=0)

    assert [claim.index for claim in farm.ledger.claim_suspects("w", ENGINE)] == [0]


def test_a_chunk_that_is_given_back_is_nobodys_fault(farm: Farm) -> None:
    """It is ready for the next, in company."""
    farm.planned(chunks=1)
    farm.window.admit(ENGINE, Lane.NORMAL, 4)
    assert farm.window.hints(ENGINE, Lane.NORMAL, 4, 60)
    claims = farm.ledger.claim_queued("a", ENGINE, 4)

    farm.ledger.give_back(claims)

    assert farm.window.hints(ENGINE, Lane.NORMAL, 4, 60) == [], "who could not do it cannot a moment later"
    [again] = farm.ledger.claim_queued("b", ENGINE, 4)
    assert farm.ledger.finish_all([Finished(claims[0], {})]) == {}, "it comes with the old fence"
    assert farm.ledger.finish_all([Finished(again, {})]) == {again: 0}


# Stopping


def test_nothing_of_a_paused_submission_is_begun(farm: Farm) -> None:
    """Chunks that were ready are not; resumed, it goes on where it was."""
    submission = farm.planned(chunks=4)
    farm.window.admit(ENGINE, Lane.NORMAL, 2)
    [claim] = farm.ledger.claim_queued("w", ENGINE, 1)

    assert farm.desk.pause(submission.id)
    assert farm.states(submission) == ["leased", "waiting", "waiting", "waiting"]
    assert farm.window.admit(ENGINE, Lane.NORMAL, 4) == 0
    assert farm.ledger.finish_all([Finished(claim, {})]) == {claim: 3}, "what was begun counts"

    assert farm.desk.resume(submission.id)
    assert farm.window.admit(ENGINE, Lane.NORMAL, 4) == 3


def test_a_cancelled_submission_ends_and_can_be_taken_up_again(farm: Farm) -> None:
    """Its transcript is none that anybody gets; begun anew, it has another."""
    submission = farm.planned(chunks=2)
    farm.window.admit(ENGINE, Lane.NORMAL, 2)

    assert farm.desk.cancel(submission.id)
    assert not farm.desk.cancel(submission.id)
    assert farm.ledger.claim_queued("w", ENGINE, 2) == []
    assert farm.desk.submission(submission.id).ended
    assert farm.desk.retry(submission.id)
    claimed = farm.desk.claim("w", submission.id, SubmissionState.INGESTING)
    assert claimed is not None
    old = farm.ledger.work(submission.transcripts[0][1])
    new = farm.ledger.plan(
        old.recording,
        "work",
        provenance={},
        language="en",
        chunks=[Chunk(index=0, span=Span(0, S))],
        silences=[],
        queued=Queued(tenant="ada", engine_key=ENGINE, lane=Lane.NORMAL),
    )
    assert new.id != old.id


def test_what_two_wait_for_is_not_stopped_by_one(farm: Farm) -> None:
    """The same recording with the same options, handed in twice, is transcribed once, for both."""
    first = farm.planned(chunks=2)
    second = farm.submit()
    claimed = farm.desk.claim("w", second.id, SubmissionState.INGESTING)
    assert claimed is not None
    farm.desk.transcribing(claimed, first.transcripts, 2 * S)

    farm.desk.cancel(first.id)

    assert farm.window.admit(ENGINE, Lane.NORMAL, 4) == 2
    farm.desk.cancel(second.id)
    assert farm.ledger.claim_queued("w", ENGINE, 4) == []


def test_what_a_dead_worker_held_of_a_paused_one_waits(farm: Farm) -> None:
    """It is not ready again, whoever gives it back, until it is resumed."""
    submission = farm.planned(chunks=3)
    farm.window.admit(ENGINE, Lane.NORMAL, 3)
    given_back, _, _ = farm.ledger.claim_queued("w", ENGINE, 3)
    farm.desk.pause(submission.id)
    farm.ledger.give_back([given_back])
    farm.expire()
    farm.ledger.sweep_crashed()
    assert farm.states(submission) == ["waiting"] * 3
    assert farm.window.admit(ENGINE, Lane.NORMAL, 3) == 0

    farm.desk.resume(submission.id)
    assert farm.window.admit(ENGINE, Lane.NORMAL, 3) == 3
    farm.ledger.claim_queued("w", ENGINE, 3)
    farm.desk.pause(submission.id)
    farm.ledger.release(["w"])
    assert farm.states(submission)[0] == "waiting"


# The fleet


def test_a_worker_is_known_while_it_is_seen(farm: Farm) -> None:
    """It joins, changes, is forgotten when it was not seen for long, and may join again."""
    fleet = Fleet(farm.engine)
    worker = Worker(id="w", role="engine", host="h", pid=1, version="1")
    fleet.join(worker)
    working = replace(worker, state="working", engine_key=ENGINE, slots=8)
    fleet.join(working)
    assert fleet.workers() == [working]
    assert fleet.seen("w")

    with farm.engine.begin() as connection:
        connection.execute(update(WorkerRow).values(seen_at=WorkerRow.seen_at - GONE_AFTER - 1))
    assert fleet.workers() == []
    assert fleet.sweep() == ["w"]
    assert not fleet.seen("w")
    fleet.join(working)
    fleet.leave("w")
    assert fleet.workers() == []


def test_what_a_dead_process_held_is_swept_at_once(farm: Farm) -> None:
    """Whoever knows that it has ended need not wait for its leases; its chunks are suspects all the same."""
    fleet = Fleet(farm.engine)
    for id, pid in (("dead", 7), ("alive", 8)):
        fleet.join(Worker(id=id, role="engine", host="h", pid=pid, version="1"))
    farm.planned(chunks=4)
    farm.window.admit(ENGINE, Lane.NORMAL, 4)
    farm.ledger.claim_queued("dead", ENGINE, 2)
    farm.ledger.claim_queued("alive", ENGINE, 2)
    ingested = farm.submit()
    assert farm.desk.claim("dead", ingested.id, SubmissionState.INGESTING)

    assert fleet.died("elsewhere", 7) == []
    assert fleet.died("h", 7) == ["dead"]

    assert farm.ledger.sweep_crashed().ready == 2
    assert farm.desk.sweep() == 1
    assert [worker.id for worker in fleet.workers()] == ["alive"]
    assert farm.ledger.claim_queued("alive", ENGINE, 4) == [], "they are tried alone"
    assert farm.ledger.holders() == {"alive"}
    assert fleet.died("h", 7) == []
