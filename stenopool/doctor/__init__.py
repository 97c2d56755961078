"""The doctor: what a farm, or this machine alone, needs, looked at piece by piece, with what to do about it.

Each check looks at one thing, and what it saw is judged by a function of its own; all of them run at once, each for so
many seconds at most. Nothing is changed but for probes, which are removed; nothing that is told has a password in it.
"""

from stenopool.doctor.checks import checks_of
from stenopool.doctor.findings import Finding, State, examine, unanswered

__all__ = ["Finding", "State", "checks_of", "examine", "unanswered"]
