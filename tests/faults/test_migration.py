"""A release is followed by another while the farm works."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from stenopool.errors import LedgerError
from storage import migrations
from storage.database import make_or_migrate
from storage.tables import REVISION
from tests.faults.storm import Storm, as_if_nothing_had_been

LATER = f'''
"""A column more, as a later release may want it."""

import sqlalchemy as sa
from alembic import op

revision, down_revision = "9999", "{REVISION}"


def upgrade():
    op.add_column("chunks", sa.Column("colour", sa.String(16), nullable=True))
    op.create_index("chunks_colour", "chunks", ["colour"])
'''


@pytest.mark.drill
def test_workers_of_the_release_before_end_what_they_do(
    storm: Storm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger is migrated under load; who begins then with the older release is refused."""
    folder = tmp_path / "migrations"
    shutil.copytree(Path(migrations.__file__).parent, folder)
    (folder / "versions" / "9999_later.py").write_text(LATER)
    monkeypatch.setattr(migrations, "_FOLDER", folder)
    storm.batch = 0.2
    submissions = storm.hand_in(8, seconds=120)
    storm.workers(2)
    storm.until(lambda: storm.done() > 0, within=90)

    def migrated() -> bool:
        try:
            return make_or_migrate(storm.places.database) == ["9999"]
        except LedgerError:  # the table was in use for two seconds on end: nobody is to wait for longer
            return False

    storm.until(migrated, within=90)
    assert storm.done() < 480
    late = storm.worker()
    storm.until(lambda: late.poll() is not None, within=90)
    storm.until_ended(submissions, workers=2, within=60)

    assert "its schema is 9999" in storm.said()
    as_if_nothing_had_been(storm, submissions)
    assert storm.attempts() == storm.done() == 480
