"""The doctor's judgement: what was seen, and what it amounts to."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from scheduler.broker import BrokerCondition
from stenopool.config import Config
from stenopool.doctor.checks import Subject, checks_of
from stenopool.doctor.findings import Check, Finding, State, examine, failed, failed_with, fine
from stenopool.doctor.machine import look_at_disk, look_at_media, look_at_model, of_device, of_disk
from stenopool.doctor.services import look_at_database, look_at_store, of_broker, of_clock, of_ledger
from stenopool.errors import BrokerUnreachable
from storage.condition import LedgerCondition
from storage.database import open_database
from storage.tables import REVISION

LEDGER = LedgerCondition(server="Postgres 15.18", schema=REVISION, ahead=0.0, refusal=None)
BROKER = BrokerCondition(version="7.0.15", used=10**6, most=None, policy="noeviction", refusal=None)
NOW = 1_800_000_000.0


# How it is told


def test_all_is_looked_at_at_once_and_told_in_order() -> None:
    """The second does not wait for the first, which waits for it."""
    gate = threading.Event()
    checks = [
        Check("first", lambda: fine("done") if gate.wait(10) else failed("nobody came", ""), ""),
        Check("second", lambda: gate.set() or fine("done"), ""),  # type: ignore[func-returns-value]
    ]

    assert list(examine(checks, 10)) == [("first", fine("done")), ("second", fine("done"))]


def test_who_does_not_come_back_is_not_waited_for() -> None:
    """However many there are: all of them have the same time."""
    gate = threading.Event()
    checks = [Check(str(at), lambda: fine(str(gate.wait())), "end it") for at in range(5)]
    started = time.monotonic()
    findings = [finding for _, finding in examine(checks, 0.2)]

    assert findings == [failed("no answer within 0.2 s", "end it")] * 5
    assert time.monotonic() - started < 2
    gate.set()


def test_what_goes_wrong_is_a_finding() -> None:
    """An error of ours says what to do; another's text is nobody's business, but for a package that is missing."""

    def wrong(error: Exception) -> Finding:
        def look() -> Finding:
            raise error

        [(_, finding)] = examine([Check("it", look, "")], 10)
        return finding

    assert wrong(BrokerUnreachable("no; see")) == failed("no", "see") == failed_with(BrokerUnreachable("no; see"))
    assert wrong(BrokerUnreachable("no")) == failed("no", "")
    assert wrong(ValueError("password")) == failed("could not be looked at (ValueError)", "report this with `pip list`")
    assert wrong(ImportError("libav")).seen == "a package cannot be loaded (libav)"


# What it amounts to


@pytest.mark.parametrize(
    ("changes", "alone", "state", "seen", "cure"),
    [
        ({}, False, State.OK, f"Postgres 15.18, schema {REVISION}, takes writes, 3 ms", ""),
        ({"schema": None}, False, State.FAILED, "Postgres 15.18, without a ledger", "make it with: stenopool migrate"),
        ({"schema": "0001"}, False, State.FAILED, "schema 0001; this release's is", "stenopool migrate"),
        ({"schema": "0001"}, True, State.WARNING, "schema 0001; this release's is", "the next command brings it up"),
        ({"refusal": "read-only"}, False, State.FAILED, "takes no writes (read-only)", "that can be written to"),
    ],
)
def test_a_ledger(changes: dict[str, Any], alone: bool, state: State, seen: str, cure: str) -> None:
    """Of a farm, or alone."""
    finding = of_ledger(replace(LEDGER, **changes), 0.003, alone=alone)

    assert finding.state == state
    assert seen in finding.seen
    assert cure in finding.cure


@pytest.mark.parametrize(
    ("ahead", "state", "seen"),
    [
        (None, State.OK, "2027-01-15 08:00:00 UTC"),
        (0.04, State.OK, "2027-01-15 08:00:00 UTC, the database's is 0.0 s ahead"),
        (-4.9, State.OK, "2027-01-15 08:00:00 UTC, the database's is 4.9 s behind"),
        (-30, State.WARNING, "2027-01-15 08:00:00 UTC, the database's is 30.0 s behind"),
        (900, State.FAILED, "2027-01-15 08:00:00 UTC, the database's is 900.0 s ahead"),
    ],
)
def test_a_clock(ahead: float | None, state: State, seen: str) -> None:
    """Seconds are nothing; a quarter of an hour is refused by S3."""
    finding = of_clock(NOW, ahead)

    assert (finding.state, finding.seen) == (state, seen)
    assert bool(finding.cure) == (state != State.OK)


def test_a_clock_that_cannot_be_right() -> None:
    """That of a machine whose battery is empty."""
    assert of_clock(0.0, 0.0) == failed("1970-01-01 00:00:00 UTC cannot be", "set this machine's clock")


@pytest.mark.parametrize(
    ("changes", "state", "seen", "cure"),
    [
        ({}, State.OK, "Redis 7.0.15 at host:6379, 1.0 MB, noeviction", ""),
        ({"most": 2 * 10**6}, State.OK, "1.0 MB of 2.0, noeviction", ""),
        ({"most": 1_100_000}, State.WARNING, "is nearly full", "raise its maxmemory"),
        ({"policy": "allkeys-lru"}, State.WARNING, "may throw hints away when it is full", "noeviction"),
        ({"version": "5.0.7"}, State.WARNING, "Redis 5.0.7", "use Redis 6.2 or later"),
        ({"refusal": "OOM ... 'maxmemory'."}, State.FAILED, "takes no hints (OOM ... 'maxmemory'.)", "maxmemory"),
        ({"refusal": "a read only replica."}, State.FAILED, "takes no hints", "name its primary in STENOPOOL_BROKER"),
        ({"refusal": "MISCONF"}, State.FAILED, "takes no hints (MISCONF)", "its log says why"),
    ],
)
def test_a_broker(changes: dict[str, Any], state: State, seen: str, cure: str) -> None:
    """Full, about to be, a replica, or one that forgets."""
    finding = of_broker(replace(BROKER, **changes), "host:6379")

    assert finding.state == state
    assert seen in finding.seen
    assert cure in finding.cure


def test_a_device() -> None:
    """An accelerator; a CPU; a CPU where there is an accelerator."""
    cpu: dict[str, str | int] = {"platform": "cpu", "kind": "cpu", "number": 1, "free": 6_100_000_000}
    gpus: dict[str, str | int] = {"platform": "gpu", "kind": "NVIDIA H200", "number": 2, "free": 104_000_000_000}

    assert of_device(cpu, cores=2, nvidia=False) == fine("CPU, 2 cores, 6.1 GB free")
    assert of_device(cpu, cores=1, nvidia=True).seen == "CPU, 1 core, 6.1 GB free, though there is a GPU"
    assert of_device(cpu, cores=1, nvidia=True).state == State.WARNING
    assert of_device(gpus, cores=2, nvidia=True) == fine("2 x NVIDIA H200 (gpu), 104.0 GB free")


def test_a_disk(tmp_path: Path) -> None:
    """Room, little, none; a folder that will be made; and one that cannot be."""
    states = [of_disk(tmp_path, free, "TMPDIR").state for free in (5e9, 4.9e9, 1e8)]
    assert states == [State.OK, State.WARNING, State.FAILED]
    assert of_disk(tmp_path, 1e8, "TMPDIR").cure.startswith("make room, or set TMPDIR elsewhere")

    (tmp_path / "file").touch()
    assert look_at_disk(tmp_path / "new" / "home", "STENOPOOL_HOME").state != State.FAILED
    refused = look_at_disk(tmp_path / "file" / "home", "STENOPOOL_HOME")
    assert refused.state == State.FAILED
    assert refused.seen.endswith(f"no file can be made in {tmp_path / 'file'} (Not a directory)")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


# What is on this machine


def test_a_machine_alone(tmp_path: Path) -> None:
    """Before its first command there is nothing, and nothing is made; then there is a ledger."""
    config = Config(home=tmp_path / "home", cache=tmp_path / "cache")
    subject = Subject.of(config)
    assert subject.finding == fine(f"this machine alone, in {tmp_path / 'home'}")
    assert isinstance(subject.database, Path)
    assert isinstance(subject.store, Path)
    assert look_at_database(subject.database) == fine(f"{subject.database} is made by the first command")
    assert look_at_store(subject.store, 10) == fine(f"{subject.store} is made by the first command")
    assert list(tmp_path.iterdir()) == []

    open_database(subject.database).dispose()
    seen = look_at_database(subject.database)
    assert seen.state == State.OK
    assert seen.seen.startswith("SQLite ")
    assert look_at_store(subject.store, 10).state == State.OK
    assert [path for path in subject.store.rglob("*") if path.is_file()] == []
    assert [check.name for check in checks_of(config, "pocket", 10)] == [
        *("settings", "database", "clock", "store", "model", "device", "media"),
        *("disk home", "disk cache", "disk temporary"),
    ]


def test_a_home_with_a_file_where_a_folder_should_be(tmp_path: Path) -> None:
    """Root may write everywhere, but not there."""
    (tmp_path / "objects").touch()
    [(_, finding)] = examine([Check("store", lambda: look_at_store(tmp_path / "objects", 10), "")], 10)

    assert finding.state == State.FAILED
    assert finding.seen.startswith(f"{tmp_path / 'objects'}: cannot be written to (")


def test_a_farm_that_is_half_named(tmp_path: Path) -> None:
    """What is missing is said, and the rest is looked at."""
    config = Config(home=tmp_path, cache=tmp_path, database="postgresql://host/name")
    subject = Subject.of(config)

    assert subject.finding.state == State.FAILED
    assert "STENOPOOL_BROKER is not set" in subject.finding.seen
    assert (subject.database, subject.broker, subject.store) == ("postgresql://host/name", None, None)


def test_models(tmp_path: Path) -> None:
    """What is here is read; what is not is not fetched."""
    seen = look_at_model("pocket")
    assert seen.state == State.OK
    assert seen.seen.startswith("pocket: 13 MB in ")
    looks = [Check("model", partial(look_at_model, name), "") for name in (str(tmp_path), "nobody/nothing")]
    (_, empty), (_, absent) = examine(looks, 60)
    assert (empty.state, absent.state) == (State.FAILED, State.FAILED)
    assert "config.json is missing" in empty.seen
    assert absent.seen == "nobody/nothing: is not on this machine"
    assert absent.cure == "fetch it with: stenopool models fetch nobody/nothing"


def test_media() -> None:
    """FFmpeg is here with all that is asked for, and decodes."""
    seen = look_at_media()

    assert seen.state == State.OK
    assert seen.seen.startswith("FFmpeg ")


def test_help_is_there_at_once() -> None:
    """With an example, and without loading anything heavy."""
    done = subprocess.run(
        [sys.executable, "-m", "stenopool", "doctor", "--help"], capture_output=True, text=True, check=True
    )

    assert "Example:\n    stenopool doctor" in done.stdout
