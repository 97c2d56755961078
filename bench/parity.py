"""Our engine beside the reference implementations, live, on the same weights and the same sound.

    make parity           # or: python bench/parity.py --peers OTHER/bin/python [--keep] [--record]
    python bench/parity.py --show

transformers, openai-whisper, CTranslate2 and faster-whisper run in an environment of their own, as a process:
`tests/references/peers.py` writes what they compute into a folder, and every row of `parity_model.py` and
`parity_decoding.py` compares ours with it. Prints a table; exits with 1 if a row misses its bar.

With `--keep` the rows go to `bench/parity.json`; `--show` prints them as they stand in docs/parity.md.

With `--record` that folder is tests/references itself: what the tests compare with is made anew. Without `--peers`, the
rows are compared with what is recorded there.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import parity_decoding
import parity_model
from circumstances import circumstances
from parity_rows import Row, Wanted
from parity_sides import REFERENCES, Sides
from rich.console import Console
from rich.progress import track
from rich.table import Table

RESULTS = Path(__file__).with_suffix(".json")
COMPARISONS = (*parity_model.ROWS, *parity_decoding.ROWS)


def compare(sides: Sides) -> list[Row]:
    """All rows; a comparison that breaks is a row that fails."""
    rows = []
    for generate in track(COMPARISONS, description="comparing", transient=True):
        try:
            rows += list(generate(sides))
        except Exception as error:  # whatever it is, the other rows are still of interest
            note = f"{type(error).__name__}: {error}"
            rows.append(Row(generate.__name__.replace("_", " "), "", "", Wanted("=", 0), float("nan"), note))
    return rows


def ask_peers(python: Path, folder: Path, *, whole: bool) -> None:
    """Let them compute into the folder."""
    plan = subprocess.run([sys.executable, REFERENCES / "plan_sample.py"], check=True, capture_output=True)
    command = [str(python), "-u", str(REFERENCES / "peers.py"), str(folder), *(["--whole"] if whole else [])]
    done = subprocess.run(command, input=plan.stdout, check=False)
    if done.returncode:
        sys.exit(
            f"the reference implementations broke off (exit status {done.returncode}): what they said last is above"
        )


def show(rows: list[Row]) -> None:
    """The table."""
    table = Table(title="Ours beside the reference implementations")
    for column in ("row", "reference", "measure", "bar", "result", ""):
        table.add_column(column)
    for row in rows:
        result = row.note or (f"{row.value:.5g}" if row.wanted.sign == "≥" else f"{row.value:.3g}")
        table.add_row(row.name, row.reference, row.measure, str(row.wanted), result, "pass" if row.passes else "FAIL")
    Console(width=None if sys.stdout.isatty() else 150).print(table)


def markdown(kept: dict[str, Any]) -> str:
    """The table of docs/parity.md."""
    lines = ["| row | reference | measure | bar | result |", "|---|---|---|--:|--:|"]
    for row in kept["rows"]:
        cells = row["name"], row["reference"], row["measure"], row["wanted"], f"{row['value']:.3g}"
        lines.append(f"| {' | '.join(cells)} |")
    versions = ", ".join(f"{name} {number}" for name, number in sorted(kept["versions"].items()))
    measured = f"{kept['date']}, {kept['machine']}: {versions}. Model {kept['model'][:12]}…."
    n_passed = sum(row["passes"] for row in kept["rows"])
    return "\n".join([f"{n_passed} of {len(kept['rows'])} rows within their bars, {measured}", "", *lines])


def main() -> int:
    """Ask, compare, print; 1 if a row fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path, metavar="PYTHON", help="of the environment with the references")
    parser.add_argument("--keep", action="store_true", help="keep the rows in bench/parity.json")
    parser.add_argument("--show", action="store_true", help="print the rows that were kept, for docs/parity.md")
    parser.add_argument("--record", action="store_true", help="keep what the peers compute as the tests' references")
    arguments = parser.parse_args()
    if arguments.show:
        print(markdown(json.loads(RESULTS.read_text(encoding="utf-8"))))
        return 0
    if arguments.record and not arguments.peers:
        parser.error("--record needs --peers")
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="stenopool-parity-") as scratch:
        folder = Path(scratch) / "peers" if arguments.peers and not arguments.record else REFERENCES
        folder.mkdir(exist_ok=True)
        if arguments.peers:
            ask_peers(arguments.peers, folder, whole=arguments.record)
        sides = Sides(folder, Path(scratch))
        rows = compare(sides)
    show(rows)
    failed = [row for row in rows if not row.passes]
    peers = sides.decoding["versions"]
    print(f"{len(rows) - len(failed)} of {len(rows)} rows within their bars, {time.monotonic() - started:.0f} s")
    print("peers:", ", ".join(f"{name} {number}" for name, number in peers.items()))
    if arguments.keep:
        about = circumstances("jax")
        about["versions"] |= peers
        kept = {
            **about,
            "model": sides.decoding["model"],
            "rows": [asdict(row) | {"wanted": str(row.wanted), "passes": row.passes} for row in rows],
        }
        RESULTS.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
