"""Which ledger a command looks into: the farm's, or that of this machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from stenopool.config import Config
from stenopool.errors import UsageError

if TYPE_CHECKING:
    from sqlalchemy import Engine

#: Whose the work of one machine is.
NOBODY = ""


@contextmanager
def some_ledger() -> Iterator[Engine]:
    """The ledger of the farm that there is, else the one that `stenopool transcribe` keeps here.

    Raises:
        UsageError: there is neither.
    """
    from storage.database import open_database
    from workers.farm import find_farm

    config = Config.from_env()
    try:
        engine = open_database(find_farm(config).database)
    except UsageError:
        if config.database or config.broker or config.store:  # half a farm is named
            raise
        path = config.home / "ledger.sqlite"
        if not path.exists():
            raise UsageError(
                f"{path}: nothing was transcribed here, and there is no farm; begin with: stenopool transcribe FILE"
            ) from None
        engine = open_database(path)
    try:
        yield engine
    finally:
        engine.dispose()
