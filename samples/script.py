"""What is said in a sample: its script as utterances and pauses, and the words alone as a reference.

The form of a script is explained at the head of `script.txt`. Nothing here needs a speech synthesizer.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from stenopool.errors import UsageError

#: Only what a synthesizer reads aloud in one way and a word error rate can compare: words and plain punctuation.
_UTTERANCE = re.compile(r"([A-Z]+): ([A-Za-z',.? -]*[.?])")
_PAUSE = re.compile(r"\[pause (\d+(?:\.\d+)?)\]")


@dataclass(frozen=True, slots=True)
class Utterance:
    """What one speaker says in one go."""

    speaker: str
    text: str
    #: Spoken without a pause in it, nor one before the next unbroken utterance.
    unbroken: bool


@dataclass(frozen=True, slots=True)
class Pause:
    """A stretch in which nobody speaks."""

    seconds: float


def parse_script(text: str, name: str) -> tuple[Utterance | Pause, ...]:
    """The utterances and pauses of a script in order; `name` is the file's, for errors.

    Raises:
        UsageError: a line that is neither, or `[no pauses]` and `[end]` that do not pair up.
    """
    items: list[Utterance | Pause] = []
    unbroken = False
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        if match := _UTTERANCE.fullmatch(line):
            items.append(Utterance(match[1], match[2], unbroken))
        elif (match := _PAUSE.fullmatch(line)) and not unbroken:
            items.append(Pause(float(match[1])))
        elif line == "[no pauses]" and not unbroken:
            unbroken = True
        elif line == "[end]" and unbroken:
            unbroken = False
        else:
            raise UsageError(f"{name}, line {number}: {line!r} does not fit here; the file's head shows the form")
    if unbroken:
        raise UsageError(f"{name}: [no pauses] has no [end]; add one after the last unbroken line")
    return tuple(items)


def read_script(path: Path | str) -> tuple[Utterance | Pause, ...]:
    """The utterances and pauses of a script file in order.

    Raises:
        UsageError: the file cannot be read, or is not a script.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read as a script ({error}); name a text file") from error
    return parse_script(text, str(path))


def reference_text(path: Path | str) -> str:
    """The words of a script file without speakers and directives: what a perfect transcript says.

    Raises:
        UsageError: the file cannot be read, or is not a script.
    """
    return " ".join(item.text for item in read_script(path) if isinstance(item, Utterance))
