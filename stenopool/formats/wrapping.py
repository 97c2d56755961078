"""Where a segment's text breaks: into blocks of at most two lines, each shown as one cue. Pure, knows no times.

text ──► atoms ──────────────────────► blocks ─────────────────► lines
         pieces never broken inside    cheapest way through all  the better-looking break
         (words, ideographs, ...)      breaks of the segment     inside each block
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate

from stenopool.formats.breaks import NO_BREAK_SPACES, Break, Piece, pieces

MAX_WIDTH = 42  # columns in a line
MAX_LINES = 2  # in a block; the search below is written for two
_CAPACITY = MAX_WIDTH * MAX_LINES  # columns in a block


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
#: By a block's columns. Squares, because then blocks of even width cost least together.
_FULLNESS_COST = [60 * (columns / _CAPACITY) ** 2 + (60 if columns < _STUMP else 0) for columns in range(_CAPACITY + 2)]


def width(text: str) -> int:
    """Columns that the text takes: two for a wide or full-width character, one for each other, marks included."""
    return (
        len(text)
        if text.isascii()
        else sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)
    )


def blocks(text: str, overlong: Callable[[int, int], float]) -> tuple[Block, ...]:
    """The text cut into blocks of at most `MAX_LINES` lines of at most `MAX_WIDTH` columns.

    White space is evened out; no other character is lost or added. `overlong(first, last)` says for a block of those
    visible characters how many times the longest time on screen it would last beyond the first; such a block is
    divided, if it is not short.
    """
    atoms = _atoms(text)
    if not atoms:
        return ()
    widths = list(accumulate((width(atom.text) + atom.spaced for atom in atoms), initial=0))
    visible = list(accumulate((_visible(atom.text) for atom in atoms), initial=0))

    def measure(i: int, j: int) -> int:
        """Columns of atoms [i, j) in one line."""
        return widths[j] - widths[i] - atoms[i].spaced

    # reach[i]: the furthest j for which atoms [i, j) fit into one line; two lines reach reach[reach[i]].
    reach, j = [], 0
    for i in range(len(atoms)):
        j = max(j, i + 1)
        while j < len(atoms) and measure(i, j + 1) <= MAX_WIDTH:
            j += 1
        reach.append(j)
    reach.append(len(atoms))

    # From the end: best[i] is the lowest cost of atoms [i, n), after[i] where its first block ends.
    n = len(atoms)
    breaking = [_BLOCK_COST + _BLOCK_BREAK_COST[atom.before] for atom in atoms] + [_BLOCK_COST]
    ever_overlong = overlong(0, visible[n]) > 0
    best, after = [0.0] * (n + 1), [n] * (n + 1)
    for i in reversed(range(n)):
        best[i] = float("inf")
        indent = widths[i] + atoms[i].spaced
        for j in range(i + 1, reach[reach[i]] + 1):
            columns = widths[j] - indent
            cost = best[j] + breaking[j] + _FULLNESS_COST[columns]
            if ever_overlong and columns >= 2 * _STUMP:
                cost += 500 * overlong(visible[i], visible[j])
            if cost < best[i]:
                best[i], after[i] = cost, j

    def lines(i: int, j: int) -> tuple[str, ...]:
        """Atoms [i, j) as one line, or as two that look even and break at a good place."""
        if measure(i, j) <= MAX_WIDTH:
            return (_joined(atoms[i:j]),)

        def cost(k: int) -> tuple[int, bool]:
            above, below = measure(i, k), measure(k, j)
            lost = _STUMP if min(above, below) < _STUMP else 0
            return abs(above - below) + _LINE_BREAK_COST[atoms[k].before] + lost, above > below

        fitting = (k for k in range(i + 1, j) if measure(i, k) <= MAX_WIDTH and measure(k, j) <= MAX_WIDTH)
        k = min(fitting, key=cost)
        return _joined(atoms[i:k]), _joined(atoms[k:j])

    found, i = [], 0
    while i < n:
        found.append(Block(lines(i, after[i]), visible[i], visible[after[i]]))
        i = after[i]
    return tuple(found)


def _joined(atoms: list[Piece]) -> str:
    return "".join(" " * atom.spaced + atom.text for atom in atoms).removeprefix(" " * atoms[0].spaced)


def _visible(text: str) -> int:
    """How many characters are not white space."""
    return sum(not character.isspace() for character in text)


def _atoms(text: str) -> list[Piece]:
    """The text's smallest pieces, none wider than a line."""
    atoms: list[Piece] = []
    run: list[Piece] = []  # pieces with no break between them
    for piece in pieces(text):
        if run and piece.before is not Break.NEVER:
            atoms += _settled(run)
            run = []
        run.append(piece)
    return atoms + _settled(run) if run else atoms


def _settled(run: list[Piece]) -> list[Piece]:
    """A run as one atom, or, where it is too wide for a line, as its pieces; those are cut up if they must be."""
    whole = Piece(_joined(run), run[0].before, run[0].spaced)
    if width(whole.text) <= MAX_WIDTH:
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
        parts = [piece.text] if width(piece.text) <= MAX_WIDTH else list(piece.text)
        cut.append(Piece(parts[0], before, spaced))
        cut += [Piece(part, Break.HARD, spaced=False) for part in parts[1:]]
        spaced = False
    return cut
