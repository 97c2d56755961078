"""What somebody looks for, read once for both databases.

budget review          both words
"budget review"        one after the other
budget OR forecast     one of them
review -draft          the first without the second
transcri*              words that begin so
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from stenopool.errors import UsageError
from stenopool.wording import Spoken, likeness, words_of

#: More than anybody types, and few enough for any database.
MOST_WORDS = 32
#: Characters of a word.
LONGEST = 100

#: How alike a word has to be to the one that is looked for, fuzzily.
ALIKE = 0.45

_PIECE = re.compile(r'\s*(?P<minus>-?)(?:"(?P<phrase>[^"]*)"|(?P<word>[^\s"]+))')


@dataclass(frozen=True, slots=True)
class Term:
    """A word, or several one after another."""

    words: tuple[str, ...]
    #: Words that begin with the last one are meant, too.
    prefix: bool = False


@dataclass(frozen=True, slots=True)
class Query:
    """All of `wanted`, of each of them one; and none of `unwanted`."""

    wanted: tuple[tuple[Term, ...], ...]
    unwanted: tuple[Term, ...] = ()

    @property
    def terms(self) -> list[Term]:
        """All that may be found."""
        return [term for choices in self.wanted for term in choices]


def read_query(text: str) -> Query:
    """Raises UsageError, in a line, for what is no query."""
    wanted: list[list[Term]] = []
    unwanted: list[Term] = []
    choice = False  # the last word was OR
    for minus, term, is_or in _pieces(text):
        if is_or:
            if choice or not wanted:
                raise UsageError(f"{text!r}: OR stands between two words or phrases")
            choice = True
        elif minus:
            if choice:
                raise UsageError(f"{text!r}: OR stands between two words or phrases, and -... excludes one")
            unwanted += [term] if term.words else []
        elif term.words:
            if choice:
                wanted[-1].append(term)
            else:
                wanted.append([term])
            choice = False
    if choice:
        raise UsageError(f"{text!r}: OR stands between two words or phrases")
    if not wanted:
        only = ", only something to leave out" if unwanted else ""
        raise UsageError(f"{text!r}: there is no word to be found in it{only}; an example: budget -draft")
    query = Query(tuple(map(tuple, wanted)), tuple(unwanted))
    words = [word for term in (*query.terms, *query.unwanted) for word in term.words]
    if len(words) > MOST_WORDS or max(map(len, words)) > LONGEST:
        raise UsageError(f"a query may have {MOST_WORDS} words of {LONGEST} characters")
    return query


def _pieces(text: str) -> Iterator[tuple[bool, Term, bool]]:
    """Whether it is excluded, the term, whether it is OR."""
    at = 0
    while text[at:].strip():
        found = _PIECE.match(text, at)
        if found is None:
            raise UsageError(f'{text!r}: a phrase begins with " and does not end')
        at = found.end()
        raw = found["word"] if found["phrase"] is None else found["phrase"]
        words = tuple(spoken.word for spoken in words_of(raw))
        is_word = found["phrase"] is None
        is_or = is_word and raw == "OR" and not found["minus"]
        yield bool(found["minus"]), Term(words, prefix=is_word and raw.endswith("*") and bool(words)), is_or


def spots(
    text: Sequence[Spoken], query: Query, stems: Mapping[str, str], *, fuzzy: bool = False
) -> list[tuple[int, int]]:
    """Characters of a text that are what was looked for, in order.

    Args:
        stems: of each word of both, what the database compares; empty for those that it leaves out.
    """
    marked: set[int] = set()
    for term in query.terms:
        if fuzzy:
            marked |= {at for at, one in enumerate(text) for word in term.words if likeness(word, one.word) >= ALIKE}
            continue
        n = len(term.words)
        for at in range(len(text) - n + 1):
            pairs = zip(term.words, (one.word for one in text[at : at + n]), strict=True)
            last = at + n - 1
            if all(
                stems[word] == stems[other] or (term.prefix and place == n - 1 and other.startswith(word))
                for place, (word, other) in enumerate(pairs)
            ):
                # A word that the database leaves out is no reason to mark another.
                marked |= {place for place in range(at, last + 1) if n > 1 or stems[text[place].word] or term.prefix}
    joined: list[tuple[int, int]] = []
    for place in sorted(marked):
        start, end = text[place].start, text[place].end
        if joined and place - 1 in marked:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return joined


def relevance(words: str, terms: str) -> float:
    """How much a passage is about these terms: how often each is in it, each time for less, the shorter the better."""
    padded = f" {words} "
    length = 1 + padded.count(" ") / 40
    score = 0.0
    for phrase, prefix in json.loads(terms):
        n = padded.count(f" {phrase}" if prefix else f" {phrase} ")
        score += n / (n + length)
    return score
