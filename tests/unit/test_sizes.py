"""Sizes: what suits a model is asked for, what has room is taken, and a full device is no end."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jax
import pytest

from models.checkpoint import find_checkpoint
from models.engine import Engine
from models.sizes import (
    FORGET_AFTER,
    SHARE,
    Remembered,
    Sizes,
    _left_in_group,
    fitting,
    needed,
    place_of,
    smaller,
    wished,
)
from stenopool.config import Config
from stenopool.domain import SAMPLE_RATE, Options
from stenopool.errors import DeviceFull, UsageError
from tests import sounds
from tests.unit.test_memory import published
from workers.local import Driver
from workers.prepare import SourceFile

#: A mesh of one device.
ONE = {"data": 1, "model": 1}
OPTIONS = Options(language="en", temperature=(0.0,))
GB = 10**9
LARGE = published(1280, 20, 32, 32, mels=128, vocab=51866)
TURBO = published(1280, 20, 32, 4, mels=128, vocab=51866)
TINY = published(384, 6, 4, 4)


@pytest.mark.parametrize(("dims", "slots"), [(LARGE, 128), (TURBO, 256), (TINY, 128)])
def test_slots_suit_the_model(dims: object, slots: int) -> None:
    """Enough that the decoder's weights are a small part of what a step reads, and a power of two."""
    assert wished(dims, "bfloat16", "gpu") == Sizes(slots // 16, slots)  # type: ignore[arg-type]
    assert wished(dims, "bfloat16", "cpu") == Sizes(1, 8)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("free", "slots"), [(141 * GB, 128), (80 * GB, 128), (40 * GB, 64), (24 * GB, 32), (10 * GB, 8)]
)
def test_what_has_room_is_taken(free: int, slots: int) -> None:
    """large-v3 on cards of several sizes: the largest power of two of slots with which everything fits."""
    sizes = fitting([LARGE], "bfloat16", wished(LARGE, "bfloat16", "gpu"), "gpu", free)

    assert sizes.slots == slots
    assert needed([LARGE], "bfloat16", sizes, "gpu") <= SHARE * free


def test_an_assistant_needs_room_too() -> None:
    """Its parameters and its keys and values count."""
    alone, both = (needed(models, "bfloat16", Sizes(16, 64), "gpu") for models in ([LARGE], [LARGE, TURBO]))

    assert both - alone == needed([TURBO], "bfloat16", Sizes(16, 64), "gpu")


def test_halving_ends_at_one() -> None:
    """Slots and rows of the encoder are halved together, until one of each is left."""
    assert smaller(Sizes(16, 128)) == Sizes(8, 64)
    assert smaller(Sizes(1, 3)) == Sizes(1, 1)
    assert smaller(Sizes(1, 1)) == Sizes(1, 1)
    assert fitting([LARGE], "bfloat16", Sizes(16, 128), "gpu", 0) == Sizes(1, 1)


def test_what_was_found_out_is_remembered_for_a_while(tmp_path: Path) -> None:
    """A week; then the device is tried anew. A damaged file, or one that cannot be written, is as none."""
    file = tmp_path / "cache" / "sizes.json"
    remembered = Remembered(file)
    assert remembered.get("here") is None

    here, there = Sizes(4, 32), Sizes(1, 8)
    remembered.put("here", here)
    remembered.put("there", there)
    assert (remembered.get("here"), remembered.get("there")) == (here, there)

    entries = json.loads(file.read_text())
    entries["here"]["date"] = (datetime.now(UTC) - FORGET_AFTER - timedelta(hours=1)).isoformat()
    file.write_text(json.dumps(entries))
    assert (remembered.get("here"), remembered.get("there")) == (None, there)

    entries["there"]["slots"] = -3
    file.write_text(json.dumps(entries))
    assert remembered.get("there") is None

    file.write_text('{"there": ')
    assert remembered.get("there") is None
    Remembered(Path("/proc/nowhere/sizes.json")).put("here", here)


def test_more_than_has_room_becomes_what_has(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A batch size is at most what was asked for: where it does not fit, a line says what it is instead."""
    monkeypatch.setattr("models.engine.free_memory", lambda _: 10**9)
    engine = Engine(find_checkpoint("pocket"), dtype="float32", batch_size=1000)

    assert 10 < engine.n_slots < 100
    assert caplog.messages == [
        f"pocket: {engine.n_slots} chunks are decoded together, not 1000: there is no room for more in 1.0 GB"
    ]


def test_another_size_keeps_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its parameters are not counted a second time, and what was asked for is looked at first."""
    room = needed([find_checkpoint("pocket").dims], "float32", Sizes(1, 16), "cpu")
    monkeypatch.setattr("models.engine.free_memory", lambda _: room / SHARE + 1)
    engine = Engine(find_checkpoint("pocket"), dtype="float32", batch_size=4)
    taken = sum(leaf.nbytes for leaf in jax.tree.leaves(engine.params))
    monkeypatch.setattr("models.engine.free_memory", lambda _: room / SHARE + 1 - taken)

    with pytest.raises(UsageError, match="at least 1"):
        engine.resize(0)
    engine.resize(16)

    assert (engine.n_slots, engine.batch_size) == (16, 16)


def test_what_is_remembered_is_asked_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An engine that was full begins with what it found room for, and says where that stands."""
    file = tmp_path / "sizes.json"
    remembered = Remembered(file)
    remembered.put(place_of("pocket", "float32", ONE), Sizes(1, 2))

    engine = Engine(find_checkpoint("pocket"), dtype="float32", batch_size=64, remembered=remembered)

    assert engine.n_slots == 2
    assert caplog.messages[0].startswith("pocket: 2 chunks are decoded together, not 64")
    assert caplog.messages[0].endswith(f"or was none before ({file})")


def test_files_in_memory_are_free_memory(tmp_path: Path) -> None:
    """Of a container's limit, what it has read from disk is not used up; either version of control groups."""
    (tmp_path / "memory.max").write_text("8000\n")
    (tmp_path / "memory.current").write_text("7900\n")
    (tmp_path / "memory.stat").write_text("anon 1000\ninactive_file 6000\n")
    assert _left_in_group(tmp_path, 10_000) == 6100

    (tmp_path / "memory.max").write_text("max\n")
    assert _left_in_group(tmp_path, 10_000) == 10_000
    assert _left_in_group(tmp_path / "nowhere", 10_000) == 10_000


FULL = """
import resource, sys
from pathlib import Path
import models.engine
from models.checkpoint import find_checkpoint
from models.engine import Engine
from models.sizes import Remembered
from stenopool.domain import Options
from stenopool.config import Config
from workers.local import Driver
from workers.prepare import SourceFile

models.engine.free_memory = lambda _: 10**15  # an estimate that is far too high
folder, sound = Path(sys.argv[1]), Path(sys.argv[2])
engine = Engine(
    find_checkpoint("pocket"), dtype="float32", batch_size=1024, remembered=Remembered(folder / "sizes.json")
)
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 3 * 10**9, used + 3 * 10**9))
config = Config(home=folder / "home", cache=folder / "cache")
with Driver(config, engine.checkpoint, Options(language="en", temperature=(0.0,)), engine=engine) as driver:
    [outcome] = driver.run([SourceFile(sound, sound.name)])
print(engine.n_slots)
print(outcome.transcripts[0].text)
"""


def test_a_full_device_goes_on_with_half(tmp_path: Path, pool_engine: Engine) -> None:
    """Allocations that really fail: the slots are halved until there is room, the text is as ever, and it is kept."""
    clip = sounds.write(tmp_path / "clip.wav", sounds.read(sounds.SAMPLE)[None, : 20 * SAMPLE_RATE])
    config = Config(home=tmp_path / "undisturbed", cache=Config.from_env().cache)
    with Driver(config, pool_engine.checkpoint, OPTIONS, engine=pool_engine) as driver:
        [undisturbed] = driver.run([SourceFile(clip, clip.name)])

    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path), str(clip)], capture_output=True, text=True, check=True, timeout=300
    )

    slots, text = done.stdout.splitlines()
    assert 8 <= int(slots) <= 512
    assert text == undisturbed.transcripts[0].text
    assert Remembered(tmp_path / "sizes.json").get(place_of("pocket", "float32", ONE)) == Sizes(1, int(slots))
    assert "pocket: the device has no room for 1024 slots; going on with 512" in done.stderr


def test_a_device_without_room_for_one_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is nothing to halve: one line says what to use instead."""

    def full(*_: object, **__: object) -> None:
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 12 bytes.\nmore")

    engine = Engine(find_checkpoint("pocket"), dtype="float32", batch_size=1)
    monkeypatch.setattr("models.group.Group.warm", full)

    with pytest.raises(
        DeviceFull, match=r"^pocket: the device has no room for it \(RESOURCE_EXHAUSTED.*another device$"
    ):
        engine.warm()
