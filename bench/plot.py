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
    """Slots beside static batches: the time of the same chunks, and what their steps were for."""
    figure, panels = plt.subplots(1, 2, figsize=(8, 1.8), layout="constrained")
    ways = ("static_way", "slots_way")
    for panel, key, title in zip(
        panels, ("times_real_time", "occupancy"), ("times real time", "share of slot-steps that decode"), strict=True
    ):
        panel.barh(["static", "slots"], [results[way][key] for way in ways], color=[THEIRS, OURS])
        panel.set_title(title)
        panel.spines[["top", "right"]].set_visible(False)
    panels[1].set_xlim(0, 1)
    save(figure, "slots")


def save(figure: Any, name: str) -> None:
    """As a file beside the figures, without a date in it."""
    figure.savefig(BENCH / f"{name}.svg", metadata={"Date": None})


if __name__ == "__main__":
    speed(json.loads((BENCH / "speed.json").read_text()))
    slots(json.loads((BENCH / "slots.json").read_text()))
