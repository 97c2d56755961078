"""The farm of `stenopool up` where its processes die."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

from stenopool.config import Config
from stenopool.local_farm import Layout, LocalFarm, Member
from storage.database import make_or_migrate
from storage.fleet import Worker
from workers.farm import Farm, Places


def test_who_has_died_is_no_worker_any_more(database_url: str, tmp_path: Path) -> None:
    """It is known by its process, and nobody waits for its leases to run out."""
    make_or_migrate(database_url)
    local = LocalFarm(Config(home=tmp_path, cache=tmp_path), Layout())
    local._farm = farm = Farm(Places(database=database_url, broker="", store=""), lease=600)
    command = [sys.executable, "-c", ""]
    with subprocess.Popen(command) as process:
        farm.fleet.join(Worker(id="w", role="engine", host=socket.gethostname(), pid=process.pid, version="1"))
    local.members = [Member("engine", command, process=process)]

    local.watch()

    assert farm.fleet.workers() == []
    assert local.members[0].restarts == 1
    farm.close()
