"""Sessions of the web page: a browser signs in with a key, and from then on has a token that counts in its place.

A session ends when it is closed, after half a day, and with its key. The ledger has only the digests of tokens. A link
to sign in with is a token, too, which counts once and opens a session.
"""

from __future__ import annotations

import secrets

from sqlalchemy import ColumnElement, Select, delete, select
from sqlalchemy.orm import Session

from storage.access import COUNTS, Actor, Key, digest_of, key_from, record
from storage.access_tables import KeyRow
from storage.database import database_clock
from storage.session_tables import SessionRow
from storage.transactions import Transactions

#: Seconds that a session is good for.
LASTS = 12 * 3600.0
#: Seconds that a link to sign in with is good for.
LINK_LASTS = 3600.0


class Sessions(Transactions):
    """Queries and transitions of sessions."""

    def open(self, key: Key, request: str | None = None) -> str:
        """Begin a session in which this key is used; its token, which is shown this once."""
        with self._transaction() as session:
            record(session, Actor(key.who, request), "session.open", f"key {key.id} ({key.name})", tenant=key.tenant)
            return self._new(session, key.id, LASTS, once=False)

    def link(self, key: Key) -> str:
        """A token that counts once, to begin a session in which this key is used."""
        with self._transaction() as session:
            return self._new(session, key.id, LINK_LASTS, once=True)

    def redeem(self, link: str, request: str | None = None) -> str | None:
        """Begin a session by such a token; None where it counts no more."""
        with self._transaction() as session:
            mine = (SessionRow.digest == digest_of(link), SessionRow.once.is_(True))
            row = session.scalar(self._live(*mine).with_for_update(of=SessionRow))
            used = session.scalars(delete(SessionRow).where(*mine).returning(SessionRow.key_id)).all()
            if row is None or not used:
                return None
            record(
                session, Actor(f"key {row.id} ({row.name})", request), "session.open", "by a link", tenant=row.tenant
            )
            return self._new(session, row.id, LASTS, once=False)

    def key_of(self, token: str) -> Key | None:
        """The key of a session, if both count now."""
        with self._transaction() as session:
            row = session.scalar(self._live(SessionRow.digest == digest_of(token), SessionRow.once.is_(False)))
            return None if row is None else key_from(row)

    def end(self, token: str) -> None:
        """Let a session count no more."""
        with self._transaction() as session:
            session.execute(delete(SessionRow).where(SessionRow.digest == digest_of(token)))

    @staticmethod
    def _live(*which: ColumnElement[bool]) -> Select[KeyRow]:
        return (
            select(KeyRow)
            .join(SessionRow, SessionRow.key_id == KeyRow.id)
            .where(*which, *COUNTS, SessionRow.expires_at > database_clock())
        )

    @staticmethod
    def _new(session: Session, key: int, lasts: float, *, once: bool) -> str:
        session.execute(delete(SessionRow).where(SessionRow.expires_at < database_clock()))
        token = secrets.token_urlsafe(32)
        now = session.scalar(select(database_clock())) or 0.0
        row = {"digest": digest_of(token), "key_id": key, "once": once, "created_at": now, "expires_at": now + lasts}
        session.add(SessionRow(**row))
        return token
