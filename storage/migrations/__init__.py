"""The ledger's schema through the releases: Alembic's scripts, and the one way to run them."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from stenopool.errors import LedgerError
from storage.database import name_of, revision
from storage.tables import REVISION

#: Seconds that a migration waits for a table that is in use, before it gives up and nothing is changed: whoever came
#: after it would wait as well.
LOCK_TIMEOUT = 2

_FOLDER = Path(__file__).parent


def migrate(connection: Connection) -> list[str]:
    """Bring a ledger up to this release's schema, in the caller's transaction; returns the revisions it went through.

    Raises:
        LedgerError: a later release has made it.
    """
    config = Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    config.attributes["connection"] = connection
    scripts = ScriptDirectory.from_config(config)
    before = revision(connection)
    known = [script.revision for script in scripts.walk_revisions()][::-1]
    if before is not None and before not in known:
        raise LedgerError(
            f"{name_of(connection.engine)}: a later release has made it (schema {before}, this one has {REVISION}); "
            "use that release"
        )
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}s'"))
    steps = known[0 if before is None else known.index(before) + 1 :]
    if before == known[0]:
        command.stamp(config, before)  # made before there were migrations
    command.upgrade(config, "head")
    return steps
