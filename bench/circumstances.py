"""When, where and of what a figure is: every file of figures says so."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

#: What a processor multiplies with, the widest first, as Linux names it and as everybody does.
WIDEST = {
    "amx_int8": "AMX",
    "avx512_bf16": "AVX-512 BF16",
    "avx512_vnni": "AVX-512 VNNI",
    "avx512f": "AVX-512",
    "avx2": "AVX2",
}


def circumstances(*packages: str) -> dict[str, Any]:
    """Today, this machine, and the versions of Stenopool and of these packages."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{len(os.sched_getaffinity(0))} cores, {platform.machine()}{_widest()}",
        "versions": {name: version(name) for name in ("stenopool", *packages)},
    }


def _widest() -> str:
    """The processor's widest products, where the system tells: what a precision gains depends on them."""
    try:
        flags = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return ""
    return next((f", {name}" for flag, name in WIDEST.items() if flag in flags), "")
