"""What every object store does, in a folder and in S3 alike."""

from __future__ import annotations

import hashlib
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
from array import array
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stenopool.errors import MediaMissing, StoreError
from storage.objects import Draft, ObjectStore
from storage.s3_drafts import PART

NO_KEYS = [
    *("", "/", "/etc/passwd", "..", "../x", "pcm/../x", "pcm/..", "pcm/.", "./pcm", "pcm//1", "pcm/", "~/x"),
    *("a b", "a\\b", "a\0b", "a\nb", "a:b", "-", "unfinished", "unfinished/1"),
]
DATA = bytes(range(256)) * 8
#: Two copies in parts of 64 MiB, and parts of a draft that do not end where the writes do.
LARGE = (64 << 20) + PART + 12345


def keys(store: ObjectStore, prefix: str = "") -> list[str]:
    """What a listing has, in order."""
    return sorted(found.key for found in store.list(prefix))


def test_a_draft_becomes_an_object_where_it_is_kept(store: ObjectStore) -> None:
    """Not before; then with everything that was written, also out of numbers' memory, and nothing else is left."""
    with store.draft() as draft:
        draft.write(b"abc")
        draft.write(memoryview(array("h", [0x6564, 0x6766])))
        assert not store.exists("pcm/1")
        draft.keep("pcm/1")
        assert store.read("pcm/1", 0, 9) == b"abcdefg"

    assert store.size("pcm/1") == 7
    assert keys(store) == ["pcm/1"]
    assert store.collect_drafts(-60) == 0


def test_a_draft_of_many_parts_is_kept_under_its_own_hash(store: ObjectStore) -> None:
    """Byte for byte, where it is uploaded in parts and copied in parts; nothing else is left."""
    digest = hashlib.sha256()
    with store.draft() as draft:
        left = LARGE
        while left:
            piece = os.urandom(min(left, 5_000_003))
            draft.write(piece)
            digest.update(piece)
            left -= len(piece)
        assert keys(store) == []
        draft.keep(f"pcm/{digest.hexdigest()}")

    assert [(found.key, found.size) for found in store.list()] == [(f"pcm/{digest.hexdigest()}", LARGE)]
    read = hashlib.sha256()
    for start in range(0, LARGE, 10_000_000):
        read.update(store.read(f"pcm/{digest.hexdigest()}", start, start + 10_000_000))
    assert read.digest() == digest.digest()
    assert store.collect_drafts(-60) == 0


@pytest.mark.parametrize("size", [3, PART, 2 * PART + 1])
def test_a_draft_that_is_never_kept_is_gone(store: ObjectStore, size: int) -> None:
    """Whether its writer thought better of it or failed."""
    with store.draft() as draft:
        draft.write(bytes(size))

    def fail() -> None:
        with store.draft() as draft:
            draft.write(bytes(size))
            draft.write("text")  # type: ignore[arg-type]

    with pytest.raises(TypeError):
        fail()

    assert keys(store) == []
    assert store.collect_drafts(-60) == 0


def test_what_was_kept_stays_when_its_writer_fails_later(store: ObjectStore) -> None:
    """Keeping is final."""

    def keep_and_fail(draft: Draft) -> None:
        draft.write(b"abc")
        draft.keep("pcm/1")
        raise RuntimeError

    with pytest.raises(RuntimeError), store.draft() as draft:
        keep_and_fail(draft)

    assert store.read("pcm/1", 0, 3) == b"abc"


def test_many_drafts_at_once(store: ObjectStore) -> None:
    """One per channel, written in turn: none has anything of another."""
    with store.draft() as left, store.draft() as right:
        for _ in range(3):
            left.write(b"l" * (PART // 2))
            right.write(b"r" * (PART // 2))
        left.keep("pcm/left")
        right.keep("pcm/right")

    assert store.read("pcm/left", 0, 2 * PART) == b"l" * (PART // 2 * 3)
    assert store.read("pcm/right", 0, 2 * PART) == b"r" * (PART // 2 * 3)


def test_an_empty_object(store: ObjectStore, tmp_path: Path) -> None:
    """A recording may have no samples; however it came about, it is there."""
    with store.draft() as draft:
        draft.keep("a")
    store.put("b", b"")
    store.put_if_absent("c", b"")
    (tmp_path / "file").touch()
    store.upload(tmp_path / "file", "d")

    for key in "abcd":
        assert store.size(key) == 0
        assert store.read(key, 0, 10) == b""
        store.download(key, tmp_path / key)
        assert (tmp_path / key).read_bytes() == b""


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.integers(0, 2500), st.integers(0, 2500))
def test_a_range_of_an_object(store: ObjectStore, a: int, b: int) -> None:
    """Reading a range gives what slicing gives, fewer bytes where the object ends before."""
    if not store.exists("pcm/1"):
        store.put("pcm/1", DATA)
    start, end = sorted((a, b))

    assert store.read("pcm/1", start, end) == DATA[start:end]


@pytest.mark.parametrize(("start", "end"), [(5, 4), (-1, 4), (-3, -1)])
def test_what_is_no_range(store: ObjectStore, start: int, end: int) -> None:
    """A range that ends before it starts would be the whole object."""
    store.put("pcm/1", DATA)
    with pytest.raises(ValueError, match=rf"^a range needs 0 <= start <= end, got \[{start}, {end}\)$"):
        store.read("pcm/1", start, end)


@pytest.mark.parametrize("key", ["pcm/2", "pcm", "pcm/1/more", "none/at/all"])
def test_there_is_no_such_object(store: ObjectStore, tmp_path: Path, key: str) -> None:
    """A folder of objects is no object, and nothing lies below one."""
    store.put("pcm/1", b"abc")

    assert not store.exists(key)
    assert store.size(key) is None
    for start, end in ((0, 1), (1, 1)):
        with pytest.raises(KeyError, match=key):
            store.read(key, start, end)
    with pytest.raises(KeyError, match=key):
        store.download(key, tmp_path / "file")
    assert not (tmp_path / "file").exists()
    store.delete(key)
    assert store.read("pcm/1", 0, 3) == b"abc"


def test_what_is_deleted_is_gone(store: ObjectStore) -> None:
    """Only that one; a second time is no error."""
    store.put("pcm/1", b"abc")
    store.put("pcm/2", b"def")
    store.delete("pcm/1")
    store.delete("pcm/1")

    assert not store.exists("pcm/1")
    assert keys(store) == ["pcm/2"]


@pytest.mark.parametrize("key", NO_KEYS)
def test_what_is_no_key(store: ObjectStore, tmp_path: Path, key: str) -> None:
    """Nothing that leads out of the store, or into its drafts, is a key, whatever is asked."""
    file = tmp_path / "file"
    file.touch()
    refused = pytest.raises(ValueError, match=rf"^not an object key: {re.escape(repr(key))}$")
    for use in (
        lambda: store.read(key, 0, 1),
        lambda: store.size(key),
        lambda: store.exists(key),
        lambda: store.delete(key),
        lambda: store.put(key, b""),
        lambda: store.put_if_absent(key, b""),
        lambda: store.upload(file, key),
        lambda: store.download(key, file),
        lambda: list(store.list(key or "/")),  # the prefix "" is all there is
        lambda: store.idle(key or "/"),
    ):
        if key == "":
            refused = pytest.raises(ValueError, match=r"^not an object key: '/?'$")
        with refused:
            use()
    with refused, store.draft() as draft:
        draft.keep(key)
    assert keys(store) == []


def test_putting_replaces(store: ObjectStore) -> None:
    """What was there is gone, also where it was longer."""
    store.put("a", b"long before")
    store.put("a", b"short")

    assert store.read("a", 0, 99) == b"short"


def test_putting_where_there_is_none(store: ObjectStore) -> None:
    """The first is kept, and knows; what is removed makes room."""
    assert store.put_if_absent("t/1", b"first")
    assert not store.put_if_absent("t/1", b"second")
    assert not store.put_if_absent("t/1", b"first")
    assert store.read("t/1", 0, 99) == b"first"

    store.delete("t/1")
    assert store.put_if_absent("t/1", b"third")
    assert store.collect_drafts(-60) == 0


def test_of_many_writers_one_is_told_that_it_won(store: ObjectStore) -> None:
    """8 writers go for each of 30 keys at the same moment: one True each, and the object is that writer's."""
    writers, names = 8, [f"t/{i}" for i in range(30)]
    together = threading.Barrier(writers)
    stores = [pickle.loads(pickle.dumps(store)) for _ in range(writers)]

    def write(writer: int) -> list[bool]:
        told = []
        for name in names:
            together.wait()
            told.append(stores[writer].put_if_absent(name, b"%d" % writer))
        return told

    with ThreadPoolExecutor(writers) as pool:
        told = list(pool.map(write, range(writers)))

    for i, name in enumerate(names):
        [winner] = [writer for writer in range(writers) if told[writer][i]]
        assert store.read(name, 0, 9) == b"%d" % winner


def test_a_listing_has_all_below_a_prefix(store: ObjectStore) -> None:
    """At any depth, with sizes and ages; not what only begins alike, no drafts, and nothing where there is nothing."""
    assert keys(store) == keys(store, "pcm") == []
    for i, key in enumerate(["pcm/1", "pcm/deep/er/2", "pcm2/3", "top"]):
        store.put(key, bytes(i))
    with store.draft() as draft:
        draft.write(b"abc")

        assert keys(store) == ["pcm/1", "pcm/deep/er/2", "pcm2/3", "top"]
        assert keys(store, "pcm") == ["pcm/1", "pcm/deep/er/2"]
        assert keys(store, "pcm/deep") == ["pcm/deep/er/2"]
        assert keys(store, "pcm/1") == keys(store, "none") == []
        assert {found.key: found.size for found in store.list()}["top"] == 3
        assert all(-60 < found.age < 600 for found in store.list())


def test_a_listing_goes_on_where_it_was(store: ObjectStore) -> None:
    """Behind any key, in the order that it always has, also where that object is gone meanwhile."""
    for key in ("pcm/b/2", "pcm/a", "pcm/b/1", "pcm/b-1", "pcm/c", "top"):
        store.put(key, b"")
    for prefix in ("", "pcm", "pcm/b"):
        whole = [found.key for found in store.list(prefix)]
        assert whole == [found.key for found in store.list(prefix)]
        for at, key in enumerate(whole):
            assert [found.key for found in store.list(prefix, key)] == whole[at + 1 :]

    whole = [found.key for found in store.list("pcm")]
    store.delete(whole[2])
    assert [found.key for found in store.list("pcm", whole[2])] == whole[3:]


def test_an_object_is_looked_at_as_it_is_now(store: ObjectStore) -> None:
    """Its size and age, as in a listing; nothing where there is none."""
    assert store.look("pcm/1") is None
    store.put("pcm/1", b"abc")

    found = store.look("pcm/1")

    assert found is not None
    assert (found.key, found.size) == ("pcm/1", 3)
    assert -60 < found.age < 600


def test_a_listing_of_more_than_a_page(store: ObjectStore) -> None:
    """S3 tells a thousand at a time."""
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: store.put(f"t/{i}", b""), range(1003)))

    assert keys(store, "t") == sorted(f"t/{i}" for i in range(1003))


def test_idle_objects_are_those_that_nobody_wrote_lately(store: ObjectStore) -> None:
    """Of that prefix only: none that was written a moment ago, all a moment later."""
    for key in ("pcm/b", "pcm/a", "other/a"):
        store.put(key, b"abc")

    assert store.idle("pcm") == []
    assert store.idle("pcm", -60) == ["pcm/a", "pcm/b"]


@pytest.mark.parametrize("size", [0, 1000, LARGE])
def test_files_come_back_as_they_went(store: ObjectStore, tmp_path: Path, size: int) -> None:
    """Whole source files, small and in parts; nothing else is left in either place."""
    (tmp_path / "from").mkdir()
    (tmp_path / "to").mkdir()
    source, copy = tmp_path / "from" / "a b.mp3", tmp_path / "to" / "copy"
    source.write_bytes(os.urandom(1000) * (size // 1000))

    store.upload(source, "sources/1")
    copy.write_bytes(b"what was there before")
    store.download("sources/1", copy)

    assert copy.read_bytes() == source.read_bytes()
    assert list(copy.parent.iterdir()) == [copy]
    assert keys(store) == ["sources/1"]
    assert store.collect_drafts(-60) == 0


def test_files_that_cannot_be_read_or_written(store: ObjectStore, tmp_path: Path) -> None:
    """One line names the file; there is no object and no file."""
    missing, nowhere = tmp_path / "missing", tmp_path / "no" / "folder"
    with pytest.raises(MediaMissing) as unread:
        store.upload(missing, "sources/1")
    store.put("sources/2", b"abc")
    with pytest.raises(StoreError) as unwritten:
        store.download("sources/2", nowhere)

    assert str(unread.value) == f"{missing}: cannot be read (No such file or directory)"
    line = f"{nowhere}: cannot be written to (No such file or directory); make room, or choose another"
    assert str(unwritten.value) == line
    assert keys(store) == ["sources/2"]


WRITER = """
import pickle, sys, time

store = pickle.loads(bytes.fromhex(sys.argv[1]))
with store.draft() as draft:
    draft.write(bytes(int(sys.argv[2])))
    print("writing", flush=True)
    time.sleep(60)
    draft.keep("pcm/1")
"""


@pytest.mark.parametrize("size", [100_000, 2 * PART + 100_000])
def test_a_writer_that_is_killed_leaves_no_object(store: ObjectStore, size: int) -> None:
    """kill -9 in the middle of a draft: nothing is visible; what lies there is collected once it is old enough."""
    with _writing(store, size) as child:
        child.send_signal(signal.SIGKILL)

    assert keys(store) == []
    assert store.collect_drafts() == 0
    left = store.collect_drafts(-60)
    assert left == (1 if size > PART or type(store).__name__ == "FolderStore" else 0)
    assert store.collect_drafts(-60) == 0


def test_drafts_of_a_child_are_discarded(store: ObjectStore) -> None:
    """All that it began, and nobody else's."""
    drafts = store.for_child()
    with store.draft() as ours:
        ours.write(bytes(2 * PART))
        with _writing(drafts, 2 * PART) as child:
            child.send_signal(signal.SIGKILL)
        drafts.discard_drafts()
        ours.keep("pcm/ours")

    assert keys(store) == ["pcm/ours"]
    assert store.collect_drafts(-60) == 0


def _writing(store: ObjectStore, size: int) -> subprocess.Popen[str]:
    """A process in the middle of a draft of so many bytes."""
    command = [sys.executable, "-c", WRITER, pickle.dumps(store).hex(), str(size)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "writing\n"
    return child


FLAT = """
import pickle, resource, sys

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10  # MiB

store = pickle.loads(bytes.fromhex(sys.argv[1]))
piece = bytes(1 << 20)
for size in (30, 300):
    with store.draft() as draft:
        for _ in range(size):
            draft.write(piece)
    print(peak())
"""


def test_memory_is_flat(store: ObjectStore) -> None:
    """A draft of 300 MB takes no more than one of 30 MB."""
    command = [sys.executable, "-c", FLAT, pickle.dumps(store).hex()]
    small, large = map(int, subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout.split())

    assert large - small < 20


def test_what_is_erased_leaves_no_copy(store: ObjectStore) -> None:
    """Nor does anything else go that is called almost the same."""
    for key in ("transcripts/7/1/a.txt", "transcripts/7/2/a.txt", "transcripts/70/1/a.txt", "transcripts/7/1/a.txt.b"):
        store.put(key, b"abc")

    assert sorted(copy.key for copy in store.copies("transcripts/7")) == [
        "transcripts/7/1/a.txt",
        "transcripts/7/1/a.txt.b",
        "transcripts/7/2/a.txt",
    ]
    assert [(copy.key, copy.size) for copy in store.copies("transcripts/7/1/a.txt")] == [("transcripts/7/1/a.txt", 3)]
    store.erase("transcripts/7/1/a.txt")
    store.erase("transcripts/7/1/a.txt")
    assert list(store.copies("transcripts/7/1/a.txt")) == []
    assert keys(store) == ["transcripts/7/1/a.txt.b", "transcripts/7/2/a.txt", "transcripts/70/1/a.txt"]
