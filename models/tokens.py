"""Token ids and text, all from the checkpoint's own tokenizer and generation config."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from models.checkpoint import Checkpoint
from models.symbols import non_speech_tokens
from models.words import Piece, split_to_words
from stenopool.domain import Task
from stenopool.errors import CheckpointError, UsageError

TIMESTAMP_STEP = 320  # samples at 16 kHz from one timestamp token to the next: 20 ms
_GPT2_END = 50256  # <|endoftext|> in GPT-2's own vocabulary, which only the English-only checkpoints kept


@dataclass(frozen=True)
class SpecialTokens:
    """Ids that steer decoding."""

    end_of_text: int
    start_of_transcript: int
    #: Before the text that came before.
    start_of_previous: int
    no_speech: int
    no_timestamps: int
    #: <|0.00|>; the others follow in steps of 20 ms.
    timestamp_begin: int
    #: Language code -> id; empty for an English-only checkpoint.
    languages: dict[str, int]
    #: "transcribe" and "translate" -> id; empty for an English-only checkpoint.
    tasks: dict[str, int]
    #: Never sampled: the checkpoint's own list and `steering`.
    suppressed: tuple[int, ...]
    #: Never sampled, whatever list is asked for.
    steering: tuple[int, ...]
    #: Not sampled as the first token.
    suppressed_at_begin: tuple[int, ...]


def _not_about_pytorch(record: logging.LogRecord) -> bool:
    return "PyTorch was not found" not in record.getMessage()


def quiet_transformers() -> None:
    """Before its first import: keep it from saying that there is no PyTorch; we ask it for tokenizers only."""
    logging.getLogger("transformers").addFilter(_not_about_pytorch)


def english_name(code: str) -> str:
    """What a language is called in English: "German"; the code itself where Whisper has no name for it."""
    quiet_transformers()
    from transformers.models.whisper.tokenization_whisper import LANGUAGES

    return str(LANGUAGES.get(code, code)).title()


def _read_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a checkpoint; older ones have it in parts, which transformers knows to put together.

    Only then: importing transformers takes longer than all else of reading a small model.
    """
    if (folder / "tokenizer.json").is_file():
        whole = Tokenizer.from_file(str(folder / "tokenizer.json"))
        added = folder / "added_tokens.json"  # newer than the other, perhaps
        if not added.is_file() or json.loads(added.read_text()).keys() <= whole.get_vocab().keys():
            return whole
    quiet_transformers()
    from transformers import WhisperTokenizer

    tokenizer: Tokenizer = WhisperTokenizer.from_pretrained(str(folder)).backend_tokenizer
    return tokenizer


class Vocabulary:
    """The tokenizer and the special ids of one checkpoint.

    Raises:
        CheckpointError: the tokenizer is missing, damaged, or lacks a token that Whisper needs.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        try:
            self._tokenizer = _read_tokenizer(checkpoint.folder)
        except Exception as error:  # transformers raises whatever its parsers raise
            reason = " ".join(str(error).split())  # some of its messages are paragraphs
            raise CheckpointError(
                f"{checkpoint.name}: its tokenizer does not load ({reason}); fetch the checkpoint again"
            ) from error
        self._name = checkpoint.name
        try:
            self.special = self._read(checkpoint.generation, checkpoint.dims.n_vocab)
        except (AttributeError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"{checkpoint.name}: generation_config.json is not Whisper's ({error}); fetch the checkpoint again"
            ) from error

    def _id(self, *names: str) -> int:
        known: dict[str, int] = self._ids
        for name in names:
            if name in known:
                return known[name]
        raise CheckpointError(f"{self._name}: its tokenizer has no {names[0]} token; is this a Whisper checkpoint?")

    @cached_property
    def _ids(self) -> dict[str, int]:
        return dict(self._tokenizer.get_vocab())

    def _read(self, generation: dict[str, Any], n_vocab: int) -> SpecialTokens:
        end = self._id("<|endoftext|>")
        no_timestamps = generation.get("no_timestamps_token_id") or self._id("<|notimestamps|>")
        # A transcript never contains these, whatever the checkpoint's own list says (openai/whisper `decoding.py`,
        # `_get_suppress_tokens`).
        steering = [
            self._id("<|startoftranscript|>"),
            self._id("<|startofprev|>"),
            self._id("<|startoflm|>"),
            self._id("<|nospeech|>", "<|nocaptions|>"),
            self._id("<|transcribe|>"),
            self._id("<|translate|>"),
        ]
        # Checkpoints fine-tuned before 2023 have no generation config, or one without these.
        listed = generation.get("suppress_tokens")
        multilingual = generation.get("is_multilingual", bool(generation.get("lang_to_id")) or end != _GPT2_END)
        tasks = dict(generation.get("task_to_id") or {"transcribe": steering[4], "translate": steering[5]})
        special = SpecialTokens(
            end_of_text=end,
            start_of_transcript=steering[0],
            start_of_previous=steering[1],
            no_speech=steering[3],
            no_timestamps=no_timestamps,
            timestamp_begin=no_timestamps + 1,
            languages=self._languages(generation) if multilingual else {},
            tasks=tasks if multilingual else {},
            suppressed=tuple(sorted({*(self.non_speech_tokens if listed is None else listed), *steering})),
            steering=tuple(steering),
            suppressed_at_begin=tuple(generation.get("begin_suppress_tokens") or (self._id("Ġ"), end)),
        )
        used = (
            special.timestamp_begin,
            *special.suppressed,
            *special.suppressed_at_begin,
            *special.languages.values(),
            *special.tasks.values(),
        )
        if outside := [token for token in used if not 0 <= token < n_vocab]:
            raise CheckpointError(f"{self._name}: token {outside[0]} is beyond the model's vocabulary of {n_vocab}")
        return special

    def _languages(self, generation: dict[str, Any]) -> dict[str, int]:
        known = generation.get("lang_to_id")
        if not known:
            # In every Whisper vocabulary they stand between these two.
            first, last = self._id("<|startoftranscript|>"), self._id("<|translate|>")
            known = {token: index for token, index in self._ids.items() if first < index < last}
        # In the order of their ids: a tokenizer lists its tokens in another order each time, and compiled programs,
        # which hold these, must be found again in the cache.
        return {token[2:-2]: index for token, index in sorted(known.items(), key=lambda item: item[1])}

    def language_code(self, language: str) -> str:
        """A language's code, given that or its English name ("German", "de"); unknown ones come back as they are."""
        name = language.strip().lower()
        if name in self.special.languages or name == "en":
            return name
        quiet_transformers()
        from transformers.models.whisper.tokenization_whisper import TO_LANGUAGE_CODE

        return str(TO_LANGUAGE_CODE.get(name, name))

    def prompt(self, language: str, task: Task) -> tuple[int, ...]:
        """The tokens that a transcript begins with.

        Raises:
            UsageError: the checkpoint does not know the language or the task; the message lists what it knows.
        """
        special = self.special
        if not special.languages:
            if language != "en" or task != "transcribe":
                raise UsageError(f"{self._name} transcribes English only: --language en --task transcribe")
            return (special.start_of_transcript,)
        if language not in special.languages:
            known = " ".join(sorted(special.languages))
            raise UsageError(f"{self._name} does not know the language {language!r}; it knows: {known}")
        if task not in special.tasks:
            known = " ".join(sorted(special.tasks))
            raise UsageError(f"{self._name} does not know the task {task!r}; it knows: {known}")
        return (special.start_of_transcript, special.languages[language], special.tasks[task])

    def encode(self, text: str) -> tuple[int, ...]:
        """The ids of a text as it stands: `<|en|>` in it is those six characters, never the token that steers."""
        # Past the part of the tokenizer that finds added tokens: half of Whisper's (the timestamps) are not marked
        # special there, so asking it not to split special ones is not enough.
        pieces = self._tokenizer.pre_tokenizer.pre_tokenize_str(text)
        return tuple(token.id for piece, _ in pieces for token in self._tokenizer.model.tokenize(piece))

    def text(self, tokens: Sequence[int]) -> str:
        """The text of ordinary tokens; special ids among them are left out."""
        return self.spell([token for token in tokens if token < self.special.end_of_text])

    def spell(self, tokens: Sequence[int]) -> str:
        """The text of any tokens, special ones written out: `<|en|>`, `<|1.08|>`."""
        return str(self._tokenizer.decode(list(tokens), skip_special_tokens=False))

    def split_to_words(self, tokens: Sequence[int], language: str) -> list[Piece]:
        """The words of a text in that language, each with its tokens; special tokens are words of their own."""
        return split_to_words(self.spell, tokens, language, end_of_text=self.special.end_of_text)

    @cached_property
    def non_speech_tokens(self) -> tuple[int, ...]:
        """Ids of signs that are never spoken: what is suppressed where a checkpoint does not say."""
        return non_speech_tokens(self.encode)
