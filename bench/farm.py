"""What the farm keeps of its promises, and how fast its queue is: python bench/farm.py [MEASURE...]

    storm       kill -9 of random workers over a hundred thousand chunks
    poison      one chunk of a hundred kills its worker
    submits     ten thousand recordings handed in beside a million chunks
    fairness    an urgent meeting behind a hundred thousand episodes, and fifty small tenants beside them
    scaling     one, two, four and eight workers
    overhead    the engine on the farm beside the engine alone
    same        ten recordings through `stenopool transcribe` and through the farm, with kills
    day         a recording of 24 hours

Real Postgres, Redis and processes on this machine. Where only the queue counts, the engine is a stand-in that sleeps.
Each adds its figures to `farm.json`; bench/farm.md quotes them. The ledger's own speed is `claims.py`'s.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from circumstances import circumstances
from farm_engine import measure_day, measure_overhead, measure_same
from farm_queue import measure_fairness, measure_scaling, measure_submits
from farm_storms import measure_poison, measure_storm

RESULTS = Path(__file__).with_suffix(".json")

MEASURES: dict[str, Callable[[], dict[str, Any]]] = {
    "storm": measure_storm,
    "poison": measure_poison,
    "submits": measure_submits,
    "fairness": measure_fairness,
    "scaling": measure_scaling,
    "overhead": measure_overhead,
    "same": measure_same,
    "day": measure_day,
}


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("measures", nargs="*", metavar="MEASURE", choices=[*MEASURES, []], help="all, if none is named")
    for name in parser.parse_args().measures or MEASURES:
        figures = MEASURES[name]()
        figures |= {
            **circumstances("celery", "redis", "sqlalchemy"),
        }
        print(name, json.dumps(figures, indent=1), flush=True)
        results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        RESULTS.write_text(json.dumps(results | {name: figures}, indent=1) + "\n")


if __name__ == "__main__":
    main()
