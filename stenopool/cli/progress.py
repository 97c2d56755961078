"""The progress bar of long work: audio-seconds done, speed as a multiple of real time, time left."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, ProgressColumn, Task, TextColumn
from rich.progress import Progress as RichProgress
from rich.text import Text

from stenopool.domain import SAMPLE_RATE

if TYPE_CHECKING:
    from workers.prepare import SourceFile


class Progress:
    """An observer of the one-machine driver that draws on standard error; elsewhere than on a terminal it only says.

    Args:
        enabled: draw and say; else only what must be said.
        n_sources: how many sources there are.
    """

    def __init__(self, *, enabled: bool, n_sources: int) -> None:
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._enabled = enabled
        self._n_sources = n_sources
        self._planned = 0
        self._started: float | None = None
        self._rich = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            _AudioSeconds(),
            _Speed(),
            console=self._console,
            disable=not (enabled and self._console.is_terminal),
            transient=True,
        )
        self._bar = self._rich.add_task("opening", total=None, speed=0.0)

    def __enter__(self) -> Progress:
        self._rich.start()
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self._rich.stop()

    def say(self, line: str, *, always: bool = False) -> None:
        """Print a line above the bar."""
        if self._enabled or always:
            self._console.print(line, markup=False)

    def decoded(self, source: SourceFile, _samples: int, /) -> None:
        """Observer: a file is being decoded."""
        if self._planned == 0:
            self._rich.update(self._bar, description=f"reading {escape(source.name)}", completed=0)

    def planned(self, _source: SourceFile, samples: int, done: int, /) -> None:
        """Observer: a file's chunks are in the ledger."""
        self._planned += 1
        self._started = self._started or time.monotonic()
        task = self._rich.tasks[self._bar]
        self._rich.update(
            self._bar,
            description=f"{self._planned}/{self._n_sources} transcribing" if self._n_sources > 1 else "transcribing",
            total=(task.total or 0) + samples / SAMPLE_RATE,
            completed=task.completed + done / SAMPLE_RATE,
        )

    def advanced(self, _source: SourceFile, samples: int, /) -> None:
        """Observer: a chunk is done."""
        task = self._rich.tasks[self._bar]
        seconds = samples / SAMPLE_RATE
        worked = task.fields.get("worked", 0.0) + seconds
        elapsed = time.monotonic() - (self._started or time.monotonic())
        # Overlaps count twice in `samples`: the bar stops at its end.
        completed = min(task.completed + seconds, task.total or 0)
        self._rich.update(self._bar, completed=completed, worked=worked, speed=worked / max(elapsed, 1e-3))


class _AudioSeconds(ProgressColumn):
    def render(self, task: Task) -> Text:
        total = "?" if task.total is None else _clock(task.total)
        return Text(f"{_clock(task.completed)} / {total} audio")


class _Speed(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.fields["speed"]
        if not speed or task.total is None:
            return Text("")
        return Text(f"{speed:.0f}x real time, {_clock((task.total - task.completed) / speed)} left")


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
