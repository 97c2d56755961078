"""Who gives a command, and what the audit log has of it."""

from __future__ import annotations

import os
import pwd
import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from storage.access import Actor
    from workers.farm import Farm


def actor() -> Actor:
    """Whoever gives the command: the account on this machine."""
    from storage.access import Actor

    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # in a container with a user that no passwd file knows
        name = str(os.getuid())
    return Actor(f"{name}@{socket.gethostname()}")


def note(farm: Farm, action: str, submission: int, after: Mapping[str, object] | None = None) -> None:
    """Write down what was done to a submission."""
    from storage.access import Access

    tenant = farm.desk.submission(submission).tenant
    Access(farm.database).note(actor(), action, f"submission {submission}", tenant=tenant, after=after)
