"""When each word was said: tokens' times to words in their segments, as openai/whisper's `add_word_timestamps` does.

Attention finds where words begin far better than where they end before a pause, so long words beside a pause are
shortened, and where words and the model's own timestamps disagree, the more careful one is taken.

Unlike there, no word reaches beyond its segment or begins before its chunk; and each segment is split into words by
itself, so that its words joined are its text. (There, a sign that begins a segment is merged into the segment before,
and from then on every segment of the window is given words of the next.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median

from models.decoding.requests import TokenTimes
from models.decoding.segments import TimedTokens
from models.words import Piece
from stenopool.domain import APPENDED, PREPENDED, SAMPLE_RATE, Span, Word

_SENTENCE_ENDS = ".。!！?？"

_LONGEST_USUAL = SAMPLE_RATE * 7 // 10  # a word's usual length is at most this
_TOLERANCE = SAMPLE_RATE // 2  # a word may begin before its segment, or end after it, by this


@dataclass(slots=True)
class Spoken:
    """A word whose time is still being found, in samples of the recording."""

    text: str
    start: int
    end: int
    probability: float


@dataclass(frozen=True, slots=True)
class TimedWords:
    """A segment's own time and its words, in the recording."""

    span: Span
    words: tuple[Word, ...]


def timed_words(
    times: TokenTimes,
    segments: Sequence[TimedTokens],
    split: Callable[[Sequence[int]], list[Piece]],
    *,
    begin: int,
    last_speech: int,
    prepended: str = PREPENDED,
    appended: str = APPENDED,
) -> tuple[list[TimedWords], int]:
    """The words of a chunk's segments, and the segments' times as their words have it.

    Args:
        times: of all text tokens of the chunk.
        segments: of the same tokens, in order, none left out; their times in the chunk.
        split: tokens into words, in the chunk's language.
        begin: where the chunk begins in the recording.
        last_speech: the end of the last word before this chunk, in the recording; 0 where there was none.
        prepended: signs that belong to the word after them.
        appended: signs that belong to the word before them.

    Returns:
        For each segment its time and words, the signs merged into them; and where speech ends in this chunk.

    Raises:
        ValueError: the segments' tokens are not those that were timed.
    """
    if times.tokens != tuple(token for segment in segments for token in segment.tokens):
        raise ValueError("the segments have other tokens than those that were timed")
    spoken = list(_spoken(times, segments, split, begin))
    words = [word for of_segment in spoken for word in of_segment]
    lengths = [word.end - word.start for word in words if word.end > word.start]
    usual = min(_LONGEST_USUAL, round(median(lengths))) if lengths else 0
    if lengths:
        _shorten_at_sentences(words, 2 * usual)
    found = []
    for segment, of_segment in zip(segments, spoken, strict=True):
        span = Span(begin + segment.span.start, begin + segment.span.end)
        merged = merge_punctuation(of_segment, prepended, appended)
        if merged:
            _shorten_after_pause(merged, usual, begin, last_speech)
            span = _settled(merged, span)
            last_speech = span.end
        words_inside = (Word(Span(word.start, word.end), word.text, word.probability) for word in merged)
        found.append(TimedWords(span, tuple(words_inside)))
    return found, last_speech


def _spoken(
    times: TokenTimes, segments: Sequence[TimedTokens], split: Callable[[Sequence[int]], list[Piece]], begin: int
) -> Iterable[list[Spoken]]:
    """Each segment's words, from where their first token was heard to where the next word's was."""
    at = 0
    for segment in segments:
        words = []
        for text, tokens in split(segment.tokens):
            next_at = at + len(tokens)
            start, end = begin + times.starts[at], begin + times.starts[next_at]
            words.append(Spoken(text, start, end, fmean(times.probabilities[at:next_at])))
            at = next_at
        yield words


def _shorten_at_sentences(words: Sequence[Spoken], longest: int) -> None:
    """The sign that ends a sentence, and the word after it, are no longer than that: a pause may be in them."""
    for before, word in pairwise(words):
        if word.end - word.start > longest:
            if word.text in _SENTENCE_ENDS:
                word.end = word.start + longest
            elif before.text in _SENTENCE_ENDS:
                word.start = word.end - longest


def merge_punctuation(words: Sequence[Spoken], prepended: str, appended: str) -> list[Spoken]:
    """Signs joined to the word after or before them, which keeps its own time and probability.

    In:  [' "', 'Who', "'s", ' there', '?', '"']
    Out: [' "Who', "'s", ' there?"']
    """
    forward: list[Spoken] = []
    for word in reversed(words):
        # Whether it is part of the signs as a text: two of them side by side are, nothing but spaces is, too.
        if forward and word.text.startswith(" ") and word.text.strip() in prepended:
            forward[-1].text = word.text + forward[-1].text
        else:
            forward.append(Spoken(word.text, word.start, word.end, word.probability))
    merged: list[Spoken] = []
    for word in reversed(forward):
        if merged and not merged[-1].text.endswith(" ") and word.text in appended:
            merged[-1].text += word.text
        else:
            merged.append(word)
    return merged


def _shorten_after_pause(words: Sequence[Spoken], usual: int, begin: int, last_speech: int) -> None:
    """After a pause, the first two words are not longer than twice the usual: they began later."""
    first, second, longest = words[0], words[1] if len(words) > 1 else None, 2 * usual
    if first.end - last_speech <= 2 * longest:
        return
    if first.end - first.start > longest or (second and second.end - first.start > 2 * longest):
        if second and second.end - second.start > longest:
            first.end = second.start = second.end - longest
        first.start = max(begin, first.end - longest)


def _settled(words: Sequence[Spoken], span: Span) -> Span:
    """The segment's time is that of its words, unless these reach far beyond it: then they are cut to it."""
    first, last = words[0], words[-1]
    if first.start + _TOLERANCE < span.start < first.end:
        first.start = span.start
    if last.start < span.end < last.end - _TOLERANCE:
        last.end = span.end
    return Span(first.start, last.end)
