"""The figures as pictures: python bench/plot.py, where matplotlib is installed (the environment of `make parity`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
mpl.rcParams["svg.hashsalt"] = "stenopool"  # the same figures give the same file
from matplotlib import pyplot as plt  # noqa: E402 - after the backend is chosen

BENCH = Path(__file__).parent
OURS, THEIRS = "#1a7f5a", "#9aa5b1"


def speed(results: dict[str, Any]) -> None:
    """A panel for each model, a bar for each engine: medians, and the range of the rounds."""
    figure, panels = plt.subplots(1, len(results), figsize=(5 * len(results), 3.6), layout="constrained")
    for panel, (name, model) in zip(panels, results.items(), strict=True):
        rows = model["rows"][::-1]
        speeds = [row["times_real_time"] for row in rows]
        reach = [
            [s - row["slowest"] for s, row in zip(speeds, rows, strict=True)],
            [row["fastest"] - s for s, row in zip(speeds, rows, strict=True)],
        ]
        colours = [OURS if row["engine"].startswith("stenopool") else THEIRS for row in rows]
        panel.barh([row["engine"] for row in rows], speeds, xerr=reach, color=colours, ecolor="#444", capsize=2)
        panel.set_title(f"{name}: times real time")
        panel.spines[["top", "right"]].set_visible(False)
    save(figure, "speed")


def slots(results: dict[str, Any]) -> None:
    """Slots beside static batches."""
    models = results["models"]
    figure, panel = plt.subplots(figsize=(5, 2.6), layout="constrained")
    for at, (way, colour) in enumerate((("static", THEIRS), ("slots", OURS))):
        places = [place + 0.38 * at for place in range(len(models))]
        speeds = [found[way]["times_real_time"] for found in models.values()]
        panel.barh(places, speeds, height=0.36, color=colour, label=way)
    panel.set_yticks([place + 0.19 for place in range(len(models))], list(models))
    panel.set_title(f"times real time with {results['slots']} slots, texts of mixed length")
    panel.spines[["top", "right"]].set_visible(False)
    panel.legend(frameon=False)
    save(figure, "slots")


def save(figure: Any, name: str) -> None:
    """As a file beside the figures, without a date in it."""
    figure.savefig(BENCH / f"{name}.svg", metadata={"Date": None})


if __name__ == "__main__":
    speed(json.loads((BENCH / "speed.json").read_text()))
    slots(json.loads((BENCH / "slots.json").read_text()))
