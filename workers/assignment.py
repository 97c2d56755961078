"""The assignment: what is to be done with every source, checked against the model before any work begins."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from functools import cached_property

from models.checkpoint import Checkpoint
from models.device import DType, resolve_dtype
from models.engine import REVISION
from models.tokens import Vocabulary
from stenopool.domain import SAMPLE_RATE, Options, Provenance
from stenopool.errors import UsageError
from stenopool.version import __version__


@dataclass(frozen=True)
class Assignment:
    """What is to be done with every source."""

    provenance: Provenance
    #: The only language of the checkpoint, where it has just one: nothing is to be detected.
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
        return self.only_language if self.options.language == "auto" else self.options.language

    @cached_property
    def digest(self) -> str:
        """A name for all that the text depends on besides the recording; anything else is other work."""
        parts = [self.provenance.model_digest, self.provenance.dtype, self.options.digest(), REVISION]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def assign(
    checkpoint: Checkpoint, vocabulary: Vocabulary, options: Options, *, dtype: DType, split: bool, force: bool
) -> Assignment:
    """An assignment that fits the checkpoint.

    Raises:
        UsageError: the options do not fit; the message says what would.
        CheckpointError: the checkpoint cannot be read.
    """
    window = checkpoint.dims.window / SAMPLE_RATE
    if not 2 <= options.chunk_length <= window:
        raise UsageError(f"--chunk-length must be between 2 and the model's window of {window:g} seconds")
    if not 0 <= options.overlap < options.chunk_length / 2:
        raise UsageError(
            f"--overlap must be between 0 and less than half of the chunk length of {options.chunk_length:g}"
        )
    languages = vocabulary.special.languages
    if options.language != "auto":
        options = replace(options, language=vocabulary.language_code(options.language))
    asked = options.language if options.language != "auto" else next(iter(languages), "en")
    vocabulary.prompt(asked, options.task)  # refuses a language or a task that the checkpoint does not know
    provenance = Provenance(
        model=checkpoint.name,
        model_digest=checkpoint.digest,
        dtype=resolve_dtype(dtype),
        options=options,
        version=__version__,
    )
    return Assignment(provenance, only_language=None if languages else "en", split=split, force=force)
