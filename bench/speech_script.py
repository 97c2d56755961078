"""What is said in the recordings of `make_speech.py`: sentences put together at random, the same ones every time.

Two kinds. OFFICE is like the templates that `pocket` was trained on: short, about meetings, of few words. STORY is
freer: longer sentences with clauses, of words that the templates do not have. Nothing here makes a sound.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from typing import Literal

from script import Pause, Utterance

Style = Literal["office", "story"]


@dataclass(frozen=True, slots=True)
class Plan:
    """One recording: who speaks how, and in what rhythm."""

    name: str
    style: Style
    #: Speakers take turns, a few sentences each.
    speakers: tuple[str, ...]
    #: Sentences in all.
    n_sentences: int
    #: Sentences between two pauses.
    stretch: int
    #: Seconds of such a pause, from and to.
    pause: tuple[float, float]
    #: Whether a stretch is spoken without a breath.
    unbroken: bool = False


#: About five minutes each.
PLANS = (
    Plan("office-pauses", "office", ("LEO", "NORA", "GRACE"), 68, 6, (1.5, 4.0)),
    Plan("office-silences", "office", ("IVAN", "LEO"), 54, 11, (10.0, 25.0)),
    Plan("office-unbroken", "office", ("NORA", "HENRY"), 88, 22, (3.0, 6.0), unbroken=True),
    Plan("story-pauses", "story", ("LEO", "GRACE", "NORA"), 52, 5, (1.5, 4.0)),
    Plan("story-silences", "story", ("OTTO", "GRACE"), 44, 9, (10.0, 25.0)),
    Plan("story-unbroken", "story", ("HENRY", "GRACE"), 64, 16, (3.0, 6.0), unbroken=True),
)

_WORDS = {
    "name": "Alice Ben Carla David Emma Frank Helen Irene Jack Julia Karen Martin Nathan Olivia Paul Rachel Simon "
    "Victor",
    "day": "Monday Tuesday Wednesday Thursday Friday Saturday Sunday",
    "month": "January February March April May June July August September October November December",
    "number": "two three four five six seven eight nine ten eleven twelve fifteen twenty thirty forty sixty ninety",
    "thing": "budget schedule report contract server interview recording transcript microphone newsletter proposal "
    "forecast chart letter question answer bridge library garden bicycle model story",
    "quality": "new old small quick final quiet clear strange simple difficult important weekly brief useful cheap "
    "green",
    "do": "review finish update discuss move cancel approve share send check repair compare explain describe choose",
    "did": "reviewed finished updated discussed moved cancelled approved shared sent checked repaired compared "
    "explained",
}

_OFFICE = (
    "On {day}, {name} and {name} {did} the {quality} {thing}.",
    "{name} wants to {do} the {thing} before {month}.",
    "Why is the {thing} so {quality}?",
    "We {did} {number} of the {things}, and {name} {did} the others.",
    "Could {name} {do} the {thing} with us on {day}?",
    "The {quality} {thing} was {quality}, so we {did} it again.",
    "Thank you, {name}, the {thing} is {quality} now.",
    "It takes {number} minutes to {do} this {thing}.",
    "First we {do} the {thing}, and then we {do} the {quality} one.",
    "{name} {did} the {thing} last {day}, but nobody {did} the {thing}.",
    "Our {thing} costs {number} dollars more than in {month}.",
    "I {did} the {quality} {thing}, because {name} asked for it.",
    "Please remember to {do} your {thing} every {day}.",
    "There were {number} questions about the {thing} in {month}.",
)

_CLAUSES = {
    "when": "When the rain stopped|Long before sunrise|Later that evening|Without saying a word|Early in the spring|"
    "Because the road was flooded|As soon as the bell rang|On the far side of the valley|"
    "After the last ferry had gone|Every now and then|To our great surprise|Once the guests were seated",
    "who": "the old fisherman|my neighbour|a tall woman in a red coat|the youngest of the three brothers|the baker|"
    "our grandmother|a stranger with a heavy suitcase|the captain of the ship|one of the soldiers|"
    "the carpenter and his wife|a boy from the next village|the lighthouse keeper",
    "did": "carried a basket of apples across the yard|looked for the missing keys under the table|"
    "sang a song that nobody knew|waited beside the frozen lake|wrote down every word on a piece of paper|"
    "climbed the narrow stairs to the attic|followed the tracks into the forest|"
    "lit a candle and opened the curtains|told the children about the war|sold two horses and a wooden cart|"
    "painted the fence a bright yellow|walked along the shore until dark",
    "though": "and nobody noticed|although the lamp was broken|while the dog slept by the fire|"
    "so that the others could rest|as if nothing had happened|even though it was far too late|"
    "and the whole street came out to watch|before the clock struck midnight|"
    "which was not at all what we had expected|and that was the end of the matter",
    "hope": "the harvest will be better next year|somebody left the gate unlocked|"
    "we should have taken the other path|the mountain air would do her good|"
    "there was never any treasure in the cave|the letter was lost on its way",
}

_STORY = (
    "{when}, {who} {did}, {though}.",
    "{who} {did} {though}.",
    "{when}, {who} {did}.",
    "I have always believed that {hope}, {though}.",
    "Do you remember the night when {who} {did}?",
    "Perhaps {hope}, but {who} said otherwise.",
    "{who} {did}, and {who} {did}.",
    "They say that {who} once {did}, {though}.",
)

_SLOT = re.compile(r"\{(\w+)\}")


def sentences(style: Style, n: int, seed: str) -> list[str]:
    """So many different sentences; the same seed gives the same ones."""
    rng = random.Random(seed)
    frames = _OFFICE if style == "office" else _STORY
    if style == "office":
        choices = {name: words.split() for name, words in _WORDS.items()}
        choices["things"] = [f"{word[:-1]}ies" if word.endswith("ry") else f"{word}s" for word in choices["thing"]]
    else:
        choices = {name: clauses.split("|") for name, clauses in _CLAUSES.items()}
    found: dict[str, None] = {}
    while len(found) < n:
        frame = rng.choice(frames)
        taken: dict[str, list[str]] = {}  # a frame that asks twice gets two different words
        for slot in _SLOT.findall(frame):
            if slot not in taken:
                taken[slot] = rng.sample(choices[slot], frame.count(f"{{{slot}}}"))
        text = _SLOT.sub(lambda match, left=taken: left[match[1]].pop(), frame)  # type: ignore[misc]
        found[text[0].upper() + text[1:]] = None
    return list(found)


def speech(plan: Plan) -> tuple[Utterance | Pause, ...]:
    """A whole recording's utterances and pauses, in order."""
    rng = random.Random(f"{plan.name} rhythm")
    items: list[Utterance | Pause] = [Pause(0.5)]
    speaker, turn = 0, 0
    for index, text in enumerate(sentences(plan.style, plan.n_sentences, plan.name)):
        if index and index % plan.stretch == 0:
            items.append(Pause(round(rng.uniform(*plan.pause), 1)))
        if turn == 0:
            speaker, turn = (speaker + 1) % len(plan.speakers), rng.randint(1, 4)
        turn -= 1
        items.append(Utterance(plan.speakers[speaker], text, plan.unbroken))
    return tuple(items)
