"""The API against its own description: Schemathesis sends what it says is right, and what it says is wrong.

`make fuzz` does it at length.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from sqlalchemy import update

from storage.access import Access
from storage.access_tables import KeyRow
from storage.database import make_or_migrate, open_database
from storage.folder import FolderStore
from tests.servers import server_folder
from tests.serving import ALL, TESTER, Served, serving
from workers.farm import Farm, Places

SETTINGS = Path(__file__).with_name("schemathesis.toml")

#: Of the key that is used: one that nothing else has, and nobody tries.
OURS = 1_234_567_890


def fuzz(api: Served, folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """Have Schemathesis do it, with the key of a tenant's administrator.

    It revokes keys as well: its own is not among those that it comes upon.
    """
    key, secret = Access(api.farm.database).create(TESTER, "fuzz", tenant="ada", scopes=ALL)
    with api.farm.database.begin() as connection:
        connection.execute(update(KeyRow).where(KeyRow.id == key.id).values(id=OURS))
    command = [sys.executable, "-m", "schemathesis.cli", f"--config-file={SETTINGS}", "run"]
    described = folder / "openapi.json"
    described.write_bytes(api.ada.get("/v1/openapi.json").content)
    command += [str(described), f"--url={api.url}", f"--header=Authorization: Bearer {secret}", *flags]
    environment = {**os.environ, "PYTHONPATH": str(SETTINGS.parents[2])}  # it is told to import tests.api.media
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def main() -> None:
    """At length, with the flags of the command line."""
    from stenopool.servers import Postgres

    with server_folder() as folder, Postgres(folder / "postgres", fsync=False) as server:
        make_or_migrate(server.url)
        farm = Farm(Places(database="", broker="redis://127.0.0.1:1/0", store=""), lease=60)
        with tempfile.TemporaryDirectory() as home:
            vars(farm).update(database=open_database(server.url), store=FolderStore(Path(home) / "objects"))
            with serving(farm, Path(home), api_rate=0) as api:
                done = fuzz(api, Path(home), *(sys.argv[1:] or ("--max-examples=200",)))
            farm.close()
    sys.stdout.write(done.stdout + done.stderr)
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()
