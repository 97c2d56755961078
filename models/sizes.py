"""Sizes: how many chunks are encoded together and how many are decoded, from the model and the room on the device.

Whoever asks for more than there is room for gets what fits. Estimates can be wrong and others may use the device, so an
engine whose device is full goes on with half (`smaller`), and that is remembered for its next start.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jax

from models.memory import memory
from models.whisper.dims import ModelDimensions

#: Share of the free memory that is planned with; the rest is for what a formula does not see, such as the temporary
#: arrays of a step, and for slots that are decoded in another way.
SHARE = 0.75

#: A device that was full is tried anew after this: perhaps something else was running on it.
FORGET_AFTER = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Sizes:
    """Chunks per call of the encoder, and decoder slots."""

    encoder_batch: int
    slots: int


def wished(dims: ModelDimensions, dtype: str, backend: str) -> Sizes:
    """What fills a device, if it has the room; per device along the mesh's `data`.

    A CPU gains nothing from wider products in the encoder, and every step of the decoder reads all its weights once,
    however many slots share it. The slots of an accelerator are as many as make the weights a sixteenth of what a step
    reads, from where on more of them save next to nothing. Its encoder is filled by the products of a few windows; a
    sixteenth of the slots keeps those that wait for its next batch few.
    """
    if backend == "cpu":
        return Sizes(1, 8)
    parts = memory(dims, dtype)
    slots = 1 << (round(16 * parts.step / parts.audio) - 1).bit_length()
    slots = min(max(32, slots), 256)
    return Sizes(max(4, slots // 16), slots)


def needed(models: Sequence[ModelDimensions], dtype: str, sizes: Sizes, backend: str) -> int:
    """Bytes that an engine of these sizes takes, roughly; of its model, and of its assistant if there is one."""
    total = 0
    for dims in models:
        parts = memory(dims, dtype)
        # A CPU keeps in float32 what is bfloat16 elsewhere.
        kept = memory(dims, "float32" if backend == "cpu" and dtype == "bfloat16" else dtype)
        # Keys and values of a batch are there twice, until they are in their slots.
        rows = sizes.encoder_batch * (parts.encoder_row + kept.audio)
        total += parts.parameters + rows + sizes.slots * kept.slot()
    return total


def fitting(models: Sequence[ModelDimensions], dtype: str, asked: Sizes, backend: str, free: int) -> Sizes:
    """The sizes asked for, or as much of them as fits into so many free bytes; at least one of each."""
    room = round(free * SHARE)
    while needed(models, dtype, asked, backend) > room and asked != Sizes(1, 1):
        asked = smaller(asked)
    return asked


def smaller(sizes: Sizes) -> Sizes:
    """Half of them, the next try where these were too many; the same where there is nothing to halve."""
    return Sizes(max(1, sizes.encoder_batch // 2), max(1, sizes.slots // 2))


def free_memory(devices: list[Any]) -> int:
    """Bytes free on each of these devices of JAX, which is for a CPU a share of what the machine has left."""
    free = []
    for device in devices:
        stats = _stats(device)
        if "bytes_limit" in stats:
            free.append(stats["bytes_limit"] - stats["bytes_in_use"])
    return min(free) if free else _machine_memory() // len(devices)


def _stats(device: Any) -> dict[str, int]:
    """What an accelerator says of its memory; nothing of a CPU."""
    stats: dict[str, int] | None = None if device.platform == "cpu" else device.memory_stats()
    return stats or {}


def _machine_memory() -> int:
    """Bytes that this process may still take: of the machine, or of its control group (a container's limit)."""
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        available = int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):  # not Linux
        available = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    return max(0, min(available, _left_in_group(Path("/sys/fs/cgroup"), available)))


def _left_in_group(group: Path, most: int) -> int:
    """Bytes below the limit of a control group, of either version; files that it has read do not count as used."""
    for folder, limit, used, cached in (
        (group, "memory.max", "memory.current", "inactive_file"),
        (group / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        try:
            stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
            taken = int((folder / used).read_text()) - int(stat[cached])
            return int((folder / limit).read_text()) - taken
        except (OSError, ValueError, KeyError):  # no such group, or no limit: "max"
            continue
    return most


class Remembered:
    """Sizes that a device had room for after it was full, in a file that may be deleted at any time."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def get(self, key: str) -> Sizes | None:
        """None if the device was never full, or long ago."""
        entry = self._read().get(key, {})
        try:
            fresh = datetime.now(UTC) - datetime.fromisoformat(entry["date"]) < FORGET_AFTER
            sizes = Sizes(int(entry["encoder_batch"]), int(entry["slots"]))
        except (TypeError, KeyError, ValueError):
            return None
        return sizes if fresh and min(sizes.encoder_batch, sizes.slots) > 0 else None

    def put(self, key: str, sizes: Sizes) -> None:
        """Remember it; a folder that cannot be written is no reason to fail."""
        entry = asdict(sizes) | {"date": datetime.now(UTC).isoformat(timespec="seconds")}
        new = self.file.with_name(f"{self.file.name}.{uuid.uuid4().hex}")
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            new.write_text(json.dumps(self._read() | {key: entry}, indent=1) + "\n")
            new.replace(self.file)
        except OSError:
            return

    def _read(self) -> dict[str, Any]:
        try:
            entries = json.loads(self.file.read_text())
        except (OSError, ValueError):
            return {}
        return entries if isinstance(entries, dict) else {}


def place_of(name: str, dtype: str, mesh: Mapping[str, int]) -> str:
    """What is remembered of: a model in a precision on so many of a kind of device with so much memory."""
    device = jax.devices()[0]
    stats = _stats(device)
    limit = f" of {stats['bytes_limit'] >> 30} GiB" if "bytes_limit" in stats else ""
    devices = "x".join(map(str, mesh.values()))
    return f"{name} in {dtype} on {devices} {device.device_kind}{limit}"
