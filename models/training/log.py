"""The log of a training: a line of JSON for every few steps, and a picture of them at the end."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM = 720, 300, 56, 28, 36  # pixels
_COLOURS = ("#1f6f8b", "#c8553d")


class Log:
    """Lines in a file. Where training goes on from an earlier step, what was written after it is forgotten."""

    def __init__(self, path: Path, step: int) -> None:
        self._path = path
        kept = [line for line in read_log(path) if line["step"] <= step]
        new = path.with_name(f".{path.name}.new")
        new.write_text("".join(f"{json.dumps(line)}\n" for line in kept), encoding="utf-8")
        new.replace(path)

    def add(self, step: int, **values: Any) -> None:
        """One line more."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")


def read_log(path: Path) -> list[dict[str, Any]]:
    """Its lines; one that was cut off by a crash is not there."""
    return list(_lines(path.read_text(encoding="utf-8"))) if path.exists() else []


def _lines(text: str) -> Iterator[dict[str, Any]]:
    for line in text.splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            return


def plot(lines: Iterable[dict[str, Any]], title: str) -> str:
    """The loss of the text by step, and the held-out word error rate where it was measured: a page of SVG."""
    lines = list(lines)
    curves = (
        ("loss", [(line["step"], line["text"]) for line in lines if "text" in line]),
        ("held-out word error rate", [(line["step"], line["wer"]) for line in lines if "wer" in line]),
    )
    last = max((step for _, points in curves for step, _ in points), default=1)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" font-family="sans-serif" '
        f'font-size="12"><rect width="100%" height="100%" fill="white"/>'
        f'<text x="{_LEFT}" y="18" font-weight="bold">{escape(title)}</text>'
    ]
    bottom = _HEIGHT - _BOTTOM
    parts.append(f'<path d="M{_LEFT} {_TOP}V{bottom}H{_WIDTH - _LEFT}" fill="none" stroke="#444"/>')
    for share in (0.0, 0.5, 1.0):
        x = _LEFT + share * (_WIDTH - 2 * _LEFT)
        parts.append(f'<text x="{x:.0f}" y="{bottom + 16}" text-anchor="middle">{round(share * last)}</text>')
    for index, (name, points) in enumerate(curves):
        if points:
            parts += _curve(name, points, last, index)
    return "".join([*parts, "</svg>\n"])


def _curve(name: str, points: Sequence[tuple[int, float]], last: int, index: int) -> Iterator[str]:
    """One curve on a scale of its own: the first on the left, the second on the right."""
    highest = max(value for _, value in points) or 1.0
    bottom, colour = _HEIGHT - _BOTTOM, _COLOURS[index]
    at = [
        (_LEFT + step / max(last, 1) * (_WIDTH - 2 * _LEFT), bottom - value / highest * (bottom - _TOP))
        for step, value in points
    ]
    yield f'<polyline points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in at)}" fill="none" stroke="{colour}"/>'
    if index:
        yield "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{colour}"/>' for x, y in at)
    x, anchor = ((_LEFT - 4, "end"), (_WIDTH - _LEFT + 4, "start"))[index]
    for value in (0.0, highest):
        y = bottom - value / highest * (bottom - _TOP) + 4
        yield f'<text x="{x}" y="{y:.0f}" text-anchor="{anchor}" fill="{colour}">{value:.3g}</text>'
    middle = _WIDTH / 2 + (-120 if index == 0 else 40)
    yield f'<text x="{middle:.0f}" y="{_HEIGHT - 4}" fill="{colour}">{escape(name)}</text>'
