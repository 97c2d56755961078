"""The trainer: steps from a checkpoint on, kept now and then, heard now and then, to a checkpoint.

A folder holds a training: `run.json` (what it was begun with), `checkpoints/` (to go on from), `log.jsonl`, `loss.svg`,
and `model/`, which is the model as it was last heard, for anybody to use.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

from models.accuracy import Errors
from models.checkpoint import Checkpoint
from models.mesh import make_mesh, placed_params
from models.tokens import Vocabulary
from models.training import clock
from models.training.batches import Batches, Feeding, Read, symbols_of
from models.training.export import write_json, write_model
from models.training.kept import Kept
from models.training.listening import Heard, listen
from models.training.log import Log, plot, read_log
from models.training.losses import Losses, Weights
from models.training.state import Params, Schedule, Setup, State, begin, make_step, placed_batch, read_params
from models.training.windows import Utterance
from stenopool.errors import EngineError, UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """How to train. What of it changes the numbers is kept in `run.json`: a folder goes on as it was begun."""

    schedule: Schedule
    feeding: Feeding
    weights: Weights = field(default_factory=Weights)
    #: `float32` or `bfloat16`: of products; parameters and optimiser are float32 always.
    dtype: str = "float32"
    frozen_encoder: bool = False
    rematerialise: bool = False
    #: All timestamps learn what each alone would see too rarely (`clock`).
    clock: bool = False
    #: Devices, "2x4".
    mesh: str | None = None
    #: Steps from one checkpoint to the next, and how many are kept.
    keep_every: int = 200
    keep: int = 3
    #: Steps from one hearing of the held-out recordings to the next.
    hear_every: int = 500
    log_every: int = 10

    def numbers(self) -> dict[str, Any]:
        """What changes the numbers."""
        found = {"schedule": asdict(self.schedule), "feeding": asdict(self.feeding), "weights": asdict(self.weights)}
        plain: dict[str, Any] = json.loads(json.dumps(found))
        return plain | {"dtype": self.dtype, "frozen_encoder": self.frozen_encoder, "clock": self.clock}


class Observer(Protocol):
    """Who is told how it goes."""

    def resumed(self, step: int, /) -> None:
        """Training goes on after so many steps."""

    def stepped(self, step: int, loss: float, seconds: float, /) -> None:
        """So many steps are done; the last ones took this long each."""

    def heard(self, step: int, heard: Heard, /) -> None:
        """The held-out recordings were heard."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """What is learnt from, and what is only listened to."""

    utterances: Sequence[Utterance]
    held_out: Sequence[Utterance]
    read: Read


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a training."""

    model: Path
    before: Heard | None
    after: Heard | None


def train(
    folder: Path,
    source: Checkpoint,
    lesson: Lesson,
    training: Training,
    observer: Observer,
    *,
    teacher: Checkpoint | None = None,
) -> Outcome:
    """Train a checkpoint, or go on where this folder's training was.

    Args:
        folder: of this training.
        source: what it begins with.
        lesson: what it learns from.
        training: how.
        observer: is told.
        teacher: whose opinion counts.

    Raises:
        UsageError: the folder's training was begun with something else, or the batch does not fit the mesh.
        CheckpointError: a checkpoint cannot be read.
        EngineError: the loss became no number.
    """
    mesh = make_mesh(training.mesh)
    if training.feeding.batch % mesh.shape["data"]:
        raise UsageError(
            f"a batch of {training.feeding.batch} windows cannot be split over {mesh.shape['data']} devices"
        )  # fmt: skip
    _claim(folder, source, training, len(lesson.utterances))
    setup = Setup(
        dims=source.dims,
        teacher=teacher.dims if teacher else None,
        schedule=training.schedule,
        weights=training.weights,
        dtype=training.dtype,
        frozen_encoder=training.frozen_encoder,
        rematerialise=training.rematerialise,
        mesh=mesh,
        clock=training.clock,
    )
    symbols = symbols_of(lesson.utterances) if training.weights.phonemes else {}
    params = read_params(source.dims, source.weights)
    state, fixed = begin(params, setup, symbols=len(symbols) + 1 if symbols else 0, seed=training.feeding.seed)
    with Kept(folder / "checkpoints", training.keep) as kept:
        done, cursor = 0, None
        if kept.latest is not None:
            done, state, cursor = kept.read(state)
            observer.resumed(done)
        run = _Run(folder, source, lesson, training, observer, setup, fixed, Log(folder / "log.jsonl", done))
        before = run.heard_at(0) if done else run.hear(0, state)
        batches = Batches(
            lesson.utterances, lesson.read, Vocabulary(source), source.dims, training.feeding, step=done, cursor=cursor
        )
        state = run.steps(state, done, batches, kept, _taught(teacher, setup))
        after = run.heard_at(training.schedule.steps) or run.hear(training.schedule.steps, state)
        run.finish(state)
    return Outcome(folder / "model", before, after)


@dataclass(frozen=True, slots=True)
class _Run:
    folder: Path
    source: Checkpoint
    lesson: Lesson
    training: Training
    observer: Observer
    setup: Setup
    fixed: Params
    log: Log

    def steps(self, state: State, done: int, batches: Batches, kept: Kept, taught: Params) -> State:
        """All that are left."""
        total, every = self.training.schedule.steps, self.training.log_every
        if done >= total:
            return state
        step = make_step(self.setup, state)
        waiting: list[Losses] = []  # read from the device where they are logged: it is not waited for in between
        started = time.perf_counter()
        rates = self.training.schedule.rates()
        for number, (batch, cursor) in zip(range(done + 1, total + 1), batches, strict=False):
            state, found = step(state, self.fixed, taught, placed_batch(batch, self.setup.mesh))
            waiting.append(found)
            if number % every == 0 or number == total:
                values = _mean(waiting)
                seconds = (time.perf_counter() - started) / len(waiting)
                self._check(number, values)
                self.log.add(number, **values, rate=float(rates(number - 1)), seconds=round(seconds, 4))
                self.observer.stepped(number, values["text"], seconds)
                waiting, started = [], time.perf_counter()
            if number % self.training.keep_every == 0 or number == total:
                kept.keep(number, state, cursor)
            if number % self.training.hear_every == 0 and number < total:
                self.hear(number, state)
                started = time.perf_counter()
        return state

    def hear(self, step: int, state: State) -> Heard | None:
        """Write the model as it is, and listen by it to what it did not learn from."""
        self._write(state)
        if not self.lesson.held_out:
            return None
        heard = listen(self.folder / "model", self.lesson.held_out, self.lesson.read)
        errors = asdict(heard.errors)
        self.log.add(step, wer=heard.rate, errors=errors, examples=[list(one) for one in heard.examples])
        self.observer.heard(step, heard)
        return heard

    def heard_at(self, step: int) -> Heard | None:
        """What was heard at a step, as the log has it; None where it was not."""
        for line in read_log(self.folder / "log.jsonl"):
            if line["step"] == step and "wer" in line:
                return Heard(Errors(**line["errors"]), tuple((said, heard) for said, heard in line["examples"]))
        return None

    def finish(self, state: State) -> None:
        """The model and the picture."""
        self._write(state)
        picture = plot(read_log(self.folder / "log.jsonl"), self.source.name)
        (self.folder / "loss.svg").write_text(picture, encoding="utf-8")

    def _write(self, state: State) -> None:
        params = clock.set_by(self.fixed | state["params"])
        ours = {name: value for name, value in params.items() if not name.startswith("ctc.")}
        write_model(self.folder / "model", ours, self.source)

    def _check(self, step: int, values: dict[str, float]) -> None:
        if not math.isfinite(values["total"]):
            raise EngineError(
                f"the loss is no number at step {step}: training diverged; take a lower --rate in another folder"
            )


def _mean(found: Sequence[Losses]) -> dict[str, float]:
    """Of several steps; what there is none of is left out."""
    means = {name: sum(float(getattr(one, name)) for one in found) / len(found) for name in Losses._fields}
    return {name: value for name, value in means.items() if value or name in ("total", "text", "right")}


def _taught(teacher: Checkpoint | None, setup: Setup) -> Params:
    """The teacher's parameters; those of its encoder are the student's where that does not learn."""
    if teacher is None:
        return {}
    params = read_params(teacher.dims, teacher.weights)
    if setup.frozen_encoder:
        params = {name: value for name, value in params.items() if name.startswith("decoder.")}
    placed: Params = placed_params(params, setup.mesh)
    return placed


def _claim(folder: Path, source: Checkpoint, training: Training, n_utterances: int) -> None:
    """Note what a new folder's training begins with, or see that it is the same as this one's.

    Raises:
        UsageError: it is not, or the folder cannot be written.
    """
    ours = {"source": source.digest, "utterances": n_utterances, **training.numbers()}
    path = folder / "run.json"
    try:
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            new = path.with_name(".run.json.new")
            write_json(new, ours)
            new.replace(path)
            return
        theirs = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be used ({error}); name another folder with --output") from error
    if different := sorted(_different(theirs, ours)):
        name, then, now = different[0]
        raise UsageError(
            f"{folder}: its training was begun with {name} {then}, now it is {now}; give the same, or another --output"
        )


def _different(theirs: Any, ours: Any, name: str = "") -> list[tuple[str, str, str]]:
    if isinstance(theirs, dict) and isinstance(ours, dict):
        keys = theirs.keys() | ours.keys()
        inner = (_different(theirs.get(key), ours.get(key), f"{name} {key}".strip()) for key in keys)
        return list(chain.from_iterable(inner))
    return [] if theirs == ours else [(name, json.dumps(theirs), json.dumps(ours))]
