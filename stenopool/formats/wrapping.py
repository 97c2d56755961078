"""Where a segment's text breaks: into blocks of a line or two, each shown as one cue. Pure, knows no times.

text ──► atoms ──────────────────────► blocks ─────────────────► lines
         pieces never broken inside    cheapest way through all  the better-looking break
         (words, ideographs, ...)      breaks of the segment     inside each block
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate

from stenopool.formats.breaks import NO_BREAK_SPACES, Break, Piece, pieces


@dataclass(frozen=True, slots=True)
class Layout:
    """What a block may be."""

    #: Columns in a line.
    width: int
    #: In a block: one or two.
    lines: int


#: What is read on any screen.
SCREEN = Layout(width=42, lines=2)


@dataclass(frozen=True, slots=True)
class Block:
    """The lines of one cue, and which of the text's visible (not white) characters they hold: `[first, last)`."""

    lines: tuple[str, ...]
    first: int
    last: int


# What a break costs, in points that are compared with each other only. A block more costs 100, so that breaking at a
# better place never pays for an extra block on its own, but decides between divisions into as many blocks.
_BLOCK_COST = 100
_BLOCK_BREAK_COST = {
    Break.SENTENCE: 0,
    Break.CLAUSE: 30,
    Break.WORD: 80,
    Break.CHARACTER: 120,
    Break.LETTER: 170,
    Break.HARD: 1000,
}
#: In columns by which the two lines may differ in width for the sake of a better break.
_LINE_BREAK_COST = {
    Break.SENTENCE: 0,
    Break.CLAUSE: 8,
    Break.WORD: 24,
    Break.CHARACTER: 28,
    Break.LETTER: 60,
    Break.HARD: 200,
}
_STUMP = 12  # columns; a block or line narrower than this looks lost


@lru_cache
def _fullness_cost(layout: Layout) -> list[float]:
    """By a block's columns. Squares, because then blocks of even width cost least together."""
    capacity = layout.width * layout.lines
    return [60 * (columns / capacity) ** 2 + (60 if columns < _STUMP else 0) for columns in range(capacity + 2)]


def width(text: str) -> int:
    """Columns that the text takes: two for a wide or full-width character, one for each other, marks included."""
    return (
        len(text)
        if text.isascii()
        else sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)
    )


def blocks(
    text: str, layout: Layout, overlong: Callable[[int, int], float], *, lead: int = 0, every: bool = False
) -> tuple[Block, ...]:
    """The text cut into blocks that fit the layout.

    White space is evened out; no other character is lost or added. `overlong(first, last)` says for a block of those
    visible characters how many times the longest time on screen it would last beyond the first; such a block is
    divided, if it is not short.

    Args:
        lead: columns that are left free at the beginning of the first block, or of `every` one, for less than a line;
            where no word fits beside them, the first line is empty. A layout of two lines has room for that.
    """
    atoms = _atoms(text, layout.width)
    if not atoms:
        return ()
    widths = list(accumulate((width(atom.text) + atom.spaced for atom in atoms), initial=0))
    visible = list(accumulate((_visible(atom.text) for atom in atoms), initial=0))

    def measure(i: int, j: int) -> int:
        """Columns of atoms [i, j) in one line."""
        return widths[j] - widths[i] - atoms[i].spaced

    # reach[i]: the furthest j for which atoms [i, j) fit into one line; two lines reach reach[reach[i]]: `furthest`.
    reach, j = [], 0
    for i in range(len(atoms)):
        j = max(j, i + 1)
        while j < len(atoms) and measure(i, j + 1) <= layout.width:
            j += 1
        reach.append(j)
    reach.append(len(atoms))
    furthest = reach if layout.lines == 1 else [reach[j] for j in reach]

    def free(i: int) -> int:
        """Columns that a block leaves free whose first atom is i."""
        return lead if every or i == 0 else 0

    def end(i: int) -> int:
        """The furthest end of a block whose first atom is i."""
        j = reach[i] if free(i) else i
        while j > i and measure(i, j) + free(i) > layout.width:
            j -= 1
        return reach[j] if free(i) else furthest[i]

    # From the end: best[i] is the lowest cost of atoms [i, n), after[i] where its first block ends.
    n = len(atoms)
    fullness = _fullness_cost(layout)
    breaking = [_BLOCK_COST + _BLOCK_BREAK_COST[atom.before] for atom in atoms] + [_BLOCK_COST]
    ever_overlong = overlong(0, visible[n]) > 0
    best, after = [0.0] * (n + 1), [n] * (n + 1)
    for i in reversed(range(n)):
        best[i] = float("inf")
        indent = widths[i] + atoms[i].spaced
        for j in range(i + 1, end(i) + 1):
            columns = widths[j] - indent
            cost = best[j] + breaking[j] + fullness[columns]
            if ever_overlong and columns >= 2 * _STUMP:
                cost += 500 * overlong(visible[i], visible[j])
            if cost < best[i]:
                best[i], after[i] = cost, j

    def lines(i: int, j: int) -> tuple[str, ...]:
        """Atoms [i, j) as one line, or as two that look even and break at a good place."""
        if measure(i, j) + free(i) <= layout.width:
            return (_joined(atoms[i:j]),)

        def cost(k: int) -> tuple[int, bool]:
            above, below = free(i) + measure(i, k), measure(k, j)
            lost = _STUMP if min(above, below) < _STUMP else 0
            return abs(above - below) + _LINE_BREAK_COST[atoms[k].before] + lost, above > below

        fitting = (k for k in range(i + 1, j) if max(free(i) + measure(i, k), measure(k, j)) <= layout.width)
        k = min(fitting, key=cost, default=i)
        return _joined(atoms[i:k]), _joined(atoms[k:j])

    found, i = [], 0
    while i < n:
        found.append(Block(lines(i, after[i]), visible[i], visible[after[i]]))
        i = after[i]
    return tuple(found)


def _joined(atoms: list[Piece]) -> str:
    if not atoms:
        return ""
    return "".join(" " * atom.spaced + atom.text for atom in atoms).removeprefix(" " * atoms[0].spaced)


def _visible(text: str) -> int:
    """How many characters are not white space."""
    return sum(not character.isspace() for character in text)


def _atoms(text: str, most: int) -> list[Piece]:
    """The text's smallest pieces, none wider than a line."""
    atoms: list[Piece] = []
    run: list[Piece] = []  # pieces with no break between them
    for piece in pieces(text):
        if run and piece.before is not Break.NEVER:
            atoms += _settled(run, most)
            run = []
        run.append(piece)
    return atoms + _settled(run, most) if run else atoms


def _settled(run: list[Piece], most: int) -> list[Piece]:
    """A run as one atom, or, where it is too wide for a line, as its pieces; those are cut up if they must be."""
    whole = Piece(_joined(run), run[0].before, run[0].spaced)
    if width(whole.text) <= most:
        return [whole]
    cut: list[Piece] = []
    spaced = run[0].spaced
    for piece in run:
        if piece.text in NO_BREAK_SPACES:  # here it has to break
            spaced = True
            continue
        spaced |= piece.spaced
        before = run[0].before if not cut else Break.WORD if spaced else Break.HARD
        # A letter under more marks than a line has columns is cut as well: every line keeps to its width.
        parts = [piece.text] if width(piece.text) <= most else list(piece.text)
        cut.append(Piece(parts[0], before, spaced))
        cut += [Piece(part, Break.HARD, spaced=False) for part in parts[1:]]
        spaced = False
    return cut
