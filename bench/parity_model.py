"""Lines of `parity.py`'s table: the model itself, from sound to logits.

A new line: another `yield` here, or another generator of them in `ROWS`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from parity_rows import Row, Wanted, near, same
from parity_sides import Sides

from models.whisper.modules import EncoderLayer
from stenopool.domain import DType
from tests.references import weights

RANDOM = ("tiny", "large_v3", "distil")
#: Windows of the sample of which there are logits.
LOGITS = (0, 1)


def features(sides: Sides) -> Iterator[Row]:
    """Log-mel of 80 and 128 bins."""
    for name in RANDOM:
        ours = np.asarray(sides.random(name).features)[0].T[:, weights.MEL_FRAMES]
        yield near(f"log-mel, {name}", "openai-whisper", ours, sides.engine_arrays[f"{name}/mel"], 1e-5)


def encoder_layers(sides: Sides) -> Iterator[Row]:
    """The encoder, layer by layer."""
    random = sides.random("tiny")
    seen: list[np.ndarray] = []
    layer = EncoderLayer.__call__

    def watched(self: EncoderLayer, *rest: Any, **named: Any) -> jax.Array:
        states = layer(self, *rest, **named)
        seen.append(np.asarray(states[0]))
        return states

    with mock.patch.object(EncoderLayer, "__call__", watched):
        seen.append(np.asarray(random.model.encoder(random.features)[0]))
    names = [*(f"encoder layer {index + 1}" for index in range(len(seen) - 1)), "encoder norm"]
    for index, (name, states) in enumerate(zip(names, seen, strict=True)):
        theirs = sides.decoding_arrays[f"tiny/encoder/{index + 2}"]  # after the two convolutions
        scale = float(np.abs(theirs).max())
        yield near(f"{name} / its largest, tiny", "openai-whisper", states[::50, ::16] / scale, theirs / scale, 1e-5)


def encoder_and_logits(sides: Sides) -> Iterator[Row]:
    """The whole encoder, and teacher-forced logits."""
    for name in RANDOM:
        random, theirs = sides.random(name), sides.engine_arrays
        logits = random.model.decoder(jnp.asarray([weights.FORCED]), random.cross)[0, :, :: weights.VOCAB_STEP]
        yield near(f"encoder, {name}", "transformers", random.audio[0, ::50, ::16], theirs[f"{name}/encoder"], 1e-4)
        yield near(f"logits, {name}", "transformers", logits, theirs[f"{name}/logits"], 1e-4)
    for window in LOGITS:
        theirs = sides.decoding_arrays[f"pocket/logits/{window}"]
        ours = _forced(sides, "float32", window)[:, :: weights.POCKET_VOCAB_STEP]
        yield near(f"logits, pocket window {window}", "openai-whisper", ours, theirs, 1e-4)


def _forced(sides: Sides, dtype: DType, window: int) -> np.ndarray:
    """Logits after each token of the reference's own transcript of a window, float32 [token, n_vocab]."""
    tokens = sides.decoding_arrays[f"pocket/logits/{window}/tokens"].tolist()
    return sides.engine(dtype).logits(sides.window(window), tokens)


def plain_greedy(sides: Sides) -> Iterator[Row]:
    """The likeliest token after each, no rules at all."""
    for name in RANDOM:
        random = sides.random(name)
        graph, params = nnx.split(random.model.decoder)
        forward = jax.jit(lambda p, tokens, cross, graph=graph: nnx.merge(graph, p)(tokens, cross)[0].argmax(-1))
        tokens = list(weights.FORCED[:3])
        length = len(tokens) + weights.PLAIN_STEPS
        while len(tokens) < length:
            padded = tokens + [0] * (length - len(tokens))  # what stands behind is not seen
            tokens.append(int(forward(params, jnp.asarray([padded]), random.cross)[len(tokens) - 1]))
        theirs = sides.engine_arrays[f"{name}/plain"].tolist()
        yield same(f"plain greedy, {name}", "transformers", tokens[3:], theirs)


def low_precision(sides: Sides) -> Iterator[Row]:
    """bfloat16 and int8 against the reference's float32."""
    bars: dict[DType, float] = {"bfloat16": 0.99, "int8": 0.98}
    for dtype, least in bars.items():
        cosines, agreeing = [], []
        for window in LOGITS:
            ours, theirs = _forced(sides, dtype, window), sides.decoding_arrays[f"pocket/logits/{window}"]
            kept = ours[:, :: weights.POCKET_VOCAB_STEP]
            norms = np.linalg.norm(kept, axis=-1) * np.linalg.norm(theirs, axis=-1)
            cosines += ((kept * theirs).sum(-1) / norms).tolist()
            agreeing += (ours.argmax(-1) == sides.decoding_arrays[f"pocket/logits/{window}/argmax"]).tolist()
        name = f"{dtype}, {len(agreeing)} given tokens"
        if dtype == "bfloat16":
            yield Row(name, "openai-whisper", "smallest cosine of logits", Wanted("≥", 0.999), min(cosines))
        share = sum(agreeing) / len(agreeing)
        yield Row(name, "openai-whisper", "same likeliest token", Wanted("≥", least), share)


ROWS = (features, encoder_layers, encoder_and_logits, plain_greedy, low_precision)
