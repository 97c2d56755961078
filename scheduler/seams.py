"""The words where two chunks overlap: pure, by text and time.

Speech that gave no pause was cut anyway, and both chunks heard the seconds around the cut. Each is unreliable near its
own edge: the left one towards the overlap's end, the right one towards its start, where words may be missing, altered
or half heard. Times are off by some tenths of a second, or by about one where they were only interpolated.

The two word sequences are aligned by dynamic programming, as the cheapest sequence of steps:

- *match*: the same text but for capitals and punctuation, near in time ("to day" and "today" match too);
- *substitution*: similar text, or the same moment;
- *left only*, *right only*: cheap where the other chunk is near its edge or hears nothing, dear where it hears well.

Time decides between repeats ("no no no"), because every step pays for the time between its words. Before the overlap's
middle the left chunk's words are taken, after it the right one's, punctuation and capitals as they are there. A word
that only the other side heard is kept too: no word is lost. Dropped are only what was heard twice, and pieces: a word
cut in half by its own chunk's edge, a lone punctuation mark, or one more word for a moment that is already told
differently.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from enum import StrEnum
from functools import lru_cache
from heapq import merge
from itertools import groupby, pairwise

from stenopool.domain import SAMPLE_RATE, Segment, Span, Word

# Scripts that put no spaces between words: one word per character. (Korean puts spaces.)
UNSPACED = (
    ("\u0e00", "\u0eff"),  # Thai, Lao
    ("\u1000", "\u109f"),  # Burmese
    ("\u1780", "\u17ff"),  # Khmer
    ("\u3040", "\u30ff"),  # kana
    ("\u3400", "\u4dbf"),  # Han
    ("\u4e00", "\u9fff"),
    ("\uf900", "\ufaff"),
    ("\U00020000", "\U0003ffff"),
)
#: A word with its leading spaces, in a text whose words are all between spaces.
_SPACED = re.compile(r"\s*\S+(?:\s+\Z)?")
# Costs of the steps, in nats: roughly how much less likely each is than a perfect match.
SIMILAR = 2.5
DIFFERENT = 4.0
REGROUPED = 0.5
NEAR_EDGE = 0.5  # the other side missed the word at its edge
ALONE = 8.0  # added where the other side hears well
SOUND = 4.0  # added to a substitution where both sides hear well
JITTER = 0.25  # seconds: standard deviation of the time between what both sides call the same moment
OUTLIER = 0.5  # seconds: farther apart, times were interpolated, and cost grows less
OUTLIER_RATE = 3.0  # nats per second
# Distances in seconds.
EDGE = 0.4  # so near to its chunk's edge, a word that only that chunk heard may be half of one
HEALTHY = 1.4  # so far from its edge, a chunk hears well
SLACK = 0.3  # what a time may be off
FAR = 2.5  # farther apart, two words are never one
MARGIN = 3 * SAMPLE_RATE // 2  # around the overlap, for words whose times are off; samples


class Side(StrEnum):
    """Whose word it is."""

    LEFT = "left"
    RIGHT = "right"


@dataclass(frozen=True, slots=True)
class Pick:
    """A word that is kept."""

    side: Side
    index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    """What is kept of both sides, in reading order, and how well they agreed."""

    #: The words that are kept.
    picks: tuple[Pick, ...]
    #: `picks[:turn]` go into the left chunk's segments, the others into the right one's.
    turn: int
    #: In the overlap: steps in which both heard the same ...
    matched: int
    #: ... in which they heard something else ...
    substituted: int
    #: ... and in which only one heard something.
    left_only: int
    right_only: int

    @property
    def agreement(self) -> float:
        """Share of the steps that match; 1.0 where there was nothing to hear."""
        steps = self.matched + self.substituted + self.left_only + self.right_only
        return self.matched / steps if steps else 1.0

    def kept(self, side: Side) -> list[int]:
        """Indices of that side's words that are kept, in reading order."""
        return [pick.index for pick in self.picks if pick.side is side]


@dataclass(frozen=True, slots=True)
class _Heard:
    """A word, or two taken as one, in seconds from the overlap's start."""

    #: The text without capitals and punctuation; empty for a mark alone.
    norm: str
    start: float
    end: float
    middle: float

    def __add__(self, other: _Heard) -> _Heard:
        end = max(self.end, other.end)
        return _Heard(self.norm + other.norm, self.start, end, (self.start + end) / 2)

    def covers(self, other: _Heard, slack: float) -> bool:
        return self.start - slack <= other.middle <= self.end + slack


@dataclass(frozen=True, slots=True)
class _Step:
    """What both sides heard at one moment, by index; one of the two may be empty."""

    lefts: range
    rights: range
    same: bool
    middle: float

    @property
    def substitution(self) -> bool:
        return bool(self.lefts and self.rights) and not self.same


def merge_seam(left: Sequence[Word], right: Sequence[Word], overlap: Span) -> Resolution:
    """Which words of two chunks to keep, where `overlap` was heard by both.

    Words are in reading order, with times in the recording.
    """
    first = next((i for i, word in enumerate(left) if _middle(word) >= overlap.start - MARGIN), len(left))
    stop = next((j for j in range(len(right), 0, -1) if _middle(right[j - 1]) <= overlap.end + MARGIN), 0)
    lefts = [_heard(word, overlap) for word in left[first:]]
    rights = [_heard(word, overlap) for word in right[:stop]]
    steps = _align(lefts, rights, overlap.seconds)
    switch = next((k for k, step in enumerate(steps) if step.middle >= overlap.seconds / 2), len(steps))

    picks = [Pick(Side.LEFT, i) for i in range(first)]
    turn = None
    for k, step in enumerate(steps):
        if k == switch:
            turn = len(picks)
        chosen, other = (step.lefts, step.rights) if k < switch else (step.rights, step.lefts)
        if not chosen and _is_piece(k, steps, lefts, rights, overlap.seconds):
            continue
        side = Side.LEFT if (k < switch) == bool(chosen) else Side.RIGHT
        offset = first if side is Side.LEFT else 0
        picks += [Pick(side, i + offset) for i in chosen or other]
    turn = len(picks) if turn is None else turn
    picks += [Pick(Side.RIGHT, j) for j in range(stop, len(right))]

    inside = [step for step in steps if 0 <= step.middle <= overlap.seconds]
    return Resolution(
        picks=tuple(picks),
        turn=_turn(picks, turn),
        matched=sum(step.same for step in inside),
        substituted=sum(step.substitution for step in inside),
        left_only=sum(not step.rights for step in inside),
        right_only=sum(not step.lefts for step in inside),
    )


def words_of(segment: Segment) -> list[Word]:
    """The segment's words, or its text cut into words whose times are interpolated; joined they are its text."""
    if segment.words:
        return list(segment.words)
    texts = _split(segment.text)
    lengths = [max(len(text.strip()), 1) for text in texts]
    total, at, words = sum(lengths), 0, []
    for text, length in zip(texts, lengths, strict=True):
        start, end = (segment.span.start + len(segment.span) * n // total for n in (at, at + length))
        words.append(Word(Span(start, end), text))
        at += length
    return words


def _align(lefts: list[_Heard], rights: list[_Heard], length: float) -> list[_Step]:
    """The cheapest steps through both sequences."""
    # costs[i][j]: of the cheapest way through the first i words on the left and j on the right, and its last step.
    costs = [[0.0] * (len(rights) + 1) for _ in range(len(lefts) + 1)]
    lasts = [[(0, 0, False)] * (len(rights) + 1) for _ in range(len(lefts) + 1)]
    lone_lefts = [_alone(word.middle) for word in lefts]
    lone_rights = [_alone(length - word.middle) for word in rights]
    two_lefts = [a + b for a, b in pairwise(lefts)]  # two_lefts[i - 2] are the words i - 2 and i - 1
    two_rights = [a + b for a, b in pairwise(rights)]
    for i in range(len(lefts) + 1):
        for j in range(len(rights) + 1):
            options: list[tuple[float, tuple[int, int, bool]]] = []
            if i:
                options.append((costs[i - 1][j] + lone_lefts[i - 1], (1, 0, False)))
            if j:
                options.append((costs[i][j - 1] + lone_rights[j - 1], (0, 1, False)))
            if i and j and abs(lefts[i - 1].middle - rights[j - 1].middle) <= FAR:
                cost, same = _together(lefts[i - 1], rights[j - 1], length)
                options.append((costs[i - 1][j - 1] + cost, (1, 1, same)))
                if i > 1 and _same(two_lefts[i - 2], rights[j - 1]):
                    cost, same = _together(two_lefts[i - 2], rights[j - 1], length)
                    options.append((costs[i - 2][j - 1] + REGROUPED + cost, (2, 1, same)))
                if j > 1 and _same(lefts[i - 1], two_rights[j - 2]):
                    cost, same = _together(lefts[i - 1], two_rights[j - 2], length)
                    options.append((costs[i - 1][j - 2] + REGROUPED + cost, (1, 2, same)))
            if options:
                costs[i][j], lasts[i][j] = min(options)
    steps = []
    i, j = len(lefts), len(rights)
    while i or j:
        a, b, same = lasts[i][j]
        words = [*lefts[i - a : i], *rights[j - b : j]]
        steps.append(_Step(range(i - a, i), range(j - b, j), same, sum(word.middle for word in words) / len(words)))
        i, j = i - a, j - b
    return _by_time(steps[::-1])


def _by_time(steps: list[_Step]) -> list[_Step]:
    """The steps, where several in a row concern one side each, in order of time: to their cost it is all the same."""
    ordered: list[_Step] = []
    for paired, run in groupby(steps, key=lambda step: bool(step.lefts and step.rights)):
        alone = list(run)
        if not paired:
            lefts, rights = [step for step in alone if step.lefts], [step for step in alone if step.rights]
            alone = list(merge(lefts, rights, key=lambda step: step.middle))
        ordered += alone
    return ordered


def _is_piece(k: int, steps: list[_Step], lefts: list[_Heard], rights: list[_Heard], length: float) -> bool:
    """Whether a word that only the less reliable side heard, in step k, is a piece of what the other side tells.

    It is, if it is half a word or no word and the other side tells something at its moment, or if the other side tells
    its very moment in other words: in a substitution beside it. Else it is a word that the other side missed.
    """
    step = steps[k]
    beside = [near for near in steps[max(k - 1, 0) : k + 2] if near.substitution]
    if step.lefts:
        word, others = lefts[step.lefts[0]], rights
        at_edge = word.end >= length - EDGE
        told = [rights[j] for near in beside for j in near.rights]
    else:
        word, others = rights[step.rights[0]], lefts
        at_edge = word.start <= EDGE
        told = [lefts[i] for near in beside for i in near.lefts]
    # Without a single match, the two heard something else altogether, and only time counts.
    if at_edge or not word.norm or not any(step.same for step in steps):
        return any(other.covers(word, SLACK) for other in others)
    return any(other.covers(word, 0) for other in told)


def _turn(picks: list[Pick], turn: int) -> int:
    """The switch as an index of picks, moved past words that need not stand among those of the other chunk."""
    start = turn
    while turn < len(picks) and picks[turn].side is Side.LEFT:
        turn += 1
    if turn == start:
        while turn > 0 and picks[turn - 1].side is Side.RIGHT:
            turn -= 1
    return turn


def _together(a: _Heard, b: _Heard, length: float) -> tuple[float, bool]:
    """What it costs to take a left and a right word for one, and whether their text is the same."""
    if _same(a, b):
        return _apart(a.middle - b.middle), True
    # Half a word starts, or ends, with the whole one.
    apart = min((a.middle - b.middle, a.start - b.start, a.end - b.end), key=abs)
    text = SIMILAR + _apart(apart) if _similar(a.norm, b.norm) else DIFFERENT + _off(apart)
    # One of them was damaged by its chunk's edge.
    return text + SOUND * _healthy(min(a.middle, b.middle, length - a.middle, length - b.middle)), False


def _same(a: _Heard, b: _Heard) -> bool:
    return a.norm == b.norm != ""


def _off(seconds: float) -> float:
    """What it costs that two words for one moment are so many seconds apart ..."""
    return (seconds / JITTER) ** 2 / 2


def _apart(seconds: float) -> float:
    """... and where their text says that they are one word: then the time may be only interpolated."""
    near = min(abs(seconds), OUTLIER)
    return _off(near) + OUTLIER_RATE * (abs(seconds) - near)


def _alone(inside: float) -> float:
    """What it costs that the other side missed a word so many seconds inside its own edge."""
    return NEAR_EDGE + ALONE * _healthy(inside)


def _healthy(inside: float) -> float:
    """How well a chunk hears so many seconds inside its edge, from 0 to 1."""
    return min(max(inside / HEALTHY, 0), 1) ** 2


@lru_cache(maxsize=4096)
def _similar(a: str, b: str) -> bool:
    return SequenceMatcher(None, a, b, autojunk=False).ratio() >= 0.6


def _middle(word: Word) -> int:
    return (word.span.start + word.span.end) // 2


def _heard(word: Word, overlap: Span) -> _Heard:
    text = unicodedata.normalize("NFKC", word.text).casefold()
    norm = "".join(c for c in text if unicodedata.category(c)[0] in "LNM")
    start, end = (word.span.start - overlap.start) / SAMPLE_RATE, (word.span.end - overlap.start) / SAMPLE_RATE
    return _Heard(norm, start, end, (start + end) / 2)


def _split(text: str) -> list[str]:
    """Words with their leading spaces; spaces at the very end belong to the last word."""
    if text.isascii():  # letter by letter, this took longer than all else of a merge
        return _SPACED.findall(text) or ([text] if text else [])
    words: list[str] = []
    word, base = "", ""  # base: the word's last letter
    for c in text:
        kind = unicodedata.category(c)
        letter = kind[0] in "LN"
        if word.strip() and (
            c.isspace()
            or (letter and base and (_unspaced(c) or _unspaced(base)))
            or (kind in ("Ps", "Pi") and base and _unspaced(base))
        ):
            words.append(word)
            word, base = "", ""
        word += c
        base = c if letter else base
    if word and not word.strip() and words:
        words[-1] += word
    elif word:
        words.append(word)
    return words


def _unspaced(c: str) -> bool:
    return any(low <= c <= high for low, high in UNSPACED)
