"""What a precision costs: the same tokens, scored by the model in float32 and in another precision.

Teacher-forced, so that one early difference does not make all that follows another text: at every position both hear
the same sound and the same text before, and the question is whether they would go on with the same token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.checkpoint import Checkpoint
from models.decoding.requests import Decoding, Request
from models.engine import Engine
from stenopool.domain import DType


@dataclass(frozen=True, slots=True, kw_only=True)
class Fidelity:
    """How close a precision is to float32."""

    dtype: str
    #: Tokens that were compared.
    n_tokens: int
    #: Share of them at which both precisions find the same token likeliest.
    agreement: float
    #: Mean cosine of both precisions' logits.
    cosine: float
    #: What float32 heard, and what the other did on its own: the tokens of each window.
    exact: tuple[tuple[int, ...], ...]
    other: tuple[tuple[int, ...], ...]


def fidelity(checkpoint: Checkpoint, dtype: DType, windows: Sequence[np.ndarray], language: str) -> Fidelity:
    """Compare a precision with float32 on some sound.

    Args:
        checkpoint: of the model.
        dtype: the precision.
        windows: int16 [samples], each at most the model's window.
        language: of the speech.

    Raises:
        CheckpointError, UsageError, EngineError: as the engine does.
    """
    decoding = Decoding(language=language)
    requests = [Request(key=key, pcm=pcm, decoding=decoding) for key, pcm in enumerate(windows)]

    def heard(engine: Engine) -> tuple[tuple[int, ...], ...]:
        by_key = {one.key: one.tokens for one in engine.run(requests)}
        return tuple(by_key[key] for key in range(len(windows)))

    engine = Engine(checkpoint, dtype="float32")
    exact = heard(engine)
    prompt = engine.vocabulary.prompt(language, decoding.task)
    texts = [(*prompt, *tokens) for tokens in exact]
    of_text = slice(len(prompt) - 1, None)  # the first token of the text follows the last of the prompt
    ours = [engine.logits(pcm, text)[of_text] for pcm, text in zip(windows, texts, strict=True)]
    del engine  # two precisions of a large model need not fit beside each other
    engine = Engine(checkpoint, dtype=dtype)
    theirs = [engine.logits(pcm, text)[of_text] for pcm, text in zip(windows, texts, strict=True)]

    a, b = np.concatenate(ours), np.concatenate(theirs)
    cosines = (a * b).sum(-1) / (np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1))
    return Fidelity(
        dtype=engine.dtype,
        n_tokens=len(a),
        agreement=float((a.argmax(-1) == b.argmax(-1)).mean()),
        cosine=float(cosines.mean()),
        exact=exact,
        other=heard(engine),
    )
