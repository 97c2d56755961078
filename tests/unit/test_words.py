"""Tokens into words, as openai-whisper does it: at spaces, or at every whole character."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.tokens import Vocabulary
from models.words import WITHOUT_SPACES, split_on_characters
from tests.checkpoints import write_unweighted
from tests.references import tokenizer_files


@pytest.fixture(scope="module")
def multilingual(tmp_path_factory: pytest.TempPathFactory) -> Vocabulary:
    """That of tiny to large-v2."""
    return Vocabulary(write_unweighted("multilingual", tmp_path_factory.mktemp("multilingual")))


@pytest.fixture(scope="module")
def english(tmp_path_factory: pytest.TempPathFactory) -> Vocabulary:
    """That of the English-only models."""
    return Vocabulary(write_unweighted("english", tmp_path_factory.mktemp("english")))


def test_half_a_character_ends_a_word_where_the_whole_text_has_it_too(multilingual: Vocabulary) -> None:
    """A byte that belongs to nothing is a word by itself; its neighbours stay what they are."""
    tokens = [8404, 871, 287, 6, 246, 526, 3210, 20378]

    pieces = split_on_characters(multilingual.spell, tokens)

    assert [text for text, _ in pieces] == [" elle", " est", " l", "'", "\ufffd", "é", "rit", "oire"]
    assert [its for _, its in pieces] == [(token,) for token in tokens]


def test_words_begin_at_spaces_and_signs(multilingual: Vocabulary) -> None:
    """A word keeps its space and what is joined to it; punctuation and special tokens stand alone."""
    tokens = (*multilingual.encode(" It doesn't (really) matter, Straßenbahnhaltestelle."), 50257, 50364)

    words = multilingual.split_to_words(tokens, "en")

    assert [text for text, _ in words] == [
        *(" It", " doesn't", " (really", ")", " matter", ",", " Straßenbahnhaltestelle", "."),
        *("<|endoftext|>", "<|0.00|>"),
    ]


@pytest.mark.parametrize("language", sorted(WITHOUT_SPACES))
def test_scripts_without_spaces_are_split_at_characters(multilingual: Vocabulary, language: str) -> None:
    """There a word is the least that the tokens tell apart, never part of a character."""
    tokens = multilingual.encode("曦光 ไม่มี ꧁")

    words = multilingual.split_to_words(tokens, language)

    assert "".join(text for text, _ in words) == "曦光 ไม่มี ꧁"
    assert not [text for text, _ in words if "\ufffd" in text]
    assert len(words) > len(multilingual.split_to_words(tokens, "en")) == 3
    assert max(len(its) for _, its in words) > 1


@pytest.mark.parametrize("name", ["english", "multilingual"])
def test_a_thousand_strings_have_openais_words(name: str, request: pytest.FixtureRequest) -> None:
    """By spaces and by characters, words have the tokens that openai-whisper gives them."""
    vocabulary: Vocabulary = request.getfixturevalue(name)
    by_spaces, by_unicode = [], []
    recorded = tokenizer_files.recorded(name)
    for one in recorded:
        by_spaces.append([len(its) for _, its in vocabulary.split_to_words(one.ids, "de")])
        by_unicode.append([len(its) for _, its in vocabulary.split_to_words(one.ids, "ja")])

    assert len(recorded) == 1000
    assert by_spaces == [one.by_spaces for one in recorded]
    assert by_unicode == [one.by_unicode for one in recorded]


@given(tokens=st.lists(st.integers(0, 51864), max_size=12), language=st.sampled_from(["en", "zh"]))
def test_no_token_is_lost(multilingual: Vocabulary, tokens: list[int], language: str) -> None:
    """Whatever a model says, even broken characters: the words' tokens joined are all tokens, in order."""
    words = multilingual.split_to_words(tokens, language)

    assert [token for _, its in words for token in its] == tokens


@given(text=st.text(max_size=40), language=st.sampled_from(["en", "zh"]))
def test_words_are_the_text(multilingual: Vocabulary, text: str, language: str) -> None:
    """The words of an encoded text joined are that text."""
    words = multilingual.split_to_words(multilingual.encode(text), language)

    assert "".join(word for word, _ in words) == text


def test_bytes_that_read_differently_together(multilingual: Vocabulary) -> None:
    """Half a character before another's half decodes to one mark or to two; no token falls between."""
    half, other = multilingual.encode("€")[:1], multilingual.encode("曦")[-1:]
    tokens = (*half, *other, *multilingual.encode("A"))

    words = multilingual.split_to_words(tokens, "zh")

    assert [token for _, its in words for token in its] == list(tokens)
