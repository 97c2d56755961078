"""Erase: what a submission left in the object store goes, with all its former versions; then its receipt is complete.

Each step is kept in the ledger before the next one begins, and may be done twice.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping
from functools import partial
from typing import Any

from stenopool.errors import StoreError
from storage.erasing import LEGAL_HOLD, SHARED, Deletion, Erasing
from storage.needs import Needs
from storage.objects import ObjectStore
from workers.farm import Farm


class Eraser:
    """Completes deletions.

    Args:
        keep: as of `Needs`, and `sound` as well.
    """

    def __init__(self, farm: Farm, *, keep: float, sound: float = 0.0) -> None:
        self._store: ObjectStore = farm.store
        self._needs = Needs(farm.database, keep=keep, sound=sound)
        self.erasing = Erasing(farm.database)

    def go_on(self, id: int) -> bool:
        """Go on with the deletion of a submission; True once it is complete, False while a worker is still at it.

        Raises:
            StoreError: the object store does not do what it is asked for; where it will not, that is noted.
        """
        if not self.erasing.erase(id):
            return False
        try:
            self._objects(id)
        except StoreError as error:
            if not error.retryable:
                self.erasing.hindered(id, str(error))
            raise
        return True

    def _objects(self, id: int) -> None:
        deletion = self._deletion(id)
        if deletion.completed_at is not None:
            return
        if "objects" not in deletion.receipt:  # what is removed can be counted no more
            self.erasing.listed(id, self._found(deletion))
            deletion = self._deletion(id)
        objects: list[Mapping[str, Any]] = deletion.receipt["objects"]
        self.erasing.complete(id, {**deletion.receipt, "objects": [self._gone(one) for one in objects]})

    def _found(self, deletion: Deletion) -> list[dict[str, Any]]:
        """Objects that are there, or were; of each, how many versions there are, and their bytes."""
        sizes: dict[str, list[int]] = defaultdict(list)
        for prefix in filter(None, deletion.keys):
            for copy in self._store.copies(prefix):
                sizes[copy.key].append(copy.size)
        return [
            {"key": key, "kind": key.partition("/")[0], "versions": len(found), "bytes": sum(found)}
            for key, found in sorted(sizes.items())
        ]

    def _gone(self, one: Mapping[str, Any]) -> dict[str, Any]:
        """Remove an object unless somebody needs it; what the receipt says of it, which is not its key."""
        key: str = one["key"]
        removed = self._needs.unless_needed(key, partial(self._store.erase, key))
        record = {name: one[name] for name in ("kind", "versions", "bytes")}
        record["key_sha256"] = hashlib.sha256(key.encode()).hexdigest()
        if removed:
            return {**record, "removed": True}
        return {**record, "removed": False, "why": LEGAL_HOLD if self.erasing.is_held(key) else SHARED}

    def _deletion(self, id: int) -> Deletion:
        found = self.erasing.deletion(id)
        assert found is not None, id
        return found


def receipt_of(deletion: Deletion) -> dict[str, Any]:
    """What whoever asked for a deletion is given; complete once its state is "deleted"."""
    receipt = deletion.receipt
    return {
        "submission": deletion.submission,
        "tenant": deletion.tenant,
        "state": deletion.state.value,
        "by": deletion.by,
        "reason": deletion.reason,
        "asked_at": deletion.asked_at,
        "erased_at": deletion.erased_at,
        "completed_at": deletion.completed_at,
        "rows": receipt.get("rows", {}),
        "objects": receipt.get("objects", []) if deletion.completed_at is not None else [],
        "kept": receipt.get("kept", []),
        "error": deletion.error,
    }
