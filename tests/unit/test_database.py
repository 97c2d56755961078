"""Opening the ledger: by many at once, and where it cannot be opened, in one line that says so."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import NullPool, create_engine, select, text
from sqlalchemy.exc import IntegrityError

import storage.database
from stenopool.domain import Chunk, Span
from stenopool.errors import LedgerError
from storage.database import database_clock, open_database
from storage.ledger import Ledger, Source
from storage.tables import REVISION, Base


@contextmanager
def opened(path: Path) -> Iterator[Ledger]:
    """The ledger in that file."""
    ledger = Ledger(open_database(path))
    yield ledger
    ledger.close()


def contents(path: Path) -> list[str]:
    """A database as the statements that make it."""
    with closing(sqlite3.connect(path)) as connection:
        return list(connection.iterdump())


def source(recording: str) -> Source:
    """The mix of a second."""
    return Source(channel=0, recording=recording, duration=16_000, ended_early=None, damaged=0)


def one_line(error: pytest.ExceptionInfo[LedgerError]) -> str:
    """What the user reads."""
    message = str(error.value)
    assert "\n" not in message
    return message


def test_a_ledger_is_made_where_there_is_none(tmp_path: Path) -> None:
    """With its folders, its tables and its version; the second opening finds what the first one kept."""
    path = tmp_path / "some" / "home" / "ledger.sqlite"
    with opened(path) as ledger:
        ledger.add_sources("file", [source("ab")])

    with closing(sqlite3.connect(path)) as connection:
        tables = {name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")}
        full_text = {name for name in tables if name.startswith("passages_")}
        assert {"passages_words", "passages_vocabulary"} <= full_text
        assert tables - full_text == {*Base.metadata.tables, "alembic_version"}
        assert connection.execute("select version_num from alembic_version").fetchall() == [(REVISION,)]
    with opened(path) as ledger:
        assert ledger.sources("file", split=False) == [source("ab")]


@pytest.mark.parametrize("name", ["a?mode=ro", "50%41", "a#b", "a b&c=d", "Ü:\\'\""])
def test_the_home_may_have_any_name(tmp_path: Path, name: str) -> None:
    """A path is a path, not a URL to be parsed."""
    with opened(tmp_path / name / "ledger.sqlite"):
        pass

    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name / "ledger.sqlite").is_file()


def test_every_connection_is_set_up(tmp_path: Path) -> None:
    """Readers never wait for a writer, every commit survives kill -9, and no row points to nothing."""
    engine = open_database(tmp_path / "ledger.sqlite")
    with engine.connect() as one, engine.connect() as other:
        pragmas = ("journal_mode", "synchronous", "foreign_keys")
        one.rollback()  # each begins by taking the write lock
        assert [one.scalar(text(f"PRAGMA {name}")) for name in pragmas] == ["wal", 1, 1]
        one.rollback()
        assert [other.scalar(text(f"PRAGMA {name}")) for name in pragmas] == ["wal", 1, 1]
    engine.dispose()


def test_the_clock_is_the_databases(tmp_path: Path) -> None:
    """Seconds since 1970, in UTC; the same throughout a statement."""
    engine = open_database(tmp_path / "ledger.sqlite")
    before = time.time()
    with engine.begin() as connection:
        now, again = connection.execute(select(database_clock(), database_clock().label("again"))).one()
    after = time.time()
    engine.dispose()

    assert before - 0.01 <= now <= after + 0.01
    assert now == again


def test_a_connection_that_the_server_closed_is_replaced(ledger_url: str) -> None:
    """Whoever asks next does not notice."""
    database = open_database(ledger_url)
    others = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = current_database()"
    with database.connect() as one, database.connect() as another:
        served = [connection.scalar(text("SELECT pg_backend_pid()")) for connection in (one, another)]
    with closing(create_engine(ledger_url, poolclass=NullPool).connect()) as connection:
        ended = connection.scalars(text(f"{others} AND pid <> pg_backend_pid()")).all()
    with database.connect() as one, database.connect() as another:
        serving = [connection.scalar(text("SELECT pg_backend_pid()")) for connection in (one, another)]
    database.dispose()

    assert ended == [True, True]
    assert set(served).isdisjoint(serving)


def test_many_first_openings_at_once(tmp_path: Path) -> None:
    """Nobody is turned away while another makes the same ledger, and it is made once."""
    homes = [tmp_path / str(i) / "ledger.sqlite" for i in range(12)]
    together = threading.Barrier(3)

    def first(_: int) -> None:
        for path in homes:
            together.wait(30)
            with opened(path) as ledger:
                assert ledger.holders() == set()

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(first, range(3)))

    for path in homes:
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("select version_num from alembic_version").fetchall() == [(REVISION,)]


def test_a_first_opening_waits_for_another(tmp_path: Path) -> None:
    """While one makes the ledger, SQLite refuses at once to let a second one set it up: that one tries again."""
    path = tmp_path / "ledger.sqlite"
    with closing(sqlite3.connect(path, isolation_level=None)) as other, ThreadPoolExecutor(1) as pool:
        other.execute("BEGIN IMMEDIATE")
        waiting = pool.submit(open_database, path)
        time.sleep(0.2)
        assert not waiting.done()
        other.execute("COMMIT")
        waiting.result(30).dispose()


def test_a_writer_waits_for_another(tmp_path: Path) -> None:
    """A transaction that takes a while delays the others and fails none."""
    path = tmp_path / "ledger.sqlite"
    with (
        opened(path) as ledger,
        closing(sqlite3.connect(path, isolation_level=None)) as other,
        ThreadPoolExecutor(1) as pool,
    ):
        other.execute("BEGIN IMMEDIATE")
        waiting = pool.submit(ledger.release, ["nobody"])
        time.sleep(0.1)
        assert not waiting.done()
        other.execute("COMMIT")
        waiting.result(30)


def test_a_lock_that_nobody_gives_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the time that a writer waits, the user is told whom to look for."""
    monkeypatch.setattr(storage.database, "BUSY_TIMEOUT", 0.1)
    path = tmp_path / "ledger.sqlite"
    with opened(path) as ledger, closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        for use in (ledger.holders, lambda: open_database(path)):
            with pytest.raises(LedgerError) as error:
                use()
            assert one_line(error) == (
                f"{path}: cannot be used as a ledger (database is locked); another process has held it for 0.1 s; "
                "end that one, or set STENOPOOL_HOME elsewhere"
            )


def test_a_ledger_from_before_the_first_migration_is_refused_and_left_alone(tmp_path: Path) -> None:
    """It says which release to use, and writes nothing into it: not even the tables that it lacks."""
    path = tmp_path / "ledger.sqlite"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("create table meta (schema_version integer primary key)")
        connection.execute("insert into meta values (2)")
        connection.execute("create table chunks (id integer)")
    before = contents(path)

    with pytest.raises(LedgerError) as error:
        open_database(path)

    assert one_line(error) == (
        f"{path}: made by another release (schema 2); use that release, or set STENOPOOL_HOME elsewhere"
    )
    assert contents(path) == before


def test_a_later_releases_ledger_is_refused_and_left_alone(tmp_path: Path) -> None:
    """A revision that no migration of ours leads to."""
    path = tmp_path / "ledger.sqlite"
    with opened(path):
        pass
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("update alembic_version set version_num = '9999'")
    before = contents(path)

    with pytest.raises(LedgerError) as error:
        open_database(path)

    assert one_line(error) == (
        f"{path}: a later release has made it (schema 9999, this one has {REVISION}); use that release"
    )
    assert contents(path) == before


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    """It is named, and left as it is."""
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(b"Dear diary, " * 1000)

    with pytest.raises(LedgerError) as error:
        open_database(path)

    assert one_line(error) == (
        f"{path}: cannot be used as a ledger (file is not a database); move it away or set STENOPOOL_HOME elsewhere"
    )
    assert path.read_bytes() == b"Dear diary, " * 1000


def test_somebody_elses_database(tmp_path: Path) -> None:
    """A table of our name with other columns is no ledger either."""
    path = tmp_path / "ledger.sqlite"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("create table meta (key text, value text)")
    before = contents(path)

    with pytest.raises(LedgerError, match=rf"^{re.escape(str(path))}: cannot be used as a ledger \(no such column"):
        open_database(path)
    assert contents(path) == before


def test_a_folder_in_the_ledgers_place(tmp_path: Path) -> None:
    """A folder cannot be opened as a file."""
    with pytest.raises(LedgerError) as error:
        open_database(tmp_path)

    assert one_line(error) == (
        f"{tmp_path}: cannot be used as a ledger (unable to open database file); "
        "move it away or set STENOPOOL_HOME elsewhere"
    )


@pytest.mark.parametrize(("home", "why"), [("file", "File exists"), ("file/home", "Not a directory")])
def test_a_home_that_cannot_be_made(tmp_path: Path, home: str, why: str) -> None:
    """Below a regular file there is no folder; the line says which one, why, and where to put it instead."""
    (tmp_path / "file").touch()

    with pytest.raises(LedgerError) as error:
        open_database(tmp_path / home / "ledger.sqlite")

    assert one_line(error) == f"{tmp_path / home}: cannot be made ({why}); set STENOPOOL_HOME elsewhere"


def test_a_ledger_that_is_damaged_later(tmp_path: Path) -> None:
    """What was overwritten behind our back is told in one line by the method that meets it."""
    path = tmp_path / "ledger.sqlite"
    with opened(path) as ledger:
        ledger.add_sources("file", [source("ab")])
    with closing(sqlite3.connect(path)) as connection:
        [(page_size,)] = connection.execute("pragma page_size")
        pages = connection.execute("select rootpage from sqlite_master where tbl_name = 'chunks'").fetchall()
    with path.open("r+b") as file:
        for (page,) in pages:
            file.seek((page - 1) * page_size)
            file.write(b"\xff" * page_size)

    with opened(path) as ledger, pytest.raises(LedgerError) as error:
        ledger.holders()

    assert one_line(error) == (
        f"{path}: cannot be used as a ledger (database disk image is malformed); "
        "move it away or set STENOPOOL_HOME elsewhere"
    )


FILLER = """
import resource, sys
from pathlib import Path
from stenopool.domain import Chunk, Span
from stenopool.errors import LedgerError
from storage.database import open_database
from storage.ledger import Ledger

path = Path(sys.argv[1])
ledger = Ledger(open_database(path))
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
try:
    chunks = [Chunk(index=i, span=Span(i, i + 1)) for i in range(5_000)]
    ledger.plan("ab", "work", provenance={}, language="en", chunks=chunks, silences=[])
except LedgerError as error:
    print(error)
ledger.close()
"""


def test_a_disk_without_room(tmp_path: Path) -> None:
    """A write that the disk refuses is one line, undone whole, and the ledger is good again once there is room."""
    path = tmp_path / "ledger.sqlite"
    with opened(path) as ledger:
        ledger.add_sources("file", [source("ab")])

    child = subprocess.run([sys.executable, "-c", FILLER, str(path)], capture_output=True, text=True, check=False)

    assert (child.returncode, child.stderr) == (0, "")
    assert child.stdout == (
        f"{path}: cannot be used as a ledger (disk I/O error); make room on its disk, or set STENOPOOL_HOME elsewhere\n"
    )
    with opened(path) as ledger:
        assert ledger.latest("ab", "work") is None
        work = ledger.plan(
            "ab", "work", provenance={}, language="en", chunks=[Chunk(index=0, span=Span(0, 1))], silences=[]
        )
        assert ledger.latest("ab", "work") == work


def test_a_fault_of_ours_is_not_blamed_on_the_file(tmp_path: Path) -> None:
    """A broken constraint keeps its own name: no user can cure it by moving a file."""
    with opened(tmp_path / "ledger.sqlite") as ledger, pytest.raises(IntegrityError):
        ledger.plan("nobody's", "work", provenance={}, language="en", chunks=[], silences=[])
