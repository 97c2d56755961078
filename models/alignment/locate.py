"""When each token of a text was said, from where the decoder looked while it wrote (openai/whisper `timing.py`).

Some heads of the cross-attention follow the words through the sound. The text is fed once more as a whole, what those
heads look at is sharpened, and dynamic time warping finds the way of the text through the frames.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array, lax

from models.alignment.dtw import warp
from models.alignment.median import median_filter
from models.whisper.attention import KeysValues
from models.whisper.modules import Decoder

_MEDIAN_WIDTH = 7  # frames


def locate(
    decoder: Decoder,
    heads: tuple[tuple[int, int], ...],
    cross: KeysValues,
    tokens: Array,
    lengths: Array,
    frames: Array,
    *,
    n_start: int,
    end_of_text: int,
) -> tuple[Array, Array]:
    """The frame at which each token begins, and its probability.

    Rows are independent of each other and of what pads them. To be compiled by its caller.

    Args:
        decoder: of the checkpoint.
        heads: (layer, head) of the cross-attention that follow the words.
        cross: keys and values of the audio, [row, ...].
        tokens: int32 [row, T]: steering tokens, <|notimestamps|>, text tokens, the end of text; then anything.
        lengths: int32 [row]: text tokens of each row.
        frames: int32 [row]: of the encoder (20 ms) that the row's sound fills, at least 1.
        n_start: steering tokens, without <|notimestamps|>.
        end_of_text: its id; ids below are those of text.

    Returns:
        With N = T - n_start - 2, the most text tokens that there may be:
        first frames, int32 [row, N + 1]: of text token i, and at `lengths` where the last one ends;
        probabilities, float32 [row, N]: of text token i among all text tokens.
        Both are 0 beyond a row's own.
    """
    logits, scores = decoder.listen(tokens, cross, heads)
    starts, _ = warp(-attention(scores, lengths, frames, n_start), lengths + 1, frames)

    text = tokens[:, n_start + 1 : -1]
    logits = logits[:, n_start:-2, :end_of_text]
    chosen = jnp.take_along_axis(logits, jnp.minimum(text, end_of_text - 1)[..., None], axis=-1)[..., 0]
    probabilities = jnp.exp(chosen - jax.nn.logsumexp(logits, axis=-1))
    is_text = jnp.arange(text.shape[1])[None] < lengths[:, None]
    return starts, jnp.where(is_text, probabilities, 0.0)


def attention(scores: Array, lengths: Array, frames: Array, n_start: int) -> Array:
    """How much each token is heard in each frame: sharpened, without outliers, the mean of the heads.

    Args:
        scores: before the softmax, float32 [row, head, T, frame].
        lengths, frames, n_start: as `locate`.

    Returns:
        float32 [row, N + 1, frame], of text tokens and the end of text.
    """
    # What stands at <|notimestamps|> is asked for the first text token, what stands at the last for the end.
    asked = slice(n_start, -1)

    def add(total: Array, of_head: Array) -> tuple[Array, None]:
        weights = _sharpened(of_head, n_start + lengths + 2, frames)[:, asked]
        return total + median_filter(weights, frames, _MEDIAN_WIDTH), None

    # Head after head, which takes little memory, and on a CPU little time.
    total, _ = lax.scan(add, jnp.zeros_like(scores[:, 0, asked]), scores.swapaxes(0, 1))
    return total / scores.shape[1]


def _sharpened(scores: Array, n_tokens: Array, frames: Array) -> Array:
    """Attention over a row's own frames, standardised for each frame over the row's own tokens.

    A frame that every token looks at says nothing about any of them.

    Args:
        scores: before the softmax, float32 [row, token, frame].
        n_tokens: int32 [row].
        frames: int32 [row].
    """
    heard = (jnp.arange(scores.shape[2])[None] < frames[:, None])[:, None]
    weights = jax.nn.softmax(jnp.where(heard, scores, -jnp.inf), axis=-1)
    own = (jnp.arange(scores.shape[1])[None] < n_tokens[:, None])[:, :, None]
    count = n_tokens.astype(jnp.float32)[:, None, None]
    mean = jnp.where(own, weights, 0.0).sum(axis=1, keepdims=True) / count
    deviation = weights - mean
    variance = jnp.where(own, jnp.square(deviation), 0.0).sum(axis=1, keepdims=True) / count
    # A frame that all tokens look at alike, such as the only one, tells nothing; the reference divides by zero there.
    return jnp.where(variance > 0, deviation / jnp.sqrt(variance), 0.0)
