"""How much memory a model needs, from its sizes alone: its parameters, a decoder slot, a row of the encoder's batch.

With d the width, L the decoder's layers, T the encoder's positions, and b the bytes of a number:

    slot's audio     2 L T d b              keys and values of the cross-attention, kept while a chunk is decoded
                     2 L T (d + 4 heads)    in int8, with a float32 scale for each head and position
    hypothesis       2 L (length - 1) d b   keys and values of its text; the last token is never fed
    encoder row      2 heads T² 4 + (6 d + 2 ffn) T b

The last is an estimate of what XLA sets aside while a layer runs and attends at once: scores before and after the
softmax in float32, six states and the two of the feed-forward. The others are exact. What else a slot holds is less
than a hundredth of these.
"""

from __future__ import annotations

from dataclasses import dataclass

from models.whisper.dims import ModelDimensions

_BYTES = {"float32": 4, "bfloat16": 2}
_SCALE = 4  # bytes of an int8 scale, float32


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Bytes."""

    parameters: int
    #: Those of them that every step of the decoder reads, all but a few.
    step: int
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


def memory(dims: ModelDimensions, dtype: str, *, length: int | None = None) -> Memory:
    """What a model needs on an accelerator; a CPU keeps what is bfloat16 here of a slot in float32.

    Args:
        dims: its sizes.
        dtype: `float32`, `bfloat16` or `int8`.
        length: tokens that a hypothesis has room for; None for the whole context.
    """
    int8 = dtype == "int8"
    width = _BYTES["bfloat16" if int8 else dtype]
    numbers = _numbers(dims)
    d, audio_ctx = dims.d_model, dims.n_audio_ctx
    position = d + dims.n_text_head * _SCALE if int8 else d * width
    states = (6 * d + 2 * dims.n_audio_ffn) * audio_ctx * width
    in_int8 = numbers.kernels + (numbers.scales + numbers.others) * _BYTES["float32"] + numbers.encoder * width
    return Memory(
        parameters=in_int8 if int8 else n_parameters(dims) * width,
        step=numbers.kernels * (1 if int8 else width),
        audio=2 * dims.n_text_layer * audio_ctx * position,
        hypothesis=2 * dims.n_text_layer * ((length or dims.n_text_ctx) - 1) * d * width,
        encoder_row=2 * dims.n_audio_head * audio_ctx**2 * 4 + states,
    )


def n_parameters(dims: ModelDimensions) -> int:
    """How many numbers a model has learnt; its output layer is its embedding."""
    numbers = _numbers(dims)
    return numbers.encoder + numbers.kernels + numbers.others


@dataclass(frozen=True, slots=True, kw_only=True)
class _Numbers:
    encoder: int
    #: Of the decoder, what int8 quantises, with the embedding; the scales that this adds; and the rest of it.
    kernels: int
    scales: int
    others: int


def _numbers(dims: ModelDimensions) -> _Numbers:
    d = dims.d_model
    encoder_kernels, encoder_others = _layers(d, dims.n_audio_layer, 1, dims.n_audio_ffn)
    decoder_kernels, decoder_others = _layers(d, dims.n_text_layer, 2, dims.n_text_ffn)
    convolutions = 3 * dims.n_mels * d + 3 * d * d + 2 * d
    return _Numbers(
        encoder=encoder_kernels + encoder_others + convolutions + dims.n_audio_ctx * d,
        kernels=decoder_kernels + dims.n_vocab * d,
        scales=dims.n_text_layer * (2 * 4 * d + dims.n_text_ffn + d) + dims.n_vocab,
        others=decoder_others + dims.n_text_ctx * d,
    )


def _layers(d: int, n: int, n_attention: int, ffn: int) -> tuple[int, int]:
    """Numbers of all kernels in so many layers; and of their biases (keys have none) and layer norms, with the last."""
    kernels = n * (n_attention * 4 * d * d + 2 * d * ffn)
    return kernels, n * (n_attention * 3 * d + ffn + d) + n * (n_attention + 1) * 2 * d + 2 * d
