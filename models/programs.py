"""Programs: compiled for a device, and kept in the compile cache as they are.

JAX's own cache saves compiling, but not tracing and lowering, which take longer than all else of a warm start. Here an
executable is found by what it was made from, without tracing: our sources and JAX's version, the device, what the
caller compiled in, and the shapes of the arguments.
"""

from __future__ import annotations

import functools
import hashlib
import os
import pickle
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
from jax.experimental.compilation_cache.compilation_cache import reset_cache
from jax.experimental.serialize_executable import deserialize_and_load, serialize
from jax.stages import Compiled


def compiled(jitted: Any, arguments: tuple[Any, ...], name: str, *, of: object) -> Compiled:
    """A jitted function, compiled for these arguments or read from the cache.

    Args:
        jitted: the function.
        arguments: arrays, or what has their shapes, dtypes and shardings.
        name: of the program, for the file's name.
        of: everything else that the program depends on and that JAX does not see in the arguments; its `repr` counts,
            and has no addresses in it.
    """
    file = _file(name, of, arguments)
    if file is not None and (known := _read(file)) is not None:
        return known
    with _without_jaxs_cache():
        program: Compiled = jitted.lower(*arguments).compile()
    if file is not None:
        _write(file, program)
    return program


@contextmanager
def _without_jaxs_cache() -> Iterator[None]:
    """An executable that was read from there cannot be serialised again: on a CPU, functions of it would be missing."""
    jax.config.update("jax_enable_compilation_cache", False)
    reset_cache()  # only then it notices
    try:
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", True)
        reset_cache()


def _file(name: str, of: object, arguments: tuple[Any, ...]) -> Path | None:
    folder: str | None = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
    if folder is None:
        return None
    leaves, tree = jax.tree.flatten(arguments)
    shapes = [(leaf.shape, str(leaf.dtype), str(getattr(leaf, "sharding", ""))) for leaf in leaves]
    made_from = hashlib.sha256(repr((_sources(), _machine(), name, of, str(tree), shapes)).encode())
    return Path(folder) / "programs" / f"{name}-{made_from.hexdigest()[:32]}"


def _read(file: Path) -> Compiled | None:
    try:
        payload, in_tree, out_tree = pickle.loads(file.read_bytes())
        program: Compiled = deserialize_and_load(payload, in_tree, out_tree)
    except FileNotFoundError:
        return None
    except Exception:
        return None
    return program


def _write(file: Path, program: Compiled) -> None:
    """Keep it; where that cannot be, the next process compiles again."""
    new = file.with_name(f"{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        new.write_bytes(pickle.dumps(serialize(program)))
        new.replace(file)
    except (OSError, ValueError, TypeError, jax.errors.JaxRuntimeError):  # a full disk; what cannot be serialised
        with suppress(OSError):
            new.unlink()


@functools.cache
def _sources() -> str:
    """A digest of what programs are traced from."""
    total = hashlib.sha256()
    for file in sorted(Path(__file__).parent.rglob("*.py")):
        total.update(file.read_bytes())
    for package in ("jax", "jaxlib", "flax"):
        total.update(version(package).encode())
    return total.hexdigest()


@functools.cache
def _machine() -> str:
    """What executables are made for: kind, number and driver of the devices; a CPU's instructions."""
    device = jax.devices()[0]
    kind = f"{device.device_kind} x {jax.device_count()}, {device.client.platform_version}"
    if device.platform != "cpu":
        return kind
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return kind + next(line for line in lines if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):  # not Linux: one machine has one cache
        return kind
