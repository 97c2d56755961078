"""How far a window's text reaches, and where the recording goes on: openai/whisper's rules (`transcribe.py`), pure.

A window's text is trusted up to its last pair of timestamps: there the model closed a segment and opened the next. What
follows may be cut off by the window's end, and is heard again in a window that begins at that pair.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scheduler.hallucination import first_spoken, hallucinations, is_anomalous
from stenopool.domain import SAMPLE_RATE, Segment, Span

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


@dataclass(frozen=True, slots=True)
class Course:
    """What becomes of a window's segments by their words; times are samples of the recording."""

    #: Segments that are kept, the first ones.
    kept: int
    #: Segments after these that were never said. What is neither kept nor dropped is heard again.
    dropped: int
    #: Where the next window begins.
    seek: int
    #: Silence that is skipped because strange words follow it; then nothing is kept.
    skipped: int = 0


def by_words(
    segments: Sequence[Segment],
    seek: int | None,
    *,
    heard: Span,
    window_end: int,
    end: int,
    threshold: int | None,
    last_speech: int,
) -> Course:
    """How to go on from a window whose words are known: from the last one, and past what was never said.

    Args:
        segments: of the window, at least one.
        seek: where the next window would begin by the timestamps; None if the window is done.
        heard: the stretch of the recording that they come from.
        window_end: where the model's window ends: there, or later if sound was missing to fill it.
        end: of all that is to be heard.
        threshold: samples of silence around what was never said; None to keep it all.
        last_speech: sample at which the last word before this window ended; 0 if there was none.
    """
    following = heard.end if seek is None else _after_words(segments, seek, heard, window_end, threshold)
    whole = Course(len(segments), 0, following)
    if threshold is None:
        return whole
    first = first_spoken(segments)
    if first is not None and is_anomalous(first) and (gap := first.span.start - heard.start) > threshold:
        return Course(0, 0, heard.start + gap, skipped=gap)
    strange = hallucinations(segments, heard=heard, window_end=window_end, threshold=threshold, last_speech=last_speech)
    if not strange:
        return whole
    kept, never_said = strange[0], segments[strange[0]].span
    if end - never_said.end < threshold:  # there is nothing to hear again
        return Course(kept, len(segments) - kept, end)
    return Course(kept, 1, max(heard.start + SAMPLE_RATE, never_said.start))


def last_end(segments: Sequence[Segment]) -> int:
    """Where the last word ends; the last segment, if there is no word."""
    words = [word for segment in segments for word in segment.words]
    return words[-1].span.end if words else segments[-1].span.end


def _after_words(segments: Sequence[Segment], seek: int, heard: Span, window_end: int, threshold: int | None) -> int:
    last = last_end(segments)
    if last <= heard.start:
        return seek
    # Too little may be left of the window to hold words that were missed.
    return heard.end if threshold is not None and window_end - last <= threshold else last
