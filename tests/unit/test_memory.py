"""Memory by formula, against the arrays themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from models.checkpoint import find_checkpoint
from models.decoding.slots import Shape, Slots, empty_slots
from models.features import log_mel
from models.memory import memory, n_parameters
from models.tokens import SpecialTokens, Vocabulary
from models.whisper.dims import ModelDimensions
from models.whisper.modules import Whisper
from models.whisper.quantize import quantize_decoder
from stenopool.cli.models import size


def published(d: int, heads: int, encoder: int, decoder: int, mels: int = 80, vocab: int = 51865) -> ModelDimensions:
    """The sizes of a published model."""
    return ModelDimensions(
        n_mels=mels,
        n_audio_ctx=1500,
        d_model=d,
        n_audio_head=heads,
        n_audio_layer=encoder,
        n_audio_ffn=4 * d,
        n_vocab=vocab,
        n_text_ctx=448,
        n_text_head=heads,
        n_text_layer=decoder,
        n_text_ffn=4 * d,
    )


POCKET = find_checkpoint("pocket").dims
MODELS = {
    "pocket": POCKET,
    "tiny": published(384, 6, 4, 4),
    "base.en": published(512, 8, 6, 6, vocab=51864),
    "base": published(512, 8, 6, 6),
    "small": published(768, 12, 12, 12),
    "medium": published(1024, 16, 24, 24),
    "large-v3": published(1280, 20, 32, 32, mels=128, vocab=51866),
    "large-v3-turbo": published(1280, 20, 32, 4, mels=128, vocab=51866),
    "distil-large-v3": published(1280, 20, 32, 2, mels=128, vocab=51866),
}


@pytest.fixture(scope="module")
def special() -> SpecialTokens:
    """Pocket's."""
    return Vocabulary(find_checkpoint("pocket")).special


def n_bytes(tree: Any) -> int:
    """Of all arrays in it."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def build(dims: ModelDimensions, dtype: str) -> Whisper:
    """The model, as the engine builds it."""
    if dtype == "int8":
        whisper = Whisper(dims, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
        whisper.decoder = Whisper(dims, dtype=jnp.float32, rngs=nnx.Rngs(0)).decoder
        return quantize_decoder(whisper)
    return Whisper(dims, dtype=dtype, rngs=nnx.Rngs(0))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("name", ["pocket", "tiny", "distil-large-v3"])
def test_parameters(name: str, dtype: str) -> None:
    """The formula is the size of all parameters, int8's scales among them."""
    dims = MODELS[name]

    state = nnx.state(nnx.eval_shape(lambda: build(dims, dtype)))

    assert memory(dims, dtype).parameters == n_bytes(state)


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("tiny", 37.8),
        ("base.en", 72.6),
        ("small", 241.7),
        ("large-v3", 1543.5),
        ("large-v3-turbo", 808.9),
        ("distil-large-v3", 756.4),
    ],
)
def test_published_numbers_of_parameters(name: str, millions: float) -> None:
    """The counts are those of the model cards."""
    assert round(n_parameters(MODELS[name]) / 1e6, 1) == millions


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("name", ["pocket", "large-v3-turbo"])
@pytest.mark.parametrize(("width", "length"), [(1, 227), (5, 448)])
def test_slots(special: SpecialTokens, name: str, dtype: str, width: int, length: int) -> None:
    """A slot's caches have the size of the formula; all the rest of it is less than a hundredth of that."""
    dims, n_slots = MODELS[name], 3
    shape = Shape(n_slots=n_slots, width=width, room=4, length=length)
    kept = jnp.float32 if dtype == "float32" else jnp.bfloat16

    slots: Slots = jax.eval_shape(lambda: empty_slots(dims, special, shape, dtype=kept, int8=dtype == "int8"))

    ours = memory(dims, dtype, length=length)
    assert ours.audio * n_slots == n_bytes(slots.cross)
    assert ours.hypothesis * width * n_slots == n_bytes(slots.past)
    if name != "pocket":
        assert ours.slot(width) * n_slots <= n_bytes(slots) <= 1.01 * ours.slot(width) * n_slots


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_encoder_rows(dtype: str) -> None:
    """What XLA sets aside for each chunk of the encoder's batch is within a quarter of the estimate."""
    rows = 4
    graph, params = nnx.split(nnx.eval_shape(lambda: build(POCKET, dtype)))

    def encode(params: Any, pcm: jax.Array) -> jax.Array:
        encoder = nnx.merge(graph, params).encoder
        return jnp.asarray(encoder(log_mel(pcm, POCKET.n_mels)))

    with jax.default_device(jax.devices("cpu")[0]):
        pcm = jax.ShapeDtypeStruct((rows, POCKET.window), jnp.int16)
        analysis = jax.jit(encode).lower(params, pcm).compile().memory_analysis()

    assert analysis is not None
    assert memory(POCKET, dtype).encoder_row == pytest.approx(analysis.temp_size_in_bytes / rows, rel=0.25)


def test_the_table_of_the_docs() -> None:
    """docs/models.md shows what the formulas give."""
    page = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
    lines = page.partition("| model | parameters |")[2].partition("\n\n")[0].splitlines()[2:]
    rows = {cells[0]: cells[1:] for cells in ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)}

    assert rows.keys() == MODELS.keys() - {"base.en"}
    for name, row in rows.items():
        need, small = memory(MODELS[name], "bfloat16"), memory(MODELS[name], "int8")
        sizes = (need.parameters, small.parameters, need.slot(), small.slot(), need.hypothesis, need.encoder_row)
        assert row == [f"{n_parameters(MODELS[name]) / 1e6:.1f} M", *map(size, sizes)], name


def test_a_whole_engine() -> None:
    """The parts add up; every beam adds its text, and none the audio again."""
    one = memory(MODELS["large-v3"], "bfloat16")

    assert one.total(16, 8, width=5) == one.parameters + 16 * (one.audio + 5 * one.hypothesis) + 8 * one.encoder_row
    assert round(one.total(16, 8, width=5) / 1e9, 1) == 16.2  # as the docs reckon
    assert one.audio == 2 * 32 * 1500 * 1280 * 2
    assert one.slot(5) - one.slot(1) == 4 * one.hypothesis
