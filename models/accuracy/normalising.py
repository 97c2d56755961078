"""The normal form that two texts are compared in, so that writing "twenty dollars" or "$20" is no error.

It is that of Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision", Appendix C, as in
openai/whisper's `whisper/normalizers`: error rates are comparable only in the same form. The code is that of
transformers, the list of British and American spellings that of openai/whisper; both together give what openai/whisper
gives (`tests/references/normalisers.json`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from models.tokens import quiet_transformers
from stenopool.errors import UsageError

#: `english` and `basic` are Whisper's; `none` compares the text as it is written, case and punctuation included.
NORMALISERS = ("english", "basic", "none")

#: Languages that write no spaces: Whisper's authors count letters there. Their list, and Cantonese, which is newer.
SPACELESS = frozenset({"zh", "yue", "ja", "th", "lo", "my"})

_SPELLINGS = Path(__file__).with_name("spellings") / "english.json"
_CODE = re.compile("[a-z]{2,3}")


@dataclass(frozen=True, slots=True)
class NormalForm:
    """How texts are made comparable."""

    #: One of `NORMALISERS`.
    normaliser: str
    #: The words that are compared are letters, in languages that write no spaces.
    letters: bool = False

    def words(self, text: str) -> tuple[str, ...]:
        """The text's words in this form."""
        return tuple(_function(self.normaliser, self.letters)(text).split())


def normal_form(language: str | None, normaliser: str = "auto") -> NormalForm:
    """The normal form for a language.

    Args:
        language: a code, as `language_code` gives it; None where it is not known.
        normaliser: one of `NORMALISERS`, or `auto`: `english` for English, `basic` for all others.
    """
    if normaliser == "auto":
        normaliser = "english" if language == "en" else "basic"
    return NormalForm(normaliser, letters=normaliser == "basic" and language in SPACELESS)


def language_code(language: str) -> str:
    """The code of a language that is given as code, English name or tag: "en" for "en", "English", "en-US", "en_gb".

    Raises:
        UsageError: it is no name of a language that Whisper knows, and cannot be the code of another.
    """
    quiet_transformers()
    from transformers.models.whisper.tokenization_whisper import TO_LANGUAGE_CODE

    name = language.strip().lower()
    code = str(TO_LANGUAGE_CODE.get(name) or re.split("[-_]", name)[0])
    if not _CODE.fullmatch(code):
        raise UsageError(f"{language!r} is not a language that Whisper knows; give its code, as in en, de or zh")
    return code


@cache
def _function(normaliser: str, letters: bool) -> Callable[[str], str]:
    if normaliser == "none":
        return str
    quiet_transformers()
    from transformers.models.whisper.english_normalizer import BasicTextNormalizer, EnglishTextNormalizer

    if normaliser == "english":
        english: Callable[[str], str] = EnglishTextNormalizer(json.loads(_SPELLINGS.read_text(encoding="utf-8")))
        return english
    basic: Callable[[str], str] = BasicTextNormalizer(split_letters=letters)
    return basic
