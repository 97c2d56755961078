"""How many chunks a second the farm's ledger lets through: python bench/claims.py [--rows 1000000] [--seconds 20].

A Postgres of its own, with so many chunks planned, of which a window is ready and kept full; processes claim sixteen,
and keep sixteen results, again and again, as engine workers do, without an engine. What a claim takes is told as well.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from circumstances import circumstances
from sqlalchemy import Engine, text

from stenopool.servers import Postgres
from storage.chunks import Finished
from storage.database import make_or_migrate, open_database
from storage.ledger import Ledger
from storage.window import Window

RESULTS = Path(__file__).with_suffix(".json")
ROOT = Path(__file__).parents[1]
BATCH = 16
PER_TRANSCRIPT = 1000
WINDOW = 20_000
KEY = "engine"


def fill(engine: Engine, rows: int) -> None:
    """So many waiting chunks, in transcripts of ten tenants."""
    with engine.begin() as connection:
        for statement in (
            "INSERT INTO tenants (name, weight, created_at) SELECT 'tenant' || g, 1, 0 FROM generate_series(0, 9) g",
            "INSERT INTO recordings (id, duration, created_at) VALUES ('r', 16000, 0)",
            f"""INSERT INTO transcripts (tenant, recording_id, work_digest, generation, provenance, state, sequential,
                    engine_key, lane, language, chunks_total, chunks_open, chunks_waiting, fence, created_at)
                SELECT 'tenant' || g % 10, 'r', 'w' || g, 1, '{{}}', 'transcribing', false,
                    '{KEY}', 1, 'en', {PER_TRANSCRIPT}, {PER_TRANSCRIPT}, {PER_TRANSCRIPT}, 0, 0
                FROM generate_series(1, {rows // PER_TRANSCRIPT}) g""",
            f"""INSERT INTO chunks (transcript_id, index, start, "end", state, engine_key, lane, attempt, fence)
                SELECT t.id, g, g * 480000, (g + 1) * 480000, 'waiting', '{KEY}', 1, 0, 0
                FROM transcripts t, generate_series(0, {PER_TRANSCRIPT - 1}) g""",
        ):
            connection.execute(text(statement))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))


def work(url: str, seconds: float) -> dict[str, Any]:
    """Claim and keep for so long; how many, and what each claim and each keeping took."""
    ledger = Ledger(open_database(url))
    claims: list[float] = []
    keeps: list[float] = []
    result = {"segments": [], "text": "x" * 400}
    n = 0
    ledger.claim_queued("warm", KEY, 1)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        started = time.perf_counter()
        claimed = ledger.claim_queued("worker", KEY, BATCH)
        between = time.perf_counter()
        ledger.finish_all([Finished(claim, result) for claim in claimed])
        claims.append(between - started)
        keeps.append(time.perf_counter() - between)
        n += len(claimed)
    return {"chunks": n, "claims": claims, "keeps": keeps}


def measure(rows: int, workers: int, seconds: float) -> dict[str, Any]:
    """One run on a database of its own."""
    with tempfile.TemporaryDirectory(prefix="stenopool-bench-") as scratch, Postgres(Path(scratch)) as server:
        make_or_migrate(server.url)
        engine = open_database(server.url)
        started = time.perf_counter()
        fill(engine, rows)
        filled = time.perf_counter() - started
        window = Window(engine)
        window.admit(KEY, 1, WINDOW)
        files = [Path(scratch) / f"worker{at}.json" for at in range(workers)]  # longer than a pipe holds
        children = []
        for file in files:
            with file.open("w") as said:
                command = [sys.executable, __file__, "--work", server.url, "--seconds", str(seconds)]
                environment = {**os.environ, "PYTHONPATH": str(ROOT)}
                children.append(subprocess.Popen(command, stdout=said, env=environment))
        while any(child.poll() is None for child in children):  # as the dispatcher does
            window.admit(KEY, 1, WINDOW)
            time.sleep(0.5)
        told = [json.loads(file.read_text()) for file in files]
        engine.dispose()
    claims = sorted(one for child in told for one in child["claims"])
    keeps = sorted(one for child in told for one in child["keeps"])
    return {
        "workers": workers,
        "chunks_per_second": round(sum(child["chunks"] for child in told) / seconds),
        "seconds_to_insert": round(filled, 1),
        **{
            f"{name}_ms": {
                "median": round(1000 * statistics.median(values), 1),
                "p99": round(1000 * values[int(0.99 * len(values))], 1),
            }
            for name, values in (("claim", claims), ("keep", keeps))
        },
    }


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--workers", default="1,2,4")
    parser.add_argument("--work", metavar="URL", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        print(json.dumps(work(arguments.work, arguments.seconds)))
        return
    results = {
        **circumstances("sqlalchemy", "psycopg2-binary"),
        "rows": arguments.rows,
        "runs": [],
    }
    for workers in map(int, arguments.workers.split(",")):
        results["runs"].append(measure(arguments.rows, workers, arguments.seconds))
        print(json.dumps(results["runs"][-1]), flush=True)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
