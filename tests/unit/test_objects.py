"""The object store: an object is there whole or not at all."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stenopool.errors import LedgerError, StoreError
from storage.folder import FolderStore
from storage.objects import ABANDONED_AFTER, Draft


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    """An empty store."""
    return FolderStore(tmp_path / "objects")


def put(store: FolderStore, key: str, data: bytes) -> None:
    """An object, whole."""
    with store.draft() as draft:
        draft.write(data)
        draft.keep(key)


def files(folder: Path) -> list[str]:
    """All files below a folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_draft_becomes_an_object_where_it_is_kept(store: FolderStore, tmp_path: Path) -> None:
    """Not before; then with everything that was written, and nothing else is left."""
    with store.draft() as draft:
        draft.write(b"abc")
        draft.write(memoryview(b"def"))
        assert not store.exists("pcm/1")
        draft.keep("pcm/1")
        assert store.exists("pcm/1")
        assert store.read("pcm/1", 0, 6) == b"abcdef"

    assert store.read("pcm/1", 0, 6) == b"abcdef"
    assert files(tmp_path) == ["objects/pcm/1"]


def test_a_draft_that_is_never_kept_is_gone(store: FolderStore, tmp_path: Path) -> None:
    """Whether its writer thought better of it or failed."""
    with store.draft() as draft:
        draft.write(b"abc")
        assert len(files(tmp_path)) == 1
    assert files(tmp_path) == []

    with pytest.raises(TypeError), store.draft() as draft:
        draft.write("text")  # type: ignore[arg-type]
    assert files(tmp_path) == []


def test_an_empty_object(store: FolderStore) -> None:
    """A recording may have no samples."""
    put(store, "pcm/empty", b"")

    assert store.exists("pcm/empty")
    assert store.read("pcm/empty", 0, 10) == b""


def test_what_was_kept_stays_when_its_writer_fails_later(store: FolderStore) -> None:
    """Keeping is final."""

    def keep_and_fail(draft: Draft) -> None:
        draft.write(b"abc")
        draft.keep("pcm/1")
        raise RuntimeError

    with pytest.raises(RuntimeError), store.draft() as draft:
        keep_and_fail(draft)

    assert store.read("pcm/1", 0, 3) == b"abc"


def test_keeping_replaces_at_once(store: FolderStore) -> None:
    """While one writes the same object anew, another reads the old one, whole; never a mixture."""
    old, new = b"o" * 300_000, b"n" * 400_000
    put(store, "pcm/1", old)
    seen = set()
    stop = threading.Event()

    def reader() -> None:
        while not stop.is_set():
            seen.add(store.read("pcm/1", 0, 500_000))

    thread = threading.Thread(target=reader)
    thread.start()
    for data in (new, old) * 10:
        put(store, "pcm/1", data)
    stop.set()
    thread.join()

    assert seen <= {old, new}
    assert store.read("pcm/1", 0, 500_000) == old


DATA = bytes(range(256)) * 8


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(st.integers(0, 2500), st.integers(0, 2500))
def test_a_range_of_an_object(store: FolderStore, a: int, b: int) -> None:
    """Reading a range gives what slicing gives, fewer bytes where the object ends before."""
    if not store.exists("pcm/1"):
        put(store, "pcm/1", DATA)
    start, end = sorted((a, b))

    assert store.read("pcm/1", start, end) == DATA[start:end]


@pytest.mark.parametrize(("start", "end"), [(5, 4), (-1, 4), (-3, -1)])
def test_what_is_no_range(store: FolderStore, start: int, end: int) -> None:
    """A range that ends before it starts would be the whole file."""
    put(store, "pcm/1", DATA)
    with pytest.raises(ValueError, match=rf"^a range needs 0 <= start <= end, got \[{start}, {end}\)$"):
        store.read("pcm/1", start, end)


@pytest.mark.parametrize("key", ["pcm/2", "pcm", "pcm/1/more", "none/at/all"])
def test_there_is_no_such_object(store: FolderStore, key: str) -> None:
    """A folder of objects is no object, and nothing lies below one."""
    put(store, "pcm/1", b"abc")

    assert not store.exists(key)
    with pytest.raises(KeyError, match=key):
        store.read(key, 0, 1)
    store.delete(key)
    assert store.read("pcm/1", 0, 3) == b"abc"


def test_what_is_deleted_is_gone(store: FolderStore) -> None:
    """Only that one; a second time is no error."""
    put(store, "pcm/1", b"abc")
    put(store, "pcm/2", b"def")
    store.delete("pcm/1")
    store.delete("pcm/1")

    assert not store.exists("pcm/1")
    assert store.read("pcm/2", 0, 3) == b"def"


@pytest.mark.parametrize(
    "key",
    [
        *("", "/", "/etc/passwd", "..", "../x", "pcm/../x", "pcm/..", "pcm/.", "./pcm", "pcm//1", "pcm/", "~/x"),
        *("a b", "a\\b", "a\0b", "a\nb", "a:b", "-", "unfinished", "unfinished/1"),
    ],
)
def test_what_is_no_key(store: FolderStore, tmp_path: Path, key: str) -> None:
    """Nothing that leads out of the store, or into its drafts, is a key."""
    refused = pytest.raises(ValueError, match=rf"^not an object key: {re.escape(repr(key))}$")
    for use in (lambda: store.read(key, 0, 1), lambda: store.exists(key), lambda: store.delete(key)):
        with refused:
            use()
    with refused, store.draft() as draft:
        draft.keep(key)
    assert files(tmp_path) == []


def test_abandoned_drafts_are_removed(store: FolderStore, tmp_path: Path) -> None:
    """What nobody has touched for long is removed by the next store; what was touched a moment ago is not."""
    now = time.time()
    old, young = (tmp_path / "objects" / "unfinished" / name for name in ("old", "young"))
    for path, age in ((old, ABANDONED_AFTER + 60), (young, ABANDONED_AFTER - 60)):
        path.touch()
        os.utime(path, (now - age, now - age))
    put(store, "pcm/1", b"abc")
    os.utime(tmp_path / "objects" / "pcm" / "1", (0, 0))

    FolderStore(tmp_path / "objects")

    assert files(tmp_path / "objects") == ["pcm/1", "unfinished/young"]


def test_idle_objects_are_those_that_nobody_wrote_lately(store: FolderStore, tmp_path: Path) -> None:
    """Their keys, in order, of that prefix only; writing one again makes it young."""
    assert store.idle("pcm") == []
    for key in ("pcm/b", "pcm/a", "pcm/young", "other/a"):
        put(store, key, b"abc")
        age = ABANDONED_AFTER + (-60 if key == "pcm/young" else 60)
        os.utime(tmp_path / "objects" / key, (time.time() - age,) * 2)
    (tmp_path / "objects" / "pcm" / "vanished").symlink_to("nowhere")

    assert store.idle("pcm") == ["pcm/a", "pcm/b"]

    put(store, "pcm/a", b"abc")
    assert store.idle("pcm") == ["pcm/b"]


def test_a_draft_that_vanishes_disturbs_nobody(store: FolderStore, tmp_path: Path) -> None:
    """Another process may keep its draft between our listing and our look at it: as with a link to nowhere."""
    (tmp_path / "objects" / "unfinished" / "vanished").symlink_to("nowhere")
    abandoned = tmp_path / "objects" / "unfinished" / "zz"
    abandoned.touch()
    os.utime(abandoned, (0, 0))

    FolderStore(tmp_path / "objects")

    assert files(tmp_path) == []


WRITER = """
import sys, time
from pathlib import Path
from storage.folder import FolderStore

with FolderStore(Path(sys.argv[1])).draft() as draft:
    draft.write(b"x" * 100_000)
    print("writing", flush=True)
    time.sleep(60)
    draft.keep("pcm/1")
"""


def test_a_writer_that_is_killed_leaves_no_object(store: FolderStore, tmp_path: Path) -> None:
    """kill -9 in the middle of a draft: there is no object, and what lies there is taken for abandoned in time."""
    folder = tmp_path / "objects"
    with subprocess.Popen([sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "writing\n"
        child.send_signal(signal.SIGKILL)

    assert not store.exists("pcm/1")
    [left] = (folder / "unfinished").iterdir()
    FolderStore(folder)
    assert left.exists()
    os.utime(left, (0, 0))
    FolderStore(folder)
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
    put(store, "pcm/1", b"abc")
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
