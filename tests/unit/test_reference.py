"""The reference in docs/reference is what the program says of itself."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
PAGES = runpy.run_path(str(DOCS / "make_reference.py"))["pages"]()


@pytest.mark.parametrize("name", PAGES)
def test_the_reference_is_not_stale(name: str) -> None:
    """Else: make reference."""
    assert (DOCS / "reference" / name).read_text(encoding="utf-8") == PAGES[name]


def test_nothing_else_is_in_it() -> None:
    """What the program no longer has is gone from it."""
    assert {path.name for path in (DOCS / "reference").iterdir()} == set(PAGES)
