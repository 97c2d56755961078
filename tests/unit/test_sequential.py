"""A chunk of a sequential transcript on its way through its windows, with texts of our own invention."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.checkpoint import find_checkpoint
from models.decoding.requests import Heard, Stop, TokenTimes
from models.decoding.segments import up_to_seek
from models.tokens import Vocabulary
from stenopool.domain import Chunk, ChunkResult, Options, Skip, Span
from stenopool.options import resolved
from workers.sequential import Carried, Passage

S = 16_000  # one second
BEGIN = 1107  # <|0.00|> of pocket
START = 7  # of the chunk, on no grid
VOCABULARY = Vocabulary(find_checkpoint("pocket"))
[THE] = VOCABULARY.encode(" the")
[AND] = VOCABULARY.encode(" and")
[SPACE] = VOCABULARY.encode(" ")


def t(seconds: float) -> int:
    """The timestamp token."""
    return BEGIN + round(seconds * 50)


def passage(seconds: float = 100, carried: Carried | None = None, *, room: int = 223, **options: Any) -> Passage:
    """A chunk that begins at sample 7, or where what is carried says that there was speech before."""
    start = START if carried is None else carried.last_speech
    return Passage(
        Chunk(index=3, span=Span(start, start + round(seconds * S))),
        carried,
        options=resolved(Options(mode="sequential", language="en", **options)),
        vocabulary=VOCABULARY,
        language="en",
        room=room,
    )


def heard(*tokens: int, **other: Any) -> Heard:
    """What the engine heard, as sure as it gets."""
    given = {"avg_logprob": -0.3, "no_speech_prob": 0.1, "temperature": 0.0, "rejected": (), "times": None, **other}
    return Heard(key=0, tokens=tokens, compression_ratio=1.0, language="en", languages={}, stop=Stop.END, **given)


SILENT = heard(t(0), THE, t(1), no_speech_prob=0.9, avg_logprob=-1.5)


def window(one: Passage) -> tuple[float, float] | None:
    """The next one, in seconds from sample 7."""
    span = one.window.span if one.window else None
    return ((span.start - START) / S, (span.end - START) / S) if span else None


def texts(result: ChunkResult) -> list[tuple[float, float, str]]:
    """The segments, in seconds from sample 7."""
    return [((s.span.start - START) / S, (s.span.end - START) / S, s.text) for s in result.segments]


def test_each_window_begins_where_the_text_ended() -> None:
    """Up to the last pair of timestamps; a window with a lone one at its end is over; so is the chunk at its end."""
    one = passage(70)

    assert window(one) == (0, 30)
    one.hear(heard(t(0), THE, t(2), t(2), AND, t(20), t(21), THE))
    assert window(one) == (20, 50)
    one.hear(heard(t(1), AND, t(9)))
    assert window(one) == (50, 70)
    one.hear(heard(t(0), THE, t(19), t(19)))
    assert window(one) == (69, 70)
    one.hear(heard(AND, THE))
    assert window(one) is None

    result = one.result()
    assert (result.index, result.span, result.language, result.skipped) == (3, Span(START, START + 70 * S), "en", None)
    assert texts(result) == [
        (0, 2, " the"),
        (2, 20, " and"),
        (20, 29, " and"),
        (50, 69, " the"),
        (69, 70, " and the"),
    ]
    assert {segment.chunk for segment in result.segments} == {3}


def test_windows_are_as_long_as_chunks_may_be() -> None:
    """`chunk_length` is the window's, here as in chunked mode."""
    one = passage(70, chunk_length=20)

    assert window(one) == (0, 20)
    one.hear(heard(THE))
    assert window(one) == (20, 40)


def test_what_was_said_is_the_next_windows_prompt() -> None:
    """With its timestamps, as in openai/whisper, and without what is heard again or holds no text."""
    one = passage(initial_prompt=" the ")

    assert one.decoding().prompt == (THE,)
    one.hear(heard(t(0), AND, t(2), t(2), SPACE, t(3), t(3), THE))
    assert one.decoding().prompt == (THE, t(0), AND, t(2))
    assert one.decoding().seek
    assert texts(one.result()) == [(0, 2, " and")]


def test_previous_text_can_be_left_out() -> None:
    """Then each window stands alone; only the first one has the initial prompt."""
    one = passage(initial_prompt="the", condition_on_previous_text=False)

    assert one.decoding().prompt == (THE,)
    one.hear(heard(t(0), AND, t(2), t(2)))
    assert one.decoding().prompt == ()


@pytest.mark.parametrize(("temperature", "prompt"), [(0.5, (t(0), AND, t(2))), (0.6, ())])
def test_text_that_was_guessed_is_no_prompt(temperature: float, prompt: tuple[int, ...]) -> None:
    """Above the temperature of 0.5 nothing is passed on, of what came before neither."""
    one = passage(initial_prompt=None)

    one.hear(heard(t(0), AND, t(2), t(2), temperature=temperature))

    assert one.decoding().prompt == prompt
    assert texts(one.result()) == [(0, 2, " and")]


def test_the_last_text_counts_and_words_to_expect_stay() -> None:
    """A prompt has room for so many tokens; hotwords come first and are never pushed out."""
    one = passage(hotwords="the", room=4)
    one.hear(heard(t(0), AND, AND, t(2), t(2), AND, t(3), t(3)))

    assert one.decoding().prompt == (THE, t(2), AND, t(3))

    full = passage(hotwords="the the and", initial_prompt="and", room=2)
    assert full.decoding().prompt == (THE, THE)


def test_silence_is_skipped_and_named() -> None:
    """By openai/whisper's rule; the segments beside it tell. What came before stays the prompt."""
    one = passage(150)
    one.hear(heard(t(0), AND, t(2)))
    one.hear(SILENT)
    one.hear(replace(SILENT, no_speech_prob=0.8))
    assert one.decoding().prompt == (t(0), AND, t(2))
    one.hear(heard(t(0), THE, t(2)))
    one.hear(SILENT)

    result = one.result()
    before, after = result.segments
    assert before.guards == ()
    assert after.guards == (
        "before this: no speech from 30.00 s to 90.00 s (probability 0.80)",
        "after this: no speech from 120.00 s to 150.00 s (probability 0.90)",
    )
    assert result.quiet == (
        Skip(Span(30 * S + START, 90 * S + START), "no speech (probability 0.80)"),
        Skip(Span(120 * S + START, 150 * S + START), "no speech (probability 0.90)"),
    )


def test_a_chunk_of_nothing_but_silence_is_skipped() -> None:
    """With the reason, for the coverage; windows without a sound need no engine."""
    one = passage(50)
    one.hear(SILENT)
    one.skip()

    assert one.window is None
    assert one.result().skipped == "no speech from 0.00 s to 50.00 s (probability 0.90)"


def test_sound_in_which_nothing_was_said_is_transcribed_all_the_same() -> None:
    """As nothing."""
    one = passage(20)
    one.hear(heard())

    assert (one.result().segments, one.result().skipped) == ((), None)


def test_scores_and_guards_are_those_of_the_window() -> None:
    """Each segment has its window's; where the language is asked for in each, that, too."""
    one = passage(60)
    one.hear(heard(t(0), AND, t(2), t(2), THE, t(4), t(4), avg_logprob=-0.5, temperature=0.2, rejected=("why",)))
    one.hear(heard(t(0), AND, t(2)))

    first, second, third = one.result().segments
    for segment in (first, second):
        assert (segment.avg_logprob, segment.temperature, segment.guards) == (-0.5, 0.2, ("decoded again: why",))
    assert (third.avg_logprob, third.guards) == (-0.3, ())


def test_the_next_chunk_is_told() -> None:
    """What is carried from chunk to chunk is what would be carried from window to window."""
    one = passage(30)
    one.hear(heard(t(0), AND, t(2)))
    following = passage(30, one.carried, initial_prompt="the")

    assert following.decoding().prompt == (t(0), AND, t(2))


def test_speech_is_that_of_the_window() -> None:
    """What voice activity detection heard limits the tokens of each window by itself."""
    speech = (Span(0, 25 * S), Span(40 * S, 45 * S))
    one = Passage(
        Chunk(index=0, span=Span(0, 50 * S), speech=speech),
        None,
        options=resolved(Options(mode="sequential")),
        vocabulary=VOCABULARY,
        language="en",
        room=223,
    )
    one.hear(heard(t(0), AND, t(20), t(20)))

    assert one.window == Chunk(index=0, span=Span(20 * S, 50 * S), speech=(Span(20 * S, 25 * S), Span(40 * S, 45 * S)))
    assert one.decoding().max_new_tokens == 24 + 25 * 10
    assert one.decoding().seed == 20 * S


# With words


def timed(*spoken: tuple[float, float, float], tokens: tuple[int, ...], **other: Any) -> Heard:
    """Text whose words are tokens, each with start, end and probability; nothing lies between words but time."""
    said = tuple(token for token in tokens if token < BEGIN)
    assert len(said) == len(spoken)
    starts = [round(start * S) for start, _, _ in spoken] + [round(spoken[-1][1] * S)]
    times = TokenTimes(tokens=said, starts=tuple(starts), probabilities=tuple(p for _, _, p in spoken))
    return heard(*tokens, times=times, **other)


def with_words(seconds: float = 100, carried: Carried | None = None, **options: Any) -> Passage:
    """A chunk whose words are wanted."""
    return passage(seconds, carried, word_timestamps=True, **options)


def test_with_words_the_next_window_begins_after_the_last() -> None:
    """Not at the timestamp; but a window that has ended is over."""
    one = with_words()
    one.hear(timed((0.2, 0.6, 0.9), (0.6, 1.2, 0.9), tokens=(t(0), AND, THE, t(2), t(2))))

    assert window(one) == (1.2, 31.2)
    one.hear(timed((0.2, 0.8, 0.9), tokens=(t(0), AND, t(2))))
    assert window(one) == (31.2, 61.2)
    [first, second] = one.result().segments
    assert texts(one.result()) == [(0.2, 1.2, " and the"), (1.4, 2.0, " and")]
    assert [word.text for word in first.words] == [" and", " the"]
    assert one.carried.last_speech == second.words[-1].span.end == START + 2 * S


def test_silence_before_improbable_words_is_skipped() -> None:
    """The window is heard again from where they seemed to begin."""
    one = with_words(hallucination_silence_threshold=2)

    one.hear(timed((12, 12.6, 0.05), tokens=(t(12), AND, t(14), t(14)), temperature=1.0))

    assert window(one) == (12, 42)
    assert one.carried == Carried(tokens=())
    one.hear(timed((0.1, 0.6, 0.9), tokens=(t(0), THE, t(1), t(1))))
    [segment] = one.result().segments
    assert segment.guards == ("before this: skipped 12.0 s before improbable words at 0.00 s",)


# Attention tells where words begin, so the last before a pause reaches to the next word, or to its segment's end.
SAID = ((1, 1.4, 0.9), (1.4, 1.8, 0.9), (1.8, 10, 0.9))
DREAMT = ((10, 10.4, 0.05), (10.4, 10.8, 0.05), (10.8, 14, 0.05))
DREAM = (t(0), AND, THE, AND, t(2.2), t(10), THE, THE, THE, t(11.2))


def test_improbable_words_in_silence_are_dropped_and_heard_again() -> None:
    """Text before them stays; the next window begins with them, and what was dropped is told."""
    one = with_words(hallucination_silence_threshold=2)

    one.hear(timed(*SAID, *DREAMT, (14, 14.4, 0.9), tokens=(*DREAM, t(14), AND, t(15), t(15))))

    assert window(one) == (10, 40)
    assert texts(one.result()) == [(1, 2.2, " and the and")]
    assert one.carried == Carried(tokens=DREAM[:5], last_speech=START + round(2.2 * S))
    one.hear(timed((0, 0.4, 0.9), (0.4, 0.8, 0.9), tokens=(t(0), AND, THE, t(1), t(1))))
    _, again = one.result().segments
    assert again.guards == ('before this: dropped "the the the", improbable words in silence, at 10.00 s',)


def test_improbable_words_at_the_end_are_dropped_for_good() -> None:
    """With less than the threshold left there is nothing to hear again, and so it is told."""
    one = with_words(30, hallucination_silence_threshold=2)
    late = [(start + 18, end + 18, probability) for start, end, probability in DREAMT]

    one.hear(timed(*SAID, *late, tokens=(*DREAM[:5], t(28), *DREAM[6:9], t(29.2))))

    assert window(one) is None
    [segment] = one.result().segments
    assert segment.text == " and the and"
    assert segment.guards == ('after this: dropped "the the the", improbable words in silence, at 28.00 s',)


def test_what_is_left_of_a_window_must_be_able_to_hold_words() -> None:
    """After the last word, no more than the threshold: the window is over, whatever followed its last pair."""
    said = (t(0), AND, t(29), t(29), THE)

    one = with_words(hallucination_silence_threshold=2)
    one.hear(timed((28.2, 28.8, 0.9), tokens=(t(28), AND, t(29), t(29))))
    assert window(one) == (30, 60)

    one = with_words()
    one.hear(timed((28.2, 28.8, 0.9), tokens=(*said[:1], AND, t(29), t(29))))
    assert window(one) == (28.8, 58.8)


@st.composite
def inventions(draw: st.DrawFn) -> Heard:
    """Whatever a model may say, and some things that it may not."""
    tokens = draw(st.lists(st.sampled_from([THE, AND, SPACE, *range(BEGIN, BEGIN + 1501, 50)]), max_size=12))
    said = [token for token in up_to_seek(tokens, BEGIN) if token < BEGIN]
    steps = draw(st.lists(st.integers(0, 200), min_size=len(said) + 1, max_size=len(said) + 1))
    probabilities = draw(st.lists(st.sampled_from([0.05, 0.9]), min_size=len(said), max_size=len(said)))
    starts = [320 * sum(steps[: i + 1]) for i in range(len(steps))]
    times = TokenTimes(tokens=tuple(said), starts=tuple(starts), probabilities=tuple(probabilities)) if said else None
    return heard(
        *tokens,
        no_speech_prob=draw(st.sampled_from([0.1, 0.9])),
        avg_logprob=draw(st.sampled_from([-0.3, -1.5])),
        temperature=draw(st.sampled_from([0.0, 0.6])),
        times=times,
    )


@given(
    st.data(),
    st.integers(1, 90 * S),
    st.sampled_from([{}, *({"hallucination_silence_threshold": s} for s in (0.001, 2.0)), None]),
)
def test_whatever_is_heard_the_chunk_comes_to_its_end(
    data: st.DataObject, length: int, words: dict[str, Any] | None
) -> None:
    """Every window is later than the one before, inside the chunk, at most the model's; text lies inside the chunk."""
    one = passage(length / S) if words is None else with_words(length / S, **words)
    windows = []
    while (current := one.window) is not None:
        assert one.position == current.span.start
        assert len(one.decoding().prompt) <= 223
        windows.append(current.span)
        one.hear(data.draw(inventions()))

    assert one.window is None
    assert length - (one.position - START) < 160
    chunk = Span(START, START + length)
    assert all(a.start < b.start for a, b in pairwise(windows))
    assert all(chunk.start <= span.start < span.end <= chunk.end and len(span) <= 30 * S for span in windows)
    result = one.result()
    assert (result.skipped is None) or not result.segments
    for segment in result.segments:
        assert segment.text.strip()
        assert chunk.start <= segment.span.start <= segment.span.end <= chunk.end
        assert all(segment.span.start <= word.span.start <= word.span.end <= segment.span.end for word in segment.words)
