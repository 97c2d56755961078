"""The stores that tests of storage share: a folder, and a bucket of a real server over HTTP."""

from __future__ import annotations

from pathlib import Path

import pytest

from storage.folder import FolderStore
from storage.objects import ObjectStore
from storage.s3 import S3Store


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    """An empty store of each kind."""
    if request.param == "folder":
        return FolderStore(tmp_path / "objects")
    s3: S3Store = request.getfixturevalue("s3")
    return s3
