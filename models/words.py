"""Tokens into words: at spaces, or, in scripts without spaces, at every character that is complete.

The rules are openai/whisper's (`tokenizer.py`, `split_to_word_tokens`). A word here keeps the space before it and the
signs around it that have no space of their own; word timestamps merge punctuation later.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence

#: Languages written without spaces between words: Chinese, Japanese, Thai, Lao, Burmese, Cantonese.
WITHOUT_SPACES = frozenset({"zh", "ja", "th", "lo", "my", "yue"})

#: A word's text and its tokens.
Piece = tuple[str, tuple[int, ...]]
#: The text of tokens, special ones written out.
Spell = Callable[[Sequence[int]], str]

_INCOMPLETE = "\ufffd"  # what the bytes of half a character decode to


def split_to_words(spell: Spell, tokens: Sequence[int], language: str, *, end_of_text: int) -> list[Piece]:
    """The words of a text in that language.

    Args:
        spell: the vocabulary's.
        tokens: of a whole text; those from `end_of_text` on are special, and words of their own.
        language: its code.
        end_of_text: the first special token.

    Returns:
        Words, whose tokens joined are the tokens given.
    """
    pieces = split_on_characters(spell, tokens)
    return pieces if language in WITHOUT_SPACES else _joined_at_spaces(pieces, end_of_text)


def split_on_characters(spell: Spell, tokens: Sequence[int]) -> list[Piece]:
    """The shortest pieces that are whole characters.

    In:  [230, 102, 22] the first two of which are halves of one character
    Out: [("曦", (230, 102)), ("7", (22,))]

    Bytes that are no character in the whole text, too, end a piece where they stand.
    """
    whole = spell(tokens)
    pieces: list[Piece] = []
    pending: list[int] = []
    offset = 0  # where in `whole` the pending tokens begin
    for token in tokens:
        pending.append(token)
        text = spell(pending)
        at = text.find(_INCOMPLETE)
        if at < 0 or whole[offset + at : offset + at + 1] == _INCOMPLETE:
            pieces.append((text, tuple(pending)))
            pending = []
            offset += len(text)
    if pending:  # broken bytes that read differently alone and among the others; openai/whisper loses these tokens
        pieces.append((spell(pending), tuple(pending)))
    return pieces


def _joined_at_spaces(pieces: Sequence[Piece], end_of_text: int) -> list[Piece]:
    """Pieces joined until the next that begins with a space, is punctuation alone, or is a special token."""
    words: list[Piece] = []
    for text, tokens in pieces:
        begins = text.startswith(" ") or text.strip() in string.punctuation or tokens[0] >= end_of_text
        if begins or not words:
            words.append((text, tokens))
        else:
            before, its_tokens = words[-1]
            words[-1] = (before + text, its_tokens + tokens)
    return words
