"""Sentences for synthetic voices: about meetings, put together by chance; of fortune cookies; and words in no order.

Who can guess the next word need not listen. That is why half of them cannot be guessed.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from pathlib import Path

_DICTIONARY = Path("/usr/share/dict/words")  # Debian: wamerican
_FORTUNES = Path("/usr/share/games/fortunes")  # Debian: fortunes

_ONES = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
_TO_TWENTY = [
    *_ONES, "ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen",
    "nineteen",
]  # fmt: skip
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]

_WORDS = {
    "name": "Alice Ben Carla David Emma Frank Grace Henry Irene Jack Karen Leo Maria Nathan Olivia Paul Rachel Sam "
    "Tina Victor Wendy Anna Peter Julia Martin Laura Simon Helen Oscar Diana",
    "day": "Monday Tuesday Wednesday Thursday Friday Saturday Sunday",
    "month": "January February March April May June July August September October November December",
    "thing": "budget roadmap release schedule report database contract invoice server deployment backlog design "
    "prototype survey interview episode recording transcript microphone podcast audience sponsor newsletter "
    "customer ticket migration dashboard meeting agenda project proposal review deadline launch feature queue "
    "worker model chart slide archive summary forecast quarter office train weather garden kitchen river "
    "mountain bridge story history library teacher student doctor hospital market price window door engine "
    "bicycle holiday letter message question answer",
    "quality": "new small large quick slow final late quiet loud clear strange simple difficult local public weekly "
    "monthly careful brief useful long short broken cheap green blue bright dark warm cold",
    "do": "review finish update discuss move cancel approve rewrite test share send record publish check repair "
    "measure compare explain describe choose open close build plan start stop follow change improve replace remember",
    "did": "reviewed finished updated discussed moved cancelled approved rewrote tested shared sent recorded published "
    "checked repaired measured compared explained described chose opened closed built planned started stopped followed",
}

_FRAMES = (
    "{name} {did} the {quality} {thing} on {day}.",
    "We need to {do} the {thing} before {day}.",
    "Can you {do} the {quality} {thing} for {name}?",
    "The {thing} is {quality}, but the {thing} is {quality}.",
    "Welcome back to the show, I am {name}.",
    "Our guest today is {name}, who {did} the {quality} {thing}.",
    "There are {number} items in the {thing} and {number} in the {thing}.",
    "Next, {name} will {do} the {thing} with {name}.",
    "I think we should {do} the {thing} first.",
    "The {thing} grew by {number} percent in {month}.",
    "Please {do} the {thing} by the end of {month}.",
    "Thank you, {name}, that was a {quality} {thing}.",
    "What happened to the {quality} {thing} in {month}?",
    "{name} asked whether the {thing} was {quality}.",
    "Let us {do} the {thing} and then {do} the {thing}.",
    "The {thing} near the {thing} was {quality} and {quality}.",
    "Nobody {did} the {thing}, so {name} had to {do} it.",
    "After {number} minutes, {name} {did} the {thing} again.",
    "It took {number} days to {do} the {quality} {thing}.",
    "Did {name} {do} the {thing} last {day}?",
    "You can find the {thing} on our {thing} page.",
    "The {quality} {thing} costs about {number} dollars.",
    "Every {day}, the {quality} team has to {do} the {thing}.",
)

_SLOT = re.compile(r"\{(\w+)\}")


def sentences(n: int, seed: int) -> list[str]:
    """So many different sentences, the same ones for a seed on a machine with the same dictionaries.

    A quarter are of the frames above, a quarter from fortunes, a quarter usual words and a quarter any words of the
    dictionary, both in no order. Where fortunes or a dictionary are missing, there are more of the others.
    """
    rng = random.Random(seed)
    fortunes = _fortunes()
    found = dict.fromkeys(rng.sample(fortunes, min(n // 4, len(fortunes))))
    usual = Counter(word for text in fortunes for word in re.findall(r"\b[a-z]+(?:'[a-z]+)?\b", text))
    some = list(usual)
    # Less often than they are said, so that those which are rarely said are heard, too.
    weights = [usual[word] ** 0.5 for word in some]
    rare = _dictionary()
    while len(found) < n:
        kind = rng.randrange(3)
        if kind == 1 and some:
            text = _mere(rng.choices(some, weights, k=rng.randint(3, 9)))
        elif kind == 2 and rare:
            text = _mere(rng.sample(rare, rng.randint(3, 7)))
        else:
            text = _framed(rng)
        found[text] = None
    texts = list(found)
    rng.shuffle(texts)
    return texts


def _mere(words: list[str]) -> str:
    return " ".join(words).capitalize() + "."


def _framed(rng: random.Random) -> str:
    def word(match: re.Match[str]) -> str:
        return _number(rng) if match[1] == "number" else rng.choice(_WORDS[match[1]].split())

    return _SLOT.sub(word, rng.choice(_FRAMES))


def _number(rng: random.Random) -> str:
    kind = rng.random()
    if kind < 0.4:
        return rng.choice(_TO_TWENTY)
    if kind < 0.75:
        return rng.choice(_TENS) + (f" {rng.choice(_ONES)}" if rng.random() < 0.7 else "")
    return f"{rng.choice(_ONES)} {'hundred' if kind < 0.92 else 'thousand'}"


def _dictionary() -> list[str]:
    """Plain words, if the system has a dictionary."""
    try:
        lines = _DICTIONARY.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    return [line for line in lines if re.fullmatch("[a-z]{3,10}", line)]


def _fortunes() -> list[str]:
    """Plain sentences out of fortune cookies, if the system has any."""
    files = sorted(path for path in _FORTUNES.glob("*") if not path.suffix) if _FORTUNES.is_dir() else []
    found: list[str] = []
    for file in files:
        text = re.sub(r"\n\s*--[^%]*", "", file.read_text(encoding="utf-8", errors="ignore"))
        for sentence in re.findall(r"[A-Z][a-z',\- \n]+[.?]", text):
            plain = " ".join(sentence.split())
            if 4 <= len(plain.split()) <= 16:
                found.append(plain)
    return list(dict.fromkeys(found))
