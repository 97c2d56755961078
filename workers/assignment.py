"""The assignment: what is to be done with every source, checked against the model before any work begins."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from models.checkpoint import Checkpoint
from models.device import resolve_dtype
from models.tokens import Vocabulary
from stenopool.domain import MULTIPLE, SAMPLE_RATE, DType, Options, Provenance
from stenopool.errors import UsageError
from stenopool.options import options_of, resolved
from stenopool.version import __version__
from workers.decoding import hotwords, initial_prompt, prefix

if TYPE_CHECKING:
    from models.engine import Engine

#: Raised whenever the same sound may give another transcript than before (features, decoding, voice activity, plan,
#: merge): what was made under another one is other work.
REVISION = "2"


@dataclass(frozen=True)
class Assignment:
    """What is to be done with every source."""

    provenance: Provenance
    #: The only language there can be, of the checkpoint or of those allowed: nothing is to be detected.
    only_language: str | None
    #: A transcript per channel; else channels are mixed.
    split: bool
    #: Work that is done is done again.
    force: bool

    @property
    def options(self) -> Options:
        """What changes the text, besides the model."""
        return self.provenance.options

    @property
    def language(self) -> str | None:
        """What is known of the language beforehand."""
        if self.options.language != "auto":
            return self.options.language
        return self.only_language or (MULTIPLE if self.options.multilingual else None)

    def expecting(self, hotwords: str | None) -> Assignment:
        """The assignment for a recording that has words of its own to expect."""
        if not hotwords:
            return self
        words = ", ".join(filter(None, (self.options.hotwords, hotwords)))
        return replace(self, provenance=replace(self.provenance, options=replace(self.options, hotwords=words)))

    @cached_property
    def digest(self) -> str:
        """A name for all that the text depends on besides the recording; anything else is other work."""
        model = (self.provenance.model_digest, self.provenance.assistant_digest, self.provenance.dtype)
        parts = [*model, self.options.digest(), REVISION]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def assign(
    checkpoint: Checkpoint,
    vocabulary: Vocabulary,
    options: Options,
    *,
    dtype: DType,
    split: bool,
    force: bool,
    assistant: Checkpoint | None = None,
) -> Assignment:
    """An assignment that fits the checkpoint.

    Raises:
        UsageError: the options do not fit; the message says what would.
        CheckpointError: the checkpoint cannot be read.
    """
    options = resolved(options_of(asdict(options)))  # Python callers may hand over anything
    window = checkpoint.dims.window / SAMPLE_RATE
    if not 2 <= options.chunk_length <= window:
        raise UsageError(f"--chunk-length must be between 2 and the model's window of {window:g} seconds")
    if not 0 <= (options.overlap or 0) < options.chunk_length / 2:
        half = f"less than half of the chunk length of {options.chunk_length:g}"
        raise UsageError(f"--overlap must be between 0 and {half}; name a smaller one")
    if outside := [token for token in options.suppress_tokens or () if not -1 <= token < checkpoint.dims.n_vocab]:
        raise UsageError(f"token {outside[0]} to suppress is beyond the vocabulary of {checkpoint.dims.n_vocab}")
    special = vocabulary.special
    if needed := [
        token
        for token in options.suppress_tokens or ()
        if token == special.end_of_text or token >= special.timestamp_begin
    ]:
        raise UsageError(f"token {needed[0]} cannot be suppressed: texts end with it, or are timed by it")
    if assistant and (options.beam_size > 1 or 0 not in options.temperature):
        raise UsageError("assistant needs a beam_size of 1 and a temperature of 0: it drafts greedy text")
    languages = special.languages
    if options.language != "auto":
        options = replace(options, language=vocabulary.language_code(options.language))
    if options.multilingual and not languages:
        raise UsageError(f"{checkpoint.name} knows English only: leave multilingual out")
    options = replace(options, languages=tuple(vocabulary.language_code(one) for one in options.languages))
    asked = [options.language] if options.language != "auto" else options.languages or [next(iter(languages), "en")]
    for language in asked:  # a language or a task that the checkpoint does not know is refused
        vocabulary.prompt(language, options.task)
    longest = checkpoint.dims.n_text_ctx // 4
    if (n_prefix := len(prefix(options, vocabulary))) > longest:
        raise UsageError(f"a prefix of {n_prefix} tokens is too long; this model takes {longest}")
    room = checkpoint.dims.n_text_ctx // 2 - 1
    if (n_before := len(hotwords(options, vocabulary)) + len(initial_prompt(options, vocabulary))) > room:
        raise UsageError(f"initial_prompt and hotwords have {n_before} tokens; this model takes {room}: shorten them")
    provenance = Provenance(
        model=checkpoint.name,
        model_digest=checkpoint.digest,
        assistant_digest=assistant.digest if assistant else None,
        dtype=resolve_dtype(dtype),
        options=options,
        version=__version__,
    )
    only = "en" if not languages else options.languages[0] if len(options.languages) == 1 else None
    return Assignment(provenance, only_language=only, split=split, force=force)


def engine_key(provenance: Provenance) -> str:
    """A short name for the engines that can do a transcript: those of its model, its assistant and its dtype."""
    return _engine_key(provenance.model_digest, provenance.assistant_digest, provenance.dtype)


def engine_key_of(engine: Engine) -> str:
    """The name of an engine among them."""
    assistant = engine.assistant.digest if engine.assistant else None
    return _engine_key(engine.checkpoint.digest, assistant, engine.dtype)


def _engine_key(*parts: str | None) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
