"""The loop guard: the counters on the device, the cut on the host, and a model that cannot but loop."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from models.decoding.loops import (
    LONGEST_PERIOD,
    REPEATED_PERIODS,
    REPEATED_TOKENS,
    count_repeats,
    looping,
    without_loop,
)
from models.decoding.requests import Decoding, Heard, Request, Stop
from models.engine import Engine
from tests import sounds

BEGIN = 1000  # <|0.00|> of these tests
LENGTH = 200


@jax.jit
def _first_loops(tokens: jax.Array, first: jax.Array) -> jax.Array:
    """For each position whether the guard would stop there, counters carried along as the decoder does."""

    def step(repeats: jax.Array, at: jax.Array) -> tuple[jax.Array, jax.Array]:
        counted = count_repeats(repeats, tokens[None, None], at[None], first[None], BEGIN)
        return counted, looping(counted)[0, 0]

    empty = jnp.zeros((1, 1, LONGEST_PERIOD), jnp.int32)
    return jax.lax.scan(step, empty, first + jnp.arange(LENGTH, dtype=jnp.int32))[1]


def stops_at(tokens: list[int], prompt: tuple[int, ...] = ()) -> int | None:
    """After how many tokens of the text the guard stops; None where it does not."""
    row = np.zeros(2 * LENGTH, np.int32)
    row[: len(prompt) + len(tokens)] = [*prompt, *tokens]
    found = np.flatnonzero(_first_loops(jnp.asarray(row), jnp.int32(len(prompt)))[: len(tokens)])
    return int(found[0]) + 1 if len(found) else None


def goes_in_circles(tokens: list[int]) -> bool:
    """The definition, word for word: its end repeats what stood a period before, often enough."""
    kinds = [min(token, BEGIN) for token in tokens]
    for period in range(1, LONGEST_PERIOD + 1):
        n = max(REPEATED_TOKENS, REPEATED_PERIODS * period)
        if len(kinds) >= period + n and kinds[-n:] == kinds[-n - period : -period]:
            return True
    return False


TEXTS = st.builds(
    lambda before, circle, times, after: (before + circle * times + after)[:LENGTH],
    st.lists(st.integers(0, 3), max_size=20),
    st.lists(st.sampled_from([0, 1, 2, BEGIN, BEGIN + 7]), min_size=1, max_size=40),
    st.integers(1, 30),
    st.lists(st.integers(0, 3), max_size=4),
)


@settings(max_examples=60)
@given(TEXTS)
@example([5] * 21)
@example([5] * 20)
@example(list(range(40)) * 5)
def test_the_counters_keep_the_definition(tokens: list[int]) -> None:
    """The text is stopped at the first token where its end repeats itself often enough, and nowhere else."""
    expected = next((n for n in range(1, len(tokens) + 1) if goes_in_circles(tokens[:n])), None)

    assert stops_at(tokens) == expected


@pytest.mark.parametrize(
    ("circle", "tokens"), [(1, 21), (2, 22), (4, 24), (5, 25), (8, 40), (32, 160), (33, None), (40, None)]
)
def test_how_long_a_circle_may_go_on(circle: int, tokens: int | None) -> None:
    """Twenty tokens repeated, and four rounds repeated; a circle of more than 32 tokens is not looked for."""
    assert stops_at((list(range(circle)) * LENGTH)[:LENGTH]) == tokens


def test_times_that_go_on_do_not_hide_a_circle() -> None:
    """All timestamps count as the same token."""
    tokens = [token for n in range(20) for token in (BEGIN + 10 * n, 7, 8, BEGIN + 10 * n + 9)]

    assert stops_at(tokens) == 24
    assert without_loop(tokens[:24], BEGIN) == tuple(tokens[:4])


def test_the_prompt_is_no_part_of_a_circle() -> None:
    """What was said before may be said again."""
    assert stops_at([7] * 20, prompt=(7,) * 30) is None
    assert stops_at([7] * 21, prompt=(7,) * 30) == 21


@given(TEXTS)
def test_a_circle_is_kept_once(tokens: list[int]) -> None:
    """What is cut is a repetition, whole texts stay, and what is left begins as the text did."""
    kept = without_loop(tokens, BEGIN)

    assert tokens[: len(kept)] == list(kept)
    assert (len(kept) < len(tokens)) == goes_in_circles(tokens)
    if cut := len(tokens) - len(kept):
        kinds = [min(token, BEGIN) for token in tokens]
        assert any(kinds[-cut:] == kinds[-cut - period : -period] for period in range(1, LONGEST_PERIOD + 1))
        assert not goes_in_circles(list(kept))


def test_four_times_thank_you_is_speech() -> None:
    """Emphasis is no loop."""
    assert stops_at([1, 2, 3] * 4) is None
    assert without_loop([1, 2, 3] * 4, BEGIN) == (1, 2, 3) * 4


# A model that loops


@pytest.fixture(scope="module")
def looping_text(pool_engine: Engine) -> Decoding:
    """A decoding in which only four words may be written, without times and an end: pocket must repeat itself."""
    vocabulary = pool_engine.vocabulary
    words = {token for word in (" the", " budget", " meeting", ".") for token in vocabulary.encode(word)}
    suppressed = tuple(token for token in range(vocabulary.special.timestamp_begin) if token not in words)
    return Decoding(language="en", timestamps=False, suppress_tokens=suppressed)


def hear(engine: Engine, **decodings: Decoding) -> dict[object, Heard]:
    """The sample's first ten seconds under each of them, all at once."""
    pcm = sounds.read(sounds.SAMPLE)[:160_000]
    return {one.key: one for one in engine.run(Request(key=k, pcm=pcm, decoding=d) for k, d in decodings.items())}


def test_a_text_in_circles_is_stopped_and_cut(pool_engine: Engine, looping_text: Decoding) -> None:
    """With the guard it ends within a few rounds, says so, and keeps one of them; without, it has all 224 tokens. A
    neighbour is heard as ever.
    """
    plain = Decoding(language="en", loop_guard=True)
    heard = hear(pool_engine, free=looping_text, guarded=replace(looping_text, loop_guard=True), plain=plain)
    [alone] = hear(pool_engine, alone=plain).values()

    free, guarded = heard["free"], heard["guarded"]
    assert (len(free.tokens), free.stop) == (224, Stop.LIMIT)
    assert guarded.stop is Stop.LOOP
    assert guarded.tokens == free.tokens[: len(guarded.tokens)]
    assert len(guarded.tokens) < 60
    assert without_loop(guarded.tokens, pool_engine.vocabulary.special.timestamp_begin) == guarded.tokens
    assert heard["plain"].tokens == alone.tokens
    assert heard["plain"].stop is Stop.END
