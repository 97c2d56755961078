"""What every view of the ledger has: the database, and transactions on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, func, select
from sqlalchemy.orm import Session

from storage.database import refusals


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
        # A session ends with its transaction: nobody reads its rows afterwards, so that they need not expire.
        with refusals(self._engine), Session(self._engine, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        """A transaction without a session: who asks for columns and for no rows has it for half of the time."""
        with refusals(self._engine), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def _transaction_soon(self) -> Iterator[Session]:
        """One that the caller does not wait for on its way to the disk.

        Where the database's machine fails, the last of them may be undone, whole, and in the order in which they came:
        what is committed as ever after one of them is not kept without it.
        """
        with self._transaction() as session:
            if session.get_bind().dialect.name == "postgresql":  # SQLite does so anyway
                session.connection().exec_driver_sql("SET LOCAL synchronous_commit TO off")
            yield session

    def _alone(self, session: Session, *keys: str) -> None:
        """Nobody else is at these keys until the end of the transaction: who comes, waits, and sees what it did.

        For rows that may not be there yet, and for what lies in the object store beside the rows.
        """
        alone(session, *keys)


def alone(session: Session, *keys: str) -> None:
    """See `Transactions._alone`."""
    if session.get_bind().dialect.name == "postgresql":  # in SQLite, who is in a transaction is alone anyway
        for key in sorted(set(keys)):
            session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(key, 0))))
