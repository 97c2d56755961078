"""The device: what it can compute in, and where compiled programs are kept.

JAX is imported where it is asked: a process that plans for engines elsewhere may be without it.
"""

from __future__ import annotations

from pathlib import Path

from stenopool.domain import DTYPES, DType
from stenopool.errors import UsageError


def use_compile_cache(folder: Path) -> None:
    """Keep compiled programs in `folder`, so that the next process with the same shapes does not compile.

    Raises:
        UsageError: the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder}: cannot be made ({error.strerror}); set STENOPOOL_CACHE elsewhere") from error
    import jax

    jax.config.update("jax_compilation_cache_dir", str(folder))
    # Everything, however small: a worker's start is the sum of many small programs.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def resolve_dtype(dtype: DType) -> str:
    """`auto` is bfloat16 on accelerators and float32 on CPUs.

    Raises:
        UsageError: there is no such dtype here.
    """
    if dtype not in DTYPES:
        raise UsageError(f"no dtype {dtype!r}; choose from {', '.join(DTYPES)}")
    if dtype == "auto":
        import jax

        return "float32" if jax.default_backend() == "cpu" else "bfloat16"
    return dtype


def describe_devices() -> dict[str, str | int]:
    """What JAX computes on: its platform, the kind of the devices, their number, the bytes that are free on each.

    Raises:
        RuntimeError: JAX cannot use what it was told to use.
    """
    import jax

    from models.sizes import free_memory

    devices = jax.local_devices()
    return {
        "platform": devices[0].platform,
        "kind": devices[0].device_kind,
        "number": len(devices),
        "free": free_memory(devices),
    }
