"""Compiled programs are found again by what they were made from, and work; what is damaged is made anew."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from models.programs import compiled

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
engine = Engine(find_checkpoint("pocket"), dtype="int8", batch_size=2)
decoding = Decoding(language="en", max_new_tokens=40)
for heard in engine.run([Request(key=0, pcm=sample()[:160_000], decoding=decoding)]):
    print(*heard.tokens)
"""


def hear(folder: Path) -> str:
    """Tokens, from a new process with that cache."""
    return subprocess.run(
        [sys.executable, "-c", HEAR, str(folder)], capture_output=True, text=True, check=True, timeout=300
    ).stdout


def files(folder: Path) -> dict[str, int]:
    """Programs in a cache, and when each was written."""
    return {file.name: file.stat().st_mtime_ns for file in (folder / "programs").iterdir()}


def test_the_next_process_finds_them(tmp_path: Path) -> None:
    """It writes nothing new, and decodes as the first; also where one of the files is cut short."""
    first = hear(tmp_path)
    written = files(tmp_path)
    assert {name.partition("-")[0] for name in written} == {"fill", "advance"}

    assert hear(tmp_path) == first
    assert files(tmp_path) == written

    [cut] = (file for file in (tmp_path / "programs").iterdir() if file.name.startswith("advance"))
    whole = cut.read_bytes()
    cut.write_bytes(whole[:1000])
    assert hear(tmp_path) == first
    assert len(cut.read_bytes()) > len(whole) / 2


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

    assert compiled(times(2), (x,), "times", of=2)(x).tolist() == [0, 2, 4]
    assert compiled(times(3), (x,), "times", of=3)(x).tolist() == [0, 3, 6]
    assert compiled(times(4), (x,), "others", of=2)(x).tolist() == [0, 4, 8]
    assert compiled(times(5), (y,), "times", of=2)(y).tolist() == [0, 5, 10, 15]
    assert compiled(times(6), (x,), "times", of=2)(x).tolist() == [0, 2, 4]  # that one was kept
    assert len(files(cache)) == 4


def test_a_cache_that_cannot_be_written_is_done_without(cache: Path) -> None:
    """It costs the next process the compiling, and this one nothing."""
    (cache / "programs").write_text("a file where the folder should be")
    x = jnp.arange(3.0)

    assert compiled(jax.jit(lambda x: x + 1), (x,), "plus", of=1)(x).tolist() == [1, 2, 3]
