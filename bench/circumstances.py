"""When, where and of what a figure is: every file of figures says so."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any


def circumstances(*packages: str) -> dict[str, Any]:
    """Today, this machine, and the versions of Stenopool and of these packages."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{len(os.sched_getaffinity(0))} cores, {platform.machine()}",
        "versions": {name: version(name) for name in ("stenopool", *packages)},
    }
