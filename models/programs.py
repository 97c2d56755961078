"""Programs: compiled for a device, and kept in the compile cache as they are.

JAX's own cache saves compiling, but not tracing and lowering, which take longer than all else of a warm start. Here an
executable is found by what it was made from, without tracing: our sources, the libraries and their settings, the
devices, what the caller compiled in, and the shapes of the arguments.
"""

from __future__ import annotations

import functools
import hashlib
import pickle
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import jax
from jax.experimental.compilation_cache.compilation_cache import reset_cache
from jax.experimental.serialize_executable import deserialize_and_load, serialize
from jax.stages import Compiled

from models.compiling import compiling, on_programs
from stenopool.config import compiler_flags

_LIBRARIES = ("jax", "jaxlib", "flax", "jax-cuda12-plugin", "jax-cuda13-plugin")
#: Of JAX, that change what is compiled.
_SETTINGS = (
    "jax_default_matmul_precision",
    "jax_default_prng_impl",
    "jax_threefry_partitionable",
    "jax_enable_x64",
    "jax_debug_nans",
)


def compiled(jitted: Any, arguments: tuple[Any, ...], name: str, *, of: object, devices: Sequence[Any]) -> Compiled:
    """A jitted function, compiled for these arguments or read from the cache.

    Args:
        jitted: the function.
        arguments: arrays, or what has their shapes, dtypes and shardings.
        name: of the program, for the file's name.
        of: everything else that the program depends on and that JAX does not see in the arguments; its `repr` counts,
            and has no addresses in it.
        devices: that it runs on.
    """
    with on_programs():
        file = _file(name, of, arguments)
        if file is not None and (known := _read(file, devices)) is not None:
            return known
        with _without_jaxs_cache(), compiling():
            program: Compiled = jitted.lower(*arguments).compile()
        if file is not None:
            _write(file, program)
        return program


@contextmanager
def _without_jaxs_cache() -> Iterator[None]:
    """An executable that was read from there cannot be serialised again: on a CPU, functions of it would be missing."""
    before: bool = jax.config.jax_enable_compilation_cache  # type: ignore[attr-defined]
    jax.config.update("jax_enable_compilation_cache", False)
    reset_cache()  # only then it notices
    try:
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", before)
        reset_cache()


def _file(name: str, of: object, arguments: tuple[Any, ...]) -> Path | None:
    folder: str | None = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
    if folder is None:
        return None
    leaves, tree = jax.tree.flatten(arguments)
    shapes = [(leaf.shape, str(leaf.dtype), str(getattr(leaf, "sharding", ""))) for leaf in leaves]
    made_from = hashlib.sha256(repr((_sources(), _machine(), name, of, str(tree), shapes)).encode())
    return Path(folder) / "programs" / f"{name}-{made_from.hexdigest()[:32]}"


def _read(file: Path, devices: Sequence[Any]) -> Compiled | None:
    try:
        digest, content = file.read_bytes().split(b"\n", 1)
        if hashlib.sha256(content).hexdigest().encode() != digest:
            return None
        payload, in_tree, out_tree = pickle.loads(content)
        program: Compiled = deserialize_and_load(payload, in_tree, out_tree, execution_devices=devices)
    except Exception:
        return None
    return program


def _write(file: Path, program: Compiled) -> None:
    """Keep it; where that cannot be, the next process compiles again."""
    new = file.with_name(f"{file.name}.{uuid.uuid4().hex}")
    try:
        content = pickle.dumps(serialize(program))
        file.parent.mkdir(parents=True, exist_ok=True)
        new.write_bytes(hashlib.sha256(content).hexdigest().encode() + b"\n" + content)
        new.replace(file)
    except Exception:
        with suppress(OSError):
            new.unlink()


@functools.cache
def _sources() -> str:
    """A digest of what programs are traced from."""
    total = hashlib.sha256()
    for file in sorted(Path(__file__).parent.rglob("*.py")):
        total.update(file.read_bytes())
    return total.hexdigest()


def _machine() -> tuple[object, ...]:
    """What executables are made by and for: libraries and their settings, devices, a CPU's instructions."""
    device = jax.devices()[0]
    settings = [getattr(jax.config, name) for name in _SETTINGS]
    libraries = [(name, _version(name)) for name in _LIBRARIES]
    devices = (device.device_kind, jax.device_count(), device.client.platform_version, _instructions(device.platform))
    return libraries, settings, compiler_flags(), devices


@functools.cache
def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@functools.cache
def _instructions(platform: str) -> str:
    """Of a CPU, which one cache may be shared by several kinds of."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines() if platform == "cpu" else []
    except OSError:  # not Linux: one machine has one cache
        lines = []
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")
