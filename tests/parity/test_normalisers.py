"""Our normal forms against openai/whisper's normalisers; `references/make_normaliser_reference.py` recorded theirs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from models.accuracy import NormalForm

ENGLISH = NormalForm("english")


@pytest.fixture(scope="module")
def recorded() -> dict[str, Any]:
    """What openai/whisper wrote."""
    path = Path(__file__).parents[1] / "references" / "normalisers.json"
    loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return loaded


@pytest.mark.parametrize(
    ("form", "column"), [(ENGLISH, 1), (NormalForm("basic"), 2), (NormalForm("basic", letters=True), 3)]
)
def test_texts_of_all_scripts(recorded: dict[str, Any], form: NormalForm, column: int) -> None:
    """Prose, titles, sums of money, accents, brackets and twenty scripts become the same words."""
    rows = recorded["texts"]

    assert len(rows) > 40
    assert {row[0]: form.words(row[0]) for row in rows} == {row[0]: tuple(row[column].split()) for row in rows}


def test_spoken_numbers(recorded: dict[str, Any]) -> None:
    """Words of numbers, thrown together, become the same figures."""
    rows = recorded["numbers"]

    assert len(rows) == 300
    assert {text: ENGLISH.words(text) for text, _ in rows} == {text: tuple(theirs.split()) for text, theirs in rows}


@pytest.mark.parametrize(
    ("spoken", "written"),
    [
        # One digit, tens and ones, years
        ("two", "2"),
        ("thirty one", "31"),
        ("nineteen ninety nine", "1999"),
        ("twenty nineteen", "2019"),
        ("five twenty four", "524"),
        ("nineteen fifties", "1950s"),
        # Hundreds and up, with "and" or without
        ("forty three thousand two hundred sixty", "43260"),
        ("forty three thousand two hundred and sixty", "43260"),
        ("three thousand twenty nine", "3029"),
        ("three billion", "3000000000"),
        ("millions", "1000000s"),
        ("200 thousand", "200000"),
        # Digit by digit
        ("nine one one", "911"),
        ("nine double one", "911"),
        ("double oh seven", "007"),
        ("double zero seven", "007"),
        ("two double o eight", "2008"),
        ("one triple oh one", "10001"),
        # Ordinals
        ("thirty first", "31st"),
        ("two thousandth", "2000th"),
        ("thirty two thousandth", "32000th"),
        ("thirty three thousand and three hundred and thirty third", "33333rd"),
        ("july third twenty twenty", "july 3rd 2020"),
        ("august twenty sixth twenty twenty one", "august 26th 2021"),
        ("10 th", "10th"),
        ("10th", "10th"),
        # Fractions
        ("3 14", "3 14"),
        ("3.14", "3.14"),
        ("3 point 2", "3.2"),
        ("3 point 14", "3.14"),
        ("fourteen point 4", "14.4"),
        ("two point five million", "2500000"),
        ("four point two billions", "4200000000s"),
        ("three and a half million", "3500000"),
        # Signs and per cent
        ("minus 500", "-500"),
        ("positive twenty thousand", "+20000"),
        ("ninety percent", "90%"),
        ("seventy six per cent", "76%"),
        # Money
        ("200 thousand dollars", "$200000"),
        ("two hundred million dollars", "$200000000"),
        ("$20 million", "$20000000"),
        ("$20.1 million", "$20100000"),
        ("€52.4 million", "€52400000"),
        ("£77 thousands", "£77000s"),
        ("two point two five dollars", "$2.25"),
        ("forty eight and a half dollars", "$48.5"),
        ("two dollars and seventy cents", "$2.70"),
        ("three euros and sixty five cents", "€3.65"),
        ("3 cents", "¢3"),
        ("$0.36", "¢36"),
        # Letters and figures apart
        ("b747", "b 747"),
        ("RC232", "rc 232"),
        ("10km", "10 km"),
        ("10mm", "10 mm"),
    ],
)
def test_a_number_is_the_same_however_it_is_said(spoken: str, written: str) -> None:
    """Whisper's own examples of numbers (openai/whisper, tests/test_normalizer.py)."""
    assert " ".join(ENGLISH.words(spoken)) == written


@pytest.mark.parametrize(
    ("written", "normal"),
    [
        ("mobilisation", "mobilization"),
        ("cancelation", "cancellation"),
        ("Let's", "let us"),
        ("he's like", "he is like"),
        ("she's been like", "she has been like"),
        ("Mr. Park visited Assoc. Prof. Kim Jr.", "mister park visited associate professor kim junior"),
    ],
)
def test_a_word_is_the_same_however_it_is_written(written: str, normal: str) -> None:
    """Whisper's own examples of spelling, contractions and titles (openai/whisper, tests/test_normalizer.py)."""
    assert " ".join(ENGLISH.words(written)) == normal
