"""Which checks there are: of a farm as far as it is named, or of this machine alone."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import unquote

from stenopool.config import Config
from stenopool.doctor.findings import Check, Finding, failed_with, fine
from stenopool.doctor.machine import look_at_device, look_at_disk, look_at_media, look_at_model
from stenopool.doctor.services import look_at_broker, look_at_clock, look_at_database, look_at_store
from stenopool.errors import UsageError
from workers.farm import find_farm


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is looked at: a farm, or this machine alone, whose ledger and objects lie in paths."""

    database: str | Path | None
    broker: str | None
    store: str | Path | None
    #: Whether it lies in the home, or elsewhere.
    at_home: bool
    finding: Finding

    @classmethod
    def of(cls, config: Config) -> Subject:
        """The farm that is named, or runs here, as far as it is named; else this machine."""
        try:
            places = find_farm(config)
        except UsageError as error:
            if config.database or config.broker or config.store:
                finding = failed_with(error)
                return cls(
                    database=config.database, broker=config.broker, store=config.store, at_home=False, finding=finding
                )
            return cls(
                database=config.home / "ledger.sqlite",
                broker=None,
                store=config.home / "objects",
                at_home=True,
                finding=fine(f"this machine alone, in {config.home}"),
            )
        at_home = config.database is None
        finding = fine(f"the farm of `stenopool up` in {config.farm}" if at_home else "the farm that the settings name")
        return cls(database=places.database, broker=places.broker, store=places.store, at_home=at_home, finding=finding)


def checks_of(config: Config, model: str, seconds: float) -> list[Check]:
    """All there is to look at, each for so many seconds."""
    subject = Subject.of(config)
    reach = "see that it runs, and can be reached from here"
    checks = [Check("settings", lambda: subject.finding, "")]
    if subject.database is not None:
        alone = isinstance(subject.database, Path)
        cure = "end the process that holds it" if alone else reach
        checks.append(Check("database", partial(look_at_database, subject.database), cure))
        checks.append(Check("clock", partial(look_at_clock, subject.database), "see to the database first"))
    if subject.broker is not None:
        checks.append(Check("broker", partial(look_at_broker, subject.broker), reach))
    if subject.store is not None:
        checks.append(Check("store", partial(look_at_store, subject.store, seconds), reach))
    checks += [
        Check("model", partial(look_at_model, model), "see that its folder can be read"),
        Check(
            "device",
            partial(look_at_device, seconds, elsewhere=not subject.at_home),
            "see to its driver, and to who else uses it",
        ),
        Check("media", look_at_media, "install av anew: pip install --force-reinstall av"),
    ]
    checks += [
        Check(f"disk {name}", partial(look_at_disk, folder, setting), "the disk does not answer: mend it")
        for name, folder, setting in _folders(config, subject)
    ]
    return checks


def _folders(config: Config, subject: Subject) -> Iterator[tuple[str, Path, str]]:
    """What should have room: what people call it, the folder, the setting that moves it."""
    if subject.at_home:
        yield "home", config.home, "STENOPOOL_HOME"
    yield "cache", config.cache, "STENOPOOL_CACHE"
    yield "temporary", _temporary(), "TMPDIR"
    store = subject.store if isinstance(subject.store, str) and not subject.at_home else ""
    if store.startswith("file://"):
        store = unquote(store.removeprefix("file://").removeprefix("localhost"))
    if store and "://" not in store:
        yield "store", Path(store), "STENOPOOL_STORE"


def _temporary() -> Path:
    try:
        return Path(tempfile.gettempdir())
    except OSError:  # no file can be made in any of those that Python tries
        return Path("/tmp")
