"""The screen of `stenopool up`: what is handed in, what is done, who works."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from stenopool.errors import StenopoolError
from stenopool.local_farm import LocalFarm
from storage.tables import Lane
from workers.farm import Farm

_STATES = ("accepted", "ingesting", "transcribing", "publishing", "completed", "failed")


class Screen:
    """Draws a farm. Close it in the end."""

    def __init__(self, farm: LocalFarm) -> None:
        self._local = farm
        self._farm = Farm(farm.places, lease=farm.config.lease)

    def close(self) -> None:
        """Give the connections back."""
        self._farm.close()

    def draw(self) -> RenderableType:
        """How it is now."""
        try:
            return Group(self._submissions(), self._processes(), Text("Ctrl-C ends the farm", style="dim"))
        except StenopoolError as error:
            return Text(f"stenopool: {error}")

    def _submissions(self) -> Table:
        counts = self._farm.desk.counts()
        table = Table("lane", *_STATES, box=None, pad_edge=False)
        for lane in Lane:
            row = []
            for state in _STATES:
                # Completed counts however it is: with gaps, or empty.
                n = sum(n for (of, name), n in counts.items() if of == lane and name.startswith(state))
                row.append(str(n or "·"))
            table.add_row(lane.name.lower(), *row)
        return table

    def _processes(self) -> Table:
        workers = {worker.pid: worker for worker in self._farm.fleet.workers()}
        table = Table("process", "role", "state", "model", "restarts", box=None, pad_edge=False)
        for member in self._local.members:
            worker = workers.get(member.pid or 0)
            state = "ended" if member.pid is None else worker.state if worker else "starting"
            model = f"{worker.model}, {worker.slots} slots" if worker and worker.model else ""
            table.add_row(str(member.pid or ""), member.role, state, model, str(member.restarts or ""))
        return table
