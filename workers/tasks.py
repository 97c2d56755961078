"""Celery's side of the farm: tasks by name, ids in, nothing out, and the process that runs those of a role."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from celery import Celery
from celery.apps import worker as celery_worker
from celery.exceptions import SecurityWarning
from celery.signals import setup_logging, worker_ready
from kombu import Queue

from scheduler.broker import INGEST, MERGE, PUBLISH, engine_queue
from stenopool.config import Limits, Network
from stenopool.errors import StenopoolError
from stenopool.logs import about
from storage.tables import Lane
from workers.decoders import usable_cores
from workers.farm import Farm
from workers.fetch import Bounds, Fetcher
from workers.lifecycle import alive, join, new_worker
from workers.metrics import TaskFigures, shown
from workers.stages import Stages

if TYPE_CHECKING:
    from models.engine import Engine

_log = logging.getLogger(__name__)

#: Hints that an engine works on at once: while one's last chunks are decoded, the slots fill with another's.
IN_FLIGHT = 2


def run_stages(
    farm: Farm,
    roles: Sequence[str],
    limits: Limits,
    *,
    allowed: tuple[Network, ...] = (),
    exports: Sequence[str] = (),
    sound: float,
    metrics: tuple[str, int] | None = None,
) -> int:
    """Be a worker that ingests, merges or publishes, until a signal ends it; returns the exit status.

    Args:
        allowed: networks that sources may be fetched from besides the public internet.
        exports: folders, and buckets on other servers, to which transcripts may be sent.
        sound: seconds that samples are kept to be listened to.
        metrics: host and port where they are shown; None for nowhere.
    """
    worker = new_worker("+".join(roles))
    app, figures = farm.broker.app, TaskFigures()
    fetcher = Fetcher(Bounds(size=limits.size), allowed)
    stages = Stages(farm, worker.id, limits, fetcher=fetcher, exports=exports, sound=sound)
    # What ends work goes before what begins more.
    works = {"publish": (PUBLISH, stages.publish), "merge": (MERGE, stages.merge), "ingest": (INGEST, stages.ingest)}
    for role in roles:
        _register(app, figures, role, works[role][1])
    queues = [queue for role, (queue, _) in works.items() if role in roles]
    concurrency = len(roles) + ("ingest" in roles) * usable_cores() // 2
    try:
        with shown(metrics, worker.role, figures), alive(farm, worker, done=lambda: stages.done) as begin:
            return _serve(app, worker.id, queues, concurrency, begin)
    finally:
        stages.close()


def run_engine(farm: Farm, make_engine: Callable[[], Engine], *, metrics: tuple[str, int] | None = None) -> int:
    """Be a worker with an engine, warmed and tried before it takes any work; returns the exit status.

    Args:
        metrics: host and port where they are shown; None for nowhere.
    """
    from workers.assignment import engine_key_of  # the other roles do without JAX
    from workers.engine import EngineWorker
    from workers.engine_metrics import EngineMetrics
    from workers.self_test import self_test

    worker = new_worker("engine")
    join(farm, worker)  # it is seen to be starting: loading may take minutes
    engine = make_engine()
    engine.warm()
    speed = self_test(engine)
    key = engine_key_of(engine)
    worker = replace(
        worker,
        model=engine.checkpoint.name,
        model_digest=engine.checkpoint.digest,
        dtype=engine.dtype,
        engine_key=key,
        slots=engine.n_slots,
        speed=speed,
    )
    _log.info("%s in %s, %d slots, %.0f times real time", worker.model, worker.dtype, worker.slots, speed)
    app, figures = farm.broker.app, TaskFigures()
    work = EngineWorker(farm, worker.id, engine, key)
    _register(
        app,
        figures,
        "transcribe",
        lambda chunks, suspect: work.transcribe([(t, i) for t, i in chunks], suspect=suspect),
    )
    _register(app, figures, "detect", work.detect)
    queues = [engine_queue(key, lane) for lane in Lane]
    try:
        with (
            shown(metrics, worker.role, figures, EngineMetrics(work)),
            alive(farm, worker, lambda: work.room.stalled, lambda: work.done, work.held) as begin,
        ):
            return _serve(app, worker.id, queues, IN_FLIGHT, begin)
    finally:
        work.close()


def _register(app: Celery, figures: TaskFigures, name: str, work: Callable[..., None]) -> None:
    """A task that tells in a line what went wrong: the ledger knows what is to be done again."""

    def task(*arguments: Any) -> None:
        with about(task=name):
            try:
                with figures.timed(name):
                    work(*arguments)
            except StenopoolError as error:
                _log.warning("%s: %s", name, error)

    app.task(task, name=f"stenopool.{name}", shared=False)


def _serve(app: Celery, worker: str, queues: list[str], concurrency: int, begin: Callable[[], None]) -> int:
    """Work until a first SIGTERM, on which what is begun is ended, or a second, on which it is not.

    Args:
        begin: called when it takes work, and is ready for these signals.
    """
    worker_ready.connect(lambda **_: begin(), weak=False)
    setup_logging.connect(lambda **_: None, weak=False)  # ours stays: Celery would have it tell of warnings only
    # Root is warned of for the sake of pickled messages, and ours are none.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    app.conf.task_queues = [Queue(name) for name in queues]
    celery = app.Worker(
        hostname=worker,
        queues=queues,
        pool="threads",  # a process that forks after JAX has begun does not live
        concurrency=concurrency,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        quiet=True,
    )
    # Its words on a signal go to standard output, in no form that anybody asked for.
    celery_worker.safe_say = lambda *_: None
    celery.start()
    _log.info("it has ended what it had begun")
    return int(celery.exitcode or 0)
