"""A group of slots that are decoded alike: one shape, one way of choosing tokens, three compiled programs.

The engine has one group for each way of decoding that its chunks ask for: greedy slots, slots of five beams, slots of
five samples. A chunk that needs another way moves to another group, with the keys and values of its audio.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from jax.stages import Compiled

from models.alignment.locate import locate
from models.decoding.fallback import Attempt
from models.decoding.reports import Report
from models.decoding.requests import Decoding, Prompt, Request, latest_start
from models.decoding.rules import Limits
from models.decoding.slots import Arrivals, Shape, Slots, empty_slots, fill, refill
from models.decoding.speculation import advance_drafted
from models.decoding.steps import Search, advance
from models.mesh import placed_rows, slot_shardings
from models.pace import Pace
from models.programs import compiled
from models.tokens import SpecialTokens
from models.whisper.attention import Ways
from models.whisper.dims import ModelDimensions
from models.whisper.modules import Whisper


@dataclass(slots=True)
class Job:
    """A request on its way through the engine."""

    request: Request
    #: In which it is decoded, once that is known.
    language: str | None
    #: What came out at each temperature so far.
    attempts: list[Attempt] = field(default_factory=list)
    #: The language is being asked for.
    asking: bool = False
    languages: dict[str, float] = field(default_factory=dict)

    @property
    def decoding(self) -> Decoding:
        """How; the defaults where only the language is asked for."""
        return self.request.decoding or Decoding()

    @property
    def temperature(self) -> float:
        """The one that is being tried."""
        return self.decoding.temperature[len(self.attempts)]


@dataclass(frozen=True, slots=True)
class Setup:
    """What all groups of an engine share."""

    #: The model and its assistant, split by flax.
    graph: Any
    params: Any
    dims: ModelDimensions
    draft_dims: ModelDimensions | None
    special: SpecialTokens
    ways: Ways
    int8: bool
    #: (layer, head) of the cross-attention that follow the words.
    heads: tuple[tuple[int, int], ...]
    #: Chunks per call of the encoder, a multiple of the mesh's `data`; so are the slots of a group.
    encoder_batch: int
    mesh: Mesh
    pace: Pace
    #: Told of seconds spent on compiling.
    compiled: Callable[[float], None]


class Group:
    """Slots of one shape on the device, and what is in them."""

    def __init__(self, setup: Setup, search: Search, shape: Shape) -> None:
        self._setup = setup
        self.search = search
        self.shape = shape
        self.rows = min(setup.encoder_batch, shape.n_slots)
        #: Slot -> what is decoded there.
        self.jobs: dict[int, Job] = {}
        #: What waits for a slot.
        self.waiting: deque[Job] = deque()
        #: Slot -> the block from which on it decodes its job.
        self._since: dict[int, int] = {}
        self._blocks = 0
        #: Of blocks that were dispatched and not looked at yet, with their numbers.
        self._reports: deque[tuple[int, Report]] = deque()
        self._state: Slots | None = None
        self._shardings: Any = None
        self._programs: dict[str, Compiled] = {}
        self._readings: dict[str, Callable[..., Any]] = {}

    @property
    def free(self) -> list[int]:
        """Slots without a job."""
        return [slot for slot in range(self.shape.n_slots) if slot not in self.jobs]

    def cancel(self, unwanted: Callable[[Any], bool]) -> int:
        """Forget jobs by their requests' keys, and how many; what their slots still decode is not looked at."""
        n = len(self.jobs) + len(self.waiting)
        self.jobs = {slot: job for slot, job in self.jobs.items() if not unwanted(job.request.key)}
        self.waiting = deque(job for job in self.waiting if not unwanted(job.request.key))
        return n - len(self.jobs) - len(self.waiting)

    def forget(self) -> None:
        """All jobs are gone, and the state with them: it would go on decoding what nobody waits for."""
        self.jobs.clear()
        self.waiting.clear()
        self._reports.clear()
        self._state = None

    @property
    def warm_already(self) -> bool:
        """Whether `warm` has nothing to do."""
        return self._state is not None and {"fill", "advance"} <= self._programs.keys()

    def warm(self) -> None:
        """Compile what every chunk needs."""
        self._program("fill", self._fill, self.state, *self._rows([]))
        self._program("advance", self._advance, self.state)

    @property
    def state(self) -> Slots:
        """What the device holds."""
        if self._state is None:
            setup = self._setup
            make = partial(
                empty_slots,
                setup.dims,
                setup.special,
                self.shape,
                dtype=setup.ways.kept,
                int8=setup.int8,
                draft=setup.draft_dims if self.shape.drafted else None,
            )
            self._shardings = slot_shardings(jax.eval_shape(make), setup.mesh)
            self._state = jax.jit(make, out_shardings=self._shardings)()
        return self._state

    # What goes in

    def fill(self, placed: Sequence[tuple[int, Job, Prompt]]) -> None:
        """Encode chunks into free slots."""
        for first in range(0, len(placed), self.rows):
            some = placed[first : first + self.rows]
            arrivals, pcm = self._rows(some)
            program = self._program("fill", self._fill, self.state, arrivals, pcm)
            self._state = program(self._setup.params, self.state, arrivals, pcm)
            self._occupy(some)

    def refill(self, placed: Sequence[tuple[int, Job, Prompt]], source: Group, slots: Sequence[int]) -> None:
        """Begin jobs anew whose audio is in the slots of a group, this or another."""
        for first in range(0, len(placed), self.rows):
            some = placed[first : first + self.rows]
            rows = np.zeros(self.rows, np.int32)
            rows[: len(some)] = slots[first : first + self.rows]
            arrivals, rows = placed_rows((self._arrivals(some), rows), self._setup.mesh)
            # Only slots that are drafted for hold what their assistant hears.
            draft = source.state.draft_cross if self.shape.drafted else ()
            audio = None if source is self else (source.state.cross, draft)
            name = f"refill from {id(source)}"
            program = self._program(name, self._refill, self.state, arrivals, audio, rows)
            self._state = program(self._setup.params, self.state, arrivals, audio, rows)
            self._occupy(some)

    def _occupy(self, placed: Sequence[tuple[int, Job, Prompt]]) -> None:
        for slot, job, _ in placed:
            self.jobs[slot] = job
            self._since[slot] = self._blocks

    def advance(self) -> None:
        """Decode a block of tokens in every slot; returns before the device is done."""
        program = self._program("advance", self._advance, self.state)
        self._state, report = program(self._setup.params, self.state)
        for array in jax.tree.leaves(report):
            array.copy_to_host_async()
        self._reports.append((self._blocks, report))
        self._blocks += 1

    # What comes out

    def finished(self) -> tuple[list[int], Report] | None:
        """Slots whose text has ended by the oldest report, with it; None where the device may go further ahead."""
        if len(self._reports) <= self._setup.pace.ahead:
            return None
        block, report = self._reports.popleft()
        report = jax.device_get(report)
        return [slot for slot in self.jobs if self._since[slot] <= block and not report.active[slot]], report

    def locate(
        self, texts: Sequence[tuple[int, tuple[int, ...], tuple[int, ...], int]]
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """For each text: the audio frame at which each of its tokens begins, one more for the end, and probabilities.

        Args:
            texts: the slot where its audio is, its text tokens without timestamps, the steering tokens before it, and
                the frames of the encoder that the chunk's sound fills.
        """
        special = self._setup.special
        found: list[tuple[np.ndarray, np.ndarray]] = []
        n_start = len(texts[0][2])
        longest = n_start + self._setup.dims.n_text_ctx // 2 + 2
        for first in range(0, len(texts), self.rows):
            some = texts[first : first + self.rows]
            rows, frames = np.zeros(self.rows, np.int32), np.ones(self.rows, np.int32)
            tokens, lengths = np.zeros((self.rows, longest), np.int32), np.zeros(self.rows, np.int32)
            for row, (slot, text, start, n_frames) in enumerate(some):
                whole = (*start, special.no_timestamps, *text, special.end_of_text)
                tokens[row, : len(whole)] = whole
                rows[row], lengths[row], frames[row] = slot, len(text), n_frames
            arguments = (self.state.cross, *placed_rows((rows, tokens, lengths, frames), self._setup.mesh))
            run = partial(self._locate, n_start=n_start)
            begins, probabilities = jax.device_get(self._reading("locate", run)(self._setup.params, *arguments))
            found += [(begins[row, : n + 1], probabilities[row, :n]) for row, n in enumerate(lengths[: len(some)])]
        return found

    # Programs

    def _program(self, name: str, function: Callable[..., Any], *arguments: Any) -> Compiled:
        """Compiled for the parameters and these arguments; the first is the state, which a new one replaces."""
        if name not in self._programs:
            started = time.perf_counter()
            shardings = (self._shardings, None) if name == "advance" else self._shardings  # it reports as well
            jitted = jax.jit(function, donate_argnums=1, out_shardings=shardings)
            setup = self._setup
            pace = setup.pace if name == "advance" else None  # nothing else knows of it
            baked = (setup.dims, setup.draft_dims, setup.special, setup.ways.names, pace, self.search, self.shape)
            devices = list(setup.mesh.devices.flat)
            self._programs[name] = compiled(
                jitted, (setup.params, *arguments), name.split()[0], of=baked, devices=devices
            )
            self._setup.compiled(time.perf_counter() - started)
        return self._programs[name]

    def _reading(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """A program that leaves the state as it is."""
        if name not in self._readings:
            self._readings[name] = jax.jit(function)
        return self._readings[name]

    def _models(self, params: Any) -> tuple[Whisper, Whisper | None]:
        whisper, draft = nnx.merge(self._setup.graph, params)
        return whisper, draft if self.shape.drafted else None

    def _fill(self, params: Any, slots: Slots, arrivals: Arrivals, pcm: jax.Array) -> Slots:
        return fill(*self._models(params), self._setup.special, slots, arrivals, pcm)

    def _refill(self, params: Any, slots: Slots, arrivals: Arrivals, source: Any, rows: jax.Array) -> Slots:
        return refill(*self._models(params), self._setup.special, slots, arrivals, source, rows)

    def _advance(self, params: Any, slots: Slots) -> tuple[Slots, Report]:
        whisper, draft = self._models(params)
        special, pace = self._setup.special, self._setup.pace
        if draft is None:
            return advance(whisper, special, self.search, slots, pace.block, until_idle=pace.until_idle)
        drafted = self.shape.drafted
        rounds = -(-pace.block // (drafted + 1))
        return advance_drafted(whisper, draft, special, drafted, slots, rounds, until_idle=pace.until_idle)

    def _locate(
        self, params: Any, cross: Any, rows: Any, tokens: Any, lengths: Any, frames: Any, *, n_start: int
    ) -> Any:
        whisper, _ = self._models(params)
        taken = jax.tree.map(lambda x: x[rows], cross)
        end = self._setup.special.end_of_text
        heads = self._setup.heads
        return locate(whisper.decoder, heads, taken, tokens, lengths, frames, n_start=n_start, end_of_text=end)

    # Arguments of the programs, always of the same shape

    def _rows(self, placed: Sequence[tuple[int, Job, Prompt]]) -> tuple[Arrivals, jax.Array]:
        pcm = self._pcm([job.request for _, job, _ in placed])
        rows: tuple[Arrivals, jax.Array] = placed_rows((self._arrivals(placed), pcm), self._setup.mesh)
        return rows

    def _pcm(self, requests: Sequence[Request]) -> np.ndarray:
        pcm = np.zeros((self.rows, self._setup.dims.window), np.int16)
        for row, request in enumerate(requests):
            pcm[row, : len(request.pcm)] = request.pcm
        return pcm

    def _arrivals(self, placed: Sequence[tuple[int, Job, Prompt]]) -> Arrivals:
        special, n_vocab = self._setup.special, self._setup.dims.n_vocab

        def blank(dtype: Any, *sizes: int) -> Any:
            return np.zeros((self.rows, *sizes), dtype)

        arrivals = Arrivals(
            slot=blank(np.int32) + self.shape.n_slots,  # beyond the last: dropped
            tokens=blank(np.int32, self.shape.room),
            start=blank(np.int32),
            prompt_length=blank(np.int32) + 1,
            given=blank(np.int32),
            last_timestamp=blank(np.int32) - 1,
            limit=blank(np.int32),
            loop_guard=blank(np.bool_),
            temperature=blank(np.float32),
            key=blank(np.uint32, 2),
            limits=Limits(
                suppressed=blank(np.bool_, n_vocab),
                suppressed_first=blank(np.bool_, n_vocab),
                timestamps=blank(np.bool_),
                latest_start=blank(np.int32),
            ),
        )

        def put(array: Any, where: Any, value: Any) -> None:
            array[where] = value

        half = self._setup.dims.n_text_ctx // 2  # as openai/whisper: half of the context is for the text
        for row, (slot, job, prompt) in enumerate(placed):
            decoding = job.decoding
            n_prompt = len(prompt.tokens)
            put(arrivals.slot, row, slot)
            put(arrivals.tokens, (row, slice(n_prompt)), prompt.tokens)
            put(arrivals.start, row, prompt.start)
            put(arrivals.prompt_length, row, n_prompt)
            put(arrivals.given, row, prompt.given)
            times = [token for token in prompt.tokens[n_prompt - prompt.given :] if token >= special.timestamp_begin]
            put(arrivals.last_timestamp, row, max(times, default=-1))
            longest = 0 if job.asking else min(half - prompt.given, decoding.max_new_tokens or half)
            put(arrivals.limit, row, min(n_prompt + longest, self.shape.length))
            put(arrivals.loop_guard, row, decoding.loop_guard)
            put(arrivals.temperature, row, job.temperature)
            put(arrivals.key, row, (decoding.seed & 0xFFFFFFFF, len(job.attempts)))
            suppressed = special.suppressed if decoding.suppress_tokens is None else decoding.suppress_tokens
            put(arrivals.limits.suppressed, (row, [*suppressed, *special.steering]), True)
            if decoding.suppress_blank:
                put(arrivals.limits.suppressed_first, (row, list(special.suppressed_at_begin)), True)
            put(arrivals.limits.timestamps, row, decoding.timestamps)
            put(arrivals.limits.latest_start, row, latest_start(special, decoding))
        return arrivals
