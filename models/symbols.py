"""Signs that transcripts of people's hands have and speech has not: speaker tags, brackets, notes of music.

Whisper was trained on such transcripts, and is kept from writing them (openai/whisper `tokenizer.py`,
`non_speech_tokens`). Commas, full stops, question and exclamation marks stay.
"""

from __future__ import annotations

from collections.abc import Callable

_SIGNS = (
    *'"#()*+/:;<=>@[\\]^_`{|}~「」『』',
    *("<<", ">>", "<<<", ">>>", "--", "---", "-(", "-[", "('", '("'),
    *("((", "))", "(((", ")))", "[[", "]]", "{{", "}}", "♪♪", "♪♪♪"),
)
_NOTES = "♩♪♫♬♭♮♯"
_STRANGER = "\u2e00"  # its first byte is that of the notes; no text has it, so no vocabulary knows more of it
_WITHIN_WORDS = "-'"  # suppressed at the beginning of a word only


def non_speech_tokens(encode: Callable[[str], tuple[int, ...]]) -> tuple[int, ...]:
    """The ids that write such a sign, in order, for a vocabulary's `encode`.

    A sign of several tokens is left alone: each of them may be part of something else. Notes are the exception: no
    vocabulary has them all whole, and their first token begins nothing but signs between U+2640 and U+267F; unless the
    vocabulary is so small that it is a mere space or byte.
    """
    mere = {encode(before + _STRANGER)[0] for before in ("", " ")}
    written = [encode(f" {sign}") for sign in _WITHIN_WORDS]
    written += [encode(before + sign) for sign in _SIGNS for before in ("", " ")]
    notes = {encode(before + sign)[0] for sign in _NOTES for before in ("", " ")} - mere
    return tuple(sorted({tokens[0] for tokens in written if len(tokens) == 1} | notes))
