"""Metrics of a farm's processes, as Prometheus asks for them.

Whoever works counts in plain numbers; here they are read when somebody asks. What lies in the ledger is looked at once
in a few seconds, however many ask.
"""

from __future__ import annotations

import logging
import threading
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Generic, TypeVar

from prometheus_client import GC_COLLECTOR, PROCESS_COLLECTOR, CollectorRegistry, generate_latest, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from scheduler.dispatch import Dispatched
from stenopool.errors import BrokerUnreachable, LedgerError, UsageError
from stenopool.version import __version__
from storage.figures import Figures, LedgerFaults, LedgerFigures
from storage.tables import PUBLISHED, Lane, SubmissionState
from workers.metric_table import BY_NAME, PREFIX

if TYPE_CHECKING:
    from workers.farm import Farm

_log = logging.getLogger(__name__)

#: Seconds for which what was seen in the ledger is shown; what should not be there takes longer to find.
FRESH, FAULTS_FRESH = 10.0, 60.0
#: Events that are read when somebody asks, at most: after a long silence, the rest is read the next time.
MOST_EVENTS = 100_000
#: Seconds, of waits from a clip's to an archive's.
WAITS = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14_400, 43_200, 86_400)

_T = TypeVar("_T")
Labels = tuple[str, ...]


def gauge(short: str, values: Mapping[Labels, float] | float) -> Metric:
    """A gauge of the table."""
    metric = BY_NAME[short]
    family = GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)
    for labels, value in _by_labels(values).items():
        family.add_metric(labels, value)
    return family


def counter(short: str, values: Mapping[Labels, float] | float) -> Metric:
    """A counter of the table."""
    metric = BY_NAME[short]
    family = CounterMetricFamily(f"{PREFIX}{short}", metric.help, labels=metric.labels)
    for labels, value in _by_labels(values).items():
        family.add_metric(labels, value)
    return family


class Spread:
    """How often a value was in which range."""

    def __init__(self, bounds: Sequence[float], counts: Sequence[int] = (), total: float = 0.0) -> None:
        self._bounds = bounds
        self._counts = list(counts) or [0] * (len(bounds) + 1)
        self._total = total

    def add(self, value: float, times: int = 1) -> None:
        """It was seen."""
        self._counts[bisect_left(self._bounds, value)] += times
        self._total += value * times

    def buckets(self) -> tuple[list[tuple[str, float]], float]:
        """As Prometheus has them: for each bound, how many were at most that; and their sum."""
        buckets, n = [], 0
        for bound, count in zip([*map(str, map(float, self._bounds)), "+Inf"], self._counts, strict=True):
            n += count
            buckets.append((bound, float(n)))
        return buckets, self._total


def histogram(short: str, spreads: Mapping[Labels, Spread]) -> Metric:
    """A histogram of the table."""
    metric = BY_NAME[short]
    family = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
    for labels, spread in spreads.items():
        buckets, total = spread.buckets()
        family.add_metric(labels, buckets=buckets, sum_value=total)
    return family


def _by_labels(values: Mapping[Labels, float] | float) -> Mapping[Labels, float]:
    return values if isinstance(values, Mapping) else {(): values}


class _Kept(Generic[_T]):
    """What was seen last, for a while; one looks while others wait. None where it could not be seen."""

    def __init__(self, look: Callable[[], _T], seconds: float) -> None:
        self._look = look
        self._seconds = seconds
        self._seen: _T | None = None
        self._until = 0.0
        self._lock = threading.Lock()

    def get(self) -> _T | None:
        with self._lock:
            if time.monotonic() >= self._until:
                try:
                    self._seen = self._look()
                except (LedgerError, BrokerUnreachable) as error:
                    if self._seen is not None:  # once, not at every scrape
                        _log.warning("metrics: %s", error)
                    self._seen = None
                self._until = time.monotonic() + self._seconds
            return self._seen


class LedgerMetrics(Collector):
    """What the ledger and the broker are like; the same from whichever process."""

    def __init__(self, farm: Farm) -> None:
        self._farm = farm
        self._figures = _Kept(lambda: Figures(farm.database).now(), FRESH)
        self._faults = _Kept(lambda: Figures(farm.database).faults(), FAULTS_FRESH)
        self._broker = _Kept(lambda: farm.broker.condition(), FRESH)

    def collect(self) -> Iterator[Metric]:
        """See `Collector`."""
        figures, faults = self._figures.get(), self._faults.get()
        yield gauge("ledger_up", float(figures is not None))
        if figures is not None:
            yield from _of_figures(figures)
        if faults is not None:
            yield from _of_faults(faults)
        broker = self._broker.get()
        yield gauge("broker_up", float(broker is not None and broker.refusal is None))
        if broker is not None:
            yield gauge("broker_memory_bytes", broker.used)
            yield gauge("broker_memory_limit_bytes", {} if broker.most is None else broker.most)


def _of_figures(figures: LedgerFigures) -> Iterator[Metric]:
    ready = figures.ready
    yield gauge("ready_chunks", _lanes({lane: one.chunks for lane, one in ready.items()}))
    yield gauge("ready_audio_seconds", _lanes({lane: one.audio for lane, one in ready.items()}))
    yield gauge("oldest_ready_age_seconds", _lanes({lane: one.age for lane, one in ready.items()}))
    yield gauge("open_audio_seconds", _lanes(figures.open_audio))
    yield gauge("accepted_recordings", _lanes(figures.accepted))
    yield gauge("workers", {(role, state): n for (role, state), n in figures.workers.items()})
    yield gauge("worker_heartbeat_age_seconds", {(role,): age for role, age in figures.silent.items()})
    yield gauge("outbox_oldest_seconds", figures.outbox_age)
    yield gauge("dead_tuple_ratio", {(table,): share for table, share in figures.dead.items()})
    yield gauge("oldest_transaction_seconds", figures.oldest_transaction)


def _of_faults(faults: LedgerFaults) -> Iterator[Metric]:
    yield gauge("quarantined_chunks", faults.quarantined)
    yield gauge("invariant_violations", {(name,): n for name, n in faults.violations.items()})


def _lanes(values: Mapping[int, float]) -> dict[Labels, float]:
    """Every lane has a value: one that disappears would be taken for one that stays as it was."""
    return {(lane.name.lower(),): values.get(lane, 0.0) for lane in Lane}


class SchedulerMetrics(Collector):
    """What became of submissions since this process was begun, and what its dispatcher did.

    The events are the source: they are numbered without gaps, and each is counted once.
    """

    def __init__(self, farm: Farm, done: Dispatched) -> None:
        self._figures = Figures(farm.database)
        self._done = done
        self._position: int | None = None
        self._lock = threading.Lock()
        self._states: Counter[Labels] = Counter()
        self._waits: dict[Labels, Spread] = {(lane.name.lower(),): Spread(WAITS) for lane in Lane}
        self._ends: dict[Labels, Spread] = {(lane.name.lower(),): Spread(WAITS) for lane in Lane}

    def begin(self) -> SchedulerMetrics:
        """Count from now on, or from when somebody first asks, where the ledger does not answer now."""
        with suppress(LedgerError):
            self._position = self._figures.last()
        return self

    def collect(self) -> Iterator[Metric]:
        """See `Collector`."""
        with self._lock:
            try:
                self._follow()
            except LedgerError as error:
                _log.warning("metrics: %s", error)
            yield counter("recordings", dict(self._states))
            yield histogram("queue_wait_seconds", self._waits)
            yield histogram("recording_e2e_seconds", self._ends)
        done = self._done
        yield counter("lease_expired", done.expired)
        yield counter("chunks", {("quarantined",): done.quarantined})
        yield gauge("sweeper_last_run_timestamp_seconds", done.swept_at)
        yield gauge("scheduler_leading", float(done.leading))

    def _follow(self) -> None:
        if self._position is None:
            self._position = self._figures.last()
        read = 0
        while read < MOST_EVENTS and (steps := self._figures.after(self._position)):
            for step in steps:
                lane = Lane(step.lane).name.lower()
                self._states[step.state.value, lane] += 1
                if step.state == SubmissionState.TRANSCRIBING:
                    self._waits[lane,].add(step.age)
                elif step.state in PUBLISHED:
                    self._ends[lane,].add(step.age)
            self._position = steps[-1].position
            read += len(steps)


class TaskFigures(Collector):
    """Which hints a worker has followed, and how long that took."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ended: Counter[Labels] = Counter()
        self._seconds: Counter[Labels] = Counter()

    @contextmanager
    def timed(self, task: str) -> Iterator[None]:
        """One is followed; an error is counted, and goes on."""
        began, outcome = time.monotonic(), "failed"
        try:
            yield
            outcome = "done"
        finally:
            with self._lock:
                self._ended[task, outcome] += 1
                self._seconds[task,] += time.monotonic() - began  # type: ignore[assignment]

    def collect(self) -> Iterator[Metric]:
        """See `Collector`."""
        with self._lock:
            yield counter("tasks", dict(self._ended))
            yield counter("task_seconds", dict(self._seconds))


class _Build(Collector):
    """Which release a process is of, and what it does."""

    def __init__(self, role: str) -> None:
        self._role = role

    def collect(self) -> Iterator[Metric]:
        yield gauge("build_info", {(__version__, self._role): 1})


def registry_of(role: str, collectors: Iterable[Collector]) -> CollectorRegistry:
    """What a process shows: these, its memory and processor time, and its release."""
    registry = CollectorRegistry(auto_describe=False)
    for one in (*collectors, _Build(role), PROCESS_COLLECTOR, GC_COLLECTOR):
        registry.register(one)
    return registry


@contextmanager
def shown(at: tuple[str, int] | None, role: str, *collectors: Collector) -> Iterator[None]:
    """Meanwhile anybody who reaches host and port sees the metrics there, at any path; nobody where it is None.

    Raises:
        UsageError: somebody else listens there, or the host is none of this machine's.
    """
    if at is None:
        yield
        return
    host, port = at
    try:
        server, thread = start_http_server(port, host, registry_of(role, collectors))
    except OSError as error:
        reason = error.strerror or error
        raise UsageError(
            f"{host}:{port}: metrics cannot be shown there ({reason}); name another with --metrics"
        ) from None
    try:
        _log.info("metrics are at http://%s:%d/metrics", f"[{host}]" if ":" in host else host, server.server_port)
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def render(farm: Farm) -> bytes:
    """The metrics of a farm's ledger and broker, in Prometheus' text format: for the API, mounted at /metrics.

    They are gauges only, so that it does not matter which of several processes is asked. The ledger is looked at once
    in a few seconds. Where it does not answer, `stenopool_ledger_up` is 0.
    """
    return generate_latest(farm.metrics)
