"""The ledger's schema through the releases: what migrations make is what the tables say, and nothing is lost."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, inspect, text

from stenopool.errors import LedgerError
from storage.chunks import Chunks
from storage.database import make_or_migrate, open_database
from storage.ledger import Ledger
from storage.migrations import migrate
from storage.search_index import TRIGRAMS
from storage.tables import REVISION, Base

MIGRATIONS = Path(__file__).parents[2] / "storage" / "migrations"

#: All revisions, in their order.
STEPS = [script.revision for script in ScriptDirectory(str(MIGRATIONS)).walk_revisions()][::-1]


def alembic(connection: Connection) -> Config:
    """Alembic's own commands on a connection."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    return config


@contextmanager
def database(url: str) -> Iterator[Engine]:
    """Connections that are given back."""
    engine = create_engine(url)
    yield engine
    engine.dispose()


def described(_: object, name: str | None, *__: object) -> bool:
    """Whether tables say it: not SQLite's full text, which is of triggers, nor what each database has as it may."""
    return not (name or "").startswith(("passages_", "ix_passages_words", "ix_chunks_failed", TRIGRAMS))


def differences(engine: Engine) -> list[object]:
    """Where a database is not what the tables say."""
    with engine.connect() as connection:
        options = {"compare_type": True, "include_object": described}
        context = MigrationContext.configure(connection, opts=options)
        return list(compare_metadata(context, Base.metadata))


def test_the_last_migration_is_the_releases() -> None:
    """There is one line of them, and it ends where the tables are."""
    scripts = ScriptDirectory(str(MIGRATIONS))

    assert scripts.get_heads() == [REVISION]


def test_migrations_make_what_the_tables_say_in_postgres(database_url: str) -> None:
    """Columns, types, indexes and constraints; and a second time there is nothing to do."""
    assert make_or_migrate(database_url) == STEPS
    assert make_or_migrate(database_url) == []

    with database(database_url) as engine:
        assert differences(engine) == []
        comments = {
            (table, column["name"]): column["comment"]
            for table in Base.metadata.tables
            for column in inspect(engine).get_columns(table)
        }
    assert comments["chunks", "fence"] == "raised at each claim; a result under an older one is refused"


def test_migrations_make_what_the_tables_say_in_sqlite(tmp_path: Path) -> None:
    """Step by step the same as at once."""
    with database(f"sqlite:///{tmp_path / 'ledger.sqlite'}") as engine:
        with engine.begin() as connection:
            assert migrate(connection) == STEPS
        assert differences(engine) == []


def test_every_migration_can_be_taken_back(database_url: str) -> None:
    """Down to nothing, and up again."""
    make_or_migrate(database_url)
    with database(database_url) as engine:
        with engine.begin() as connection:
            command.downgrade(alembic(connection), "base")
        assert inspect(engine).get_table_names() == ["alembic_version"]
    assert make_or_migrate(database_url) == STEPS


def old_ledger(path: Path) -> None:
    """The ledger of the release before there were migrations, with a transcript of two chunks, one of them done."""
    with database(f"sqlite:///{path}") as engine, engine.begin() as connection:
        command.upgrade(alembic(connection), "0001")
    with closing(sqlite3.connect(path)) as file, file:
        file.executescript("""
            drop table alembic_version;
            create table meta (schema_version integer primary key);
            insert into meta values (3);
            insert into recordings values ('ab', 32000, 1.0);
            insert into sources values ('cd', 0, 1, 'ab', null, 0);
            insert into transcripts values
                (7, 'ab', 'work', 1, '{}', 'transcribing', 0, 'en', null, 2, 1, 0, null, 1.0, null);
            insert into chunks values
                (7, 0, 0, 16000, null, 'done', null, 1, 1, null, null, '{"text": "one"}'),
                (7, 1, 16000, 32000, null, 'ready', null, 0, 0, null, null, null);
        """)


def test_a_ledger_of_this_machine_is_brought_up_to_date_as_it_is_opened(tmp_path: Path) -> None:
    """What was done stays done, and the rest goes on."""
    path = tmp_path / "ledger.sqlite"
    old_ledger(path)

    ledger = Ledger(open_database(path))

    work = ledger.latest("ab", "work")
    assert work is not None
    assert (work.id, work.chunks_open) == (7, 1)
    [claim] = ledger.claim("me", [7], 5)
    assert ledger.finish(claim, {"text": "two"}) == 0
    assert ledger.parts(7).results == [{"text": "one"}, {"text": "two"}]
    ledger.close()
    with database(f"sqlite:///{path}") as engine:
        assert differences(engine) == []
    with closing(sqlite3.connect(path)) as file:
        assert file.execute("pragma foreign_key_check").fetchall() == []


def test_a_farms_ledger_is_not_made_by_looking(database_url: str) -> None:
    """Whoever opens one that is not there is told how to make it."""
    with pytest.raises(LedgerError, match=r"there is no ledger yet; make it with: stenopool migrate$"):
        open_database(database_url)
    with database(database_url) as engine:
        assert inspect(engine).get_table_names() == []


def test_a_farms_older_ledger_is_not_used(database_url: str) -> None:
    """Its workers may still be of the other release."""
    with database(database_url) as engine, engine.begin() as connection:
        command.upgrade(alembic(connection), "0001")

    with pytest.raises(LedgerError, match=rf"its schema is 0001, this release's is {REVISION}; .*: stenopool migrate$"):
        open_database(database_url)


def test_a_migration_does_not_wait_for_long(database_url: str) -> None:
    """Where somebody holds a table, it gives up, and nothing is changed: all who came after it would wait, too."""
    with database(database_url) as engine:
        with engine.begin() as connection:
            command.upgrade(alembic(connection), "0001")
        with engine.connect() as busy, busy.begin():
            busy.execute(text("LOCK TABLE chunks IN ACCESS SHARE MODE"))
            with pytest.raises(LedgerError, match="lock timeout"):
                make_or_migrate(database_url)
        with engine.connect() as connection:
            assert connection.scalar(text("select version_num from alembic_version")) == "0001"
            assert "tenants" not in inspect(engine).get_table_names()
    assert make_or_migrate(database_url) == STEPS[1:]


def test_a_password_is_not_told(database_url: str) -> None:
    """An error names the ledger, and nobody's password."""
    password = database_url.split(":")[2].split("@")[0]
    wrong = database_url.replace(password, "wrong")

    with pytest.raises(LedgerError) as error:
        Chunks(open_database(wrong))

    assert "wrong" not in str(error.value).replace("wrong password", "")
    assert "\n" not in str(error.value)
    assert error.value.retryable
