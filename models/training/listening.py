"""Listening: what a model makes of recordings that it did not learn from, by the engine that everybody uses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from models.accuracy import Errors, compare, normal_form
from models.checkpoint import Checkpoint
from models.decoding.requests import Decoding, Request
from models.engine import Engine
from models.training.batches import Read
from models.training.windows import Utterance


@dataclass(frozen=True, slots=True)
class Heard:
    """What was made of the utterances."""

    errors: Errors
    #: Of the first utterances: what was said, and what was heard.
    examples: tuple[tuple[str, str], ...]

    @property
    def rate(self) -> float:
        """Word error rate; 0 where nobody said a word."""
        return self.errors.rate or 0.0


def listen(folder: Path, utterances: Sequence[Utterance], read: Read, *, batch: int = 8) -> Heard:
    """Decode each utterance alone, greedily, without times, and count the wrong words.

    Raises:
        CheckpointError, EngineError: as the engine does.
    """
    engine = Engine(Checkpoint(folder.name, folder), batch_size=min(batch, len(utterances)))
    requests = (
        Request(
            key=index,
            pcm=read(one.audio, one.span)[: engine.dims.window],
            decoding=Decoding(language=one.language, timestamps=False, loop_guard=True, max_new_tokens=_most(one)),
        )
        for index, one in enumerate(utterances)
    )
    texts = {heard.key: engine.vocabulary.text(heard.tokens) for heard in engine.run(requests)}
    errors, examples = Errors(), []
    for index, one in enumerate(utterances):
        errors += compare(one.text, texts[index], normal_form(one.language)).words
        examples.append((one.text, texts[index].strip()))
    return Heard(errors, tuple(examples[:3]))


def _most(utterance: Utterance) -> int:
    """Tokens that may be sampled: more than anybody says, so that a model that knows nothing yet comes to an end."""
    return 16 + round(10 * utterance.span.seconds)
