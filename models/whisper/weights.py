"""Hugging Face safetensors into our modules, by one table: their name -> our path + transform.

All mismatches are collected and reported at once, each with both paths and shapes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike
from safetensors import SafetensorError, safe_open

from models.whisper.dims import ModelDimensions
from models.whisper.modules import Whisper
from stenopool.errors import CheckpointError

_SHOWN = 8  # mismatches spelled out in one message; a wrong checkpoint has hundreds


class Transform(NamedTuple):
    """How one of their tensors becomes ours; `rank` is what it must have, None for any."""

    rank: int | None
    apply: Callable[[Array], Array]


_SAME = Transform(None, lambda x: x)
_LINEAR = Transform(2, lambda x: x.T)  # theirs [out, in], ours [in, out]
_CONV = Transform(3, lambda x: x.transpose(2, 1, 0).reshape(-1, x.shape[0]))  # [out, in, width], [width * in, out]


class Rule(NamedTuple):
    """One line of the table."""

    theirs: str
    ours: str
    transform: Transform


_ATTENTION = (("q_proj", "query"), ("k_proj", "key"), ("v_proj", "value"), ("out_proj", "out"))


def _rules() -> Iterator[Rule]:
    for conv in ("conv1", "conv2"):
        yield Rule(rf"encoder\.{conv}\.weight", f"encoder.{conv}.kernel", _CONV)
        yield Rule(rf"encoder\.{conv}\.bias", f"encoder.{conv}.bias", _SAME)
    yield Rule(r"(encoder|decoder)\.embed_positions\.weight", r"\1.positions", _SAME)
    yield Rule(r"decoder\.embed_tokens\.weight", "decoder.embedding", _SAME)
    layer, our_layer = r"(encoder|decoder)\.layers\.(\d+)", r"\1.layers.\2"
    for theirs, ours in (("self_attn", "attention"), ("encoder_attn", "cross_attention")):
        for their_part, our_part in _ATTENTION:
            yield Rule(rf"{layer}\.{theirs}\.{their_part}\.weight", rf"{our_layer}.{ours}.{our_part}.kernel", _LINEAR)
            yield Rule(rf"{layer}\.{theirs}\.{their_part}\.bias", rf"{our_layer}.{ours}.{our_part}.bias", _SAME)
    for fc in ("fc1", "fc2"):
        yield Rule(rf"{layer}\.{fc}\.weight", rf"{our_layer}.feed_forward.{fc}.kernel", _LINEAR)
        yield Rule(rf"{layer}\.{fc}\.bias", rf"{our_layer}.feed_forward.{fc}.bias", _SAME)
    norms = (
        (rf"{layer}\.self_attn_layer_norm", rf"{our_layer}.attention_norm"),
        (rf"{layer}\.encoder_attn_layer_norm", rf"{our_layer}.cross_attention_norm"),
        (rf"{layer}\.final_layer_norm", rf"{our_layer}.feed_forward_norm"),
        (r"(encoder|decoder)\.layer_norm", r"\1.norm"),
    )
    for theirs, ours in norms:
        yield Rule(rf"{theirs}\.weight", rf"{ours}.scale", _SAME)
        yield Rule(rf"{theirs}\.bias", rf"{ours}.bias", _SAME)


RULES = tuple(_rules())

#: Tied to the embedding in every Whisper model, stored again by some exporters.
_TIED = {"proj_out.weight"}


def our_path(theirs: str) -> tuple[str, Transform] | None:
    """Our path and the transform for one of their names (with or without the leading `model.`)."""
    name = theirs.removeprefix("model.")
    for rule in RULES:
        if match := re.fullmatch(rule.theirs, name):
            return match.expand(rule.ours), rule.transform
    return None


def _dotted(path: tuple[object, ...]) -> str:
    return ".".join(str(part) for part in path)


def load_whisper(dims: ModelDimensions, files: list[Path], dtype: DTypeLike) -> Whisper:
    """Build the model and fill every parameter from the files.

    Args:
        dims: sizes, from the same checkpoint's config.
        files: one safetensors file, or all shards.
        dtype: what the parameters are kept in.

    Raises:
        CheckpointError: a file is damaged, or names or shapes do not fit; all of them are listed.
    """
    model: Whisper = nnx.eval_shape(lambda: Whisper(dims, dtype=dtype, rngs=nnx.Rngs(0)))
    graph, state = nnx.split(model)
    wanted = {_dotted(path): variable for path, variable in nnx.to_flat_state(state)}
    loaded: dict[str, Array] = {}
    seen: set[str] = set()  # our paths that a tensor was meant for, whether it fits or not
    problems: list[str] = []
    for file in files:
        try:
            with safe_open(file, framework="flax") as tensors:
                for theirs in tensors.keys():  # noqa: SIM118 - not a dict
                    if theirs in _TIED:
                        continue
                    found = our_path(theirs)
                    if found is None or found[0] not in wanted:
                        problems.append(f"{theirs} has no place in this model")
                        continue
                    path, transform = found
                    if path in seen:
                        problems.append(f"{theirs} is {path} a second time")
                        continue
                    seen.add(path)
                    tensor = tensors.get_tensor(theirs)
                    if not jnp.issubdtype(tensor.dtype, jnp.floating):  # integers are quantised: scales stand elsewhere
                        problems.append(f"{theirs} is {tensor.dtype}, expected float32, float16 or bfloat16")
                        continue
                    fits = transform.rank in (None, tensor.ndim)
                    value = transform.apply(tensor) if fits else tensor
                    if value.shape != wanted[path].shape:
                        problems.append(f"{theirs} {list(tensor.shape)} does not fit {path} {list(wanted[path].shape)}")
                        continue
                    loaded[path] = value.astype(dtype)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(
                f"{file}: damaged or incomplete weights ({error}); fetch the checkpoint again"
            ) from error
    problems += [f"{path} is missing" for path in wanted if path not in seen]
    if problems:
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise CheckpointError(
            f"{files[0].parent}: weights do not match config.json: {'; '.join(problems[:_SHOWN])}{more}"
        )
    filled = [(path, variable.replace(loaded[_dotted(path)])) for path, variable in nnx.to_flat_state(state)]
    return nnx.merge(graph, nnx.from_flat_state(filled))
