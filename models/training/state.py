"""The state of training, and the step that changes it: gradients in float32, products in what the device is good at.

Parameters are a flat dict by our paths, as `models.whisper.weights` knows them; what does not learn stands apart, so
that it has no gradient, no optimiser and no place in what is kept.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.typing import DTypeLike
from optax.contrib import MuonDimensionNumbers, muon

from models.mesh import placed_params
from models.training import clock
from models.training.batches import Batch
from models.training.losses import Losses, Weights, counts, losses
from models.whisper.attention import attend_at_once, attend_fused
from models.whisper.dims import ModelDimensions
from models.whisper.modules import Whisper
from models.whisper.weights import load_whisper, unfilled_whisper

Params = dict[str, Array]
#: `params`, and the optimiser's `memory`.
State = dict[str, Any]

Optimiser = Literal["adamw", "muon"]

_MATRIX = re.compile(r"\.layers\..*\.kernel$")

#: Sinusoids in every Whisper model: they stand still.
_FIXED = ("encoder.positions",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How far a step goes."""

    steps: int
    rate: float
    warmup: int
    #: The rate falls to nothing along a straight line, or along a cosine to a twentieth.
    linear: bool = False
    decay: float = 0.01
    #: The longest gradient: longer ones are made shorter.
    longest: float = 1.0
    optimiser: Optimiser = "adamw"

    def rates(self) -> Callable[[Any], Any]:
        """The learning rate by step."""
        warmup = min(self.warmup, max(self.steps - 1, 1))
        rising = optax.linear_schedule(self.rate / warmup, self.rate, warmup - 1)
        rest = max(self.steps - warmup, 1)
        falling = (
            optax.linear_schedule(self.rate, 0.0, rest)
            if self.linear
            else optax.cosine_decay_schedule(self.rate, rest, alpha=0.05)
        )
        rates: Callable[[Any], Any] = optax.join_schedules([rising, falling], [warmup])
        return rates

    def update_rule(self) -> Any:
        """The optimiser: AdamW (Loshchilov and Hutter 2019), where what is no matrix does not decay; or Muon.

        Muon (Jordan et al. 2024) makes the steps of the layers' matrices orthogonal, scaled as in Liu et al. 2025 so
        that AdamW's rates serve; all else has AdamW without decay.
        """
        if self.optimiser == "muon":
            rule = muon(
                self.rates(),
                weight_decay=self.decay,
                adam_b2=0.98,
                muon_weight_dimension_numbers=_matrices,
                consistent_rms=0.2,
            )
        else:
            rule = optax.adamw(self.rates(), b1=0.9, b2=0.98, weight_decay=self.decay, mask=_decaying)
        return optax.chain(optax.clip_by_global_norm(self.longest), rule)


def _decaying(params: Params) -> dict[str, bool]:
    return {name: value.ndim > 1 and "positions" not in name for name, value in params.items()}


def _matrices(params: Params) -> dict[str, MuonDimensionNumbers | None]:
    """Those that map one state to another; None for what looks tokens, sounds and places up."""
    return {name: MuonDimensionNumbers() if _MATRIX.search(name) else None for name in params}


def flat(whisper: Whisper) -> Params:
    """A model's parameters by our paths."""
    return {".".join(map(str, path)): leaf[...] for path, leaf in nnx.to_flat_state(nnx.state(whisper, nnx.Param))}


def read_params(dims: ModelDimensions, files: Any) -> Params:
    """Of a checkpoint, in float32.

    Raises:
        CheckpointError: its weights do not fit.
    """
    return flat(load_whisper(dims, files, jnp.float32))


class Rebuilt:
    """A model's structure, to be filled with parameters wherever they come from."""

    def __init__(self, dims: ModelDimensions, dtype: DTypeLike) -> None:
        self._dtype = jnp.dtype(dtype)
        self._graph, self._places = unfilled_whisper(dims, dtype)
        # Those ways alone have gradients: the others round by their bits, or walk in a kernel.
        fused = jax.default_backend() == "gpu" and self._dtype == jnp.bfloat16
        self._attend = attend_fused if fused else attend_at_once

    @property
    def names(self) -> tuple[str, ...]:
        """Our paths."""
        return tuple(self._places)

    def whisper(self, params: Mapping[str, Array]) -> Whisper:
        """The model of these parameters, in its dtype."""
        filled = [
            (place, variable.replace(params[name].astype(self._dtype)))
            for name, (place, variable) in self._places.items()
        ]
        model: Whisper = nnx.merge(self._graph, nnx.from_flat_state(filled))
        model.encoder.attend = self._attend
        return model


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What a step is compiled from."""

    dims: ModelDimensions
    teacher: ModelDimensions | None
    schedule: Schedule
    weights: Weights
    #: What products are computed in.
    dtype: str
    #: The encoder does not learn; a teacher hears by it.
    frozen_encoder: bool
    rematerialise: bool
    mesh: Mesh
    #: Timestamps learn together where they are.
    clock: bool = False


def begin(params: Params, setup: Setup, *, symbols: int, seed: int) -> tuple[State, Params]:
    """The state before the first step, on the mesh; and the parameters that do not learn.

    Args:
        params: of the checkpoint that training begins with.
        setup: of the step.
        symbols: of the phonemes, none among them; 0 where they are not learnt.
        seed: of what is new.
    """

    def learns(name: str) -> bool:
        return name not in _FIXED and not (setup.frozen_encoder and name.startswith("encoder."))

    learning = {name: value for name, value in params.items() if learns(name)}
    if symbols:
        drawn = np.random.default_rng([seed, 5]).standard_normal((setup.dims.d_model, symbols)) * 0.02
        learning |= {"ctc.kernel": jnp.asarray(drawn, jnp.float32), "ctc.bias": jnp.zeros(symbols, jnp.float32)}
    if setup.clock:
        learning |= {clock.NAME: clock.still(setup.dims.d_model)}
    memory = setup.schedule.update_rule().init(learning)
    state = placed_params({"params": learning, "memory": memory}, setup.mesh)
    return state, placed_params({name: value for name, value in params.items() if not learns(name)}, setup.mesh)


def shardings(tree: Any) -> Any:
    """Where everything of a state lies."""
    return jax.tree.map(lambda leaf: leaf.sharding, tree)


def placed_batch(batch: Batch, mesh: Mesh) -> Batch:
    """On the mesh, the windows of each part along `data`."""
    placed: Batch = jax.device_put(batch, NamedSharding(mesh, PartitionSpec(None, "data")))
    return placed


Step = Callable[[State, Params, Params, Batch], tuple[State, Losses]]


def make_step(setup: Setup, state: State) -> Step:
    """The program of a step: state, what does not learn, the teacher and a batch to the next state and its losses."""
    optimiser = setup.schedule.update_rule()
    student_of = Rebuilt(setup.dims, setup.dtype)
    teacher_of = Rebuilt(setup.teacher, setup.dtype) if setup.teacher else None

    def loss(learning: Params, fixed: Params, taught: Params, part: Batch, of: Any) -> tuple[Array, Losses]:
        params = clock.set_by(fixed | learning)
        ctc = {"kernel": params["ctc.kernel"], "bias": params["ctc.bias"]} if "ctc.kernel" in params else None
        student = student_of.whisper(params)
        teacher = None
        if teacher_of is not None:
            # Its encoder is the student's where that does not learn.
            own = {name: taught.get(name, params.get(name)) for name in teacher_of.names}
            teacher = teacher_of.whisper(own)  # type: ignore[arg-type]
        found = losses(
            student, teacher, ctc, part, of, setup.weights,
            shared_encoder=setup.frozen_encoder, rematerialise=setup.rematerialise,
        )  # fmt: skip
        return found.total, found

    def step(state: State, fixed: Params, taught: Params, batch: Batch) -> tuple[State, Losses]:
        learning, of = state["params"], counts(batch)
        gradient = jax.value_and_grad(loss, has_aux=True)

        def one(total: tuple[Params, Losses], part: Batch) -> tuple[tuple[Params, Losses], None]:
            (_, found), slope = gradient(learning, fixed, taught, part, of)
            return jax.tree.map(jnp.add, total, (slope, found)), None

        if batch.pcm.shape[0] == 1:
            (_, found), slope = gradient(learning, fixed, taught, jax.tree.map(lambda array: array[0], batch), of)
        else:
            nothing = jax.tree.map(jnp.zeros_like, learning), Losses(*(jnp.zeros(()) for _ in Losses._fields))
            (slope, found), _ = jax.lax.scan(one, nothing, batch)
        change, memory = optimiser.update(slope, state["memory"], learning)
        return {"params": optax.apply_updates(learning, change), "memory": memory}, found

    everywhere = NamedSharding(setup.mesh, PartitionSpec())
    program: Step = jax.jit(step, donate_argnums=0, out_shardings=(shardings(state), everywhere))
    return program
