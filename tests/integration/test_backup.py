"""The drill of the backup: a farm is gone, and another has its transcripts."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from stenopool.servers import Postgres
from stenopool.servers.binaries import find_postgres
from storage.database import open_database
from storage.folder import FolderStore
from storage.tables import SubmissionState
from tests.farms import HandFarm
from tests.faults.history import violations
from tests.servers import fresh_database
from workers.shown import transcripts_of

SCRIPT = Path(__file__).parents[2] / "infra" / "backup.sh"


def backup(*arguments: str | Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """The script, with Postgres' programs."""
    path = f"{find_postgres()}:{os.environ['PATH']}"
    return subprocess.run(
        ["sh", SCRIPT, *arguments],
        env={**os.environ, "PATH": path, **{f"STENOPOOL_{name}": value for name, value in settings.items()}},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_a_farm_that_is_restored_has_its_transcripts(
    ledger_url: str, postgres_server: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that was done is there, what was under way goes on, and what was removed while it was backed up is mended."""
    (tmp_path / "files").mkdir()
    old = HandFarm(open_database(ledger_url), FolderStore(tmp_path / "old"), tmp_path / "files", monkeypatch)
    done = old.submit(6)
    old.go()
    said = [one.text for one in transcripts_of(old.farm, old.now(done))]
    under_way = old.submit(6)
    old.ingest()

    made = backup("backup", tmp_path / "kept", DATABASE=ledger_url, STORE=str(tmp_path / "old"))
    assert (made.returncode, made.stderr) == (0, "")
    later = old.submit(2)  # which is not in it
    old.go()
    for name in old.keys("transcripts"):  # as if they had gone before the objects were copied
        (tmp_path / "kept" / "objects" / name).unlink(missing_ok=True)
    old.stages.close()
    old.farm.close()

    with fresh_database(postgres_server) as url:
        restored = backup("restore", tmp_path / "kept", DATABASE=url, STORE=str(tmp_path / "new"))
        assert (restored.returncode, restored.stderr) == (0, "")
        new = HandFarm(open_database(url), FolderStore(tmp_path / "new"), tmp_path / "files", monkeypatch)
        assert [one.text for one in transcripts_of(new.farm, new.now(done))] == said
        new.collect()
        new.go()
        assert new.now(under_way).state == SubmissionState.COMPLETED
        assert new.keys("transcripts")
        with pytest.raises(Exception, match=str(later.id)):
            new.now(later)
        assert violations(new.farm.database) == []
        new.stages.close()
        new.farm.close()


def test_what_is_no_backup_is_refused(tmp_path: Path) -> None:
    """Before anything is touched."""
    done = backup("restore", tmp_path, DATABASE="postgresql://127.0.0.1:1/none", STORE=str(tmp_path / "new"))

    assert (done.returncode, done.stderr) == (1, f"{tmp_path}: there is no backup in it\n")
    assert not (tmp_path / "new").exists()
