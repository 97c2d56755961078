"""What every view of the ledger has: the database, and transactions on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from storage.database import name_of, refusals


class Transactions:
    """A ledger's database. Each public method of those who inherit is one transaction, from any thread.

    All of them raise LedgerError where the database refuses, and LedgerUnreachable where it is not there.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def close(self) -> None:
        """Give the connections back."""
        self._engine.dispose()

    @contextmanager
    def _transaction(self) -> Iterator[Session]:
        with refusals(name_of(self._engine)), Session(self._engine) as session, session.begin():
            yield session
