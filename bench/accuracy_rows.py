"""The lines of `accuracy.py`'s tables: what one way of hearing made of some recordings, in figures and in Markdown."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from accuracy_measures import Interval, difference, outside, passages

from models.accuracy import Errors, compare, normal_form
from stenopool.domain import SAMPLE_RATE

#: Both sets are English: Whisper's normal form, for ours and for the peers.
FORM = normal_form("en")

#: What each group of ways has in common.
GROUPS = {
    "chunked": "Many chunks at once",
    "alone": "Window by window, each on its own",
    "told": "Window by window, each told what was heard before",
}
SETS = {"sample": "The bundled sample", "half hour": "Half an hour"}
HEAD = ("", "WER", "difference", "95 of 100", "CER", "sub", "del", "ins", "rep", "outside", "CPU")


@dataclass(frozen=True, slots=True, kw_only=True)
class Spoken:
    """What is said in a recording, and when."""

    name: str
    lines: tuple[str, ...]
    #: Of each line, in seconds.
    times: tuple[Interval, ...]
    #: Seconds of the whole recording.
    duration: float


def read_spoken(name: str, path: Path) -> Spoken:
    """From the times that `make_sample.py` writes beside a recording."""
    truth = json.loads(path.read_text())
    said = truth["utterances"]
    return Spoken(
        name=name,
        lines=tuple(one["text"] for one in said),
        times=tuple((one["start"] / SAMPLE_RATE, one["end"] / SAMPLE_RATE) for one in said),
        duration=truth["duration"] / SAMPLE_RATE,
    )


def row(way: Mapping[str, Any], first: Mapping[str, Any], spoken: Sequence[Spoken]) -> dict[str, Any]:
    """The figures of one way on some recordings.

    Args:
        way: what was heard, as `accuracy.py` keeps it.
        first: the same of the way that it is compared with, perhaps itself.
        spoken: the recordings.
    """
    words, characters, repeated = Errors(), Errors(), 0
    for one in spoken:
        compared = compare(" ".join(one.lines), way["recordings"][one.name]["text"], FORM)
        words, characters = words + compared.words, characters + compared.characters
        repeated += compared.repeated

    def parts(of: Mapping[str, Any]) -> Any:
        return np.concatenate([passages(one.lines, of["recordings"][one.name]["text"], FORM) for one in spoken])

    ours, theirs = parts(way), parts(first)
    return {
        "name": way["name"],
        "wer": words.rate,
        "difference": float((ours - theirs)[:, 0].sum() / ours[:, 1].sum()),
        "interval": difference(ours, theirs),
        "cer": characters.rate,
        "substitutions": words.substitutions,
        "deletions": words.deletions,
        "insertions": words.insertions,
        "words": words.reference,
        "repeated_5grams": repeated,
        "seconds_outside": sum(outside(one.times, way["recordings"][one.name]["segments"]) for one in spoken),
        "seconds_failed": sum(way["recordings"][one.name].get("failed", 0) for one in spoken) / SAMPLE_RATE,
        "same_as_first": all(way["recordings"][one.name] == first["recordings"][one.name] for one in spoken),
        # Of all sets together: they are heard in one go.
        "wall_seconds": way["wall_seconds"],
        "cpu_seconds": way["cpu_seconds"],
    }


def precision(heard: Sequence[Mapping[str, Any]], sets: Mapping[str, Sequence[Spoken]]) -> list[dict[str, Any]]:
    """What a lower precision costs, ours and the peers': each way that is named after one, less the one in float32.

    Args:
        heard: all ways, those in float32 first.
        sets: name -> recordings; figures are of each set and of all together.
    """
    whole = {**sets, "both": [one for spoken in sets.values() for one in spoken]}
    found = []
    for way in heard:
        dtype = next((dtype for dtype in ("bfloat16", "int8") if way["name"].endswith(dtype)), None)
        if dtype is None:
            continue
        package = way["name"].split(",")[0].split()[0]
        first = next(one for one in heard if one["group"] == way["group"] and one["name"].startswith(package))
        rows = {name: row(way, first, spoken) for name, spoken in whole.items()}
        figures = {name: {key: one[key] for key in ("difference", "interval")} for name, one in rows.items()}
        found.append({"name": package, "group": way["group"], "dtype": dtype, "figures": figures})
    return found


def markdown(results: Mapping[str, Any]) -> str:
    """All tables, as docs/accuracy.md has them."""
    parts = [_precision(results["precision"])]
    for title, rows in results["tables"].items():
        part, group = title.split(", ")
        seconds = results["seconds"][part]
        heading = f"### {SETS[part]} ({int(seconds // 60)}:{int(seconds % 60):02}): {GROUPS[group].lower()}"
        lines = [HEAD, ("---", *["--:"] * (len(HEAD) - 1)), *(_cells(one, rows[0]) for one in rows)]
        parts.append("\n".join([heading, "", *(f"| {' | '.join(line)} |" for line in lines)]))
    return "\n\n".join(parts)


def _precision(found: Sequence[Mapping[str, Any]]) -> str:
    names = list(found[0]["figures"]) if found else []
    lines = [("", "", "", *names), ("---", "---", "---", *["--:"] * len(names))]
    for one in found:
        cells = (f"{100 * each['difference']:+.1f} ({_interval(each)})" for each in one["figures"].values())
        lines.append((one["name"], one["dtype"], GROUPS[one["group"]].lower(), *cells))
    return "\n".join(["### Lower precision less float32", "", *(f"| {' | '.join(line)} |" for line in lines)])


def _interval(figures: Mapping[str, Any]) -> str:
    low, high = figures["interval"]
    return f"{100 * low:+.1f} … {100 * high:+.1f}"


def _cells(row: Mapping[str, Any], first: Mapping[str, Any]) -> tuple[str, ...]:
    points = "same text" if row["same_as_first"] else f"{100 * row['difference']:+.1f}"
    return (
        row["name"],
        f"{row['wer']:.1%}",
        "" if row is first else points,
        "" if row["same_as_first"] else _interval(row),
        f"{row['cer']:.1%}",
        *(str(row[key]) for key in ("substitutions", "deletions", "insertions", "repeated_5grams")),
        f"{row['seconds_outside']:.0f} s",
        f"{row['cpu_seconds']:.0f} s",
    )
