"""Keys of the API and the audit log, on both databases."""

from __future__ import annotations

import threading
import time

import pytest
from sqlalchemy import Engine, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from stenopool.errors import Missing
from storage.access import Access, Actor, Scope, record
from storage.access_tables import KeyRow
from storage.database import database_clock, open_database
from storage.session_tables import SessionRow
from storage.sessions import Sessions

ADA = Actor("ada@host")


@pytest.fixture
def access(any_database: Engine) -> Access:
    """Of a ledger in which nobody has a key."""
    return Access(any_database)


def test_a_key_is_known_by_its_secret_alone(access: Access, any_database: Engine) -> None:
    """Which the ledger does not have."""
    key, secret = access.create(ADA, "phone", tenant="ada", scopes=["read", "submit"])

    found = access.key_of(secret)
    assert found is not None
    assert (found.id, found.tenant, found.scopes) == (key.id, "ada", frozenset({Scope.READ, Scope.SUBMIT}))
    assert access.key_of(secret + "x") is None
    with any_database.connect() as connection:
        row = connection.execute(text("SELECT * FROM api_keys")).one()
    assert secret not in map(str, row)
    assert secret.startswith(row.prefix)


def test_a_key_that_is_revoked_or_expired_counts_no_more(access: Access, any_database: Engine) -> None:
    """From that moment on."""
    revoked, first = access.create(ADA, "phone", tenant=None, scopes=["read"])
    expired, second = access.create(ADA, "lamp", tenant=None, scopes=["read"], seconds=3600)
    assert access.key_of(first)
    assert access.key_of(second)

    access.revoke(ADA, revoked.id)
    with Session(any_database) as session, session.begin():
        session.execute(update(KeyRow).where(KeyRow.id == expired.id).values(expires_at=database_clock() - 1))

    assert access.key_of(first) is None
    assert access.key_of(second) is None
    with pytest.raises(Missing, match="there is no key"):
        access.revoke(ADA, revoked.id)


def test_a_key_is_changed_while_both_count(access: Access) -> None:
    """So that whoever uses it has time."""
    old, first = access.create(ADA, "phone", tenant="ada", scopes=["read"])
    new, second = access.rotate(ADA, old.id, 3600)

    assert (new.name, new.tenant, new.scopes) == (old.name, old.tenant, old.scopes)
    assert {one.id for one in map(access.key_of, (first, second)) if one} == {old.id, new.id}
    access.rotate(ADA, old.id, 0)
    assert access.key_of(first) is None


@pytest.mark.parametrize("how", ["revoke", "redeem"])
def test_who_waits_for_the_audit_log_is_in_nobodys_way(ledger_url: str, how: str) -> None:
    """Whoever opens a session has it, and refers to the key that is being revoked, or comes by a link."""
    database = open_database(ledger_url)
    access, sessions = Access(database), Sessions(database)
    key, _ = access.create(ADA, "phone", tenant="ada", scopes=["read"])
    link = sessions.link(key)
    other = threading.Thread(target=lambda: access.revoke(ADA, key.id) if how == "revoke" else sessions.redeem(link))
    with Session(database) as session, session.begin():
        record(session, ADA, "session.open", "a key")
        other.start()
        with database.connect().execution_options(isolation_level="AUTOCOMMIT") as watch:
            while not watch.scalar(text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")):
                time.sleep(0.01)
        session.execute(text("SET LOCAL lock_timeout = '2s'"))
        row = {"digest": "ab" * 32, "key_id": key.id, "once": False, "created_at": 0.0, "expires_at": 0.0}
        session.add(SessionRow(**row))
        session.flush()
    other.join()
    assert [entry.action for entry in access.entries()][1:] == ["session.open", "key.create"]
    database.dispose()


def test_the_key_of_another_tenant_is_not_there(access: Access) -> None:
    """For whoever may only change their own."""
    key, secret = access.create(ADA, "phone", tenant="ada", scopes=["read"])

    with pytest.raises(Missing):
        access.revoke(ADA, key.id, tenant="eve")
    assert access.key_of(secret)


def test_what_was_done_is_written_down_and_stays(access: Access, any_database: Engine) -> None:
    """No statement changes a row or removes it."""
    key, _ = access.create(ADA, "phone", tenant="ada", scopes=["read"])
    access.revoke(Actor("eve@host", "r1"), key.id)

    assert [(one.who, one.action, one.tenant, one.request) for one in access.entries(tenant="ada")] == [
        ("eve@host", "key.revoke", "ada", "r1"),
        ("ada@host", "key.create", "ada", None),
    ]
    for statement in ("UPDATE audit SET who = 'nobody'", "DELETE FROM audit"):
        with pytest.raises(DBAPIError, match="append-only"), any_database.begin() as connection:
            connection.execute(text(statement))
    assert access.broken() is None


def test_an_entry_that_was_changed_all_the_same_shows(access: Access, any_database: Engine) -> None:
    """Each has the digest of the one before it in its own."""
    for n in range(3):
        access.note(ADA, "test", f"{n}")
    assert access.broken() is None

    lift = {
        "postgresql": ["ALTER TABLE audit DISABLE TRIGGER ALL"],
        "sqlite": ["DROP TRIGGER audit_no_update", "DROP TRIGGER audit_no_delete"],
    }
    with any_database.begin() as connection:
        for statement in lift[any_database.dialect.name]:
            connection.execute(text(statement))
        connection.execute(text("DELETE FROM audit WHERE id = 2"))

    assert access.broken() == 3
