"""The vote for a recording's language."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.language import VOTERS, Election, vote, voters


@pytest.mark.parametrize(
    ("n", "asked"),
    [(0, []), (1, [0]), (2, [0, 1]), (3, [0, 1, 2]), (4, [0, 1, 2, 3]), (5, [0, 1, 3, 4]), (10, [1, 3, 6, 8])],
)
def test_who_is_asked(n: int, asked: list[int]) -> None:
    """All of a few chunks; of many, the middles of four equal parts."""
    assert voters(n) == asked


@given(st.integers(0, 10_000))
def test_voters_are_spread_evenly(n: int) -> None:
    """As many as there may be, each once, the middles of so many equal parts, and mirrored but for rounding."""
    asked = voters(n)

    assert len(asked) == min(VOTERS, n)
    assert all(a < b for a, b in pairwise(asked))
    assert all(2 * len(asked) * at <= (2 * i + 1) * n < 2 * len(asked) * (at + 1) for i, at in enumerate(asked))
    assert all(n - 1 <= a + b <= n for a, b in zip(asked, reversed(asked), strict=True))


def test_one_jingle_does_not_decide() -> None:
    """Not the surest chunk wins, but the highest mean; a language that a chunk does not name counts as 0 there."""
    jingle, speech = {"la": 1.0}, {"en": 0.75, "de": 0.25}

    assert vote([jingle, speech, speech, speech]) == ("en", 0.5625)
    assert vote([jingle, speech]) == ("la", 0.5)
    assert vote([speech]) == ("en", 0.75)


def test_a_tie_is_decided_the_same_way_every_time() -> None:
    """By the alphabet, not by who answered first."""
    assert vote([{"en": 0.5, "de": 0.5}]) == vote([{"de": 0.5, "en": 0.5}]) == ("de", 0.5)
    assert vote([dict.fromkeys(["zh", "yo", "vi", "ur", "uk", "ta", "sw", "pl", "nl", "fr"], 0.125)]) == ("fr", 0.125)
    assert vote([{"nl": 1.0}, {"de": 1.0}]) == vote([{"de": 1.0}, {"nl": 1.0}]) == ("de", 0.5)


@pytest.mark.parametrize("heard", [[], [{}], [{}, {}]])
def test_nobody_was_asked(heard: list[dict[str, float]]) -> None:
    """Without an answer there is no language."""
    with pytest.raises(ValueError, match=r"^no chunk was asked, or none knows a language$"):
        vote(heard)


ANSWERS = st.lists(
    st.dictionaries(st.sampled_from(["de", "en", "fr"]), st.floats(0, 1), min_size=1), min_size=1, max_size=VOTERS
)


@given(ANSWERS, st.randoms(use_true_random=False))
def test_the_order_of_the_answers_does_not_matter(answers: list[dict[str, float]], random: Random) -> None:
    """Chunks are decoded in any order; the language and its probability are the same to the last bit."""
    shuffled = [dict(random.sample(list(one.items()), len(one))) for one in random.sample(answers, len(answers))]

    assert vote(shuffled) == vote(answers)


def test_an_election() -> None:
    """Each voter is asked once, as many at a time as there is room for; the last answer gives the result."""
    election = Election(10)

    assert [election.ask(limit) for limit in (0, 1, 2, 9, 9)] == [[], [1], [3, 6], [8], []]
    assert [election.count({"en": 0.5, "de": 0.25}) for _ in range(3)] == [None, None, None]
    assert election.count({"de": 1.0}) == ("de", 0.4375)


def test_an_election_of_one() -> None:
    """A short recording has a single voter, who decides."""
    election = Election(1)

    assert election.ask(9) == [0]
    assert election.count({"en": 0.75}) == ("en", 0.75)
