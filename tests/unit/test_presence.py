"""Presence: the system itself says who is alive."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from stenopool.domain import Chunk, Span
from stenopool.errors import LedgerError
from storage.database import open_database
from storage.ledger import Ledger, Source
from workers.presence import Presence

CHILD = """
import sys
from pathlib import Path
from workers.presence import Presence

presence = Presence(Path(sys.argv[1]))
print(presence.worker, flush=True)
sys.stdin.readline()
presence.close()
"""


@contextmanager
def child(folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A real process that is present, and the name of its worker."""
    command = [sys.executable, "-c", CHILD, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


@pytest.fixture
def presence(tmp_path: Path) -> Iterator[Presence]:
    """This process, present."""
    presence = Presence(tmp_path / "workers")
    yield presence
    presence.close()


def locks(tmp_path: Path) -> set[str]:
    """The workers that have a lock file."""
    return {path.stem for path in (tmp_path / "workers").iterdir()}


def test_a_killed_process_is_dead_and_a_living_one_is_not(presence: Presence, tmp_path: Path) -> None:
    """kill -9 gives a process no time to say anything; one that is only stopped (Ctrl-Z) may still go on."""
    with child(tmp_path / "workers") as (killed, first), child(tmp_path / "workers") as (stopped, second):
        assert first.startswith(f"{killed.pid}-")
        assert presence.dead([first, second]) == []

        stopped.send_signal(signal.SIGSTOP)
        killed.send_signal(signal.SIGKILL)
        killed.wait()

        assert presence.dead([first, second]) == [first]
        assert presence.dead([first, second]) == [first]
        assert locks(tmp_path) == {presence.worker, second}


def test_a_process_that_left_is_dead(presence: Presence, tmp_path: Path) -> None:
    """It leaves nothing behind."""
    with child(tmp_path / "workers") as (process, worker):
        assert process.stdin is not None
        process.stdin.write("leave\n")
        process.stdin.flush()
        assert process.wait() == 0

        assert locks(tmp_path) == {presence.worker}
        assert presence.dead([worker]) == [worker]


def test_looking_does_no_harm(presence: Presence, tmp_path: Path) -> None:
    """Whoever is asked about, however often, by however many, lives on."""
    other = Presence(tmp_path / "workers")
    with child(tmp_path / "workers") as (_, worker):
        for _ in range(5):
            for observer in (presence, other):
                assert observer.dead([worker, presence.worker, other.worker]) == []
    other.close()

    assert presence.dead([other.worker]) == [other.worker]


def test_nobody_is_dead_to_themselves(presence: Presence) -> None:
    """A process does not give up its own chunks."""
    assert presence.dead([presence.worker]) == []
    assert presence.dead([]) == []


def test_a_worker_that_nobody_knows_is_dead(presence: Presence) -> None:
    """Its home was cleaned up, say; its number may belong to a living process now, and that is not it."""
    stranger = f"{os.getpid()}-000000000000"

    assert presence.dead([stranger, presence.worker, "1-x"]) == [stranger, "1-x"]


def test_whoever_comes_clears_the_dead_away(tmp_path: Path) -> None:
    """Lock files of killed processes do not pile up, and those of the living stay."""
    folder = tmp_path / "workers"
    with child(folder) as (living, first), child(folder) as (killed, second):
        killed.kill()
        killed.wait()
        assert locks(tmp_path) == {first, second}

        newcomer = Presence(folder)

        assert locks(tmp_path) == {first, newcomer.worker}
        assert newcomer.dead([first, second]) == [second]
        assert living.poll() is None
        newcomer.close()


def test_nobody_is_cleared_away_while_coming(presence: Presence, tmp_path: Path) -> None:
    """A lock file that another removes between its making and its locking is made again."""
    path = tmp_path / "workers" / "newcomer.lock"
    with path.open("w") as held, ThreadPoolExecutor(1) as pool:
        fcntl.flock(held, fcntl.LOCK_EX)
        coming = pool.submit(Presence._lock, path)
        time.sleep(0.1)
        assert not coming.done()
        path.unlink()
        fcntl.flock(held, fcntl.LOCK_UN)
        with coming.result(30):
            assert presence.dead(["newcomer"]) == []
    assert presence.dead(["newcomer"]) == ["newcomer"]


def test_names_are_never_the_same(tmp_path: Path) -> None:
    """One process that comes twice is two workers, and the first can be dead while the second is not."""
    first, second = Presence(tmp_path / "workers"), Presence(tmp_path / "workers")
    assert first.worker != second.worker

    first.close()
    first.close()
    assert second.dead([first.worker]) == [first.worker]
    second.close()
    assert locks(tmp_path) == set()


def test_the_chunks_of_the_dead_are_free_at_once(presence: Presence, tmp_path: Path) -> None:
    """Long before the lease runs out, the ledger gives them to somebody else."""
    ledger = Ledger(open_database(tmp_path / "ledger.sqlite"))
    ledger.add_sources("file", [Source(channel=0, recording="ab", duration=9, ended_early=None, damaged=0)])
    chunks = [Chunk(index=i, span=Span(i, i + 1)) for i in range(3)]
    work = ledger.plan("ab", "work", provenance={}, language="en", chunks=chunks, silences=[])
    with child(tmp_path / "workers") as (killed, worker):
        ledger.claim(worker, [work.id], 2)
        ledger.claim(presence.worker, [work.id], 1)
        killed.kill()
        killed.wait()

    ledger.release(presence.dead(ledger.holders()))

    assert ledger.holders() == {presence.worker}
    assert [claim.index for claim in ledger.claim(presence.worker, [work.id], 9)] == [0, 1]
    ledger.close()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    """Below a regular file there is no folder."""
    (tmp_path / "file").touch()
    folder = tmp_path / "file" / "workers"

    with pytest.raises(LedgerError) as error:
        Presence(folder)

    assert str(error.value) == f"{folder}: cannot be written to (Not a directory); set STENOPOOL_HOME elsewhere"
