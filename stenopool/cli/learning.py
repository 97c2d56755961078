"""The bar and the lines of a training: steps, loss, the word error rate of what was held out, time left."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as RichProgress

if TYPE_CHECKING:
    from models.training.listening import Heard

_EVERY = 100  # steps from one line to the next where no bar can be drawn


class Learning:
    """An observer of the trainer, on standard error.

    Args:
        enabled: draw and say.
    """

    def __init__(self, *, enabled: bool) -> None:
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._enabled = enabled
        self._rich = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[said]}"),
            console=self._console,
            disable=not (enabled and self._console.is_terminal),
            transient=True,
        )
        self._bar = self._rich.add_task("", total=None, said="")
        self._total = 0
        self._wer = ""
        self._said = 0

    def __enter__(self) -> Learning:
        self._rich.start()
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self._rich.stop()

    def begin(self, what: str, total: int) -> None:
        """Something long begins, of so many steps."""
        self._total = total
        self._rich.reset(self._bar, total=total, description=what, said="")
        if self._enabled and not self._console.is_terminal:
            self._console.print(f"{what}: {total}", markup=False)

    def advance(self) -> None:
        """One of them is done."""
        self._rich.advance(self._bar)

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        if self._enabled:
            self._console.print(line, markup=False)

    def resumed(self, step: int, /) -> None:
        """Observer: training goes on."""
        self.say(f"goes on after step {step}")

    def stepped(self, step: int, loss: float, seconds: float, /) -> None:
        """Observer: steps are done."""
        left = _clock((self._total - step) * seconds)
        said = f"loss {loss:.3f}{self._wer}, {seconds:.2f} s a step, {left} left"
        self._rich.update(self._bar, completed=step, said=said)
        if not self._console.is_terminal and (step - self._said >= _EVERY or step == self._total):
            self._said = step
            self.say(f"step {step}: {said}")

    def heard(self, step: int, heard: Heard, /) -> None:
        """Observer: the held-out recordings were heard."""
        self._wer = f", held-out WER {heard.rate:.1%}"
        self.say(f"step {step}: held-out WER {heard.rate:.1%} of {heard.errors.reference} words")
        for said, text in heard.examples[:1]:
            self.say(f"  said   {said}")
            self.say(f"  heard  {text}")


def _clock(seconds: float) -> str:
    minutes, _ = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min" if minutes else f"{seconds:.0f} s"
