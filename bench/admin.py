"""How long operators wait for each view: python bench/admin.py [--rows 1000000].

A Postgres of its own with a farm in the middle of an archive: so many chunks, of recordings of a hundred, of ten
tenants; most of them done, some with gaps, a window ready, some leased, events of all. Each view is read whole three
times, and as `stenopool admin` reads it; and what a claim and a kept result take is measured with and without the index
that the views of gaps need.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from circumstances import circumstances
from sqlalchemy import Engine, text

from stenopool.servers import Postgres
from storage.admin import Administration
from storage.chunks import Finished
from storage.database import make_or_migrate, open_database
from storage.ledger import Ledger
from storage.views import VIEWS
from storage.window import Window

RESULTS = Path(__file__).with_suffix(".json")
PER_TRANSCRIPT = 100
KEY = "engine"
WINDOW = 20_000
#: Of a hundred transcripts so many are done; of a hundred of these, so many have a gap.
DONE, WITH_GAP = 60, 5
BATCH, CLAIMS = 16, 200
TIMES = 3

_RESULT = json.dumps({"failed": None, "segments": [], "text": "x" * 400})
_GAP = json.dumps({"failed": "the device failed", "segments": [], "text": ""})


def fill(engine: Engine, rows: int) -> None:
    """A farm with so many chunks, in the middle of its work."""
    n = rows // PER_TRANSCRIPT
    done, gap = f"g % 100 < {DONE}", f"g % 100 < {DONE} AND g % {100 // WITH_GAP} = 0"
    state = f"CASE WHEN {gap} THEN 'completed_with_gaps' WHEN {done} THEN 'completed' ELSE 'transcribing' END"
    left = f"CASE WHEN {done} THEN 0 ELSE {PER_TRANSCRIPT} END"
    with engine.begin() as connection:
        for statement in (
            "INSERT INTO tenants (name, weight, created_at) SELECT 'tenant' || g, 1, 0 FROM generate_series(0, 9) g",
            f"""INSERT INTO recordings (id, duration, created_at)
                SELECT 'r' || g, {480_000 * PER_TRANSCRIPT}, 0 FROM generate_series(1, {n}) g""",
            f"""INSERT INTO transcripts (tenant, recording_id, work_digest, generation, provenance, state, sequential,
                    engine_key, lane, language, chunks_total, chunks_open, chunks_waiting, fence, created_at, document,
                    completed_at)
                SELECT 'tenant' || g % 10, 'r' || g, 'w', 1, '{{"model": "pocket"}}', {state}, false,
                    '{KEY}', g % 3, 'en', {PER_TRANSCRIPT}, {left}, {left}, 0, extract(epoch FROM now()) - g,
                    CASE WHEN {done} THEN '{{}}'::json END,
                    CASE WHEN {done} THEN extract(epoch FROM now()) - g % 1000 END
                FROM generate_series(1, {n}) g ORDER BY g""",
            f"""INSERT INTO chunks (transcript_id, index, start, "end", state, engine_key, lane, attempt, fence, result)
                SELECT t.id, i, i * 480000, (i + 1) * 480000,
                    CASE WHEN t.document IS NULL THEN 'waiting' ELSE 'done' END, '{KEY}', t.lane, 0, 0,
                    CASE WHEN t.document IS NULL THEN NULL
                    WHEN t.state = 'completed_with_gaps' AND i = 7 THEN '{_GAP}'::json ELSE '{_RESULT}'::json END
                FROM transcripts t, generate_series(0, {PER_TRANSCRIPT - 1}) i""",
            f"""INSERT INTO submissions (tenant, name, source, model, options, split, again, lane, priority, paused,
                    state, duration, attempt, fence, created_at, ended_at)
                SELECT t.tenant, 'talk' || t.id, 's' || t.id, 'pocket', '{{}}', false, false, t.lane, 0, false, t.state,
                    {480_000 * PER_TRANSCRIPT}, 0, 0, t.created_at - 500, t.completed_at
                FROM transcripts t ORDER BY t.id""",
            """INSERT INTO submission_transcripts (submission_id, channel, transcript_id)
                SELECT id, 0, id FROM submissions""",
            """INSERT INTO events (position, tenant, submission_id, state, at)
                SELECT row_number() OVER (), tenant, id, e, created_at + 60
                FROM submissions, unnest(ARRAY['accepted', 'transcribing', state]) e""",
        ):
            connection.execute(text(statement))
    window = Window(engine)
    for lane in range(3):
        window.admit(KEY, lane, WINDOW // 3)
    ledger = Ledger(engine, lease=3600.0)
    for worker in range(20):
        ledger.claim_queued(f"worker{worker}", KEY, 64)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))


def look(engine: Engine) -> list[dict[str, Any]]:
    """What each view takes: all of it, and its first rows in their order."""
    found = []
    administration = Administration(engine)
    for view in VIEWS:
        whole, first = [], []
        for _ in range(TIMES):
            with engine.connect() as connection:
                connection.execute(text("SET jit = off"))  # as they are read by the commands
                started = time.perf_counter()
                # Its rows are counted by what is in them: a count alone would leave columns out.
                n = connection.scalar(text(f"SELECT count(v::text) FROM admin.{view.name} v"))
            whole.append(time.perf_counter() - started)
            started = time.perf_counter()
            administration.view(view.name)
            first.append(time.perf_counter() - started)
        found.append(
            {
                "view": view.name,
                "rows": n,
                "whole_ms": round(1000 * statistics.median(whole)),
                "first_1000_ms": round(1000 * statistics.median(first)),
            }
        )
        print(json.dumps(found[-1]), flush=True)
    return found


def claims(engine: Engine) -> dict[str, float]:
    """Milliseconds that a claim of sixteen chunks takes, and the keeping of their results."""
    ledger, window = Ledger(engine), Window(engine)
    result = json.loads(_RESULT)
    taken: dict[str, list[float]] = {"claim": [], "keep": []}
    for lane in range(3):
        window.admit(KEY, lane, WINDOW // 3)
    for _ in range(CLAIMS):
        started = time.perf_counter()
        claimed = ledger.claim_queued("bench", KEY, BATCH)
        between = time.perf_counter()
        ledger.finish_all([Finished(claim, result) for claim in claimed])
        taken["claim"].append(between - started)
        taken["keep"].append(time.perf_counter() - between)
    return {f"{name}_ms": round(1000 * statistics.median(values), 2) for name, values in taken.items()}


def with_and_without(engine: Engine) -> list[dict[str, Any]]:
    """Claims with the index of what has failed, without it, and with it again, so that a drift shows."""
    made = "CREATE INDEX ix_chunks_failed ON chunks (transcript_id, index) WHERE (result ->> 'failed') IS NOT NULL"
    found = [{"index": True, **claims(engine)}]
    for statement, there in (("DROP INDEX ix_chunks_failed", False), (made, True)):
        with engine.begin() as connection:
            connection.execute(text(statement))
        found.append({"index": there, **claims(engine)})
    return found


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--explain", metavar="VIEW", help="print how Postgres reads one of them, and keep nothing")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="stenopool-bench-") as scratch, Postgres(Path(scratch)) as server:
        make_or_migrate(server.url)
        engine = open_database(server.url)
        fill(engine, arguments.rows)
        if arguments.explain:
            with engine.connect() as connection:
                query = f"EXPLAIN (ANALYZE, BUFFERS) SELECT count(v::text) FROM admin.{arguments.explain} v"
                print("\n".join(connection.scalars(text(query))))
            return
        views = look(engine)
        index = with_and_without(engine)
        engine.dispose()
    print(json.dumps(index))
    results = {
        **circumstances("sqlalchemy", "psycopg2-binary"),
        "rows": arguments.rows,
        "views": views,
        "claims": index,
    }
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
