"""The figures on the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from stenopool.evaluation.evaluation import Evaluation, Timing, total
from stenopool.evaluation.figures import Column, columns, describe_form, describe_run

PIPED_WIDTH = 200  # of characters, where no terminal sets a limit: whoever reads it wants whole names
NAME_WIDTH = 16  # of characters, at least: longer names are folded where they have to be


def print_table(
    evaluations: Sequence[Evaluation],
    timing: Timing | None,
    failed: Mapping[str, str],
    *,
    console: Console | None = None,
) -> None:
    """A line for each recording, then all together; and how the words were compared."""
    console = console or Console(highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, PIPED_WIDTH)
    if evaluations:
        console.print(_table(evaluations, _fitting(evaluations, console.width)))
        for form, n in Counter(describe_form(evaluation.form) for evaluation in evaluations).items():
            console.print(f"compared: {form}" if n == len(evaluations) else f"compared, {n} of them: {form}")
    if timing is not None:
        console.print(describe_run(timing), markup=False, soft_wrap=True)
    if failed:
        console.print(
            f"{len(failed)} of {len(failed) + len(evaluations)} could not be evaluated and are not in the total"
        )


def _fitting(evaluations: Sequence[Evaluation], width: int) -> list[Column]:
    """The columns, without the last ones where the terminal is too narrow for all."""
    together = total(evaluations)
    each = [together, *(evaluation.figures for evaluation in evaluations)]
    room = width - NAME_WIDTH - 1
    shown = []
    for column in columns(together):
        room -= max(len(column.head), *(len(column.show(figures)) for figures in each)) + 1
        if room < 0:
            break
        shown.append(column)
    return shown


def _table(evaluations: Sequence[Evaluation], shown: Sequence[Column]) -> Table:
    together = total(evaluations)
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold", footer_style="bold")
    table.show_footer = len(evaluations) > 1
    table.add_column("recording", footer=f"all {len(evaluations)}", overflow="fold", min_width=NAME_WIDTH)
    for column in shown:
        table.add_column(column.head, footer=column.show(together), justify="right", no_wrap=True)
    for evaluation in evaluations:
        # As text, not as markup: a name may have brackets.
        table.add_row(Text(evaluation.case.name), *(column.show(evaluation.figures) for column in shown))
    return table
