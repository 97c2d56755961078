"""Hugging Face safetensors into our modules, by one table: their name -> our path + transform.

What is stored is compared with the model by the files' headers alone, before any weight is read; all mismatches are
reported at once, each with both paths and shapes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike
from safetensors import SafetensorError, safe_open

from models.whisper.dims import ModelDimensions
from models.whisper.modules import Whisper
from stenopool.errors import CheckpointError

_TOGETHER = 1 << 28  # numbers that are transformed in one program: 1 GB in float32

_WIDTH = 3  # frames that a convolution sees
_SHOWN = 8  # mismatches spelled out in one line; a wrong checkpoint has hundreds

#: Safetensors' names of what weights may be stored in. Integers are quantised: their scales stand elsewhere.
_FLOATS = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_OTHERS = {
    "F64": "float64",
    "I8": "int8",
    "U8": "uint8",
    "I16": "int16",
    "I32": "int32",
    "I64": "int64",
    "BOOL": "bool",
}


class WeightsMismatch(CheckpointError):  # noqa: N818 - a statement, as its siblings
    """Stored tensors that do not fit the model; the message spells out the first, `problems` has all."""

    def __init__(self, folder: Path, problems: Sequence[str]) -> None:
        #: One line each: a tensor's name, our path, both shapes.
        self.problems = tuple(problems)
        more = (
            f"; and {len(problems) - _SHOWN} more: stenopool models verify {folder}" if len(problems) > _SHOWN else ""
        )
        super().__init__(f"{folder}: weights do not match config.json: {'; '.join(problems[:_SHOWN])}{more}")


class Stored(NamedTuple):
    """A tensor as the header of its file describes it."""

    file: Path
    name: str
    shape: tuple[int, ...]
    #: As numpy names it.
    dtype: str


class Transform(NamedTuple):
    """How one of their tensors becomes ours, and back; `rank` is what it must have, None for any."""

    rank: int | None
    apply: Callable[[Array], Array]
    undo: Callable[[Array], Array]


_SAME = Transform(None, lambda x: x, lambda x: x)
_LINEAR = Transform(2, lambda x: x.T, lambda x: x.T)  # theirs [out, in], ours [in, out]
_CONV = Transform(  # [out, in, width], [width * in, out]
    3,
    lambda x: x.transpose(2, 1, 0).reshape(-1, x.shape[0]),
    lambda x: x.reshape(_WIDTH, -1, x.shape[1]).transpose(2, 1, 0),
)


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


def their_name(ours: str) -> tuple[str, Transform]:
    """What Hugging Face calls the parameter at one of our paths, and the transform that made it ours."""
    found = re.match(r"(encoder|decoder)(?:\.layers\.(\d+))?", ours)
    assert found, ours
    for rule in RULES:
        name = rule.theirs.replace("(encoder|decoder)", found[1]).replace(r"(\d+)", found[2] or "").replace("\\.", ".")
        if our_path(name) == (ours, rule.transform):
            return f"model.{name}", rule.transform
    raise AssertionError(ours)


def read_headers(file: Path) -> list[Stored]:
    """What a safetensors file holds; no weight is read.

    Raises:
        CheckpointError: the file is damaged, or cannot be read.
    """
    try:
        with safe_open(file, framework="numpy") as tensors:
            slices = {name: tensors.get_slice(name) for name in tensors.keys()}  # noqa: SIM118 - not a dict
            return [
                Stored(file, name, tuple(one.get_shape()), (_FLOATS | _OTHERS).get(one.get_dtype(), one.get_dtype()))
                for name, one in slices.items()
            ]
    except (SafetensorError, OSError) as error:
        raise _damaged(file, error) from error


def _damaged(file: Path, error: Exception) -> CheckpointError:
    return CheckpointError(f"{file}: damaged or incomplete weights ({error}); fetch the checkpoint again")


def unfilled_whisper(dims: ModelDimensions, dtype: DTypeLike) -> tuple[Any, dict[str, tuple[Any, Any]]]:
    """The model's graph; and its parameters by our path, each as flax keeps it, with a shape and no values."""
    model: Whisper = nnx.eval_shape(lambda: Whisper(dims, dtype=dtype, rngs=None))
    graph, state = nnx.split(model)
    return graph, {".".join(map(str, path)): (path, variable) for path, variable in nnx.to_flat_state(state)}


class Source(NamedTuple):
    """What a parameter is filled with."""

    tensor: Stored
    transform: Transform


def match(dims: ModelDimensions, stored: Iterable[Stored]) -> tuple[dict[str, Source], list[str]]:
    """What fills each parameter, by our path; and all that does not fit, one line each."""
    wanted = {path: variable.shape for path, (_, variable) in unfilled_whisper(dims, jnp.float32)[1].items()}
    sources: dict[str, Source] = {}
    seen: set[str] = set()  # our paths that a tensor was meant for, whether it fits or not
    problems: list[str] = []
    for tensor in stored:
        if tensor.name in _TIED:
            continue
        found = our_path(tensor.name)
        if found is None or found[0] not in wanted:
            problems.append(f"{tensor.name} has no place in this model")
            continue
        path, transform = found
        if path in seen:
            problems.append(f"{tensor.name} is {path} a second time")
            continue
        seen.add(path)
        if tensor.dtype not in _FLOATS.values():
            problems.append(f"{tensor.name} is {tensor.dtype}, expected float32, float16 or bfloat16")
        elif _transformed(tensor.shape, transform) != wanted[path]:
            problems.append(f"{tensor.name} {list(tensor.shape)} does not fit {path} {list(wanted[path])}")
        else:
            sources[path] = Source(tensor, transform)
    return sources, problems + [f"{path} is missing" for path in wanted if path not in seen]


def _transformed(shape: tuple[int, ...], transform: Transform) -> tuple[int, ...]:
    if transform.rank not in (None, len(shape)):
        return shape
    transformed: tuple[int, ...] = jax.eval_shape(transform.apply, jax.ShapeDtypeStruct(shape, jnp.float32)).shape
    return transformed


def load_whisper(
    dims: ModelDimensions, files: Sequence[Path], dtype: DTypeLike, *, decoder: DTypeLike | None = None
) -> Whisper:
    """Build the model and fill every parameter from the files.

    Args:
        dims: sizes, from the same checkpoint's config.
        files: one safetensors file, or all shards.
        dtype: what the parameters are kept in.
        decoder: what those of the decoder are kept in, if in something else.

    Raises:
        CheckpointError: a file is damaged.
        WeightsMismatch: names or shapes do not fit; all of them are listed.
    """
    sources, problems = match(dims, [tensor for file in files for tensor in read_headers(file)])
    if problems:
        raise WeightsMismatch(files[0].parent, problems)
    graph, unfilled = unfilled_whisper(dims, dtype)
    filled = []
    for file in files:
        try:
            with safe_open(file, framework="flax") as tensors:
                for batch in _batches(
                    [(path, source) for path, source in sources.items() if source.tensor.file == file]
                ):
                    raw = {path: tensors.get_tensor(source.tensor.name) for path, source in batch}
                    dtypes = {path: _kept(path, dtype, decoder) for path in raw}
                    for path, value in _transform(raw, {path: sources[path].transform for path in raw}, dtypes).items():
                        place, variable = unfilled[path]
                        filled.append((place, variable.replace(value)))
        except (SafetensorError, OSError) as error:
            raise _damaged(file, error) from error
    whisper: Whisper = nnx.merge(graph, nnx.from_flat_state(filled))
    return whisper


def _kept(path: str, dtype: DTypeLike, decoder: DTypeLike | None) -> DTypeLike:
    return decoder if decoder is not None and path.startswith("decoder.") else dtype


def _batches(sources: Sequence[tuple[str, Source]]) -> Iterator[list[tuple[str, Source]]]:
    """As many tensors as are transformed in one program; all at once would need the memory twice."""
    batch: list[tuple[str, Source]] = []
    size = 0
    for path, source in sources:
        batch.append((path, source))
        size += math.prod(source.tensor.shape)
        if size >= _TOGETHER:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _transform(
    raw: dict[str, Array], transforms: dict[str, Transform], dtypes: dict[str, DTypeLike]
) -> dict[str, Array]:
    """All in one program: one for each tensor would take longer to dispatch than to run."""

    def run(raw: dict[str, Array]) -> dict[str, Array]:
        return {path: transforms[path].apply(value).astype(dtypes[path]) for path, value in raw.items()}

    transformed: dict[str, Array] = jax.jit(run)(raw)
    return transformed
