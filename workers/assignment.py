"""The assignment: what is to be done with every source, checked against the model before any work begins."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, replace
from functools import cached_property

from models.checkpoint import Checkpoint
from models.device import resolve_dtype
from models.tokens import Vocabulary
from stenopool.domain import SAMPLE_RATE, DType, Options, Provenance
from stenopool.errors import UsageError
from stenopool.version import __version__

#: Raised whenever the same sound may give another transcript than before (features, decoding, voice activity, plan,
#: merge): what was made under another one is other work.
REVISION = "1"


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
    _check_types(options)
    window = checkpoint.dims.window / SAMPLE_RATE
    if not 2 <= options.chunk_length <= window:
        raise UsageError(f"--chunk-length must be between 2 and the model's window of {window:g} seconds")
    if not 0 <= options.overlap < options.chunk_length / 2:
        half = f"less than half of the chunk length of {options.chunk_length:g}"
        raise UsageError(f"--overlap must be between 0 and {half}; name a smaller one")
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


def _check_types(options: Options) -> None:
    """Python callers may hand over anything."""
    for name, kind in (("language", str), ("task", str), ("vad", bool)):
        if not isinstance(value := getattr(options, name), kind):
            raise UsageError(f"{name} must be a {kind.__name__}, is {value!r}")
    for name in ("chunk_length", "overlap", "no_speech_threshold", "log_prob_threshold"):
        value = getattr(options, name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise UsageError(f"{name} must be a finite number, is {value!r}")
    if not 0 <= options.no_speech_threshold <= 1:
        raise UsageError(f"no_speech_threshold must be between 0 and 1, is {options.no_speech_threshold:g}")
