"""The rules that choose a token, against a plain re-statement of openai/whisper's."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.decoding.rules import History, Limits, log_probabilities
from models.tokens import SpecialTokens

# A vocabulary of 8 words, the end, five tokens that steer, and 10 timestamps.
WORDS, END, NO_TIMESTAMPS, BEGIN, SIZE = 8, 8, 13, 14, 24
LATEST_START = 4  # timestamps after <|0.00|>
SPECIAL = SpecialTokens(
    end_of_text=END,
    start_of_transcript=9,
    start_of_previous=10,
    no_speech=10,
    no_timestamps=NO_TIMESTAMPS,
    timestamp_begin=BEGIN,
    languages={"en": 11},
    tasks={"transcribe": 12},
    suppressed=(3, 9, 10, 11, 12),
    steering=(9, 10, 11, 12),
    suppressed_at_begin=(0, END),
)


def limits(rows: int) -> Limits:
    """What a chunk asks for that asks for nothing in particular."""

    def table(tokens: tuple[int, ...]) -> jax.Array:
        return jnp.zeros((rows, SIZE), bool).at[:, jnp.array(tokens)].set(True)

    return Limits(
        suppressed=table(SPECIAL.suppressed),
        suppressed_first=table(SPECIAL.suppressed_at_begin),
        timestamps=jnp.ones(rows, bool),
        latest_start=jnp.full(rows, BEGIN + LATEST_START),
    )


@jax.jit
def ruled(logits: jax.Array, sampled: jax.Array, last: jax.Array, before_last: jax.Array, time: jax.Array) -> jax.Array:
    """The rules, compiled as the engine does."""
    # One hypothesis in each slot.
    past = (one[:, None] for one in (sampled, last, before_last, time))
    history = History(**dict(zip(("sampled", "last", "before_last", "last_timestamp"), past, strict=True)))
    logp: jax.Array = log_probabilities(SPECIAL, limits(len(logits)), logits[:, None], history)[:, 0]
    return logp


def apply(logits: np.ndarray, history: History) -> np.ndarray:
    """Log-probabilities [row, token]."""
    past = (history.sampled, history.last, history.before_last, history.last_timestamp)
    return np.asarray(ruled(jnp.asarray(logits), *past))


def whispers_rules(logits: np.ndarray, sampled: list[int]) -> np.ndarray:
    """`SuppressBlank`, `SuppressTokens` and `ApplyTimestampRules` of openai/whisper `decoding.py`, in its order."""
    logits = logits.astype(np.float64)
    if not sampled:
        logits[list(SPECIAL.suppressed_at_begin)] = -np.inf
    logits[list(SPECIAL.suppressed)] = -np.inf
    logits[NO_TIMESTAMPS] = -np.inf
    last_was_timestamp = len(sampled) >= 1 and sampled[-1] >= BEGIN
    penultimate_was_timestamp = len(sampled) < 2 or sampled[-2] >= BEGIN
    if last_was_timestamp:
        if penultimate_was_timestamp:
            logits[BEGIN:] = -np.inf
        else:
            logits[:END] = -np.inf
    timestamps = [token for token in sampled if token >= BEGIN]
    if timestamps:
        repeats = last_was_timestamp and not penultimate_was_timestamp
        logits[BEGIN : timestamps[-1] + (0 if repeats else 1)] = -np.inf
    if not sampled:
        logits[:BEGIN] = -np.inf
        logits[BEGIN + LATEST_START + 1 :] = -np.inf
    logprobs = logits - np.logaddexp.reduce(logits)
    if np.logaddexp.reduce(logprobs[BEGIN:]) > logprobs[:BEGIN].max():
        logits[:BEGIN] = -np.inf
    return np.asarray(logits - np.logaddexp.reduce(logits))


def history_of(rows: list[list[int]], prompt: int = 9) -> History:
    """What the slots keep of each row's sampled tokens; before the first stands the prompt."""

    def column(values: list[int]) -> jax.Array:
        return jnp.asarray(values, jnp.int32)

    return History(
        sampled=column([len(row) for row in rows]),
        last=column([(row or [prompt])[-1] for row in rows]),
        before_last=column([([prompt, prompt, *row])[-2] for row in rows]),
        last_timestamp=column([([-1, *(token for token in row if token >= BEGIN)])[-1] for row in rows]),
    )


def allowed(sampled: list[int], logits: np.ndarray | None = None) -> set[int]:
    """Tokens that may follow."""
    logits = np.zeros(SIZE, np.float32) if logits is None else logits
    return set(np.flatnonzero(np.isfinite(apply(logits[None], history_of([sampled]))[0])).tolist())


WITHOUT_TIMES = np.where(np.arange(SIZE) >= BEGIN, -30, 0).astype(np.float32)
TEXT = {1, 2, 4, 5, 6, 7}  # words that may be anywhere: 0 may not be first, 3 never
TIMES = set(range(BEGIN, SIZE))


@pytest.mark.parametrize(
    ("sampled", "may_follow"),
    [
        ([], {14, 15, 16, 17, 18}),  # a timestamp, at most 4 steps in
        ([16], {0, END} | TEXT),  # a start is followed by text
        ([16, 1], {0, END} | TEXT | set(range(17, SIZE))),  # an end is later than its start
        ([16, 1, 18], {END} | set(range(18, SIZE))),  # after an end: the next start, maybe at once, or the end of text
        ([16, 1, 18, 18], {0, END} | TEXT),
        ([16, 1, 18, 20, 2], {0, END} | TEXT | {21, 22, 23}),
        ([16, 1, 23], {END, 23}),
        ([16, 1, 23, 23, 1], {0, END} | TEXT),  # no time is left
    ],
)
def test_what_may_follow(sampled: list[int], may_follow: set[int]) -> None:
    """Timestamps come in pairs and never go back; where text is likelier, all that is not forbidden is open."""
    assert allowed(sampled, WITHOUT_TIMES) == may_follow


def test_timestamps_win_together() -> None:
    """Ten timestamps that are each as likely as a word are likelier together: it must be one of them."""
    assert allowed([16, 1]) == set(range(17, SIZE))


def test_a_tie_goes_to_text() -> None:
    """Timestamps have to be likelier, not as likely."""
    logits = np.full(SIZE, -np.inf, np.float32)
    logits[1] = logits[20] = 0

    assert allowed([16, 1], logits) == {1, 20}


def test_what_stood_in_the_prompt_does_not_count() -> None:
    """Only sampled tokens are history: a timestamp at the end of a prompt does not open a pair."""
    after_text, after_time = (apply(WITHOUT_TIMES[None], history_of([[16]], prompt=prompt)) for prompt in (1, 20))

    np.testing.assert_array_equal(after_text, after_time)


def test_probabilities_are_over_what_is_left() -> None:
    """Scores are log-probabilities under the rules they were chosen by: they sum to one."""
    logits = np.random.default_rng(0).standard_normal((3, SIZE)).astype(np.float32)

    logp = apply(logits, history_of([[], [16], [16, 1, 18]]))

    np.testing.assert_allclose(np.exp(logp).sum(-1), 1, atol=1e-6)


# Histories that the rules themselves allow, and any others.
histories = st.lists(st.integers(0, SIZE - 1).filter(lambda token: token != END), max_size=6)


@settings(max_examples=300, deadline=None)
@given(st.lists(histories, min_size=4, max_size=4), st.integers(0, 2**32 - 1), st.sampled_from([0.5, 2.0, 8.0]))
def test_the_rules_are_those_of_openai_whisper(rows: list[list[int]], seed: int, spread: float) -> None:
    """On any history and any logits, the same tokens are forbidden, and what is left is as likely."""
    logits = (np.random.default_rng(seed).standard_normal((4, SIZE)) * spread).astype(np.float32)

    ours = apply(logits, history_of(rows))

    for row, theirs in zip(ours, map(whispers_rules, logits, rows), strict=True):
        np.testing.assert_array_equal(np.isfinite(row), np.isfinite(theirs))
        np.testing.assert_allclose(row, theirs, atol=1e-5)
