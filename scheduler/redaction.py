"""Redaction: card numbers, e-mail addresses, phone numbers, IBANs and listed terms in what was said. Pure.

Numbers are said in groups, and written with blanks, commas or hyphens between them; an address may be said with "at"
and "dot". A detector says where in a text such a thing is; a text is that of the whole transcript, so that a number
which a pause cuts in two is still one.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from stenopool.domain import SAMPLE_RATE, Segment, Span
from stenopool.errors import UsageError
from stenopool.masking import Mask, join_masks
from stenopool.timing import span_of
from stenopool.wording import find_phrase, words_of

#: Samples that are muted on either side of what is redacted.
MARGIN = SAMPLE_RATE // 20  # 50 ms

#: Digits in groups, as numbers are said, with what stands between them.
_GROUPS = re.compile(r"\d+(?:[ ,.\-\u2010-\u2015\u00a0\u202f]{1,3}\d+)*")

#: Cards by what their numbers begin with, and how many digits these have: Visa, Mastercard, American Express, Diners
#: Club, and those that begin with a 6.
_CARDS = (
    (re.compile(r"4"), (16, 19)),
    (re.compile(r"5[1-5]|2[2-7]"), (16,)),
    (re.compile(r"3[47]"), (15,)),
    (re.compile(r"3[0689]"), (14, 16)),
    (re.compile(r"6"), (16, 17, 18, 19)),
)

_EMAIL = re.compile(r"(?<![\w.+-])[A-Za-z0-9][\w.+-]{0,63}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}(?!\w)")

#: Endings that are said as such; after another one, "at ... dot ..." may be anything.
_ENDINGS = "com|org|net|edu|gov|info|io|eu|de|uk|fr|es|it|nl|ch|at|be|dk|se|no|fi|pl|pt|ie|us|ca|au|nz|in|jp|br"
_SPELLED = re.compile(
    rf"(?<![\w.])[a-z0-9]+(?:(?: dot | underscore | dash |[._-])[a-z0-9]+){{0,4}},? at,? "
    rf"[a-z0-9-]+(?:(?:,? dot,? |\.)[a-z0-9-]+){{0,2}}(?:,? dot,? |\.)(?:co(?: dot |\.)uk|{_ENDINGS})(?![\w])",
    re.IGNORECASE,
)

#: Countries by the length of their IBAN.
_IBAN_LENGTHS = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BR": 29, "BY": 28,
    "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DK": 18, "DO": 28, "EE": 20, "EG": 29, "ES": 24, "FI": 18,
    "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28, "HR": 21, "HU": 28, "IE": 22,
    "IL": 23, "IQ": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20, "LB": 28, "LC": 32, "LI": 21, "LT": 20,
    "LU": 20, "LV": 21, "MC": 27, "MD": 24, "ME": 22, "MK": 19, "MR": 27, "MT": 31, "MU": 30, "NL": 18, "NO": 15,
    "PK": 24, "PL": 28, "PS": 29, "PT": 25, "QA": 29, "RO": 24, "RS": 22, "SA": 24, "SC": 31, "SE": 24, "SI": 19,
    "SK": 24, "SM": 27, "TN": 24, "TR": 26, "UA": 29, "VA": 22, "VG": 24, "XK": 20,
}  # fmt: skip
_IBAN = re.compile(r"(?<![A-Za-z0-9])([A-Z][ \-.,]{0,2}[A-Z])[ \-.,]{0,2}(?=\d)", re.IGNORECASE)

#: With a plus or two zeros and the country; or in the forms of North America, Britain, France, Germany, Italy, Spain.
_PHONE = re.compile(
    r"(?<![\w.,:/+])(?:"
    r"(?:\+|plus )[1-9](?:[ \-./()\u2010-\u2015]{0,2}\d){7,14}"
    r"|(?<!\d\d )(?:00 ?[1-9](?:[ \-./()\u2010-\u2015]{0,2}\d){7,14}"
    r"|(?:1[ \-.])?\(?[2-9]\d\d\)?[ \-.][2-9]\d\d[ \-.]\d{4}"
    r"|0[1-9](?: \d\d){4}"
    r"|\(?0[1-9]\d{1,4}\)?[ \-/]\d{3,4}(?:[ \-]?\d{2,4}){0,2}"
    r"|0[1-9]\d{8,9}"
    r"|[679]\d{2}(?: \d{3}){2})"
    r")(?![\d]|[.,:/\-]\d|%)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What is to be redacted: kinds out of `KINDS`, and terms."""

    kinds: tuple[str, ...] = ()
    #: Names and words, each of which is redacted wherever it is said.
    terms: tuple[str, ...] = ()


def read_rules(kinds: str, terms: Iterable[str] = ()) -> Rules:
    """Kinds separated by commas, as rules. Raises UsageError for one that there is not, and where there is nothing."""
    named = tuple(dict.fromkeys(kind for part in kinds.split(",") if (kind := part.strip().lower())))
    if unknown := [kind for kind in named if kind not in KINDS]:
        raise UsageError(f"{', '.join(unknown)}: nothing that can be redacted; choose from {', '.join(KINDS)}")
    listed = tuple(dict.fromkeys(term.strip() for term in terms if words_of(term)))
    if not named and not listed:
        raise UsageError(f"nothing is named that is to be redacted; choose from {', '.join(KINDS)}, or list terms")
    return Rules(kinds=named, terms=listed)


def find_masks(segments: Sequence[Segment], rules: Rules) -> list[Mask]:
    """What of a transcript is to be redacted, in order; what crosses the border of two segments is in both."""
    texts = [segment.text for segment in segments]
    # A blank where segments meet that bring none: the end of one word is not the beginning of another.
    ends = list(accumulate(len(text) + 1 for text in texts))
    whole = " ".join(texts)
    masks = []
    for start, end, kind in detect(whole, rules):
        first = bisect_right(ends, start)
        for at in range(first, len(texts)):
            begins = ends[at] - len(texts[at]) - 1
            if begins >= end:
                break
            piece = _trimmed(texts[at], max(0, start - begins), min(len(texts[at]), end - begins))
            if piece[0] < piece[1]:
                masks.append(Mask(at, *piece, kind))
    return join_masks(masks)


def detect(text: str, rules: Rules) -> list[tuple[int, int, str]]:
    """Characters `[start, end)` of what is to be redacted, and its kind; in order, and apart."""
    found = [(start, end, kind) for kind in rules.kinds for start, end in KINDS[kind](text)]
    words = words_of(text)
    spoken = [word.word for word in words]
    for term in rules.terms:
        phrase = [word.word for word in words_of(term)]
        found += [(words[at].start, words[at + len(phrase) - 1].end, LISTED) for at in find_phrase(spoken, phrase)]
    apart: list[tuple[int, int, str]] = []
    for start, end, kind in sorted(found, key=lambda one: (one[0], -one[1])):
        if apart and start < apart[-1][1]:
            before = apart[-1]
            apart[-1] = (before[0], max(before[1], end), before[2])
        else:
            apart.append((start, end, kind))
    return apart


def muted(segments: Sequence[Segment], masks: Iterable[Mask], duration: int) -> list[Span]:
    """When that was said, with a margin: spans in order and apart. A segment without times of words is muted whole."""
    spans: list[Span] = []
    for mask in masks:
        said = span_of(segments[mask.segment], mask.start, mask.end)
        start, end = max(0, said.start - MARGIN), min(duration, said.end + MARGIN)
        if start < end:
            spans.append(Span(start, end))
    return join_spans(spans)


def join_spans(spans: Iterable[Span]) -> list[Span]:
    """The same samples as spans in order and apart."""
    joined: list[Span] = []
    for span in sorted(spans):
        if joined and span.start <= joined[-1].end:
            joined[-1] = Span(joined[-1].start, max(joined[-1].end, span.end))
        else:
            joined.append(span)
    return joined


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """Without blanks at either end."""
    piece = text[start:end]
    return start + len(piece) - len(piece.lstrip()), end - (len(piece) - len(piece.rstrip()))


def _cards(text: str) -> Iterator[tuple[int, int]]:
    """Numbers of cards, also where other numbers were said before or after."""
    for run in _GROUPS.finditer(text):
        groups = [(found.start() + run.start(), found[0]) for found in re.finditer(r"\d+", run[0])]
        at = 0
        while at < len(groups):
            n = _card_at([digits for _, digits in groups[at:]])
            if n:
                start, last = groups[at][0], groups[at + n - 1]
                yield start, last[0] + len(last[1])
            at += n or 1


def _card_at(groups: Sequence[str]) -> int:
    """How many of these groups of digits, from the first one on, are a card's number; 0: none."""
    number = ""
    for n, group in enumerate(groups, start=1):
        number += group
        if len(number) > 19:
            break
        if any(begins.match(number) and len(number) in lengths for begins, lengths in _CARDS) and _luhn(number):
            return n
    return 0


def _luhn(digits: str) -> bool:
    doubled = (sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return (sum(doubled) + sum(map(int, digits[-1::-2]))) % 10 == 0


def _ibans(text: str) -> Iterator[tuple[int, int]]:
    for found in _IBAN.finditer(text):
        country = re.sub(r"\W", "", found[1]).upper()
        wanted = _IBAN_LENGTHS.get(country)
        if wanted is None:
            continue
        taken, at, blanks = country, found.end(), 0
        while at < len(text) and len(taken) < wanted and blanks < 4:
            character = text[at]
            if character.isascii() and character.isalnum():
                taken, blanks = taken + character.upper(), 0
            elif character in " -.,":
                blanks += 1
            else:
                break
            at += 1
        longer = at < len(text) and text[at].isalnum()
        if len(taken) == wanted and not longer and _is_iban(taken):
            yield found.start(), at


def _is_iban(iban: str) -> bool:
    return int("".join(str(int(character, 36)) for character in iban[4:] + iban[:4])) % 97 == 1


def _emails(text: str) -> Iterator[tuple[int, int]]:
    for pattern in (_EMAIL, _SPELLED):
        for found in pattern.finditer(text):
            yield found.span()


def _phones(text: str) -> Iterator[tuple[int, int]]:
    for found in _PHONE.finditer(text):
        if 7 <= len(re.sub(r"\D", "", found[0])) <= 16:
            yield found.span()


#: What can be told by its form.
KINDS: dict[str, Callable[[str], Iterator[tuple[int, int]]]] = {
    "card": _cards,
    "email": _emails,
    "phone": _phones,
    "iban": _ibans,
}

#: What stands in a list is of this kind.
LISTED = "name"
