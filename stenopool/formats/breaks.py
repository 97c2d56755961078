"""How good each place in a text is for a break, in whatever language the model heard.

The end of a sentence is better than that of a clause, that better than the end of a word. Scripts that write no
spaces (Chinese, Japanese, Thai, ...) break between letters, though not where their typographers forbid it. Korean
breaks at its spaces.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from itertools import groupby


class Break(Enum):
    """How good a place is for a break, from best to worst."""

    SENTENCE = auto()
    CLAUSE = auto()
    WORD = auto()
    #: Between ideographs or kana, or after a hyphen.
    CHARACTER = auto()
    #: Between letters of Thai and its neighbours, where only a dictionary could say if a word ends.
    LETTER = auto()
    #: Inside a word that is too wide for a line.
    HARD = auto()
    #: Not a place for a break.
    NEVER = auto()


@dataclass(frozen=True, slots=True)
class Piece:
    """Text that is not broken inside, if it can be helped; `before` ranks the break in front of it."""

    text: str
    before: Break
    #: Whether a space stands in front of it, when no line starts there.
    spaced: bool


#: No-break spaces: they keep "10 km" and "Bonjour !" together.
NO_BREAK_SPACES = frozenset("\u00a0\u2007\u202f")

_CLOSERS = "\"'”’»›)]}）］｝」』】》〉〕"
_SENTENCE_ENDS = ".!?…。！？｡؟۔।॥։።"
_CLAUSE_ENDS = ",;:–—、，；：､،؛፣"
#: What never starts a line: closing marks, small kana, vowels and signs written after their consonant.
_NO_START = (
    frozenset(
        "!?%‰…,.;:)]}”’»›。、，．！？；：）］｝」』】》〉〕｡､･・ーｰ々〻ゝゞヽヾ"
        "ぁぃぅぇぉっゃゅょゎァィゥェォッャュョヮヵヶ～％ะาำๆฯະາຳໆ"
    )
    | NO_BREAK_SPACES
)
#: Where a Thai or Lao syllable starts or ends for certain: the best guess at a word that needs no dictionary. After
#: the zero-width space a word has ended: Thai and Khmer editors put it there.
_SYLLABLE_STARTS = frozenset("เแโใไເແໂໃໄ")
_SYLLABLE_ENDS = frozenset("ะำๆฯະຳໆ\u200b")
#: What never ends a line: opening marks, vowels written before their consonant, marks that stack the next letter.
_NO_END = frozenset("([{“‘«‹¿¡（［｛「『【《〈〔$£€¥￥\u17d2\u1039") | _SYLLABLE_STARTS | NO_BREAK_SPACES
#: Alphabets without spaces between words: Thai, Lao, Myanmar, Khmer.
_ALPHABETS = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]")
#: All scripts without them: those, kana, ideographs.
_SPACELESS = re.compile(
    f"{_ALPHABETS.pattern}|[\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff]"
)
#: Full stops that end no sentence; the other languages' are seldom written out by a model.
_ABBREVIATION = re.compile(r"(?:\W*(?:mr|mrs|ms|dr|prof|st|vs|jr|sr)|(?:^|.*\W)[^\W\d_])\.", re.IGNORECASE)
_JOINER = "\u200d"  # makes one picture of several


def pieces(text: str) -> Iterator[Piece]:
    """The text letter by letter, each with its marks, and how good a break in front of it would be.

    White space at the ends is gone; inside, any amount of it is one space, or one no-break space.
    """
    previous = ""
    for word in filter(None, _evened(text).split(" ")):
        spaced = bool(previous)
        before = _between_words(previous, word) if spaced else Break.SENTENCE
        if word.isascii() and "-" not in word:  # most words of most texts, and nothing to find inside them
            yield Piece(word, before, spaced)
            previous = word
            continue
        done = ""
        for cluster in _clusters(word):
            if done:
                before = _inside_word(done, cluster)
            yield Piece(cluster, before, spaced and not done)
            done += cluster
        previous = word


def _between_words(left: str, right: str) -> Break:
    """The rank of a break at the space between two words."""
    if set(left) <= _NO_END or set(right) <= _NO_START:
        return Break.NEVER  # « Bonjour ! » keeps its marks
    core = left.rstrip(_CLOSERS)
    if core[-1:] and core[-1] in _SENTENCE_ENDS:
        abbreviated = core[-1] == "." and (_ABBREVIATION.fullmatch(core) or right[0].islower())
        return Break.WORD if abbreviated else Break.SENTENCE
    if core[-1:] and (core[-1] in _CLAUSE_ENDS or set(core) == {"-"}):
        return Break.CLAUSE
    # Thai and its neighbours write a space where a phrase ends.
    return Break.CLAUSE if _SPACELESS.match(left[-1]) and _SPACELESS.match(right[0]) else Break.WORD


def _inside_word(left: str, right: str) -> Break:
    """The rank of a break between `left`, what the word holds so far, and `right`, the letter that follows."""
    if left[-1] in _NO_END or right[0] in _NO_START:
        return Break.NEVER
    if left[-1] in _SYLLABLE_ENDS or right[0] in _SYLLABLE_STARTS:
        return Break.WORD
    core = left.rstrip(_CLOSERS)
    if core[-1:] and unicodedata.east_asian_width(core[-1]) in "WFH":
        if core[-1] in _SENTENCE_ENDS:
            return Break.SENTENCE
        if core[-1] in _CLAUSE_ENDS:
            return Break.CLAUSE
    if _ALPHABETS.match(left[-1]) and _ALPHABETS.match(right[0]):
        return Break.LETTER
    if _SPACELESS.match(left[-1]) or _SPACELESS.match(right[0]):
        return Break.CHARACTER
    # After "state-of-the-" but not inside "1990-95", "-5" or "--help".
    hyphened = left[-1] in "-‐–—" and left[-2:-1].isalpha() and right.isalpha()
    return Break.CHARACTER if hyphened else Break.NEVER


def _clusters(word: str) -> list[str]:
    """The word's letters with what is drawn onto them: marks, skin tones, joined pictures, the halves of flags."""
    clusters: list[str] = []
    for character in word:
        last = clusters[-1] if clusters else ""
        joined = last and (
            unicodedata.category(character).startswith("M")
            or character == _JOINER
            or last[-1] == _JOINER
            or "\U0001f3fb" <= character <= "\U0001f3ff"
            or (len(last) == 1 and _is_flag_half(last) and _is_flag_half(character))
        )
        if joined:
            clusters[-1] += character
        else:
            clusters.append(character)
    return clusters


def _is_flag_half(character: str) -> bool:
    return "\U0001f1e6" <= character <= "\U0001f1ff"


def _evened(text: str) -> str:
    """The text without white space at its ends, and one space, breakable or not, where there was any inside."""
    runs = []
    for white, run in groupby(text.strip(), str.isspace):
        characters = "".join(run)
        if white:
            characters = characters[0] if set(characters) <= NO_BREAK_SPACES else " "
        runs.append(characters)
    return "".join(runs)
