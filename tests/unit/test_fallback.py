"""Which attempt is the answer: a table of invented attempts, and what holds for any of them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.decoding.fallback import Attempt, Hypothesis, best, chosen
from models.decoding.requests import Decoding, Stop

LADDER = (0.0, 0.2, 0.4, 0.6)
RULES = Decoding(temperature=LADDER, compression_ratio_threshold=2.4, log_prob_threshold=-1.0, no_speech_threshold=0.6)


def attempt(at: int, avg_logprob: float, ratio: float = 1.5, silence: float = 0.0, stop: Stop = Stop.END) -> Attempt:
    """What came out at one step of the ladder; nine tokens and their end."""
    text = Hypothesis(tuple(range(9)), 10 * avg_logprob, stop)
    return Attempt(text=text, temperature=LADDER[at], compression_ratio=ratio, no_speech_prob=silence)


GOOD, POOR, WORSE = -0.5, -1.5, -2.0

#: Attempts so far, as (mean log-probability, compression ratio, <|nospeech|>) -> the answer's index; None: go on.
TABLE: Sequence[tuple[str, Sequence[tuple[float, float, float]], int | None]] = (
    ("good at once", [(GOOD, 1.5, 0)], 0),
    ("exactly at both thresholds", [(-1.0, 2.4, 0)], 0),
    ("unlikely", [(POOR, 1.5, 0)], None),
    ("repetitive", [(GOOD, 2.5, 0)], None),
    ("unlikely, but silence", [(POOR, 1.5, 0.7)], 0),
    ("repetitive, but silence", [(POOR, 3.0, 0.7)], 0),
    ("likely: no silence, whatever <|nospeech|> says", [(GOOD, 2.5, 0.9)], None),
    ("<|nospeech|> at its threshold is no silence", [(POOR, 1.5, 0.6)], None),
    ("good at the second temperature", [(POOR, 1.5, 0), (GOOD, 1.5, 0)], 1),
    ("likelier: heat helps", [(WORSE, 1.5, 0), (POOR, 1.5, 0)], None),
    ("no likelier: heat does not help, the first was best", [(POOR, 1.5, 0), (WORSE, 1.5, 0)], 0),
    ("as likely as before", [(POOR, 1.5, 0), (POOR, 1.5, 0)], 0),
    ("repetition goes on at any likelihood", [(GOOD, 3.0, 0), (GOOD, 3.0, 0)], None),
    ("repetition is no yardstick for what is unlikely", [(GOOD, 3.0, 0), (POOR, 1.5, 0)], None),
    ("unlikely, then repetition", [(POOR, 1.5, 0), (GOOD, 3.0, 0)], None),
    ("unlikely, repetition, less likely", [(POOR, 1.5, 0), (GOOD, 3.0, 0), (WORSE, 1.5, 0)], 0),
    ("the end: the likeliest that does not repeat", [(POOR, 3, 0), (WORSE, 1, 0), (GOOD, 3, 0), (POOR, 1, 0)], 3),
    ("the ladder's end: all repeat", [(POOR, 3, 0), (GOOD, 3, 0), (POOR, 3, 0), (WORSE, 3, 0)], 1),
    ("the ladder's end, and good", [(POOR, 3, 0), (POOR, 3, 0), (POOR, 3, 0), (GOOD, 1, 0)], 3),
)  # fmt: skip


@pytest.mark.parametrize(("said", "rows", "answer"), TABLE, ids=[row[0] for row in TABLE])
def test_which_attempt_is_the_answer(said: str, rows: list[tuple[float, float, float]], answer: int | None) -> None:
    """Good enough is good enough; else another temperature, as long as that can help; in the end the best there is."""
    attempts = [attempt(at, *row) for at, row in enumerate(rows)]

    assert chosen(attempts, RULES) is (None if answer is None else attempts[answer])


def test_a_loop_is_tried_again_however_likely() -> None:
    """A text that was cut because it went in circles is worse than any that was not."""
    loop, poor = attempt(0, -0.1, stop=Stop.LOOP), attempt(3, WORSE)

    assert chosen([loop], RULES) is None
    assert loop.objection(RULES) == "at temperature 0 it goes in circles"
    assert chosen([loop, attempt(1, -0.1, stop=Stop.LOOP), attempt(2, WORSE - 1), poor], RULES) is poor


def test_objections_say_which_threshold() -> None:
    """They go into the segment's provenance."""
    assert attempt(1, POOR).objection(RULES) == "at temperature 0.2 its mean log-probability is -1.50"
    assert attempt(0, GOOD, 2.5).objection(RULES) == "at temperature 0 its compression ratio is 2.50"
    assert attempt(0, GOOD).objection(RULES) is None
    assert attempt(0, POOR, silence=0.7).objection(RULES) is None


def test_without_thresholds_the_first_is_good_enough() -> None:
    """The engine's own defaults object to nothing."""
    poor = attempt(0, -9.0, 30.0, 1.0)

    assert chosen([poor], Decoding(temperature=LADDER)) is poor


@given(
    st.lists(
        st.tuples(st.floats(-3, 0), st.floats(0.5, 4), st.floats(0, 1), st.sampled_from(Stop)), min_size=1, max_size=4
    )
)
def test_the_ladder_has_an_end(rows: list[tuple[float, float, float, Stop]]) -> None:
    """Climbing the ladder by `chosen` ends with one of the attempts, which is at least as likely as any other that does
    not repeat itself, unless it was good enough.
    """
    rows = [rows[at % len(rows)] for at in range(len(LADDER))]
    attempts: list[Attempt] = []
    answer = None
    while answer is None:
        attempts.append(attempt(len(attempts), *rows[len(attempts)]))
        answer = chosen(attempts, RULES)

    assert answer in attempts
    if answer.objection(RULES) is not None:
        steady = [one for one in attempts if not one.repeats(RULES)]
        assert answer.text.avg_logprob == max(one.text.avg_logprob for one in steady or attempts)
        assert not steady or answer in steady


# The best of several hypotheses


def test_the_likeliest_for_its_length() -> None:
    """By default the mean, which takes the long one; with a penalty of 0 the sum, which takes the short one."""
    short, long = Hypothesis((1, 2), -2.0, Stop.END), Hypothesis((1, 2, 3, 4, 5, 6), -3.0, Stop.END)

    assert best([short, long], None) is long
    assert best([short, long], 0.0) is short
    # ((5 + 2) / 6) ** 1 = 1.17 and ((5 + 6) / 6) ** 1 = 1.83: -1.71 and -1.64
    assert best([short, long], 1.0) is long


def test_of_equals_the_first() -> None:
    """As the reference does; an empty text has its end's probability and no length to divide by."""
    one, same, empty = (Hypothesis(tokens, -1.0, Stop.END) for tokens in ((1, 2), (3, 4), ()))

    assert best([one, same], None) is one
    assert best([same, one], 0.6) is same
    assert best([empty, Hypothesis((1,), -3.0, Stop.END)], None) is empty
