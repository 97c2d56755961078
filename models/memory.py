"""How much memory a model needs, from its sizes alone: its parameters, a decoder slot, a row of the encoder's batch.

With d the width, L the decoder's layers, T the encoder's positions, and b the bytes of a number:

    slot's audio     2 L T d b              keys and values of the cross-attention, kept while a chunk is decoded
                     2 L T (d + 4 heads)    in int8, with a float32 scale for each head and position
    hypothesis       2 L (length - 1) d b   keys and values of its text; the last token is never fed
    encoder row      2 heads T² 4 + (6 d + 2 ffn) T b

The last is an estimate of what XLA sets aside while a layer runs: scores before and after the softmax in float32, six
states and the two of the feed-forward. The others are exact. What else a slot holds is less than a hundredth of these.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from models.whisper.dims import ModelDimensions

_BYTES = {"float32": 4, "bfloat16": 2}
_SCALE = 4  # bytes of an int8 scale, float32

Activations = Literal["float32", "bfloat16"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Bytes."""

    parameters: int
    #: Of a slot: keys and values of the audio.
    audio: int
    #: Of one of its hypotheses: keys and values of the text.
    hypothesis: int
    #: What the encoder needs while it runs, for each chunk of its batch.
    encoder_row: int

    def slot(self, width: int = 1) -> int:
        """Of a slot with so many hypotheses: beams, or samples."""
        return self.audio + width * self.hypothesis

    def total(self, n_slots: int, encoder_batch: int, *, width: int = 1) -> int:
        """Of an engine."""
        return self.parameters + n_slots * self.slot(width) + encoder_batch * self.encoder_row


def memory(
    dims: ModelDimensions, dtype: str, *, activations: Activations = "bfloat16", length: int | None = None
) -> Memory:
    """What a model needs.

    Args:
        dims: its sizes.
        dtype: `float32`, `bfloat16` or `int8`.
        activations: what is not int8 with `int8`; bfloat16 on accelerators.
        length: tokens that a hypothesis has room for; None for the whole context.
    """
    int8 = dtype == "int8"
    width = _BYTES[activations if int8 else dtype]
    quantised, scales, others = _parameters(dims)
    d, audio_ctx = dims.d_model, dims.n_audio_ctx
    position = d + dims.n_text_head * _SCALE if int8 else d * width
    states = (6 * d + 2 * dims.n_audio_ffn) * audio_ctx * width
    return Memory(
        parameters=quantised + scales * _SCALE + others * width if int8 else (quantised + others) * width,
        audio=2 * dims.n_text_layer * audio_ctx * position,
        hypothesis=2 * dims.n_text_layer * ((length or dims.n_text_ctx) - 1) * d * width,
        encoder_row=2 * dims.n_audio_head * audio_ctx**2 * 4 + states,
    )


def n_parameters(dims: ModelDimensions) -> int:
    """How many numbers a model has learnt; its output layer is its embedding."""
    quantised, _, others = _parameters(dims)
    return quantised + others


def _parameters(dims: ModelDimensions) -> tuple[int, int, int]:
    """Numbers that int8 quantises, scales that this adds, and numbers that stay as they are."""
    d = dims.d_model
    quantised, scales, others = dims.n_vocab * d, dims.n_vocab, dims.n_text_ctx * d
    for layers, n_attention, ffn in (
        (dims.n_audio_layer, 1, dims.n_audio_ffn),
        (dims.n_text_layer, 2, dims.n_text_ffn),
    ):
        quantised += layers * (n_attention * 4 * d * d + 2 * d * ffn)
        scales += layers * (n_attention * 4 * d + ffn + d)
        others += layers * (n_attention * 3 * d + ffn + d)  # biases; keys have none
        others += layers * (n_attention + 1) * 2 * d + 2 * d  # layer norms, and the one at the end
    others += 3 * dims.n_mels * d + 3 * d * d + 2 * d + dims.n_audio_ctx * d  # convolutions, positions
    return quantised, scales, others
