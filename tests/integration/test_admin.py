"""What operators see and do: views on a real ledger, broken promises, actions and what is written of them."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import Connection, make_url, text, update

from scheduler.why import why
from stenopool.cli import admin as commands
from stenopool.cli import cli
from stenopool.domain import Chunk, Span
from stenopool.errors import LedgerError, Missing, UsageError
from storage.access import Access, Actor
from storage.admin import Administration
from storage.database import make_or_migrate, open_database
from storage.desk import Desk, Order
from storage.fleet import Fleet, Worker
from storage.invariants import CHECKS, INVARIANTS
from storage.ledger import Queued, Source
from storage.outbox import Outbox
from storage.situation import Situations
from storage.steering import Steering
from storage.tables import ChunkRow, Lane, SubmissionRow, SubmissionState
from storage.throughput import Done
from storage.views import VIEWS, view_named
from tests.farms import HandFarm, S, command
from tests.faults.history import violations
from tests.servers import ask

BY = Actor("root@desk")


def worker(id: str, role: str, **other: Any) -> Worker:
    """One that works."""
    return Worker(**{"id": id, "role": role, "host": "desk", "pid": 1, "version": "1", "state": "working", **other})


def rows(farm: HandFarm, view: str, **which: Any) -> list[dict[str, Any]]:
    """Of a view."""
    return Administration(farm.farm.database).view(view, **which).records


def picked(found: list[dict[str, Any]], *names: str) -> list[tuple[Any, ...]]:
    """Of each row, these."""
    return [tuple(row[name] for name in names) for row in found]


def actions(farm: HandFarm) -> list[tuple[str, str]]:
    """What the audit log has, the last one first."""
    access = Access(farm.farm.database)
    assert access.broken() is None
    return [(entry.action, entry.subject) for entry in access.entries()]


def test_the_work_as_the_views_have_it(named_farm: HandFarm) -> None:
    """From the desk to a gap: how far each is, what is left, who holds what, what was given up."""
    farm = named_farm
    first = farm.submit(6)
    farm.submit(4, tenant="bob", lane=Lane.URGENT, deadline=-5.0)
    assert picked(rows(farm, "submissions"), "id", "tenant", "state", "late") == [
        (2, "bob", "accepted", True),
        (1, "ada", "accepted", False),
    ]
    assert picked(rows(farm, "backlog"), "lane", "tenant", "undecoded", "chunks") == [
        ("urgent", "bob", 1, 0),
        ("normal", "ada", 1, 0),
    ]

    farm.ingest()
    farm.admit()
    held = farm.claim(3)
    farm.finish(held[:1])
    engine = worker("gpu", "engine", model="pocket", engine_key="e", slots=4)
    farm.farm.fleet.join(engine)
    farm.farm.throughput.add("gpu", "pocket", Done(120.0, 10.0))

    assert picked(rows(farm, "submissions"), "id", "audio_s", "chunks", "done", "waiting", "ready", "leased") == [
        (2, 4.0, 2, 1, 0, 0, 1),
        (1, 6.0, 3, 0, 0, 2, 1),
    ]
    assert all(row["eta_s"] is not None for row in rows(farm, "submissions"))
    [urgent, normal] = rows(farm, "backlog")
    assert (normal["chunks"], normal["ready"], normal["leased"], normal["audio_s"]) == (3, 2, 1, 6.0)
    assert (urgent["chunks"], urgent["audio_s"]) == (1, 2.0)
    assert normal["drain_s"] is not None
    assert (
        picked(rows(farm, "leases"), "kind", "chunk", "worker", "alive", "audio_s", "attempt")
        == [
            ("chunk", 1, "engine", False, 2.0, 1),
            ("chunk", 0, "engine", False, 2.0, 1),
        ]
        or len(rows(farm, "leases")) == 2
    )
    assert picked(rows(farm, "workers"), "id", "model", "state", "slots") == [("gpu", "pocket", "working", 4)]
    assert rows(farm, "workers")[0]["audio_x"] > 0
    farm.farm.fleet.join(worker("s", "scheduler"))
    assert picked(rows(farm, "workers")[1:], "id", "audio_x", "busy") == [("s", None, None)]
    farm.farm.fleet.leave("s")

    farm.expire()
    assert (
        picked(rows(farm, "attempts"), "kind", "attempt", "crashes", "error")
        == [("chunk", 1, 1, "its lease ran out 1 times")] * 2
    )
    farm.hear(failing=[1])
    farm.merge()
    farm.publish()

    gaps = rows(farm, "quarantine", tenant="ada")
    assert picked(gaps, "chunk", "submissions", "start_s", "end_s", "reason") == [
        (1, "1", 2.0, 4.0, "the device failed")
    ]
    assert gaps[0]["audio_key"].startswith("pcm/")
    assert sorted(picked(rows(farm, "recordings"), "tenant", "audio_s", "submissions", "with_gaps", "shown")) == [
        ("ada", 6.0, 1, 1, 1),
        ("bob", 4.0, 1, 1, 1),
    ]
    assert {row["gaps"] for row in rows(farm, "transcripts")} == {1}
    [today] = rows(farm, "tenant_usage", tenant="ada")
    assert (today["submissions"], today["with_gaps"], today["audio_s"], today["gap_chunks"]) == (1, 1, 6.0, 1)
    assert today["wait_p50_s"] >= 0
    by_lane = {(row["period"], row["lane"]): row for row in rows(farm, "sla")}
    assert len(by_lane) == 9
    assert by_lane["hour", "urgent"]["published"] == 1
    assert (by_lane["day", "urgent"]["deadlines"], by_lane["day", "urgent"]["kept"]) == (1, 0)
    assert rows(farm, "outbox")[0]["waiting"] > 0
    assert {row["name"] for row in rows(farm, "bloat")} >= {"chunks", "submissions", "pauses", "audit"}
    assert rows(farm, "invariants") == []
    assert rows(farm, "campaigns") == []
    assert first.id == 1


def test_every_view_is_as_it_is_described(named_farm: HandFarm) -> None:
    """Columns in their order, no samples, no decimals that JSON has no number for; in docs and commands alike."""
    page = (Path(__file__).parents[2] / "docs" / "admin.md").read_text()
    farm = named_farm
    farm.submit()
    farm.go()
    assert set(commands.VIEWS) == {view.name for view in VIEWS}
    assert set(commands.OF_ALL) == {view.name for view in VIEWS if not view.of_tenants}
    for view in VIEWS:
        with farm.farm.database.connect() as connection:
            found = connection.exec_driver_sql(f"SELECT * FROM admin.{view.name} LIMIT 0")
            assert tuple(found.keys()) == view.names
        json.dumps(rows(farm, view.name))
        assert f"### {view.name}\n" in page
        section = page.split(f"### {view.name}\n")[1].split("\n### ")[0]
        for name, help in view.columns:
            assert f"| `{name}` | {help} |" in section, (view.name, name)
    with farm.farm.database.connect() as connection:
        told = connection.scalar(text("SELECT obj_description('admin.stuck'::regclass)"))
    stuck = view_named("stuck")
    assert stuck is not None
    assert told == stuck.help


def test_views_are_kept_by_no_other_order(named_farm: HandFarm) -> None:
    """A limit is a limit and says so; a tenant sees his; what has no tenants says that."""
    farm = named_farm
    for tenant in ("ada", "ada", "bob"):
        farm.submit(tenant=tenant)
    administration = Administration(farm.farm.database)
    assert administration.view("submissions", limit=2).cut
    assert not administration.view("submissions", limit=3).cut
    assert picked(rows(farm, "submissions", tenant="bob"), "id") == [(3,)]
    with pytest.raises(UsageError, match=r"^bloat: its rows are no tenant's"):
        rows(farm, "bloat", tenant="ada")
    with pytest.raises(UsageError, match=r"^there is no view spans; there are attempts, backlog, "):
        rows(farm, "spans")


def test_one_machine_has_no_views(tmp_path: Path) -> None:
    """It says so in a line."""
    engine = open_database(tmp_path / "ledger.sqlite")
    with pytest.raises(LedgerError, match=r"one machine's ledger has no views; they are those of a farm's Postgres$"):
        Administration(engine).view("stuck")
    engine.dispose()


def test_a_ledger_without_views_says_how_to_have_them(named_farm: HandFarm) -> None:
    """As where the database's user may make no schema."""
    with named_farm.farm.database.begin() as connection:
        connection.execute(text("DROP SCHEMA admin CASCADE"))
    with pytest.raises(LedgerError, match=r"has no views of this release: let its user make a schema .*migrate$"):
        rows(named_farm, "stuck")
    assert command("admin", "sql", "SELECT 1").exit_code == 1


#: What breaks each promise.
BROKEN = {
    "chunks_total": "UPDATE transcripts SET chunks_total = chunks_total + 1",
    "chunks_open": "UPDATE transcripts SET chunks_open = chunks_open + 1",
    "chunks_waiting": "UPDATE transcripts SET chunks_waiting = 7",
    "leased_without_lease": "UPDATE chunks SET lease_until = NULL WHERE state = 'leased'",
    "held_without_lease": "UPDATE chunks SET worker = 'w' WHERE state = 'ready'",
    "done_without_result": "UPDATE chunks SET result = NULL WHERE state = 'done'",
    "ended_with_open_chunks": "UPDATE transcripts SET state = 'completed', document = '{}' WHERE chunks_open > 0",
    "cancelled_with_ready_chunks": "UPDATE transcripts SET state = 'cancelled' WHERE chunks_open > 0",
    "completed_without_document": "UPDATE transcripts SET document = NULL WHERE state = 'completed'",
    "made_twice": "INSERT INTO transcripts (tenant, recording_id, work_digest, generation, provenance, state,"
    " sequential, chunks_total, chunks_open, fence, created_at) SELECT tenant, recording_id, work_digest, 9, '{}',"
    " 'transcribing', sequential, 0, 0, 0, 0 FROM transcripts WHERE chunks_open > 0",
    "shown_twice": "UPDATE transcripts SET withheld = true WHERE state = 'completed'",
    "leased_submission_without_lease": "UPDATE submissions SET state = 'ingesting'",
    "ended_with_lease": "UPDATE submissions SET worker = 'w' WHERE state = 'completed'",
    "end_without_time": "UPDATE submissions SET ended_at = NULL",
    "transcribing_nothing": "DELETE FROM submission_transcripts",
    "published_without_transcript": "UPDATE transcripts SET state = 'cancelled'",
    "event_positions": "UPDATE events SET position = 1000 WHERE position = 1",
}


def broken(connection: Connection) -> set[str]:
    """The promises that are, by their names."""
    return {name for name, *_ in connection.execute(text(INVARIANTS))}


def test_every_broken_promise_is_seen(hand_farm: HandFarm) -> None:
    """Each by its name, in both databases; a ledger in the middle of its work has none."""
    farm = hand_farm
    farm.submit()
    farm.go()
    farm.submit(10)
    farm.ingest()
    farm.admit()
    [done, *_] = farm.claim(2)
    farm.finish([done])
    Outbox(farm.farm.database).number()
    assert set(BROKEN) == {name for name, *_ in CHECKS}
    for name, statement in BROKEN.items():
        with farm.farm.database.connect() as connection:
            assert broken(connection) == set()
            connection.execute(text(statement))
            assert name in broken(connection)
            connection.rollback()


def test_what_is_stuck(named_farm: HandFarm) -> None:
    """A word for each reason, as `why` has it, from a farm without anybody to one that goes on."""
    farm, fleet = named_farm, Fleet(named_farm.farm.database)
    one = farm.submit()

    def reason() -> list[str]:
        codes = [reason.code for reason in why(Situations(farm.farm.database).of(one.id))]
        seen = [row["reason"] for row in rows(farm, "stuck") if row["kind"] == "submission"]
        assert set(seen) <= set(codes), (seen, codes)
        return seen

    assert reason() == ["no_scheduler"]
    fleet.join(worker("s", "scheduler"))
    assert reason() == ["no_ingest_worker"]
    fleet.join(worker("i", "ingest"))
    assert reason() == []
    farm.ingest()
    assert reason() == ["no_engine"]
    [row] = rows(farm, "stuck")
    assert (row["id"], row["tenant"], row["state"], row["detail"]) == (str(one.id), "ada", "transcribing", "pocket")
    key = farm.window.waiting()[0][0]
    fleet.join(worker("e", "engine", model="pocket", engine_key=key, slots=2))
    assert reason() == []
    farm.farm.desk.pause(one.id)
    assert reason() == ["paused"]
    farm.farm.desk.resume(one.id)
    Steering(farm.farm.database).pause_of(BY, tenant="ada", reason=None)
    assert reason() == ["tenant_paused"]
    Steering(farm.farm.database).resume_of(BY, tenant="ada")
    farm.hear()
    assert reason() == ["no_merge_worker"]
    farm.merge()
    farm.farm.desk.publishes(100, -1)
    assert reason() == ["no_publish_worker"]
    fleet.join(worker("p", "merge+publish"))
    assert reason() == []
    with farm.farm.database.begin() as connection:
        connection.execute(update(SubmissionRow).values(deadline_at=1.0))
    assert reason() == ["overdue"]
    farm.publish()
    assert rows(farm, "stuck") == []
    with farm.farm.database.begin() as connection:
        connection.execute(text("UPDATE workers SET seen_at = seen_at - 100 WHERE id = 'e'"))
    assert picked(rows(farm, "stuck"), "kind", "id", "reason") == [("worker", "e", "silent")]
    assert why(Situations(farm.farm.database).of(one.id))[0].code == "ended"


@pytest.mark.parametrize("which", [{"lane": Lane.NORMAL}, {"tenant": "ada"}])
def test_what_is_paused_does_not_go_on(hand_farm: HandFarm, which: dict[str, Any]) -> None:
    """In whatever state it is: not decoded, nothing of it ready, nothing made ready by whoever gives it back."""
    farm, steering = hand_farm, Steering(hand_farm.farm.database)
    other = {"lane": Lane.BULK} if "lane" in which else {"tenant": "bob"}
    late, one, begun = farm.submit(), farm.submit(), farm.submit()
    farm.ingest()
    farm.admit()
    held = farm.claim(2)
    assert steering.pause_of(BY, **which, reason="the office works")
    assert not steering.pause_of(BY, **which, reason="again")

    assert farm.claim() == [], "what was ready waits"
    farm.farm.ledger.give_back(held[:1])
    farm.finish(held[1:])
    farm.window.hold_back()
    farm.admit()
    assert (farm.window.waiting(), farm.claim()) == ([], [])
    new = farm.submit()
    farm.ingest()
    assert farm.now(new).state == SubmissionState.ACCEPTED
    assert farm.farm.desk.claim("w", new.id, SubmissionState.INGESTING) is None, "nor by an old hint"
    free = farm.submit(**other)
    farm.go()
    assert farm.now(free).state == SubmissionState.COMPLETED, "others go on"
    with farm.farm.database.connect() as connection:
        assert broken(connection) == set()
    [pause] = steering.pauses()
    assert (pause.lane, pause.tenant, pause.by) == (which.get("lane"), which.get("tenant"), "root@desk")

    assert steering.resume_of(BY, **which)
    assert not steering.resume_of(BY, **which)
    farm.go()
    assert {farm.now(each).state for each in (late, one, begun, new)} == {SubmissionState.COMPLETED}
    assert violations(farm.farm.database) == []
    what, subject = ("lane", "lane normal") if "lane" in which else ("tenant", "tenant ada")
    assert actions(farm) == [(f"{what}.resume", subject), (f"{what}.pause", subject)]


def test_a_sequential_transcript_pauses_as_well(hand_farm: HandFarm) -> None:
    """The next chunk is not handed out by the one before it, nor by whoever gives it back."""
    farm, ledger, steering = hand_farm, hand_farm.farm.ledger, Steering(hand_farm.farm.database)
    farm.farm.desk.set_tenant("ada")
    ledger.add_sources("f", [Source(channel=0, recording="r", duration=3 * S, ended_early=None, damaged=0)])
    ledger.plan(
        "r",
        "work",
        provenance={},
        language="en",
        chunks=[Chunk(index=i, span=Span(i * S, (i + 1) * S)) for i in range(3)],
        silences=[],
        sequential=True,
        queued=Queued(tenant="ada", engine_key="e", lane=Lane.NORMAL),
    )

    def still() -> None:
        assert farm.claim() == []
        farm.admit()
        assert farm.claim() == []
        with farm.farm.database.connect() as connection:
            assert broken(connection) == set()

    farm.admit()
    held = farm.claim()
    steering.pause_of(BY, lane=Lane.NORMAL, reason=None)
    farm.finish(held)
    still()
    steering.resume_of(BY, lane=Lane.NORMAL)
    farm.admit()
    held = farm.claim()
    assert [claim.index for claim in held] == [1]
    steering.pause_of(BY, tenant="ada", reason=None)
    ledger.give_back(held)
    still()
    steering.resume_of(BY, tenant="ada")
    assert farm.hear() == [1, 2]


def test_a_submission_takes_another_place(hand_farm: HandFarm) -> None:
    """Its ready chunks wait for their new turn, those that are decoded end; whoever shares its transcript gains."""
    farm, steering = hand_farm, Steering(hand_farm.farm.database)
    first, second = farm.submit(lane=Lane.BULK), farm.submit(lane=Lane.BULK)
    shared = farm.again(second, lane=Lane.BULK)
    farm.ingest()
    farm.admit()
    held = farm.claim(1)

    before, after = steering.reprioritise(BY, second.id, lane=Lane.URGENT, priority=5, deadline=600.0)

    assert (before.lane, after.lane, after.priority) == ("bulk", "urgent", 5)
    now = farm.now(second)
    assert (now.lane, now.priority, now.deadline_at is not None) == (Lane.URGENT, 5, True)
    with farm.farm.database.connect() as connection:
        assert broken(connection) == set()
        lanes = connection.execute(
            text("SELECT transcript_id, lane, count(*) FROM chunks WHERE state <> 'done' GROUP BY 1, 2 ORDER BY 1")
        ).all()
    assert [tuple(row) for row in lanes] == [(1, 2, 3), (2, 0, 3)]
    farm.admit()
    assert {claim.transcript for claim in farm.claim(3)} == {2}, "the urgent one goes first"
    farm.expire()
    farm.finish(held)
    farm.go()
    assert {farm.now(each).state for each in (first, second, shared)} == {SubmissionState.COMPLETED}
    assert violations(farm.farm.database) == []
    with pytest.raises(UsageError, match=r"^2 has ended already \(completed\): nothing of it waits$"):
        steering.reprioritise(BY, second.id, priority=1)
    with pytest.raises(Missing, match="there is no submission 99"):
        steering.reprioritise(BY, 99, priority=1)
    assert actions(farm) == [("submission.reprioritise", "submission 2")]


def test_another_place_does_not_wait_for_who_ends_a_chunk(hand_farm: HandFarm) -> None:
    """He has the chunk, and waits for the transcript: each would wait for the other."""
    farm, steering = hand_farm, Steering(hand_farm.farm.database)
    one = farm.submit(lane=Lane.BULK)
    farm.ingest()
    farm.admit()
    [held] = farm.claim(1)
    with farm.farm.database.begin() as connection:
        if connection.dialect.name == "postgresql":  # in SQLite, who is in a transaction is alone anyway
            connection.execute(text("SELECT 1 FROM chunks WHERE state = 'leased' FOR UPDATE"))
        else:
            connection.rollback()
        other = threading.Thread(target=steering.reprioritise, args=(BY, one.id), kwargs={"lane": Lane.URGENT})
        other.start()
        other.join(5)
        assert not other.is_alive()
    farm.finish([held])
    assert farm.now(one).lane == Lane.URGENT


def test_a_deadline_is_taken_away(hand_farm: HandFarm) -> None:
    """And what is not named stays."""
    farm, steering = hand_farm, Steering(hand_farm.farm.database)
    one = farm.submit(deadline=60.0, priority=3)
    assert steering.reprioritise(BY, one.id, deadline=None)[1].deadline_at is None
    now = farm.now(one)
    assert (now.lane, now.priority, now.deadline_at) == (Lane.NORMAL, 3, None)


def test_merged_anew(hand_farm: HandFarm) -> None:
    """Another version of the same, with its gaps, without an engine; refused where nothing can come of it."""
    farm, steering = hand_farm, Steering(hand_farm.farm.database)
    one = farm.submit(channels=2, split=True)
    with pytest.raises(UsageError, match=r"^1 is accepted: only what is published can be merged anew$"):
        steering.remerge(BY, one.id)
    farm.go(failing=[1])
    was = farm.texts(one)

    made = steering.remerge(BY, one.id)

    assert len(made) == 2
    assert farm.now(one).state == SubmissionState.TRANSCRIBING
    assert farm.now(one).published
    assert farm.texts(one) == was, "shown as before until it is done"
    assert farm.hear() == []
    farm.merge()
    farm.publish()
    assert farm.now(one).state == SubmissionState.COMPLETED_WITH_GAPS
    assert farm.texts(one) == was
    assert farm.texts(one, 2) == was
    assert violations(farm.farm.database) == []
    assert steering.requeue(BY, one.id)
    farm.go("second")
    assert farm.now(one).state == SubmissionState.COMPLETED
    assert not steering.requeue(BY, one.id)
    assert actions(farm) == [("submission.requeue", "submission 1"), ("submission.remerge", "submission 1")]
    with farm.farm.database.begin() as connection:
        connection.execute(text("UPDATE transcripts SET forgotten = true"))
        connection.execute(update(ChunkRow).values(result=None))
    with pytest.raises(UsageError, match="what was heard in its chunks is no longer kept"):
        steering.remerge(BY, one.id)


def test_a_merge_that_is_cancelled_changes_nothing(hand_farm: HandFarm) -> None:
    """It is what it was."""
    farm, steering = hand_farm, Steering(hand_farm.farm.database)
    one = farm.submit()
    farm.go()
    was = farm.texts(one)
    steering.remerge(BY, one.id)
    assert farm.farm.desk.cancel(one.id)
    assert farm.now(one).state == SubmissionState.COMPLETED
    assert farm.texts(one) == was


def test_a_worker_that_drains_ends(ledger_url: str, redis_url: str, tmp_path: Path) -> None:
    """A real process: it hears of it with its next sign of life, leaves the fleet, and ends in order."""
    places = {"DATABASE": ledger_url, "BROKER": redis_url, "STORE": f"{tmp_path}/objects", "LEASE": "3"}
    environment = {**os.environ, **{f"STENOPOOL_{name}": value for name, value in places.items()}}
    engine = open_database(ledger_url)
    fleet, steering = Fleet(engine), Steering(engine)
    with pytest.raises(Missing, match="there is no worker nobody"):
        steering.drain(BY, "nobody")
    process = subprocess.Popen([sys.executable, "-m", "stenopool", "worker", "--role", "merge"], env=environment)
    try:
        while not (found := [one for one in fleet.workers() if one.state == "working"]):
            assert process.poll() is None
            time.sleep(0.1)
        assert steering.drain(BY, found[0].id)
        assert not steering.drain(BY, found[0].id)
        assert process.wait(120) == 0
    finally:
        process.kill()
        process.wait()
    assert fleet.workers() == []
    engine.dispose()


def test_as_people_ask_for_it(named_farm: HandFarm) -> None:
    """Commands: a table, JSON, CSV; actions in a line; errors with their codes."""
    farm = named_farm
    farm.submit(name='say "hi", \x1b[31mada\n.wav')
    assert command("admin", "pauses").output == "there is nothing in it\n"
    assert command("admin", "pause", "--lane", "normal", "--reason", "lunch").output == "the lane normal is paused\n"
    assert command("admin", "pause", "--lane", "normal").output == "the lane normal is paused already\n"

    table = command("admin", "submissions").output
    assert table.startswith("ID  TENANT  NAME")
    assert len(table.splitlines()) == 2
    assert "\x1b" not in table
    [record] = json.loads(command("admin", "submissions", "--json").output)
    assert (record["name"], record["paused"], record["ended_at"]) == ('say "hi", \x1b[31mada\n.wav', True, None)
    assert record["created_at"].endswith("+00:00")
    written = command("admin", "submissions", "--csv").stdout_bytes.decode()
    assert written.endswith("\r\n")
    head, row = list(csv.reader(io.StringIO(written, newline="")))
    by_name = dict(zip(head, row, strict=True))
    plain = record["name"].replace("\x1b[31m", "")  # into a pipe, nothing that a terminal obeys
    assert (by_name["name"], by_name["paused"], by_name["ended_at"]) == (plain, "true", "")
    assert json.loads(command("admin", "quarantine", "--json").output) == []
    assert command("admin", "quarantine", "--csv").output.startswith("transcript,version,chunk")

    waits = "the lane normal is paused (lunch); stenopool admin resume --lane normal"
    assert command("admin", "why", "1").output == f"{waits}\n"
    assert json.loads(command("admin", "why", "1", "--json").output) == [{"reason": "lane_paused", "text": waits}]
    assert command("admin", "resume", "--lane", "normal").output == "the lane normal goes on\n"
    assert command("admin", "resume", "--lane", "normal").exit_code == 1
    moved = command("admin", "reprioritise", "1", "--lane", "urgent", "--priority", "2", "--deadline", "600")
    assert moved.output == "1: lane normal -> urgent, priority 0 -> 2, due in 600 s\n"
    assert command("admin", "reprioritise", "1", "--deadline", "none").output == "1: no deadline\n"
    farm.farm.desk.cancel(1)
    assert command("admin", "requeue", "1").output == "1 is done again\n"
    assert command("admin", "requeue", "1", "99").exit_code == 1
    farm.go()
    assert command("admin", "remerge", "1").output == "1 is merged anew: transcript 2\n"
    farm.farm.fleet.join(worker("w", "merge"))
    assert command("admin", "drain", "w").output == "w is to end\n"
    assert picked(rows(farm, "workers"), "state") == [("draining",)]
    assert {entry.who.count("@") for entry in Access(farm.farm.database).entries()} == {1}

    asked = command("admin", "sql", "SELECT state, 1.50 AS n, true AS t FROM submissions", "--csv")
    assert asked.stdout_bytes.decode() == "state,n,t\r\ntranscribing,1.5,true\r\n"
    assert command("admin", "sql", "SELECT n FROM generate_series(1, 9) AS n", "-n", "2").stderr.startswith(
        "stenopool: there is more"
    )
    assert command("admin", "invariants").exit_code == 0
    with farm.farm.database.begin() as connection:
        connection.execute(text("UPDATE transcripts SET chunks_total = 99 WHERE id = 2"))
    seen = command("admin", "invariants", "--json")
    assert (seen.exit_code, json.loads(seen.output)[0]["name"]) == (1, "chunks_total")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("submissions", "--json", "--csv"), "name one of them"),
        (("backlog", "--watch", "--json"), "leave --json and --csv out"),
        (("pause",), None),
        (("pause", "--lane", "bulk", "--tenant", "ada"), "name one of --lane and --tenant"),
        (("reprioritise", "1"), "name what is to be changed"),
        (("reprioritise", "1", "--deadline", "soon"), "name seconds from now, or none"),
        (("why", "99"), "there is no submission 99"),
        (("sql", "SELECT 1; SELECT 2"), "multi-query"),
        (("workers", "--tenant", "ada"), None),
    ],
)
def test_what_is_asked_wrongly(named_farm: HandFarm, arguments: tuple[str, ...], why: str | None) -> None:
    """In a line that says how to ask; nothing is accepted and ignored."""
    done = command("admin", *arguments)
    assert done.exit_code != 0
    if why is not None:
        assert why in (done.stderr or str(done.exception))


def test_who_did_what(named_farm: HandFarm) -> None:
    """The last first, for people and programs; an entry that is taken out shows."""
    access = Access(named_farm.farm.database)
    for action in ("key.create", "submission.hold", "submission.release"):
        access.note(BY, action, "submission 1", tenant="ada")
    access.note(BY, "tenant.set", "tenant bob", tenant="bob", after={"weight": 2})

    def asked(*arguments: str) -> Any:
        return CliRunner().invoke(cli, ["admin", "audit", *arguments])

    assert [one["action"] for one in json.loads(asked("--json").output)][:2] == ["tenant.set", "submission.release"]
    [last] = csv.DictReader(io.StringIO(asked("--tenant", "bob", "--csv").output))
    assert (last["who"], last["subject"], json.loads(last["after"])) == ("root@desk", "tenant bob", {"weight": 2})
    cut = asked("--tenant", "ada", "-n", "1")
    assert "submission.release" in cut.stdout
    assert "there is more" in cut.stderr
    assert asked("--verify").output == "all is as it was written, up to entry 4\n"

    with named_farm.farm.database.begin() as connection:
        connection.execute(text("ALTER TABLE audit DISABLE TRIGGER ALL"))
        connection.execute(text("DELETE FROM audit WHERE id = 2"))
    found = asked("--verify")
    assert (found.exit_code, found.stderr) == (1, "entry 3 is not as it was written, or one before it is missing\n")


def test_a_reader_of_ones_own(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With STENOPOOL_ADMIN_DATABASE alone, views and SQL are there, and no farm."""
    make_or_migrate(database_url)
    farm = open_database(database_url)
    Desk(farm).accept(Order(tenant="ada", name="a", source="https://host/a", model="pocket", options={}))
    places = {"DATABASE": database_url, "BROKER": "redis://127.0.0.1:1/0", "STORE": str(tmp_path)}
    for name, value in places.items():
        monkeypatch.setenv(f"STENOPOOL_{name}", value)
    script = command("admin", "role").output
    assert script.startswith("-- The role: it may read the views, and nothing else.\nCREATE ROLE ")
    url = make_url(database_url)
    reader = f"stenopool_reader_{url.database}"
    ask(database_url, f"DROP OWNED BY {reader}")
    ask(database_url, f"DROP ROLE {reader}")  # which the migration's user could make
    with farm.begin() as connection:
        for line in script.splitlines():
            if not line.startswith("--"):
                connection.exec_driver_sql(line.replace("%", "%%"))
        connection.exec_driver_sql(f"CREATE ROLE looker_{url.database} LOGIN PASSWORD 'pw' IN ROLE {reader}")
    farm.dispose()
    login = url.set(username=f"looker_{url.database}", password="pw").render_as_string(hide_password=False)
    monkeypatch.setenv("STENOPOOL_ADMIN_DATABASE", login)
    for name in places:
        monkeypatch.delenv(f"STENOPOOL_{name}")

    assert json.loads(command("admin", "submissions", "--json").output)[0]["tenant"] == "ada"
    counted = command("admin", "sql", "SELECT count(*) AS n FROM submissions", "--csv")
    assert counted.stdout_bytes == b"n\r\n1\r\n"
    assert "permission denied" in str(command("admin", "sql", "SELECT pg_try_advisory_lock(1)").exception)


def test_watched_until_it_is_stopped(named_farm: HandFarm) -> None:
    """A table, again and again; Ctrl-C is heard between two."""
    stop = threading.Event()
    stop.set()
    named_farm.submit()
    done = CliRunner().invoke(cli, ["admin", "submissions", "--watch"], obj=stop)
    assert (done.exit_code, done.output.splitlines()[0][:2]) == (0, "ID")
