"""Every program of the engine lowers for CUDA, with the ways that suit a GPU: seen here without one.

Lowering is what JAX does before XLA: it refuses what has no implementation on that platform. What XLA, cuDNN and Triton
make of it is seen on a GPU only. `jax.nn.dot_product_attention` asks for cuDNN's version first, and refuses where cuDNN
is not installed; here it is told one. That number is compared with the oldest that some GPUs and head sizes need, none
of which are ours, and is no part of what is lowered. Nothing else is pretended.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import models.engine
from models.checkpoint import find_checkpoint
from models.decoding.requests import Decoding
from models.engine import Engine
from models.group import Group
from models.whisper.attention import Ways, suited
from models.whisper.streamed import read_streamed
from stenopool.domain import DType

GPU = suited("gpu", jnp.bfloat16, 1)
CUDNN, TRITON = "__cudnn$fmhaSoftmax", "__gpu$xla.gpu.triton"

#: Each way of choosing tokens; a chunk at its second temperature is sampled.
GREEDY = Decoding(language="en")
BEAM = Decoding(language="en", beam_size=5)
SAMPLE = Decoding(language="en", temperature=(0.4,), best_of=5)


@pytest.fixture(autouse=True)
def cudnn(monkeypatch: pytest.MonkeyPatch) -> None:
    """cuDNN 9.10 is said to be there."""
    monkeypatch.setattr("jax._src.cudnn.fused_attention_stablehlo.check_cudnn_version", lambda: 91000)


@pytest.fixture(scope="module")
def engine() -> Callable[..., Engine]:
    """The bundled model in these ways, made once for each dtype."""
    made: dict[Any, Engine] = {}

    def make(dtype: DType, ways: Ways = GPU, *, assisted: bool = False) -> Engine:
        key = dtype, ways, assisted
        if key not in made:
            pocket = find_checkpoint("pocket")
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(models.engine, "suited", lambda *_: ways)
                made[key] = Engine(pocket, dtype=dtype, batch_size=10, assistant=pocket if assisted else None)
        return made[key]

    return make


def lowered(program: Callable[..., Any], *arguments: Any) -> str:
    """StableHLO for CUDA; arrays count for their shapes only."""
    abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), arguments)
    text: str = jax.jit(program).trace(*abstract).lower(lowering_platforms=("cuda",)).as_text()
    return text


def group_of(engine: Engine, decoding: Decoding) -> Group:
    """The slots in which it is decoded."""
    return engine._group(decoding, 0)


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_chunks_are_filled_in(engine: Callable[..., Engine], dtype: DType) -> None:
    """The encoder's layers attend by cuDNN's flash attention, in bfloat16 where the decoder is int8, too."""
    one = engine(dtype)
    group = group_of(one, GREEDY)

    text = lowered(group._fill, one.params, group.state, *group._rows([]))

    assert text.count(CUDNN) == one.dims.n_audio_layer


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
@pytest.mark.parametrize("decoding", [GREEDY, BEAM, SAMPLE], ids=["greedy", "beam", "sample"])
@pytest.mark.parametrize("streamed", [False, True])
def test_steps_are_made(engine: Callable[..., Engine], dtype: DType, decoding: Decoding, streamed: bool) -> None:
    """However tokens are chosen; with the kernel, every layer reads the audio by it."""
    one = engine(dtype, replace(GPU, read=read_streamed) if streamed else GPU)
    group = group_of(one, decoding)

    text = lowered(group._advance, one.params, group.state)

    assert text.count(TRITON) == (one.dims.n_text_layer if streamed else 0)


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_drafts_are_checked(engine: Callable[..., Engine], dtype: DType) -> None:
    """Speculative decoding, with the model as its own assistant."""
    one = engine(dtype, assisted=True)
    group = group_of(one, GREEDY)

    assert group.shape.drafted > 0
    assert "stablehlo.while" in lowered(group._advance, one.params, group.state)


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_chunks_begin_anew(engine: Callable[..., Engine], dtype: DType) -> None:
    """In the same slots, or in those of another way of decoding: the audio is not encoded again."""
    one = engine(dtype)
    greedy, sample = group_of(one, GREEDY), group_of(one, SAMPLE)

    for group, source in ((greedy, None), (sample, (greedy.state.cross, ()))):
        arrivals, _ = group._rows([])
        text = lowered(group._refill, one.params, group.state, arrivals, source, jnp.zeros(group.rows, jnp.int32))
        assert CUDNN not in text


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_words_are_located(engine: Callable[..., Engine], dtype: DType) -> None:
    """The text is fed as a whole, and warped along the frames."""
    one = engine(dtype)
    group = group_of(one, GREEDY)
    row, tokens = jnp.zeros(group.rows, jnp.int32), jnp.zeros((group.rows, 40), jnp.int32)

    text = lowered(partial(group._locate, n_start=3), one.params, group.state.cross, row, tokens, row, row)

    assert "stablehlo.while" in text
