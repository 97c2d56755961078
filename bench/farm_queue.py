"""The queue under load: a million chunks, ten thousand recordings, many tenants, several workers."""

from __future__ import annotations

import statistics
import time
from typing import Any

from farm_servers import backlog, clones, servers, template
from redis import Redis
from sqlalchemy import text

from storage.desk import Order
from storage.tables import Lane
from tests.faults.storm import Storm
from workers.farm import Farm

PER_TRANSCRIPT = 10


def _redis_mb(farm: Farm) -> float:
    with Redis.from_url(farm.places.broker) as client:
        return float(client.info("memory")["used_memory"]) / 1e6


def measure_submits(recordings: int = 10_000, chunks: int = 1_000_000) -> dict[str, Any]:
    """Hand in many beside a full ledger, with a scheduler that tells of them and nobody who comes."""
    with servers() as (places, logs), Storm(places, logs) as storm:
        farm = storm.farm
        clones(farm, template(storm, PER_TRANSCRIPT), chunks // PER_TRANSCRIPT, tenants="'archive'")
        took: list[float] = []
        redis = 0.0
        source = logs / "episode.mp3"
        for at in range(recordings):
            source.write_bytes(b"episode %d" % at)
            started = time.perf_counter()
            farm.store.upload(source, f"sources/{at}")
            farm.desk.accept(
                Order(
                    tenant=f"tenant{at % 10}",
                    name=f"{at}.mp3",
                    source=f"sources/{at}",
                    file_sha256=f"{at:064}",
                    model="pocket",
                    options={},
                    idempotency_key=f"episode {at}",
                )
            )
            took.append(time.perf_counter() - started)
            if at % 500 == 0:
                redis = max(redis, _redis_mb(farm))
        return {
            "recordings": recordings,
            "chunk_rows": chunks,
            "seconds": round(sum(took), 1),
            "ms": {
                "median": round(1000 * statistics.median(took), 1),
                "p95": round(1000 * sorted(took)[int(0.95 * recordings)], 1),
            },
            "redis_mb_at_most": round(max(redis, _redis_mb(farm)), 1),
        }


def measure_fairness(episodes: int = 100_000, tenants: int = 50, seconds: float = 40) -> dict[str, Any]:
    """An archive that has been at it for a while; then small tenants beside it, and an urgent meeting.

    Of the archive a day of sound is planned, as the dispatcher lets no more be decoded ahead; the rest is accepted.
    """
    with servers() as (places, logs), Storm(places, logs, batch=0.1) as storm:
        farm = storm.farm
        episode, meeting = template(storm, PER_TRANSCRIPT), template(storm, 120)
        clones(farm, episode, 24 * 3600 // (2 * PER_TRANSCRIPT), tenants="'archive'")
        backlog(farm, episodes, tenant="archive")
        storm.workers(2)
        storm.until(lambda: storm.done() > 1000, within=120)
        clones(farm, episode, tenants * 60, tenants=f"'small' || g % {tenants}")
        time.sleep(5)  # what is ready already is the archive's
        before, redis = _served(farm), _redis_mb(farm)
        time.sleep(seconds)
        served = {tenant: n - before.get(tenant, 0) for tenant, n in _served(farm).items()}
        waits = []
        for _ in range(5):
            clones(farm, meeting, 1, tenants="'urgent'", lane=Lane.URGENT)
            waits.append(_until_begun(farm))
        return {
            "episodes": episodes,
            "tenants": len(served),
            "chunks_served": {"least": min(served.values()), "most": max(served.values())},
            "jain_index": round(sum(served.values()) ** 2 / (len(served) * sum(n * n for n in served.values())), 4),
            "urgent_first_chunk_seconds": {"median": round(statistics.median(waits), 2), "most": round(max(waits), 2)},
            "redis_mb": round(max(redis, _redis_mb(farm)), 1),
        }


def _served(farm: Farm) -> dict[str, int]:
    query = "SELECT tenant, count(*) FROM chunks c JOIN transcripts t ON t.id = c.transcript_id "
    with farm.database.connect() as connection:
        rows = connection.execute(text(query + "WHERE c.state = 'done' AND tenant <> 'urgent' GROUP BY tenant"))
        return dict(rows.tuples().all())


def _until_begun(farm: Farm) -> float:
    """Seconds until the newest transcript's first chunk is claimed."""
    started = time.monotonic()
    query = text("SELECT count(*) FROM chunks WHERE transcript_id = (SELECT max(id) FROM transcripts) AND attempt > 0")
    with farm.database.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        while not connection.scalar(query):
            time.sleep(0.01)
    return time.monotonic() - started


def measure_scaling(seconds: float = 20, batch: float = 0.5) -> dict[str, Any]:
    """Workers whose engine sleeps half a second for sixteen chunks."""
    rates = {}
    with servers() as (places, logs), Storm(places, logs, batch=batch) as storm:
        clones(storm.farm, template(storm, PER_TRANSCRIPT), 4000, tenants="'tenant' || g % 3")
        for n in (1, 2, 4, 8):
            storm.workers(n)
            storm.until_at_work(2 + n)
            time.sleep(5)
            started, before = time.monotonic(), storm.done()
            time.sleep(seconds)
            rates[n] = (storm.done() - before) / (time.monotonic() - started)
    return {
        "engine_chunks_per_second": 16 / batch,
        "chunks_per_second": {n: round(rate, 1) for n, rate in rates.items()},
        "of_linear": {n: round(rate / (n * rates[1]), 3) for n, rate in rates.items()},
    }
