"""The one reader of the environment. Everything below is handed a `Config` and reads nothing itself."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Setting:
    """One environment variable, as the docs list it."""

    name: str
    default: str
    help: str


SETTINGS = (
    Setting("STENOPOOL_HOME", "~/.local/share/stenopool", "the ledger and the objects of this machine"),
    Setting("STENOPOOL_CACHE", "~/.cache/stenopool", "compiled programs; safe to delete at any time"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What the environment decides."""

    #: The ledger (`ledger.sqlite`) and the object store (`objects/`).
    home: Path
    #: The compile cache (`xla/`).
    cache: Path

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Config:
        """Read the settings; the XDG base directories are honoured where ours are not set."""
        env = os.environ if environ is None else environ
        data = env.get("XDG_DATA_HOME") or "~/.local/share"
        cache = env.get("XDG_CACHE_HOME") or "~/.cache"
        return cls(
            home=Path(env.get("STENOPOOL_HOME") or f"{data}/stenopool").expanduser(),
            cache=Path(env.get("STENOPOOL_CACHE") or f"{cache}/stenopool").expanduser(),
        )
