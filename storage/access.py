"""Keys of the API, and the log of who did what.

A key's secret is shown once; the ledger has its SHA-256. That needs no salt and no slow hash: the secret is 32 random
bytes, which nobody guesses.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Row, bindparam, func, or_, select, update
from sqlalchemy.orm import Session

from stenopool.errors import Missing, UsageError
from storage.access_tables import AuditRow, KeyRow
from storage.database import database_clock
from storage.transactions import Transactions, alone

#: What every secret begins with: found in a log or in a repository, it is known for what it is.
MARK = "sp_"
#: Letters of a secret that are shown to tell keys apart.
SHOWN = len(MARK) + 6
#: Seconds for which a key's last use is not written down anew.
USED_EVERY = 60.0


class Scope(StrEnum):
    """What a key allows."""

    #: Hand in, and cancel, pause, resume, retry what was handed in.
    SUBMIT = "submit"
    #: See submissions, transcripts, sound.
    READ = "read"
    #: Delete, hold, keys, webhooks, redaction's maps; an operator's key: all tenants, lanes, workers.
    ADMIN = "admin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A key as the ledger has it; times are in seconds since 1970, by the database's clock."""

    id: int
    #: None: an operator's, for all tenants.
    tenant: str | None
    name: str
    #: How its secret begins.
    prefix: str
    scopes: frozenset[Scope]
    created_at: float
    expires_at: float | None
    revoked_at: float | None
    used_at: float | None

    @property
    def who(self) -> str:
        """As the audit log names it."""
        return f"key {self.id} ({self.name})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Something that was done."""

    id: int
    at: float
    who: str
    tenant: str | None
    action: str
    subject: str
    before: Mapping[str, object] | None
    after: Mapping[str, object] | None
    request: str | None


@dataclass(frozen=True, slots=True)
class Actor:
    """Who does something, as the audit log will have it."""

    who: str
    #: The API's id of the request; None on the command line.
    request: str | None = None


class Access(Transactions):
    """Queries and transitions of keys; the audit log."""

    def create(
        self,
        by: Actor,
        name: str,
        *,
        tenant: str | None,
        scopes: Iterable[Scope | str],
        seconds: float | None = None,
    ) -> tuple[Key, str]:
        """A new key, and its secret, which is shown this once.

        Args:
            tenant: whose it is; None: an operator's, for all tenants.
            seconds: for which it is good; None: until it is revoked.

        Raises:
            UsageError: it would allow nothing.
        """
        wanted = sorted({Scope(one) for one in scopes})
        if not wanted:
            raise UsageError(f"{name}: a key without a scope allows nothing; give it submit, read or admin")
        with self._transaction() as session:
            row, secret = _new_key(session, name, tenant, wanted, seconds)
            after: dict[str, object] = {"scopes": list(wanted), "expires_at": row.expires_at}
            record(session, by, "key.create", f"key {row.id} ({name})", tenant=tenant, after=after)
            return key_from(row), secret

    def rotate(self, by: Actor, id: int, seconds: float, *, tenant: str | None = None) -> tuple[Key, str]:
        """Another key in the place of this one, which is good for so many seconds more. Of `tenant`, if one is given.

        Raises:
            Missing: there is no such key, or it is void already.
        """
        with self._transaction() as session:
            row = _live(session, id, tenant)
            ends = (session.scalar(select(database_clock())) or 0.0) + seconds
            before: dict[str, object] = {"expires_at": row.expires_at}
            left = None if row.expires_at is None else row.expires_at - row.created_at
            row.expires_at = ends if row.expires_at is None else min(ends, row.expires_at)
            new, secret = _new_key(session, row.name, row.tenant, [Scope(one) for one in row.scopes], left)
            after: dict[str, object] = {"expires_at": row.expires_at, "successor": new.id}
            record(
                session, by, "key.rotate", f"key {row.id} ({row.name})", tenant=row.tenant, before=before, after=after
            )
            return key_from(new), secret

    def revoke(self, by: Actor, id: int, *, tenant: str | None = None) -> None:
        """Let a key count no more. Of `tenant`, if one is given. Raises Missing where there is no such key."""
        with self._transaction() as session:
            row = _live(session, id, tenant)
            row.revoked_at = session.scalar(select(database_clock()))
            record(session, by, "key.revoke", f"key {row.id} ({row.name})", tenant=row.tenant)

    def keys(self, *, tenant: str | None = None) -> list[Key]:
        """All keys, or a tenant's, the latest first."""
        mine = () if tenant is None else (KeyRow.tenant == tenant,)
        with self._transaction() as session:
            return [key_from(row) for row in session.scalars(select(KeyRow).where(*mine).order_by(KeyRow.id.desc()))]

    def key_of(self, secret: str) -> Key | None:
        """The key with this secret, if it counts now."""
        with self._connection() as connection:
            row = connection.execute(_OF_SECRET, {"secret": digest_of(secret)}).one_or_none()
            if row is None:
                return None
            if row.used_at is None or row.used_at < row.now - USED_EVERY:
                connection.execute(update(KeyRow).where(KeyRow.id == row.id).values(used_at=row.now))
            return key_from(row)

    # The audit log

    def note(
        self,
        by: Actor,
        action: str,
        subject: str,
        *,
        tenant: str | None = None,
        after: Mapping[str, object] | None = None,
    ) -> None:
        """Write down what was done, or tried, without a change of the ledger."""
        with self._transaction() as session:
            record(session, by, action, subject, tenant=tenant, after=after)

    def entries(self, *, tenant: str | None = None, before: int | None = None, limit: int = 100) -> list[Entry]:
        """The latest, the last one first; those before the one with this id."""
        conditions = [] if tenant is None else [AuditRow.tenant == tenant]
        if before is not None:
            conditions.append(AuditRow.id < before)
        with self._transaction() as session:
            rows = session.scalars(select(AuditRow).where(*conditions).order_by(AuditRow.id.desc()).limit(limit))
            return [_entry(row) for row in rows]

    def broken(self) -> int | None:
        """The first entry that is not as it was written, or before which one is missing; None: all is well."""
        former = ""
        with self._transaction() as session:
            for row in session.scalars(select(AuditRow).order_by(AuditRow.id).execution_options(yield_per=1000)):
                if row.digest != _chained(former, row):
                    return row.id
                former = row.digest
        return None


def record(
    session: Session,
    by: Actor,
    action: str,
    subject: str,
    *,
    tenant: str | None = None,
    before: Mapping[str, object] | None = None,
    after: Mapping[str, object] | None = None,
) -> None:
    """Write down, in the transaction that does it, what is done. Whoever does the next waits for its end."""
    alone(session, "audit")
    former = session.scalar(select(AuditRow.digest).order_by(AuditRow.id.desc()).limit(1)) or ""
    id = (session.scalar(select(func.max(AuditRow.id))) or 0) + 1
    row = AuditRow(
        id=id,
        at=session.scalar(select(database_clock())),
        who=by.who,
        tenant=tenant,
        action=action,
        subject=subject,
        before=None if before is None else dict(before),
        after=None if after is None else dict(after),
        request=by.request,
    )
    row.digest = _chained(former, row)
    session.add(row)
    session.flush()


#: A key's row counts now.
COUNTS = (
    KeyRow.revoked_at.is_(None),
    or_(KeyRow.expires_at.is_(None), KeyRow.expires_at > database_clock()),
)


#: A key by its secret. Each request asks for one: this is put together once, which takes longer than to run it.
_OF_SECRET = select(*KeyRow.__table__.c, database_clock().label("now")).where(
    KeyRow.digest == bindparam("secret"), *COUNTS
)


def _new_key(
    session: Session, name: str, tenant: str | None, scopes: Iterable[Scope], seconds: float | None
) -> tuple[KeyRow, str]:
    secret = MARK + secrets.token_urlsafe(32)
    now = session.scalar(select(database_clock())) or 0.0
    row = KeyRow(
        tenant=tenant,
        name=name,
        prefix=secret[:SHOWN],
        digest=digest_of(secret),
        scopes=[one.value for one in scopes],
        created_at=now,
        expires_at=None if seconds is None else now + seconds,
    )
    session.add(row)
    session.flush()
    return row, secret


def _live(session: Session, id: int, tenant: str | None) -> KeyRow:
    mine = () if tenant is None else (KeyRow.tenant == tenant,)
    # Who begins a session refers to the key while he has the audit log, for which we are about to wait.
    row = session.scalar(select(KeyRow).where(KeyRow.id == id, *COUNTS, *mine).with_for_update(key_share=True))
    if row is None:
        raise Missing(f"there is no key {id} that counts; `stenopool key list` has them all")
    return row


def digest_of(secret: str) -> str:
    """What the ledger has of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _chained(former: str, row: AuditRow) -> str:
    said = [row.id, row.at, row.who, row.tenant, row.action, row.subject, row.before, row.after, row.request]
    return hashlib.sha256(json.dumps([former, *said], sort_keys=True).encode()).hexdigest()


def key_from(row: KeyRow | Row[*tuple[Any, ...]]) -> Key:
    """A key from its row."""
    return Key(
        id=row.id,
        tenant=row.tenant,
        name=row.name,
        prefix=row.prefix,
        scopes=frozenset(map(Scope, row.scopes)),
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        used_at=row.used_at,
    )


def _entry(row: AuditRow) -> Entry:
    return Entry(**{name: getattr(row, name) for name in Entry.__dataclass_fields__})
