"""Waiting for submissions without a thread for each: one look at the ledger serves all who wait."""

from __future__ import annotations

import asyncio
from collections import defaultdict

from fastapi import Request
from starlette.concurrency import run_in_threadpool

from stenopool.errors import Missing
from storage.glances import Glance, Glances
from workers.farm import Farm

#: Seconds between two looks, while anybody waits.
EVERY = 0.2


class Waiting:
    """Looks at the ledger for all requests of this process that wait."""

    def __init__(self, farm: Farm) -> None:
        self._farm = farm
        self._asked: dict[int, list[asyncio.Future[Glance]]] = defaultdict(list)
        self._looking: asyncio.Task[None] | None = None

    async def look(self, id: int) -> Glance:
        """How far a submission is at the next look.

        Raises:
            Missing: there is none.
            LedgerError: the database does not answer, or refuses.
        """
        future: asyncio.Future[Glance] = asyncio.get_running_loop().create_future()
        self._asked[id].append(future)
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())
        return await future

    async def _look(self) -> None:
        while self._asked:
            await asyncio.sleep(EVERY)
            asked, self._asked = self._asked, defaultdict(list)
            try:
                glances = await run_in_threadpool(Glances(self._farm.database).glances, list(asked))
            except Exception as error:  # for whoever waits to judge
                for futures in asked.values():
                    _answer(futures, error)
            else:
                for id, futures in asked.items():
                    _answer(futures, glances.get(id) or Missing(f"there is no submission {id} any more"))


def _answer(futures: list[asyncio.Future[Glance]], answer: Glance | Exception) -> None:
    for future in futures:
        if future.done():  # who asked has gone
            continue
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer)


def waiting_of(request: Request) -> Waiting:
    """That of the application."""
    state = request.app.state
    if not hasattr(state, "waiting"):
        state.waiting = Waiting(state.farm)
    found: Waiting = state.waiting
    return found
