"""What can be done to a recording or a campaign by a button."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from stenopool.api.caller import Caller
from storage.access import Access
from storage.desk import Submission
from storage.tables import ENDED, RETRYABLE
from workers.farm import Farm


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """A button."""

    name: str
    #: What it is asked with before it is done.
    asks: str
    #: Of the desk: False where there is nothing to do.
    does: Callable[[Farm, int], bool]

    def do(self, farm: Farm, caller: Caller, one: Submission) -> bool:
        """Do it, and write down who did."""
        done = self.does(farm, one.id)
        if done:
            Access(farm.database).note(
                caller.actor, f"submission.{self.name}", f"submission {one.id}", tenant=one.tenant
            )
        return done


ACTIONS = {
    action.name: action
    for action in (
        Action(
            name="cancel",
            asks="What is transcribed of it so far is given up.",
            does=lambda farm, id: farm.desk.cancel(id),
        ),
        Action(
            name="pause",
            asks="Nothing more of it is begun until it is resumed.",
            does=lambda farm, id: farm.desk.pause(id),
        ),
        Action(name="resume", asks="It goes on where it was.", does=lambda farm, id: farm.desk.resume(id)),
        Action(
            name="retry",
            asks="What failed or was cancelled is done again; of what has gaps, only these.",
            does=lambda farm, id: farm.desk.retry(id),
        ),
    )
}


def fitting(one: Submission) -> list[Action]:
    """What can be done to a recording as it is."""
    names = ["retry"] if one.state in RETRYABLE else []
    if one.state not in ENDED:
        names += ["resume" if one.paused else "pause", "cancel"]
    return [ACTIONS[name] for name in names]
