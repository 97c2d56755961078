"""Words as they are compared: without case, punctuation and Latin accents, each with its place in the text.

Search, watch-lists and lists of terms to be redacted agree on this. Scripts without spaces (Chinese, Japanese, Thai
...) have a word per character: whoever looks for several of them looks for a phrase.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple


class Spoken(NamedTuple):
    """A word of a text."""

    #: As it is compared; never empty.
    word: str
    #: Its characters in the text.
    start: int
    end: int


_PLAIN = re.compile(r"[A-Za-z0-9]+")

#: Scripts that put no spaces between words: Thai to Tibetan, Khmer, kana, Han.
_UNSPACED = r"\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_UNSPACED += r"\U00020000-\U0003ffff"
_ALONE = re.compile(f"[{_UNSPACED}]")


def words_of(text: str) -> list[Spoken]:
    """The words of a text, in order."""
    if text.isascii():
        return [Spoken(found[0].lower(), found.start(), found.end()) for found in _PLAIN.finditer(text)]
    found = []
    for start, end in _runs(text):
        if word := _fold(text[start:end]):
            found.append(Spoken(word, start, end))
    return found


def _runs(text: str) -> Iterator[tuple[int, int]]:
    """Where words begin and end; a mark belongs to the character before it."""
    start: int | None = None
    alone = False
    for at, character in enumerate(text):
        if start is not None:
            if unicodedata.category(character)[0] == "M":
                continue
            if alone or not character.isalnum() or _ALONE.match(character):
                yield start, at
                start = None
        if start is None and character.isalnum():
            start, alone = at, _ALONE.match(character) is not None
    if start is not None:
        yield start, len(text)


def find_phrase(words: Sequence[str], phrase: Sequence[str]) -> list[int]:
    """Where in `words` all words of the phrase stand one after another: the index of each first one."""
    n = len(phrase)
    return [at for at in range(len(words) - n + 1) if words[at] == phrase[0] and list(words[at : at + n]) == [*phrase]]


@lru_cache(maxsize=1 << 16)
def trigrams(word: str) -> frozenset[str]:
    """Three characters each, as Postgres' pg_trgm has them."""
    padded = f"  {word} "
    return frozenset(padded[at : at + 3] for at in range(len(padded) - 2))


def likeness(wanted: str, other: str) -> float:
    """How much of a word is in another, 0 to 1: the share of its trigrams, as pg_trgm's word_similarity has it."""
    return len(trigrams(wanted) & trigrams(other)) / len(trigrams(wanted))


@lru_cache(maxsize=1 << 14)
def _fold(word: str) -> str:
    """As it is compared; empty where nothing is left of it."""
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", word).casefold())
    kept = []
    latin = False
    for character in folded:
        if unicodedata.category(character) == "Mn":
            if not latin:  # of other scripts, marks tell words apart
                kept.append(character)
        elif character.isalnum() or unicodedata.category(character)[0] == "M":
            latin = character < "\u0250"
            kept.append(character)
    return unicodedata.normalize("NFC", "".join(kept))
