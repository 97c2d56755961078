"""The API as it is served: over a socket, by the server that serves it, in a thread of this process."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx2
import uvicorn

from stenopool.config import Config
from stenopool.web.site import make_site
from storage.access import Access, Actor
from workers.farm import Farm

TESTER = Actor("tester@here")
ALL = ("submit", "read", "admin")


@dataclass
class Served:
    """A server that answers."""

    farm: Farm
    config: Config
    port: int

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    def key(self, tenant: str | None = "ada", scopes: Sequence[str] = ALL) -> str:
        """The secret of a new key."""
        return Access(self.farm.database).create(TESTER, "test", tenant=tenant, scopes=scopes)[1]

    def client(self, tenant: str | None = "ada", scopes: Sequence[str] = ALL) -> httpx2.Client:
        """Whoever has such a key."""
        return self.anybody({"Authorization": f"Bearer {self.key(tenant, scopes)}"})

    def anybody(self, headers: dict[str, str] | None = None) -> httpx2.Client:
        """Whoever sends such headers."""
        return httpx2.Client(base_url=self.url, headers=headers, timeout=60, trust_env=False)

    @cached_property
    def ada(self) -> httpx2.Client:
        """A tenant's administrator."""
        return self.client()

    @cached_property
    def bob(self) -> httpx2.Client:
        """Another's."""
        return self.client("bob")

    @cached_property
    def operator(self) -> httpx2.Client:
        """Who sees all."""
        return self.client(None)

    def audit(self) -> list[str]:
        """What was done, the last first."""
        return [f"{one.action} {one.subject}" for one in Access(self.farm.database).entries(limit=1000)]


@contextmanager
def serving(farm: Farm, home: Path, **settings: Any) -> Iterator[Served]:
    """A farm's API and page on a free port; `settings` are of `Config`."""
    config = replace(Config.from_env({"STENOPOOL_HOME": str(home), "STENOPOOL_CACHE": str(home)}), **settings)
    app = make_site(farm, config)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="on"))
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        served = Served(farm, config, listening.getsockname()[1])
        try:
            yield served
        finally:
            for client in (vars(served).get(name) for name in ("ada", "bob", "operator")):
                if client is not None:
                    client.close()
            server.should_exit = True
            thread.join(20)


def problem(answer: httpx2.Response, status: int) -> str:
    """What a problem says; it is one."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    about = answer.json()
    assert about["status"] == status
    assert about.keys() >= {"type", "title", "detail"}
    return str(about["detail"])
