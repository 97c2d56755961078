"""Stenopool: archives of speech in, transcripts out, every second accounted for.

import stenopool
pool = stenopool.load_model("pocket")
print(pool.transcribe("talk.mp3", language="en").text)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stenopool.version import __version__

if TYPE_CHECKING:
    from stenopool.domain import Transcript
    from stenopool.pool import Pool, load_model

__all__ = ["Pool", "Transcript", "__version__", "load_model"]


def __getattr__(name: str) -> Any:
    # The engine is imported when it is first asked for: `stenopool --help` and the desk never load JAX.
    if name in ("Pool", "load_model"):
        from stenopool import pool

        return getattr(pool, name)
    if name == "Transcript":
        from stenopool.domain import Transcript

        return Transcript
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
