"""The API under load: python bench/api.py [--seconds 60] [--clients 200]

A farm with ten thousand recordings and two stand-in engines that are busy all the time. Then, on the same machine:

    load    so many clients ask at once, each again as soon as it has its answer: a recording, lists, events, a search
    status  one client asks for one recording after the other, while the engines work

Debian's wrk asks, and counts what is no 2xx; it is fetched, and not installed. The figures go into `api.json`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
from circumstances import circumstances
from farm_servers import backlog, servers

from stenopool.config import Config
from stenopool.local_farm import free_port
from storage.access import Access, Actor
from tests.debian import unpacked
from tests.faults.storm import Storm
from workers.farm import Places

RESULTS = Path(__file__).with_suffix(".json")
HOST = "127.0.0.1"
RECORDINGS = 10_000

#: What is asked for, in turn; the numbers are ids of recordings that are there.
PATHS = (
    *(f"/v1/recordings/{id}" for id in range(1, 9)),
    "/v1/recordings?limit=20",
    "/v1/recordings?limit=20&state=completed",
    "/v1/events?limit=20",
    "/v1/search?q=falcon",
)

_SCRIPT = """
local paths, at = {%s}, 0
request = function() at = at %% #paths + 1; return wrk.format("GET", paths[at]) end
done = function(summary, latency, requests)
  io.write(string.format("\\nSEEN %%d %%d %%d %%d %%.1f %%.1f %%.1f %%.1f\\n", summary.requests, summary.errors.status,
    summary.errors.timeout, summary.errors.read + summary.errors.connect + summary.errors.write,
    latency:percentile(50) / 1000, latency:percentile(95) / 1000, latency:percentile(99) / 1000, latency.max / 1000))
end
"""


@contextlib.contextmanager
def served(places: Places, home: Path, processes: int) -> Iterator[int]:
    """The port of an API, as it is run."""
    port = free_port(HOST, 0)
    command = [sys.executable, "-m", "stenopool", "api", "--port", str(port), "--processes", str(processes)]
    # Nobody is told to come later: what is measured is how many can be served.
    settings = {"STENOPOOL_HOME": str(home), "STENOPOOL_API_RATE": "100000"}
    with (home / "api.log").open("wb") as log:
        process = subprocess.Popen(
            command, env={**os.environ, **places.environment(), **settings}, stdout=log, stderr=log
        )
    try:
        with httpx2.Client(base_url=f"http://{HOST}:{port}", trust_env=False) as client:
            while True:
                with contextlib.suppress(httpx2.HTTPError):
                    if client.get("/readyz").status_code == 200:
                        break
                assert process.poll() is None, (home / "api.log").read_text()
                time.sleep(0.2)
        yield port
    finally:
        process.terminate()
        process.wait()


def asked(
    port: int, secret: str, scratch: Path, *, clients: int, seconds: int, paths: tuple[str, ...]
) -> dict[str, Any]:
    """What wrk has seen."""
    root = unpacked(Config.from_env().cache / "wrk", ("wrk",))
    script = scratch / "asked.lua"
    script.write_text(_SCRIPT % ", ".join(f'"{path}"' for path in paths))
    done = subprocess.run(
        [
            *(str(root / "usr/bin/wrk"), "--threads", "1", "--connections", str(clients), "--duration", f"{seconds}s"),
            *("--timeout", "10s", "--script", str(script), "--header", f"Authorization: Bearer {secret}"),
            f"http://{HOST}:{port}",
        ],
        env={**os.environ, "LD_LIBRARY_PATH": ":".join(map(str, root.glob("usr/lib/*-linux-gnu")))},
        capture_output=True,
        text=True,
        check=True,
    )
    seen = re.search(r"SEEN (.*)", done.stdout)
    assert seen, done.stdout
    names = ("requests", "not_2xx_or_3xx", "timeouts", "broken_connections", "p50_ms", "p95_ms", "p99_ms", "most_ms")
    figures = dict(zip(names, map(float, seen[1].split()), strict=True))
    return {
        "clients": clients,
        "seconds": seconds,
        "a_second": round(figures["requests"] / seconds, 1),
        **{name: value if name.endswith("ms") else int(value) for name, value in figures.items()},
    }


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--processes", type=int, default=2, help="that answer")
    arguments = parser.parse_args()
    with servers() as (places, logs), Storm(places, logs, seed=1, lease=30, batch=0.5) as storm:
        home = logs.parent / "home"
        home.mkdir()
        access = Access(storm.farm.database)
        _, secret = access.create(Actor("bench"), "bench", tenant=None, scopes=["read"])
        storm.hand_in(10, seconds=4_000)
        storm.farm.desk.set_tenant("archive")
        backlog(storm.farm, RECORDINGS, tenant="archive")
        storm.workers(2)
        with served(places, home, arguments.processes) as port:
            results: dict[str, Any] = {"recordings": RECORDINGS + 10, "processes": arguments.processes}
            for name, clients, paths in (
                ("status", 1, PATHS[:1]),
                ("load", arguments.clients, PATHS),
            ):
                before = storm.done()
                results[name] = asked(
                    port, secret, logs.parent, clients=clients, seconds=arguments.seconds, paths=paths
                ) | {"chunks_done_meanwhile": storm.done() - before}
                print(name, json.dumps(results[name]), flush=True)
        results |= circumstances("fastapi", "uvicorn", "sqlalchemy")
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
