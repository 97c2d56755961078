"""Words as they are compared."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stenopool.wording import find_phrase, likeness, words_of


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don't stop, Élodie!", ["don", "t", "stop", "elodie"]),
        ("  The ＧＰＵ's 3.5 GB", ["the", "gpu", "s", "3", "5", "gb"]),
        ("Straße STRASSE", ["strasse", "strasse"]),
        ("東京です ok", ["東", "京", "で", "す", "ok"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("ёлка Йод", ["ёлка", "йод"]),
        ("...", []),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    """Without case, punctuation, width and Latin accents; marks of other scripts stay; of some, a word a character."""
    assert [one.word for one in words_of(text)] == words


@given(st.text())
def test_words_of_any_text(text: str) -> None:
    """Their places are in order, in the text, and apart; said again, they are the same words."""
    found = words_of(text)
    places = [place for one in found for place in (one.start, one.end)]

    assert places == sorted(places)
    assert all(0 <= one.start < one.end <= len(text) for one in found)
    assert all(one.word and " " not in one.word and '"' not in one.word and "'" not in one.word for one in found)


def test_phrases_and_likeness() -> None:
    """A phrase is where all its words follow each other; a slip of the pen is like the word."""
    words = ["new", "york", "new", "new", "york"]

    assert find_phrase(words, ["new", "york"]) == [0, 3]
    assert find_phrase(words, ["york", "york"]) == []
    assert likeness("transcript", "transcirpt") > 0.3 > likeness("transcript", "budget")
    assert likeness("same", "same") == 1
