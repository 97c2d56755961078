"""How far a transcript is from what was said: normal forms, errors, repetitions."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.accuracy import (
    Comparison,
    Edit,
    EditKind,
    Errors,
    NormalForm,
    align,
    compare,
    language_code,
    normal_form,
    word_error_rate,
)
from models.accuracy.measures import repeated_ngrams
from stenopool.errors import UsageError

ENGLISH = normal_form("en")

words = st.lists(st.sampled_from("abc"), max_size=12)


@pytest.mark.parametrize(
    ("language", "normaliser", "form"),
    [
        ("en", "auto", NormalForm("english")),
        ("de", "auto", NormalForm("basic")),
        (None, "auto", NormalForm("basic")),
        ("zh", "auto", NormalForm("basic", letters=True)),
        ("ja", "auto", NormalForm("basic", letters=True)),
        ("ko", "auto", NormalForm("basic")),  # Korean writes spaces
        ("en", "basic", NormalForm("basic")),
        ("de", "english", NormalForm("english")),
        ("zh", "none", NormalForm("none")),
    ],
)
def test_the_form_is_that_of_the_language(language: str | None, normaliser: str, form: NormalForm) -> None:
    """English has a form of its own; languages without spaces are compared letter by letter; any can be asked for."""
    assert normal_form(language, normaliser) == form


@pytest.mark.parametrize(
    ("given", "code"),
    [("en", "en"), ("English", "en"), (" GERMAN ", "de"), ("en-US", "en"), ("pt_br", "pt"), ("yue", "yue")],
)
def test_languages_are_understood_as_people_write_them(given: str, code: str) -> None:
    """Codes, English names, and tags with a country."""
    assert language_code(given) == code


@pytest.mark.parametrize("wrong", ["", "englsh", "e", "1"])
def test_a_language_that_is_none(wrong: str) -> None:
    """A misspelt language is refused: in the wrong form, the figures would be wrong and look right."""
    with pytest.raises(UsageError, match="is not a language that Whisper knows"):
        language_code(wrong)


def test_without_a_normaliser_case_and_stops_are_words() -> None:
    """The text as it is written."""
    errors = compare("Close the door.", "close the door", normal_form("en", "none")).words

    assert errors == Errors(hits=1, substitutions=2)


def test_each_error_is_of_its_kind() -> None:
    """One word each: heard, heard wrongly, not heard, never said."""
    found = compare("please close the old wooden door", "please clothes the wooden door now", ENGLISH)

    assert found.words == Errors(hits=4, substitutions=1, deletions=1, insertions=1)
    assert found.words.rate == 3 / 6
    assert found.words.reference == found.words.hypothesis == 6
    assert found.edits == (
        Edit(EditKind.EQUAL, ("please",), ("please",)),
        Edit(EditKind.SUBSTITUTE, ("close",), ("clothes",)),
        Edit(EditKind.EQUAL, ("the",), ("the",)),
        Edit(EditKind.DELETE, ("old",), ()),
        Edit(EditKind.EQUAL, ("wooden", "door"), ("wooden", "door")),
        Edit(EditKind.INSERT, (), ("now",)),
    )


def test_characters_are_letters_and_the_spaces_between_words() -> None:
    """As jiwer counts them."""
    assert compare("a cat", "a bat", ENGLISH).characters == Errors(hits=4, substitutions=1)
    assert compare("foot ball", "football", ENGLISH).characters == Errors(hits=8, deletions=1)


def test_languages_without_spaces_are_compared_by_letters() -> None:
    """Where a writer puts a space or a comma in Chinese is no error; each letter is a word."""
    found = compare("你好，世界", "你坏世 界", normal_form("zh"))

    assert found.words == found.characters == Errors(hits=3, substitutions=1)


def test_no_rate_without_a_reference() -> None:
    """Words heard where none were said are insertions; a share of nothing they are not."""
    errors = compare("", "thank you", ENGLISH).words

    assert errors == Errors(insertions=2)
    assert errors.rate is None


def test_errors_of_recordings_add_up() -> None:
    """The total is over all words: a long recording weighs more than a short one."""
    total = sum([Errors(9, 1, 0, 0), Errors(0, 0, 1, 1)], Errors())

    assert total == Errors(9, 1, 1, 1)
    assert total.rate == 3 / 11


@given(said=words, heard=words)
def test_both_texts_can_be_read_from_the_alignment(said: list[str], heard: list[str]) -> None:
    """Every word of both is in exactly one stretch, in order, and the kinds say what they say."""
    edits = list(align(said, heard))

    assert [word for edit in edits for word in edit.reference] == said
    assert [word for edit in edits for word in edit.hypothesis] == heard
    for edit in edits:
        assert (edit.kind is EditKind.EQUAL) == (edit.reference == edit.hypothesis)
        assert (edit.kind is EditKind.DELETE) == (not edit.hypothesis)
        assert (edit.kind is EditKind.INSERT) == (not edit.reference)
        assert edit.kind is not EditKind.SUBSTITUTE or len(edit.reference) == len(edit.hypothesis)


@given(said=words, heard=words)
def test_no_other_way_has_fewer_errors(said: list[str], heard: list[str]) -> None:
    """The errors are Levenshtein's distance, computed here by its definition."""
    row = list(range(len(heard) + 1))
    for i, word in enumerate(said, start=1):
        above, row = row, [i]
        for j, other in enumerate(heard, start=1):
            row.append(min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (word != other)))

    errors = compare(" ".join(said), " ".join(heard), NormalForm("none")).words
    assert errors.substitutions + errors.deletions + errors.insertions == row[-1]
    assert (errors.reference, errors.hypothesis) == (len(said), len(heard))


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("one two three four", 0),
        ("a b c d e f g h i j", 0),
        ("a b c d e a b c d e", 1),  # abcde twice; bcdea, cdeab, deabc, eabcd once
        ("the the the the the the the", 2),
        ("a b c d e f a b c d e f", 2),
    ],
)
def test_repeated_stretches(text: str, count: int) -> None:
    """Stretches of five words that were there before, overlapping ones each for themselves."""
    assert repeated_ngrams(text.split()) == count


def test_a_loop_is_seen_in_the_hypothesis_only() -> None:
    """Who repeats themselves in the reference makes no error; a model that loops does."""
    said, looped = "so it goes on", "so it goes on " * 5

    assert compare(looped, said, ENGLISH).repeated == 0
    assert compare(said, looped, ENGLISH).repeated == 12


def test_british_and_american_spelling_is_no_error() -> None:
    """The list of spellings is part of the English form."""
    assert word_error_rate("the colour of the theatre", "the color of the theater") == 0


def test_three_hours_are_compared_in_seconds() -> None:
    """Two texts of 30,000 words, every tenth word another: all of it is aligned."""
    said = [f"w{i % 997}" for i in range(30_000)]
    heard = [f"x{i}" if i % 10 == 0 else word for i, word in enumerate(said)]

    found: Comparison = compare(" ".join(said), " ".join(heard), NormalForm("none"))

    assert found.words == Errors(hits=27_000, substitutions=3_000)


def test_measuring_says_nothing() -> None:
    """Loading the normalisers prints nothing, and loads no device."""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from models.accuracy import word_error_rate; word_error_rate('a', 'b');"
            "assert 'jax' not in sys.modules",
        ],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )

    assert (done.stdout, done.stderr) == ("", "")
