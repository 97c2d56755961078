"""Metrics: the table, the docs, and that each figure follows what happens."""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from sqlalchemy import text, update

from scheduler.dispatch import Dispatched, Dispatcher
from stenopool.errors import LedgerUnreachable, UsageError
from storage.figures import PROMISES, Figures
from storage.outbox import Outbox
from storage.tables import ChunkRow
from tests.ceph import free_ports
from tests.farms import HandFarm
from tests.standin import StandIn
from workers.engine import EngineWorker
from workers.engine_metrics import Counted, EngineMetrics, Lately
from workers.metric_table import METRICS, PREFIX
from workers.metrics import LedgerMetrics, SchedulerMetrics, Spread, TaskFigures, render, shown

ROOT = Path(__file__).parents[2]


def values(*collectors: Collector) -> dict[str, float]:
    """What is shown, by name and labels as Prometheus writes them."""
    registry = CollectorRegistry(auto_describe=False)
    for one in collectors:
        registry.register(one)
    found = {}
    for family in registry.collect():
        for sample in family.samples:
            labels = ",".join(sorted(sample.labels.values()))
            found[f"{sample.name.removeprefix(PREFIX)}{{{labels}}}" if labels else sample.name.removeprefix(PREFIX)] = (
                sample.value
            )
    return found


def test_the_docs_list_the_metrics() -> None:
    """Every one in its row, in the words of the table, and no other."""
    rows = [line for line in (ROOT / "docs" / "metrics.md").read_text().splitlines() if line.startswith("| `")]

    table = [(one.name, one.kind, ", ".join(f"`{label}`" for label in one.labels), one.of, one.help) for one in METRICS]
    assert rows == [f"| `{' | '.join(row)} |".replace(" | ", "` | ", 1).replace("|  |", "| |") for row in table]


def test_names_are_as_prometheus_wants_them() -> None:
    """Base units, and no tenant in any label."""
    for metric in METRICS:
        assert re.fullmatch(r"stenopool_[a-z0-9_]+", metric.name)
        assert not re.search(r"_(ms|milliseconds|minutes|hours|mb|percent)\b", metric.name)
        assert "tenant" not in metric.labels


def test_the_ledger_is_looked_at(hand_farm: HandFarm) -> None:
    """What waits, in each lane; what is paused does not."""
    farm = hand_farm
    farm.submit(6)
    farm.submit(6, lane=0)
    paused = farm.submit(6)
    farm.farm.desk.pause(paused.id)
    seen = values(LedgerMetrics(farm.farm))
    assert [seen[f"accepted_recordings{{{lane}}}"] for lane in ("urgent", "normal", "bulk")] == [1, 1, 0]

    farm.ingest()
    seen = values(LedgerMetrics(farm.farm))
    assert seen["accepted_recordings{normal}"] == 0
    assert [seen[f"open_audio_seconds{{{lane}}}"] for lane in ("urgent", "normal")] == [6, 6]
    assert seen["ready_chunks{normal}"] == 0

    farm.admit()
    farm.claim(1)  # an urgent one
    seen = values(LedgerMetrics(farm.farm))
    assert (seen["ready_chunks{urgent}"], seen["ready_audio_seconds{urgent}"]) == (2, 4)
    assert seen["open_audio_seconds{urgent}"] == 6
    assert seen["oldest_ready_age_seconds{normal}"] > 0
    assert (seen["ledger_up"], seen["broker_up"]) == (1, 0)
    assert "broker_memory_bytes" not in seen


def test_what_is_seen_is_kept_for_a_while(hand_farm: HandFarm, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many ask, the ledger is looked at once; the API's are the same."""
    looks = []
    monkeypatch.setattr(Figures, "now", lambda self: looks.append(self))
    metrics = LedgerMetrics(hand_farm.farm)

    for _ in range(5):
        values(metrics)

    assert len(looks) == 1
    assert b"stenopool_ledger_up 0.0" in render(hand_farm.farm)


def test_a_ledger_that_is_gone(hand_farm: HandFarm, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is said to be; nothing fails, and nothing old is told of it."""
    monkeypatch.setattr("workers.metrics.FRESH", 0)
    metrics = LedgerMetrics(hand_farm.farm)
    assert values(metrics)["ledger_up"] == 1

    def gone(_: Figures) -> None:
        raise LedgerUnreachable

    monkeypatch.setattr(Figures, "now", gone)
    assert values(metrics)["ledger_up"] == 0
    assert "ready_chunks{normal}" not in values(metrics)


@pytest.mark.parametrize(
    ("broken", "promise"),
    [
        ("UPDATE chunks SET lease_until = NULL WHERE state = 'leased'", "leased_without_lease"),
        ("UPDATE chunks SET worker = NULL WHERE state = 'leased'", "leased_without_worker"),
        ("UPDATE transcripts SET chunks_open = chunks_open - 1", "open_chunks_miscounted"),
        ("UPDATE submissions SET state = 'publishing'", "published_before_completed"),
    ],
)
def test_promises_that_are_broken(hand_farm: HandFarm, broken: str, promise: str) -> None:
    """Each is seen, and no other with it."""
    hand_farm.submit()
    hand_farm.ingest()
    hand_farm.admit()
    hand_farm.claim(1)
    figures = Figures(hand_farm.farm.database)
    assert set(figures.faults().violations.values()) == {0}

    with hand_farm.farm.database.begin() as connection:
        connection.execute(text(broken))

    assert figures.faults().violations == {name: int(name == promise) for name in PROMISES}


def test_chunks_that_killed_their_workers_are_counted(hand_farm: HandFarm) -> None:
    """As long as their gaps are in a transcript; by whoever swept them, as well."""
    farm = hand_farm
    farm.submit(2)
    farm.ingest()
    farm.admit()
    dispatcher = Dispatcher(farm.farm.database, farm.farm.broker)
    for _ in range(3):
        farm.claim(1)
        with farm.farm.database.begin() as connection:
            connection.execute(update(ChunkRow).where(ChunkRow.state == "leased").values(lease_until=0))
        dispatcher._sweep()
        with farm.farm.database.begin() as connection:  # for a while nobody dies
            connection.execute(update(ChunkRow).values(blamed_at=0))
    farm.merge()

    assert Figures(farm.farm.database).faults().quarantined == 1
    seen = values(SchedulerMetrics(farm.farm, dispatcher.done))
    assert (seen["lease_expired_total"], seen["chunks_total{quarantined}"]) == (3, 1)
    assert seen["sweeper_last_run_timestamp_seconds"] > 1.7e9


def test_submissions_are_counted_once(hand_farm: HandFarm) -> None:
    """From the events: those since it was begun, each once, however often it is asked."""
    farm, outbox = hand_farm, Outbox(hand_farm.farm.database)
    farm.submit(2)
    farm.go()
    outbox.number()
    metrics = SchedulerMetrics(farm.farm, Dispatched())
    metrics.begin()
    farm.submit(2)
    farm.submit(4, lane=0)
    farm.go()
    outbox.number()

    seen = [values(metrics) for _ in range(2)][1]

    assert {name: n for name, n in seen.items() if name.startswith("recordings_total")} == {
        f"recordings_total{{{labels}}}": 1
        for state in ("accepted", "transcribing", "completed")
        for labels in (",".join(sorted((lane, state))) for lane in ("urgent", "normal"))
    }
    assert seen["queue_wait_seconds_count{urgent}"] == seen["recording_e2e_seconds_count{normal}"] == 1
    assert seen["recording_e2e_seconds_sum{normal}"] >= seen["queue_wait_seconds_sum{normal}"] >= 0


@pytest.fixture
def engine_worker(hand_farm: HandFarm) -> Iterator[EngineWorker]:
    """Of a submission with three chunks that are ready, one of which is heard slowly."""
    hand_farm.submit(6)
    hand_farm.ingest()
    hand_farm.admit()
    [(key, _)] = hand_farm.window.ready()
    stand_in = StandIn()
    worker = EngineWorker(hand_farm.farm, "engine", stand_in, key)  # type: ignore[arg-type]
    yield worker
    worker.close()


def test_an_engine_counts(hand_farm: HandFarm, engine_worker: EngineWorker) -> None:
    """Chunks and their sound, and how full its slots were; what comes too late is refused, and counted as that."""
    ledger = hand_farm.farm.ledger
    finish = type(ledger).finish_all
    [(_, transcript)] = hand_farm.farm.desk.submission(1).transcripts

    def late(self: object, finished: object) -> object:  # the first was given to another meanwhile
        with hand_farm.farm.database.begin() as connection:
            connection.execute(update(ChunkRow).where(ChunkRow.index == 0).values(fence=ChunkRow.fence + 1))
        return finish(self, finished)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(ledger), "finish_all", late)
        engine_worker.transcribe([(transcript, index) for index in range(3)], suspect=False)

    seen = values(EngineMetrics(engine_worker))
    assert (seen["chunks_total{done}"], seen["chunks_total{refused}"], seen["chunks_total{gap}"]) == (2, 1, 0)
    assert seen["fence_rejected_total"] == 1
    assert seen["audio_seconds_total"] == pytest.approx(4)
    assert seen["slots"] == 16
    assert seen["batch_size_sum"] == 3
    assert seen["batch_size_bucket{4.0}"] == seen["batch_size_count"] >= 1
    assert seen["padding_ratio"] == pytest.approx(1 - 2 / 30)
    assert seen["busy_seconds_total"] > 0
    assert seen["realtime_factor"] == pytest.approx(seen["busy_seconds_total"] / 4, rel=0.5)


def test_lately_is_the_last_minute() -> None:
    """However often it is asked, and however seldom."""
    lately = Lately(Counted(0.0))

    for second in range(1, 600):
        first = lately.before(Counted(float(second), busy=float(second)))
        assert min(second, 60) <= second - first.at <= 75
    assert lately.before(Counted(10_000.0)).at == pytest.approx(599, abs=15)


def test_tasks_are_timed() -> None:
    """Those that failed, too, which is no business of the metrics."""
    figures = TaskFigures()
    with figures.timed("merge"):
        pass
    with pytest.raises(ZeroDivisionError), figures.timed("merge"):
        raise ZeroDivisionError

    seen = values(figures)
    assert (seen["tasks_total{done,merge}"], seen["tasks_total{failed,merge}"]) == (1, 1)
    assert seen["task_seconds_total{merge}"] >= 0


def test_a_spread_has_every_value_in_its_bucket() -> None:
    """Bounds are within."""
    spread = Spread((1, 5))
    for value in (0.5, 1, 3, 100):
        spread.add(value)

    assert spread.buckets() == ([("1.0", 2.0), ("5.0", 3.0), ("+Inf", 4.0)], 104.5)


def test_they_are_shown_while_they_are() -> None:
    """At host and port; nobody listens before and after, and a port that is taken is said to be."""
    [port] = free_ports(1)
    with shown(("127.0.0.1", port), "engine", TaskFigures()):
        page = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10).read().decode()
        taken = shown(("127.0.0.1", port), "engine")
        with (
            pytest.raises(UsageError, match=rf"^127.0.0.1:{port}: metrics cannot be shown there \(.*--metrics$"),
            taken,
        ):
            pass

    families = {family.name for family in text_string_to_metric_families(page)}
    assert {"stenopool_build_info", "stenopool_tasks", "process_resident_memory_bytes"} <= families
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10)
