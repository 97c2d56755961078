"""Words and their times: signs merged, pauses left out, everything inside its segment."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.alignment.words import Spoken, TimedWords, merge_punctuation, timed_words
from models.decoding.requests import Decoding, Heard, Request, TokenTimes
from models.decoding.segments import TimedTokens, split_segments
from models.engine import Engine
from models.words import Piece
from stenopool.domain import APPENDED, PREPENDED, Span
from tests import sounds

S = 16_000  # one second
F = 320  # one frame


class Chunk:
    """Words spoken one after the other, each token 20 ms or more, cut into segments."""

    def __init__(self) -> None:
        self.texts: dict[int, str] = {}
        self.starts = [0]
        self.probabilities: list[float] = []
        self.segments: list[TimedTokens] = []

    def say(self, *words: tuple[str, float], span: tuple[float, float] | None = None) -> Chunk:
        """A segment: each word a token of so many seconds; its own time is theirs, unless another is given."""
        first = len(self.texts)
        for text, seconds in words:
            self.texts[len(self.texts)] = text
            self.starts.append(self.starts[-1] + round(seconds * S))
            self.probabilities.append(0.5)
        start, end = (round(x * S) for x in span) if span else (self.starts[first], self.starts[-1])
        self.segments.append(TimedTokens(Span(start, end), tuple(range(first, len(self.texts)))))
        return self

    def split(self, tokens: Sequence[int]) -> list[Piece]:
        """Every token is a word."""
        return [(self.texts[token], (token,)) for token in tokens]

    @property
    def times(self) -> TokenTimes:
        """Of all its tokens."""
        return TokenTimes(tokens=tuple(self.texts), starts=tuple(self.starts), probabilities=tuple(self.probabilities))

    def timed(self, begin: int = 0, last_speech: int = 0) -> list[TimedWords]:
        """Its words."""
        return timed_words(self.times, self.segments, self.split, begin=begin, last_speech=last_speech)[0]


def seconds(timed: TimedWords) -> list[tuple[str, float, float]]:
    """Its words and their times."""
    return [(word.text, word.span.start / S, word.span.end / S) for word in timed.words]


def span(timed: TimedWords) -> tuple[float, float]:
    """Its own time in seconds."""
    return timed.span.start / S, timed.span.end / S


def test_a_word_lasts_from_its_first_token_to_the_next_word() -> None:
    """Its probability is the mean of its tokens', its time is moved to where the chunk begins."""
    times = TokenTimes(tokens=(5, 6, 7), starts=(0, 3 * F, 5 * F, 9 * F), probabilities=(0.5, 1.0, 0.25))
    segments = [TimedTokens(Span(0, 9 * F), (5, 6, 7))]

    [timed], last = timed_words(
        times, segments, lambda _: [(" one", (5, 6)), (" two", (7,))], begin=1000, last_speech=990
    )

    assert [(word.text, word.span, word.probability) for word in timed.words] == [
        (" one", Span(1000, 1000 + 5 * F), 0.75),
        (" two", Span(1000 + 5 * F, 1000 + 9 * F), 0.25),
    ]
    assert timed.span == Span(1000, 1000 + 9 * F)
    assert last == timed.span.end


def test_other_tokens_than_those_timed_are_refused() -> None:
    """Times of one text are never given to another."""
    chunk = Chunk().say((" a", 0.2)).say((" b", 0.2))

    with pytest.raises(ValueError, match="other tokens"):
        timed_words(chunk.times, chunk.segments[:1], chunk.split, begin=0, last_speech=0)


def test_a_chunk_without_text_has_no_words() -> None:
    """Nothing was said in it, and speech ended where it had ended before."""
    times = TokenTimes(tokens=(), starts=(0,), probabilities=())

    assert timed_words(times, [], Chunk().split, begin=5 * S, last_speech=4 * S) == ([], 4 * S)


@pytest.mark.parametrize(
    ("words", "merged"),
    [
        (["Hello", ",", " world", "."], ["Hello,", " world."]),
        ([' "', "Who", "'s", " there", "?", '"'], [' "Who', "'s", ' there?"']),
        ([" (", "Nobody", ")", "."], [" (Nobody)."]),
        ([" ¿", "Qué", "?", " -", "well"], [" ¿Qué?", " -well"]),
        ([" -", " “", "so", "”", "!"], [" - “so”!"]),
        (["-", "a"], ["-", "a"]),  # without a space it belongs to nobody after it
        ([" a", "...", "!"], [" a", "...!"]),  # three dots are no sign
        ([" a", "。", "，", " b", "、"], [" a。，", " b、"]),
        (["."], ["."]),
        ([], []),
    ],
)
def test_signs_join_their_words(words: list[str], merged: list[str]) -> None:
    """Opening signs with a space before them join the next word, closing ones the last."""
    spoken = [Spoken(word, i, i + 1, i / 10) for i, word in enumerate(words)]

    assert [word.text for word in merge_punctuation(spoken, PREPENDED, APPENDED)] == merged
    assert [word.text for word in spoken] == words


def test_a_word_keeps_its_time_when_signs_join_it() -> None:
    """Neither the pause in a sign nor its probability is the word's."""
    spoken = [Spoken(" (", 0, 5, 0.1), Spoken("a", 5, 6, 0.9), Spoken(")", 6, 20, 0.2)]

    assert merge_punctuation(spoken, PREPENDED, APPENDED) == [Spoken(" (a)", 5, 6, 0.9)]


def test_signs_are_a_choice() -> None:
    """Only those that are named are merged."""
    spoken = [Spoken(word, i, i + 1, 1.0) for i, word in enumerate([" -", "a", "!", "?"])]

    assert [word.text for word in merge_punctuation(spoken, "", "?")] == [" -", "a", "!?"]
    assert [word.text for word in merge_punctuation(spoken, "-", "")] == [" -a", "!", "?"]


def test_a_pause_at_the_end_of_a_sentence_is_in_no_word() -> None:
    """The full stop lasts at most twice as long as words do, and the word after it begins later."""
    chunk = Chunk().say(
        (" One", 0.2), (" two", 0.2), (".", 3), (" three", 0.2), (" four", 0.2), (".", 0.2), (" five", 2)
    )

    # The usual word lasts 0.2 s: nothing beside the end of a sentence lasts more than 0.4 s.
    assert seconds(chunk.timed()[0])[1:] == [
        (" two.", 0.2, 0.4),
        (" three", 3.4, 3.6),
        (" four.", 3.6, 3.8),
        (" five", 5.6, 6.0),
    ]


def test_a_long_word_in_a_sentence_is_left_alone() -> None:
    """It may have been said slowly."""
    chunk = Chunk().say((" One", 0.2), (" two", 2), (" three", 0.2))

    assert seconds(chunk.timed()[0])[1] == (" two", 0.2, 2.2)


def test_the_first_word_after_a_pause_is_not_the_pause() -> None:
    """It begins twice the usual length before its end, and its segment with it."""
    chunk = Chunk().say((" One", 3), (" two", 0.2), (" three", 0.2), (" four", 0.2))

    [timed] = chunk.timed(begin=10 * S, last_speech=10 * S)

    assert seconds(timed)[0] == (" One", 12.6, 13.0)
    assert span(timed) == (12.6, 13.6)


def test_the_second_word_after_a_pause_is_not_the_pause() -> None:
    """Both of the first two words are pushed to where the second one ends."""
    chunk = Chunk().say((" One", 1), (" two", 3), (" three", 0.2), (" four", 0.2), (" five", 0.2))

    assert seconds(chunk.timed()[0])[:2] == [(" One", 3.2, 3.6), (" two", 3.6, 4.0)]


def test_two_words_after_a_pause_are_not_the_pause_together() -> None:
    """Where the first alone is not too long, but both are, both begin later."""
    chunk = Chunk().say((" One", 0.3), (" two", 0.6), (" three", 0.2), (" four", 0.2), (" five", 0.2))

    assert seconds(chunk.timed(begin=10 * S)[0])[:2] == [(" One", 10.1, 10.5), (" two", 10.5, 10.9)]


def test_no_word_begins_before_its_chunk() -> None:
    """A short first word, far before the second, is not made longer at the cost of the chunk before."""
    chunk = Chunk().say((" Yes", 0.1), (".", 0.2), (" two", 3), (" three", 0.2), (" four", 0.2))

    assert seconds(chunk.timed(begin=10 * S)[0])[0] == (" Yes.", 10.0, 10.1)


def test_the_usual_word_is_at_most_seven_tenths_long() -> None:
    """Where attention is lost and most words last seconds, twice that is still long."""
    chunk = Chunk().say((" One", 1), (".", 3), (" two", 1), (" three", 1.2))

    assert seconds(chunk.timed()[0]) == [(" One.", 0, 1), (" two", 4, 5), (" three", 5, 6.2)]
    chunk = Chunk().say((" One", 1), (" two", 1), (".", 0.2), (" three", 3))
    assert seconds(chunk.timed()[0])[-1] == (" three", 3.8, 5.2)


def test_without_a_pause_the_first_word_is_left_alone() -> None:
    """Where speech had ended just before, a long word is a long word."""
    chunk = Chunk().say((" One", 0.7), (" two", 0.2), (" three", 0.2), (" four", 0.2))

    assert seconds(chunk.timed(begin=S, last_speech=S)[0])[0] == (" One", 1.0, 1.7)


def test_a_segment_takes_the_time_of_its_words() -> None:
    """The model's own timestamps are coarser."""
    chunk = Chunk().say((" a", 0.3), (" b", 0.3), span=(0.2, 0.9)).say((" c", 0.3), (" d", 0.3), span=(1, 2))

    assert list(map(span, chunk.timed())) == [(0, 0.6), (0.6, 1.2)]


def test_words_far_outside_their_segment_are_cut_to_it() -> None:
    """Where the first or last word reaches more than half a second beyond the timestamps, those are believed."""
    chunk = (
        Chunk().say((" a", 0.6), (" b", 0.6), (" c", 1.4), span=(0, 1.7)).say((" d", 1.4), (" e", 0.6), span=(3.2, 4.6))
    )

    first, second = chunk.timed()

    assert seconds(first)[-1] == (" c", 1.2, 1.7)
    assert span(first) == (0, 1.7)
    assert seconds(second)[0] == (" d", 3.2, 4.0)
    assert span(second) == (3.2, 4.6)


def test_words_somewhat_outside_their_segment_are_believed() -> None:
    """Half a second is within what timestamps are wrong by; and those that lie beside the word say nothing of it."""
    chunk = Chunk().say((" a", 0.6), (" b", 0.6), span=(0.5, 0.7)).say((" c", 0.6), (" d", 0.6), span=(3, 4))

    assert list(map(span, chunk.timed())) == [(0, 1.2), (1.2, 2.4)]


def test_speech_ends_with_the_last_word() -> None:
    """That is what the next chunk is told."""
    chunk = Chunk().say((" a", 0.3), (" b", 0.3), span=(0, 1))

    assert timed_words(chunk.times, chunk.segments, chunk.split, begin=S, last_speech=0)[1] == round(1.6 * S)


WORDS = st.tuples(
    st.sampled_from([" a", " word", "re", ".", ",", "?", " “", "”", " (", "...", "。", " "]), st.integers(0, 300)
)
SEGMENTS = st.lists(
    st.tuples(st.lists(WORDS, min_size=1, max_size=5), st.integers(-100, 100), st.integers(-100, 100)),
    min_size=1, max_size=4,
)  # fmt: skip


@given(segments=SEGMENTS, begin=st.integers(0, 10**6), silent=st.integers(0, 10**6))
def test_words_are_in_order_and_inside_their_segments(
    segments: list[tuple[list[tuple[str, int]], int, int]], begin: int, silent: int
) -> None:
    """Whatever attention and timestamps say, nothing overlaps what follows, no word is lost or leaves its segment."""
    chunk, at = Chunk(), 0.0
    times = list(accumulate((sum(n for _, n in words) for words, _, _ in segments), initial=0))
    for (words, early, late), (start, end) in zip(segments, pairwise(times), strict=True):
        at = max(at, (start + early) / 50)
        to = max(at, (end + late) / 50)
        chunk.say(*((text, n / 50) for text, n in words), span=(at, to))
        at = to

    timed = chunk.timed(begin, max(0, begin - silent))

    assert all(a.span.end <= b.span.start for a, b in pairwise(timed))
    everything = [word for segment in timed for word in segment.words]
    assert all(a.span.end <= b.span.start for a, b in pairwise(everything))
    for segment, (words, _, _) in zip(timed, segments, strict=True):
        assert "".join(word.text for word in segment.words) == "".join(text for text, _ in words)
        assert all(segment.span.start <= word.span.start <= word.span.end <= segment.span.end for word in segment.words)
        assert segment.span.start >= begin
        assert segment.words


CHUNKS = [Span(0, 30 * S), Span(30 * S, 60 * S), Span(60 * S, round(73.41 * S))]


@pytest.fixture(scope="module")
def heard(pool_engine: Engine) -> list[Heard]:
    """The sample's first windows, the last of them short, heard at once."""
    return run(pool_engine, CHUNKS)


def run(engine: Engine, chunks: Sequence[Span]) -> list[Heard]:
    """What is heard in them, in their order."""
    pcm, decoding = sounds.read(sounds.SAMPLE), Decoding(language="en", word_timestamps=True)
    requests = [Request(key=chunk, pcm=pcm[chunk.start : chunk.end], decoding=decoding) for chunk in chunks]
    return sorted(engine.run(requests), key=lambda heard: chunks.index(heard.key))


def test_the_samples_words_are_its_text(pool_engine: Engine, heard: list[Heard]) -> None:
    """All words of a segment joined are its text, each in its segment, one after the other in their chunk."""
    vocabulary, last = pool_engine.vocabulary, 0
    for one, chunk in zip(heard, CHUNKS, strict=True):
        assert one.times is not None
        segments = list(split_segments(one.tokens, vocabulary.special.timestamp_begin, len(chunk)))

        timed, last = timed_words(
            one.times, segments, lambda tokens: vocabulary.split_to_words(tokens, "en"),
            begin=chunk.start, last_speech=last,
        )  # fmt: skip

        words = [word for segment in timed for word in segment.words]
        assert len(words) > 20
        assert all(a.span.end <= b.span.start for a, b in pairwise(words))
        assert chunk.start <= words[0].span.start <= words[-1].span.end == last <= chunk.end
        for segment, of_tokens in zip(timed, segments, strict=True):
            assert "".join(word.text for word in segment.words) == vocabulary.text(of_tokens.tokens)
            assert all(0 < word.probability <= 1 for word in segment.words if word.probability is not None)
        if chunk.start == 0:
            [meeting, *_] = [word for word in words if word.text.strip(" .,") == "meeting"]
            assert meeting.span.start <= 2 * S <= meeting.span.end


def test_words_are_where_they_are_without_neighbours(pool_engine: Engine, heard: list[Heard]) -> None:
    """A chunk alone in the batch has the same times."""
    [alone] = run(pool_engine, CHUNKS[2:])

    assert alone.times is not None
    assert heard[2].times is not None
    assert (alone.times.tokens, alone.times.starts) == (heard[2].times.tokens, heard[2].times.starts)
    assert alone.times.probabilities == pytest.approx(heard[2].times.probabilities, abs=1e-5)


def test_times_are_told_to_those_who_ask(pool_engine: Engine) -> None:
    """Every text token has one, and the last an end; without the option there are none."""
    pcm, decoding = sounds.read(sounds.SAMPLE)[: 5 * S], Decoding(language="en")

    [untimed] = pool_engine.run([Request(key=0, pcm=pcm, decoding=decoding)])
    [timed] = run(pool_engine, [Span(0, 5 * S)])

    assert untimed.times is None
    assert timed.times is not None
    assert timed.tokens == untimed.tokens
    assert timed.times.tokens == tuple(t for t in timed.tokens if t < pool_engine.vocabulary.special.end_of_text)
    assert len(timed.times.starts) == len(timed.times.tokens) + 1 == len(timed.times.probabilities) + 1
    assert timed.times.starts == tuple(sorted(timed.times.starts))
    assert timed.times.starts[-1] < 5 * S
