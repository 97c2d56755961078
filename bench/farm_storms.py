"""Workers that are killed, from outside or by what they decode."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from farm_servers import servers

from storage.tables import SubmissionState
from tests.faults.history import gaps, violations
from tests.faults.storm import CHUNK, HELD, Storm

KILLS = 200
LEASE = 10.0  # seconds
SEED = 20_261_122


def measure_storm(recordings: int = 250, seconds: int = 800) -> dict[str, Any]:
    """Three workers, of which one is killed again and again while it has chunks, all through the work."""
    with servers() as (places, logs), Storm(places, logs, seed=SEED, lease=LEASE, batch=0.1) as storm:
        submissions = storm.hand_in(recordings, seconds=seconds)
        chunks = recordings * seconds // CHUNK
        started = time.monotonic()
        storm.workers(3)
        for n in range(KILLS):
            storm.until(partial(_far, storm, n * chunks // KILLS), within=600)
            storm.kill_one()
            storm.workers(3)
            storm.look()
        storm.until_ended(submissions, workers=3, within=3600)
        took = time.monotonic() - started
        recoveries = sorted(storm.recoveries)
        return {
            "chunks": chunks,
            "kills": storm.kills,
            "lost": chunks - storm.done(),
            "broken_promises": violations(storm.farm.database),
            "wrong_texts": len(storm.differences(submissions)),
            "not_complete": sorted(str(one) for one in storm.states(submissions) - {SubmissionState.COMPLETED}),
            "begun_more_than_once": storm.attempts() - chunks,
            "allowed": storm.kills * HELD,
            "lease_seconds": LEASE,
            "recovery_seconds": {
                "chunks": len(recoveries),
                "median": round(recoveries[len(recoveries) // 2], 1),
                "p99": round(recoveries[int(0.99 * len(recoveries))], 1),
                "most": round(recoveries[-1], 1),
            },
            "chunks_per_second": round(chunks / took),
        }


def _far(storm: Storm, chunks: int) -> bool:
    """So many are done."""
    return storm.done() >= chunks


def measure_poison(recordings: int = 15, seconds: int = 400) -> dict[str, Any]:
    """One chunk of a hundred ends the process that decodes it, beside others and alone."""
    with servers() as (places, logs), Storm(places, logs, seed=SEED, lease=3.0) as storm:
        submissions = storm.hand_in(recordings, seconds=seconds, poisoned=0.01)
        storm.until_ended(submissions, workers=2, within=3600)
        reasons = [
            reason
            for one in submissions
            for _, transcript in storm.farm.desk.submission(one.id).transcripts
            for reason in gaps(storm.farm.database, transcript)
        ]
        return {
            "chunks": recordings * seconds // CHUNK,
            "gaps": len(reasons),
            "reasons": sorted(set(reasons)),
            "deaths_with_one_chunk": storm.crashes(),
            "broken_promises": violations(storm.farm.database),
            "innocents_quarantined_or_wrong_texts": len(storm.differences(submissions)),
            "states": sorted(str(one) for one in storm.states(submissions)),
        }
