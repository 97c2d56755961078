"""The store in a folder: its disk, and other processes; test_contract.py has what every store does."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from stenopool.errors import LedgerError, StoreError
from storage.folder import FolderStore
from storage.objects import ABANDONED_AFTER


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    """An empty store."""
    return FolderStore(tmp_path / "objects")


def files(folder: Path) -> list[str]:
    """All files below a folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_keeping_replaces_at_once(store: FolderStore) -> None:
    """While one writes the same object anew, another reads the old one, whole; never a mixture."""
    old, new = b"o" * 300_000, b"n" * 400_000
    store.put("pcm/1", old)
    seen = set()
    stop = threading.Event()

    def reader() -> None:
        while not stop.is_set():
            seen.add(store.read("pcm/1", 0, 500_000))

    thread = threading.Thread(target=reader)
    thread.start()
    for data in (new, old) * 10:
        store.put("pcm/1", data)
    stop.set()
    thread.join()

    assert seen <= {old, new}
    assert store.read("pcm/1", 0, 500_000) == old


def test_abandoned_drafts_are_removed(store: FolderStore, tmp_path: Path) -> None:
    """What nobody has touched for long is removed by the next store; what was touched a moment ago is not."""
    now = time.time()
    old, young = (tmp_path / "objects" / "unfinished" / name for name in ("old", "young"))
    for path, age in ((old, ABANDONED_AFTER + 60), (young, ABANDONED_AFTER - 60)):
        path.touch()
        os.utime(path, (now - age, now - age))
    store.put("pcm/1", b"abc")
    os.utime(tmp_path / "objects" / "pcm" / "1", (0, 0))

    FolderStore(tmp_path / "objects")

    assert files(tmp_path / "objects") == ["pcm/1", "unfinished/young"]


def test_idle_objects_are_those_that_nobody_wrote_lately(store: FolderStore, tmp_path: Path) -> None:
    """Their keys, in order, of that prefix only; writing one again makes it young."""
    assert store.idle("pcm") == []
    for key in ("pcm/b", "pcm/a", "pcm/young", "other/a"):
        store.put(key, b"abc")
        age = ABANDONED_AFTER + (-60 if key == "pcm/young" else 60)
        os.utime(tmp_path / "objects" / key, (time.time() - age,) * 2)
    (tmp_path / "objects" / "pcm" / "vanished").symlink_to("nowhere")

    assert store.idle("pcm") == ["pcm/a", "pcm/b"]

    store.put("pcm/a", b"abc")
    assert store.idle("pcm") == ["pcm/b"]


def test_a_draft_that_vanishes_disturbs_nobody(store: FolderStore, tmp_path: Path) -> None:
    """Another process may keep its draft between our listing and our look at it: as with a link to nowhere."""
    (tmp_path / "objects" / "unfinished" / "vanished").symlink_to("nowhere")
    abandoned = tmp_path / "objects" / "unfinished" / "zz"
    abandoned.touch()
    os.utime(abandoned, (0, 0))

    FolderStore(tmp_path / "objects")

    assert files(tmp_path) == []


FILLER = """
import resource, sys
from pathlib import Path
from stenopool.errors import DiskFull
from storage.folder import FolderStore

store = FolderStore(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
for pieces in (1000, 30):  # refused while it is written; where it is kept
    try:
        with store.draft() as draft:
            for _ in range(pieces):
                draft.write(b"x" * 2000)
            draft.keep("pcm/1")
    except DiskFull as error:
        assert error.retryable
        print(error)
"""


def test_a_disk_without_room(tmp_path: Path) -> None:
    """A write that the disk refuses is one line that names the folder; nothing is left of the draft."""
    folder = tmp_path / "objects"
    child = subprocess.run([sys.executable, "-c", FILLER, str(folder)], capture_output=True, text=True, check=False)

    assert (child.returncode, child.stderr) == (0, "")
    line = f"{folder}: cannot be written to (File too large); make room, or set STENOPOOL_HOME elsewhere\n"
    assert child.stdout == line * 2
    assert files(tmp_path) == []


def test_a_disk_that_cannot_be_read(store: FolderStore, tmp_path: Path) -> None:
    """What is there and does not come is no missing object."""
    folder = tmp_path / "objects"
    (folder / "loop").symlink_to("loop")

    with pytest.raises(StoreError) as error:
        store.read("loop", 0, 1)

    assert str(error.value) == f"{folder}: loop cannot be read (Too many levels of symbolic links); mend the disk"


@pytest.mark.parametrize("key", ["pcm", "pcm/1/more"])
def test_an_object_is_no_folder(store: FolderStore, key: str) -> None:
    """Where nothing can be written, nobody is told that another was faster."""
    store.put("pcm/1", b"abc")
    with pytest.raises(StoreError, match="cannot be written to"):
        store.put_if_absent(key, b"def")

    assert store.read("pcm/1", 0, 3) == b"abc"


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    """Below a regular file there is no folder."""
    (tmp_path / "file").touch()
    folder = tmp_path / "file" / "objects"

    with pytest.raises(LedgerError) as error:
        FolderStore(folder)

    assert str(error.value) == (
        f"{folder}: cannot be written to (Not a directory); make room, or set STENOPOOL_HOME elsewhere"
    )
