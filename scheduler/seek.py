"""How far a window's text reaches, and where the recording goes on: openai/whisper's rules (`transcribe.py`), pure.

A window's text is trusted up to its last pair of timestamps: there the model closed a segment and opened the next. What
follows may be cut off by the window's end, and is heard again in a window that begins at that pair.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stenopool.domain import Span

FRAME = 160  # samples: what windows begin at, from their chunk's beginning on


@dataclass(frozen=True, slots=True)
class Kept:
    """What of a window's text is kept; times are samples from the window's beginning."""

    #: Segments and their tokens, timestamps among them. Times may lie beyond the window's sound, in its padding.
    pieces: tuple[tuple[Span, tuple[int, ...]], ...]
    #: Where the next window begins.
    seek: int
    #: The last timestamp stands alone: nothing was said after it, and the whole window is done.
    ended: bool


def keep(tokens: Sequence[int], timestamp_begin: int, step: int, length: int) -> Kept:
    """Cut a window's tokens at their pairs of timestamps.

    In:  <|0.00|> a b <|2.00|> <|2.40|> c <|4.00|> <|4.00|> d      length 30 s
    Out: [0.00, 2.00) a b, [2.40, 4.00) c; the next window begins at 4.00 and hears d again

    Without a pair, all of it is one segment and the window is done.

    Args:
        tokens: as sampled, without the end of text.
        timestamp_begin: id of <|0.00|>.
        step: samples from one timestamp to the next.
        length: of the window's sound, in samples.
    """
    is_time = [token >= timestamp_begin for token in tokens]
    ended = is_time[-2:] == [False, True]
    cuts = [at for at in range(1, len(tokens)) if is_time[at - 1] and is_time[at]]

    def time(at: int) -> int:
        return (tokens[at] - timestamp_begin) * step if is_time[at] else 0

    if not cuts:
        last = max((time(at) for at, timed in enumerate(is_time) if timed), default=0)
        return Kept(((Span(0, last or length), tuple(tokens)),), length, ended)
    if ended:
        cuts.append(len(tokens))
    pieces = [
        (Span(time(start), max(time(start), time(stop - 1))), tuple(tokens[start:stop]))
        for start, stop in zip([0, *cuts], cuts, strict=False)
    ]
    return Kept(tuple(pieces), length if ended else time(cuts[-1] - 1), ended)
