"""Compiled programs are found again by what they were made from, and work; what is damaged is made anew."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from models.programs import compiled

ONE = jax.devices()[:1]

HEAR = """
import sys
from collections.abc import Iterator
from pathlib import Path
from models.checkpoint import find_checkpoint
from models.decoding.requests import Decoding, Request
from models.device import use_compile_cache
from models.engine import Engine
from tests.hearing import sample
use_compile_cache(Path(sys.argv[1]))
engine = Engine(find_checkpoint("pocket"), dtype="int8", batch_size=2, mesh=sys.argv[2] or None)
decoding = Decoding(language="en", max_new_tokens=40)
for heard in engine.run([Request(key=0, pcm=sample()[:160_000], decoding=decoding)]):
    print(*heard.tokens)
"""


def hear(folder: Path, *, mesh: str = "", flags: str = "") -> str:
    """Tokens, from a new process with that cache."""
    return subprocess.run(
        [sys.executable, "-c", HEAR, str(folder), mesh],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
        env=os.environ | {"XLA_FLAGS": flags},
    ).stdout


def files(folder: Path) -> dict[str, int]:
    """Programs in a cache, and when each was written."""
    return {file.name: file.stat().st_mtime_ns for file in (folder / "programs").iterdir()}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A cache that a process has filled, and what it heard; to be left as it is."""
    folder = tmp_path_factory.mktemp("filled")
    return folder, hear(folder)


def test_the_next_process_finds_them(filled: tuple[Path, str]) -> None:
    """It writes nothing new, and decodes as the first."""
    folder, first = filled
    written = files(folder)

    assert {name.partition("-")[0] for name in written} == {"fill", "advance"}
    assert hear(folder) == first
    assert files(folder) == written


def test_what_is_damaged_is_made_anew(filled: tuple[Path, str], tmp_path: Path) -> None:
    """A file cut short, and one with a bit that is not as it was: neither is run."""
    folder, first = filled
    shutil.copytree(folder / "programs", tmp_path / "programs")
    whole = {file: file.read_bytes() for file in (tmp_path / "programs").iterdir()}
    for file, content in whole.items():
        middle = len(content) // 2
        flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        file.write_bytes(content[:1000] if file.name.startswith("advance") else flipped)
    damaged = files(tmp_path)

    assert hear(tmp_path) == first
    assert all(when > damaged[name] for name, when in files(tmp_path).items())


@pytest.mark.parametrize("mesh", ["", "2x1"])
def test_a_machine_may_have_more_devices(tmp_path: Path, mesh: str) -> None:
    """Programs of some of its devices are found again, and run on these."""
    flags = "--xla_force_host_platform_device_count=4"
    first = hear(tmp_path, mesh=mesh, flags=flags)
    written = files(tmp_path)

    assert hear(tmp_path, mesh=mesh, flags=flags) == first
    assert files(tmp_path) == written


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Path]:
    """A compile cache of its own, which JAX already knows a program of."""
    before = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    yield tmp_path
    jax.config.update("jax_compilation_cache_dir", before)


def test_other_programs_are_not_taken_for_it(cache: Path) -> None:
    """What is compiled in, the name and the shapes all count."""
    x, y = jnp.arange(3.0), jnp.arange(4.0)

    def times(factor: int) -> object:
        return jax.jit(lambda x: x * factor)

    assert compiled(times(2), (x,), "times", of=2, devices=ONE)(x).tolist() == [0, 2, 4]
    assert compiled(times(3), (x,), "times", of=3, devices=ONE)(x).tolist() == [0, 3, 6]
    assert compiled(times(4), (x,), "others", of=2, devices=ONE)(x).tolist() == [0, 4, 8]
    assert compiled(times(5), (y,), "times", of=2, devices=ONE)(y).tolist() == [0, 5, 10, 15]
    assert compiled(times(6), (x,), "times", of=2, devices=ONE)(x).tolist() == [0, 2, 4]  # that one was kept
    assert len(files(cache)) == 4


def test_settings_of_the_compiler_count(cache: Path) -> None:
    """What JAX was told of precision is compiled in."""
    x = jnp.arange(3.0)

    compiled(jax.jit(lambda x: x @ x), (x,), "product", of=1, devices=ONE)
    with jax.default_matmul_precision("highest"):
        compiled(jax.jit(lambda x: x @ x), (x,), "product", of=1, devices=ONE)

    assert len(files(cache)) == 2


def test_a_cache_that_cannot_be_written_is_done_without(cache: Path) -> None:
    """It costs the next process the compiling, and this one nothing."""
    (cache / "programs").write_text("a file where the folder should be")
    x = jnp.arange(3.0)

    assert compiled(jax.jit(lambda x: x + 1), (x,), "plus", of=1, devices=ONE)(x).tolist() == [1, 2, 3]
