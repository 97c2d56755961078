"""What was handed in before, by its idempotency keys."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import select

from storage.tables import SubmissionRow
from storage.transactions import Transactions


class Known(Transactions):
    """What whoever hands in again and again asks first."""

    def keys(self, tenant: str, keys: Collection[str]) -> dict[str, int]:
        """Those of these keys that a tenant used before, and the submission of each."""
        with self._transaction() as session:
            rows = session.execute(
                select(SubmissionRow.idempotency_key, SubmissionRow.id).where(
                    SubmissionRow.tenant == tenant, SubmissionRow.idempotency_key.in_(keys)
                )
            )
            return {key: id for key, id in rows if key is not None}
