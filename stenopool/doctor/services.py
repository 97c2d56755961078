"""What a farm's processes meet each other by: the database, its clock, the broker, the object store."""

from __future__ import annotations

import time
import uuid
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from scheduler.broker import Broker, BrokerCondition
from stenopool.doctor.findings import Finding, doubtful, failed, fine
from stenopool.errors import LedgerError
from storage.condition import LedgerCondition, ledger_condition
from storage.folder import FolderStore
from storage.objects import ObjectStore
from storage.stores import open_store
from storage.tables import REVISION

#: Seconds that the database's clock may differ from ours; and from where on S3 refuses what we sign.
SKEWED, REFUSED = 5.0, 900.0
#: No clock that is right shows an earlier time.
RELEASED = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
#: The oldest Redis that the tests run on.
OLDEST_REDIS = (6, 2)
#: Share of the memory that it may hold from which on a Redis is about to be full.
NEARLY_FULL = 0.9


# The database


def look_at_database(where: str | Path) -> Finding:
    """Whether the ledger answers, is of this release, and takes what is written."""
    if isinstance(where, Path) and not where.exists():
        return fine(f"{where} is made by the first command")
    started = time.perf_counter()
    condition = ledger_condition(where)
    return of_ledger(condition, time.perf_counter() - started, alone=isinstance(where, Path))


def of_ledger(condition: LedgerCondition, seconds: float, *, alone: bool) -> Finding:
    """What a ledger's condition amounts to; `alone` where it is that of one machine."""
    if condition.schema is None and not alone:
        return failed(f"{condition.server}, without a ledger", "make it with: stenopool migrate")
    if not condition.current:
        seen = f"{condition.server}, schema {condition.schema}; this release's is {REVISION}"
        if alone:  # opening it brings it up to date, or says why not
            return doubtful(seen, "the next command brings it up to date, if it is older")
        return failed(seen, "bring it up to date with: stenopool migrate; a later one needs that release")
    if condition.refusal is not None:
        cure = "name a database that can be written to, by an account that may"
        return failed(f"{condition.server} takes no writes ({condition.refusal})", cure)
    return fine(f"{condition.server}, schema {condition.schema}, takes writes, {1000 * seconds:.0f} ms")


def look_at_clock(where: str | Path) -> Finding:
    """Whether our clock can be right, and agrees with a farm's database."""
    ahead = None
    if isinstance(where, str):
        try:
            ahead = ledger_condition(where).ahead
        except LedgerError:
            cure = "see to the database first"
            return doubtful("cannot be compared with the database's, which does not answer", cure)
    return of_clock(time.time(), ahead)


def of_clock(now: float, ahead: float | None) -> Finding:
    """What our clock amounts to, where the database's is so many seconds ahead of it; None if it is ours."""
    shown = f"{datetime.fromtimestamp(now, UTC):%Y-%m-%d %H:%M:%S} UTC"
    if now < RELEASED:
        return failed(f"{shown} cannot be", "set this machine's clock")
    if ahead is None:
        return fine(shown)
    seen = f"{shown}, the database's is {abs(ahead):.1f} s {'ahead' if ahead > 0 else 'behind'}"
    cure = "synchronise both clocks (NTP)"
    if abs(ahead) >= REFUSED:
        return failed(seen, cure)
    return doubtful(seen, cure) if abs(ahead) >= SKEWED else fine(seen)


# The broker


def look_at_broker(url: str) -> Finding:
    """Whether Redis answers and takes hints."""
    broker = Broker(url)
    try:
        parts = urlsplit(url)
        return of_broker(broker.condition(), f"{parts.hostname or parts.path}:{parts.port or 6379}")
    finally:
        broker.close()


def of_broker(condition: BrokerCondition, where: str) -> Finding:
    """What a Redis's condition amounts to."""
    seen = f"Redis {condition.version} at {where}, {condition.used / 1e6:.1f} MB"
    if condition.most is not None:
        seen += f" of {condition.most / 1e6:.1f}"
    seen += f", {condition.policy}"
    if condition.refusal is not None:
        return failed(f"{seen}, takes no hints ({condition.refusal})", _cure_of_broker(condition.refusal))
    if tuple(map(int, condition.version.split(".")[:2])) < OLDEST_REDIS:
        return doubtful(seen, f"use Redis {'.'.join(map(str, OLDEST_REDIS))} or later")
    if condition.policy != "noeviction":
        return doubtful(f"{seen}, may throw hints away when it is full", "set its maxmemory-policy to noeviction")
    if condition.most is not None and condition.used > NEARLY_FULL * condition.most:
        return doubtful(f"{seen}, is nearly full", "raise its maxmemory")
    return fine(seen)


def _cure_of_broker(refusal: str) -> str:
    if "maxmemory" in refusal:
        return "raise its maxmemory, or remove what else it holds"
    if "read only replica" in refusal:
        return "name its primary in STENOPOOL_BROKER"
    return "its log says why"


# Objects


def look_at_store(where: str | Path, seconds: float) -> Finding:
    """Whether objects can be written, read in parts, kept from being replaced, and removed."""
    if isinstance(where, Path):
        if not where.parent.exists():
            return fine(f"{where} is made by the first command")
        return try_store(FolderStore(where), str(where))
    # Twice, so that what passes is no alarm; each attempt short enough for both to fit.
    return try_store(open_store(where, attempts=2, timeout=seconds / 3), where)


def try_store(store: ObjectStore, name: str) -> Finding:
    """What a store does with a probe, which is gone afterwards."""
    key, started = f"doctor-{uuid.uuid4().hex}", time.perf_counter()
    store.put(key, b"stenopool")
    try:
        part, replaced = store.read(key, 2, 6), store.put_if_absent(key, b"another")
    except KeyError:
        return failed(f"{name} has not what was just put there", "see whose it is: two servers may answer")
    finally:
        store.delete(key)
    if replaced:
        return failed(f"{name} replaces what is there (If-None-Match)", "use a server that has conditional writes")
    if part != b"enop":
        return failed(f"{name} does not give ranges as they were put", "use another server")
    if store.exists(key):
        return failed(f"{name} keeps what was removed", "let the account delete objects")
    return fine(f"{name}: put, range, put if absent, delete in {1000 * (time.perf_counter() - started):.0f} ms")
