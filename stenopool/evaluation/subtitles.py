"""Subtitles read: SubRip and WebVTT, as editors and other programs write them."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass

from stenopool.domain import SAMPLE_RATE

_TIMECODE = r"(?:(\d+):)?(\d{1,2}):(\d{2})[,.](\d{1,3})"
_TIMES = re.compile(rf"\s*{_TIMECODE}\s*-->\s*{_TIMECODE}")
#: Italics, speakers, karaoke times; and where the text stands on screen, as some editors have it in SubRip.
_TAG = re.compile(r"</?(?:[bicuv]|font|lang|ruby|rt)(?:[.\s][^>]*)?>|<[\d:.]+>|\{\\[^}]*\}", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Cue:
    """What is shown from sample `start` on."""

    start: int
    text: str


def parse_cues(text: str) -> Iterator[Cue]:
    """The cues of a SubRip or WebVTT file, in its order, without their tags; all else in the file is passed over."""
    start: int | None = None
    shown: list[str] = []
    for line in [*text.splitlines(), ""]:
        times = _TIMES.match(line)
        if start is not None:
            if line.strip() and not times:
                shown.append(line)
                continue
            if times and shown and shown[-1].strip().isdigit():
                shown.pop()  # the number of the next cue, where no empty line stands before it
            yield Cue(start, " ".join(html.unescape(_TAG.sub("", " ".join(shown))).split()))
            start, shown = None, []
        if times:
            start = _samples(times)


def _samples(times: re.Match[str]) -> int:
    hours, minutes, seconds, fraction = times.groups()[:4]
    milliseconds = int(fraction.ljust(3, "0"))
    whole = (int(hours or 0) * 60 + int(minutes)) * 60 + int(seconds)
    return whole * SAMPLE_RATE + milliseconds * SAMPLE_RATE // 1000
