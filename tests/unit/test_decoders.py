"""Decoders: real processes that ingest, what they tell, and what is left where one of us is killed."""

from __future__ import annotations

import pickle
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from models.whisper.weights import WeightsMismatch
from stenopool import errors
from stenopool.config import Limits
from stenopool.errors import (
    FetchError,
    MediaBeyondLimit,
    MediaMissing,
    MediaUnreadable,
    OutOfRoom,
    StenopoolError,
    UsageError,
)
from storage.folder import FolderStore
from tests import sounds
from tests.processes import children, remember
from tests.unit.test_limits import wav
from workers.decoders import MOST_MEMORY, Decoders, decoders_for
from workers.ingest import Ingested, Stopped, ingest

only_on_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux keeps to a limit of data")


@pytest.fixture(autouse=True)
def servers() -> None:
    """What runs before a test is nothing of it."""
    remember()


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    """An object store of its own."""
    return FolderStore(tmp_path / "objects")


@pytest.fixture
def decoders() -> Iterator[Decoders]:
    """Decoders, ended when the test is; nothing of them stays."""
    decoders = Decoders()
    yield decoders
    decoders.close()
    assert children() == []


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that takes seconds to decode: 20 minutes."""
    path = tmp_path_factory.mktemp("long") / "long.wav"
    return sounds.write(path, np.zeros(1200 * 8000, np.uint8), rate=8000)


def run(
    way: Callable[..., list[Ingested]],
    path: Path,
    store: FolderStore,
    progress: Callable[[int], object] = lambda _: None,
    *,
    split: bool = False,
    stop: threading.Event | None = None,
) -> list[Ingested]:
    """Ingest a file one way or the other."""
    return way(path, store, split=split, vad=True, stop=stop or threading.Event(), progress=progress)


def kill(path: Path) -> None:
    """kill -9 of the decoder that has the file open."""
    for child in children():
        if str(path) in [file.path for file in child.open_files()]:
            child.kill()


def drafts(store: Path) -> list[Path]:
    """What was begun in an object store, and not kept."""
    return list((store / "unfinished").iterdir())


def test_how_many_suit_a_machine() -> None:
    """Half of the cores, for as many files as there are; a thread where cores are few, or a single file comes."""
    assert [decoders_for(None, sources=100, cores=cores) for cores in (1, 3, 4, 7, 16, 64)] == [1, 1, 2, 3, 8, 16]
    assert [decoders_for(None, sources=sources, cores=16) for sources in (0, 1, 2, 5, 8, 9)] == [1, 1, 2, 5, 8, 8]
    assert [decoders_for(asked, sources=1, cores=2) for asked in (1, 2, 64)] == [1, 2, 64]


@pytest.mark.parametrize("asked", [0, -1, 65, 2.0, True, "4"])
def test_nobody_has_so_many(asked: int) -> None:
    """One line says what may be asked for."""
    with pytest.raises(UsageError) as refusal:
        decoders_for(asked, sources=9, cores=9)

    assert str(refusal.value) == f"decoders must be a number from 1 to 64, or None; is {asked!r}"


def test_errors_keep_their_message_between_processes() -> None:
    """All of the tree, also one that is made from something else than its message."""
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, StenopoolError)]
    assert MediaUnreadable in kinds
    for kind in set(kinds) - {FetchError}:
        error = pickle.loads(pickle.dumps(kind("talk.mp3: is not audio")))
        assert (type(error), str(error)) == (kind, "talk.mp3: is not audio")
    fetched = pickle.loads(pickle.dumps(FetchError("busy", "host: is busy", retryable=True, later=30.0)))
    assert (str(fetched), fetched.code, fetched.retryable, fetched.later) == ("host: is busy", "busy", True, 30.0)
    mismatch = WeightsMismatch(Path("model"), ["one", "two"])
    copy = pickle.loads(pickle.dumps(mismatch))
    assert isinstance(copy, WeightsMismatch)
    assert (str(copy), copy.problems) == (str(mismatch), ("one", "two"))


def test_a_decoder_knows_neither_ledger_nor_model() -> None:
    """What it imports starts in a moment, and touches no device."""
    code = "import sys, workers.decoders; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()

    assert "av" in loaded
    assert not {"jax", "jaxlib", "flax", "transformers", "sqlalchemy", "huggingface_hub", "click"} & set(loaded)


def test_it_ingests_as_we_do(decoders: Decoders, store: FolderStore, tmp_path: Path) -> None:
    """The same samples under the same names, the same speech; from one process, file after file."""
    speech = sounds.read(sounds.SAMPLE)[: 20 * 16_000]
    two = sounds.write(tmp_path / "two.wav", np.stack([speech, np.zeros_like(speech)]))
    for path, split in [(sounds.SAMPLE, False), (two, True), (two, False)]:
        theirs, ours = run(decoders.ingest, path, store, split=split), run(ingest, path, store, split=split)
        for one, other in zip(theirs, ours, strict=True):
            assert one.activity is not None
            assert other.activity is not None
            assert np.array_equal(one.activity.probabilities, other.activity.probabilities)
            assert (one.channel, one.recording, one.duration) == (other.channel, other.recording, other.duration)
    assert len(children()) == 1
    assert len(store.idle("pcm", -1)) == 4


def test_it_tells_how_far_it_is(decoders: Decoders, store: FolderStore, long: Path) -> None:
    """Often enough for a progress bar, and no oftener."""
    told: list[int] = []
    started = time.monotonic()
    [one] = run(decoders.ingest, long, store, told.append)

    assert told == sorted(set(told))
    assert 0 < told[0] < told[-1] <= one.duration == 1200 * 16_000
    assert 2 <= len(told) <= 10 * (time.monotonic() - started) + 1


def test_what_is_no_sound_is_refused_in_the_same_words(decoders: Decoders, store: FolderStore, tmp_path: Path) -> None:
    """And the decoder goes on with the next file."""
    text = tmp_path / "text.mp3"
    text.write_bytes(b"this is not sound\n" * 100)
    for path, kind in ((text, MediaUnreadable), (tmp_path / "gone.wav", MediaMissing)):
        with pytest.raises(kind) as theirs:
            run(decoders.ingest, path, store)
        with pytest.raises(kind) as ours:
            run(ingest, path, store)
        assert str(theirs.value) == str(ours.value)
    [child] = children()
    assert run(decoders.ingest, sounds.SAMPLE, store)
    assert [child] == children()


def test_a_decoder_that_was_killed_is_replaced(decoders: Decoders, store: FolderStore, tmp_path: Path) -> None:
    """While it had nothing to do: the next file does not suffer."""
    path = sounds.write(tmp_path / "tone.wav", sounds.tone(2.0, rate=16_000))
    first = run(decoders.ingest, path, store)
    [child] = children()
    child.kill()

    assert run(decoders.ingest, path, store)[0].recording == first[0].recording


def test_a_file_that_kills_its_decoder_is_tried_once_more(
    decoders: Decoders, store: FolderStore, long: Path, tmp_path: Path
) -> None:
    """If the second decoder lives, all is well; else one line names the file. No draft is left."""
    deaths = [1]

    def once(_: int) -> None:
        if deaths:
            deaths.pop()
            kill(long)

    assert run(decoders.ingest, long, store, once)[0].duration == 1200 * 16_000
    with pytest.raises(MediaUnreadable) as error:
        run(decoders.ingest, long, store, lambda _: kill(long))

    assert str(error.value) == f"{long}: the decoder died on it (killed), 2 times"
    assert drafts(tmp_path / "objects") == []


def test_one_that_hangs_is_ended(store: FolderStore, long: Path, tmp_path: Path) -> None:
    """After the time that it may fall behind; one line names the setting, and the next file has another decoder."""
    decoders = Decoders(Limits(stall=3.0))

    def hang(_: int) -> None:
        for child in children():
            child.suspend()

    with pytest.raises(MediaBeyondLimit) as error:
        run(decoders.ingest, long, store, hang)

    assert str(error.value) == (
        f"{long}: its decoder fell 3 s behind real time, and was ended; "
        "raise STENOPOOL_MAX_STALL where the machine is slow"
    )
    assert children() == []
    assert drafts(tmp_path / "objects") == []
    assert run(decoders.ingest, sounds.SAMPLE, store)
    decoders.close()


def test_what_is_beyond_the_limits_is_refused_in_the_same_words(store: FolderStore, tmp_path: Path) -> None:
    """In a process as in a thread; and the decoder goes on with the next file."""
    path = sounds.write(tmp_path / "two.wav", sounds.noise(1, channels=2))
    decoders = Decoders(Limits(channels=1))
    with pytest.raises(MediaBeyondLimit, match="has 2 channels, and 1 at most are taken"):
        run(decoders.ingest, path, store)
    [child] = children()
    assert run(decoders.ingest, sounds.SAMPLE, store)
    assert [child] == children()
    decoders.close()


@only_on_linux
def test_one_without_memory_says_so(decoders: Decoders, store: FolderStore, tmp_path: Path) -> None:
    """It may pass, the file is not to blame, and the decoder lives."""
    path = tmp_path / "wide.wav"
    path.write_bytes(wav(channels=64, rate=192_000, bits=16, data=bytes(2 * 64 * 200_000)))
    small = sounds.write(tmp_path / "small.wav", sounds.tone(1))
    run(decoders.ingest, small, store)
    [child] = children()
    _, hard = child.rlimit(psutil.RLIMIT_DATA)
    child.rlimit(psutil.RLIMIT_DATA, (told_of(child, "VmData") + (24 << 20), hard))

    with pytest.raises(OutOfRoom) as error:
        decoders.ingest(path, store, split=True, vad=False, stop=threading.Event())

    assert error.value.retryable
    assert str(error.value).startswith(f"{path}: there is no memory left to decode it; ")
    assert drafts(tmp_path / "objects") == []
    assert children() == [child]


def told_of(process: psutil.Process, name: str) -> int:
    """Bytes, as the kernel counts them."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) * 1024


@only_on_linux
def test_a_small_file_that_claims_an_enormous_index(decoders: Decoders, store: FolderStore, tmp_path: Path) -> None:
    """An MP4's packets are listed in memory, which takes 3 GB here: the decoder may have no more than 2."""
    path = sounds.write(tmp_path / "bomb.m4a", sounds.noise(1)[0])
    data = bytearray(path.read_bytes())
    table, runs = data.index(b"stsz") + 8, data.index(b"stsc") + 12
    data[table : table + 8] = struct.pack(">II", 1, 85_000_000)  # of one byte each, 24 bytes of index for every one
    data[runs + 4 : runs + 8] = struct.pack(">I", 85_000_000)  # all in the first chunk
    path.write_bytes(data)

    with pytest.raises(MediaUnreadable, match="holds no sound: its audio track is empty"):  # the index was given up
        run(decoders.ingest, path, store)

    [child] = children()
    assert told_of(child, "VmHWM") < MOST_MEMORY / 4


def test_one_that_is_stopped_leaves_nothing(decoders: Decoders, store: FolderStore, long: Path, tmp_path: Path) -> None:
    """Neither its draft nor itself."""
    stop = threading.Event()
    with pytest.raises(Stopped):
        run(decoders.ingest, long, store, lambda _: stop.set(), stop=stop)

    assert children() == []
    assert drafts(tmp_path / "objects") == []


def test_one_that_does_not_listen_is_killed(store: FolderStore) -> None:
    """Stopped by a debugger, say: whoever leaves does not wait for it."""
    decoders = Decoders()
    run(decoders.ingest, sounds.SAMPLE, store)
    [child] = children()
    child.suspend()
    decoders.close()

    assert children() == []


#: As a user writes it: without a guard around what the script does.
SCRIPT = """
import sys, threading
from pathlib import Path
from storage.folder import FolderStore
from workers.decoders import Decoders

print("begun", flush=True)
decoders, store = Decoders(), FolderStore(Path(sys.argv[1]))

def run():
    decoders.ingest(Path(sys.argv[2]), store, split=False, vad=True, stop=threading.Event(), progress=told)

def told(_):
    print("decoding", flush=True)

for _ in range(2):
    threading.Thread(target=run).start()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_decoders_end_with_whoever_started_them(number: signal.Signals, long: Path, tmp_path: Path) -> None:
    """kill -9 gives a process no time to tell anybody; Ctrl-C in a terminal does not reach them before."""
    folder = tmp_path / "objects"
    command = [sys.executable, "-c", SCRIPT, str(folder), str(long)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "begun\n"
        assert parent.stdout.readline() == "decoding\n"  # and not "begun" once more, from a child
        children = psutil.Process(parent.pid).children()
        for child in children:
            child.send_signal(signal.SIGINT)
        parent.send_signal(number)
        parent.wait()

    assert len(children) == 2
    assert psutil.wait_procs(children, timeout=3)[1] == []
    assert drafts(folder) == []
