"""The engine: chunks of any recordings in, tokens and scores out.

One encoder batch and a larger set of decoder slots, both of fixed shape. `submit` encodes chunks into free slots,
`step` decodes a block of tokens in all slots and hands over what has finished; whoever drives it keeps the slots full.
Results do not depend on the order of arrival nor on the neighbours in the batch.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.stages import Compiled

from models.checkpoint import Checkpoint
from models.decoding.rules import Rules
from models.decoding.slots import Arrivals, Slots, advance, empty_slots, fill
from models.device import resolve_dtype
from models.tokens import Vocabulary
from models.whisper.weights import load_whisper
from stenopool.domain import DType, Task
from stenopool.errors import DeviceFull, EngineError, UsageError

#: Steps of the decoder per dispatch. More saves round trips to the host; fewer frees a finished slot sooner.
BLOCK_STEPS = 16

#: Chunks per call of the encoder, and decoder slots: what fills the device. A CPU gains nothing from wider products,
#: but every step of the decoder reads all its weights once, however many slots share it.
AUTO_BATCH = {"cpu": (1, 8)}
AUTO_BATCH_ACCELERATOR = (16, 64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One chunk to decode."""

    key: Hashable
    #: int16 [samples], at most the model's window.
    pcm: np.ndarray
    #: A language code, or None to detect it: then nothing is transcribed, and `Heard.languages` is the answer.
    language: str | None
    task: Task = "transcribe"


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What the engine heard in one chunk."""

    key: Hashable
    #: Sampled tokens, timestamps among them, without the end of text.
    tokens: tuple[int, ...]
    #: Mean log-probability of the sampled tokens, the end of text included, as openai/whisper counts it.
    avg_logprob: float
    no_speech_prob: float
    #: Probability of each language.
    languages: dict[str, float]


class Engine:
    """A checkpoint on a device, compiled for one set of shapes.

    Args:
        checkpoint: which model.
        dtype: of weights and activations.
        batch_size: decoder slots; None for what suits the device.

    Raises:
        CheckpointError: the checkpoint is missing, damaged or foreign.
        UsageError: the batch size is not a positive number.
        EngineError: the device has no room for it.
    """

    def __init__(self, checkpoint: Checkpoint, *, dtype: DType = "auto", batch_size: int | None = None) -> None:
        if batch_size is not None and (not isinstance(batch_size, int) or batch_size < 1):
            raise UsageError(f"the batch size must be at least 1, got {batch_size!r}")
        self.checkpoint = checkpoint
        self.dims = checkpoint.dims
        self.vocabulary = Vocabulary(checkpoint)
        self.dtype = jnp.dtype(resolve_dtype(dtype)).name
        encoder_batch, slots = AUTO_BATCH.get(jax.default_backend(), AUTO_BATCH_ACCELERATOR)
        self.n_slots = batch_size or slots
        self.encoder_batch = min(encoder_batch, self.n_slots)
        self._rules = Rules(self.vocabulary.special, self.dims.n_vocab)
        #: As openai/whisper: half of the context is for the text.
        self.longest_text = self.dims.n_text_ctx // 2
        self._longest = self.longest_text + (3 if self.vocabulary.special.languages else 1)
        self._slots: Slots | None = None
        self._waiting: dict[int, Request] = {}  # slot -> what is decoded there
        self._fill: Compiled | None = None
        self._advance: Compiled | None = None
        #: Seconds spent on compiling (or on reading compiled programs from the cache).
        self.compile_seconds = 0.0
        #: Seconds spent on the device's work, the wait for it included.
        self.model_seconds = 0.0
        with self._device_failures():
            self._graph, self._params = nnx.split(load_whisper(self.dims, checkpoint.weights, self.dtype))
            self._slots = self._empty_slots()

    def _empty_slots(self) -> Slots:
        return empty_slots(self.dims, self._rules, n_slots=self.n_slots, longest=self._longest, dtype=self.dtype)

    @contextmanager
    def _device_failures(self) -> Iterator[None]:
        """Name what goes wrong on the device."""
        try:
            yield
        except BaseException as error:
            # The state was given away to the program that failed or was interrupted: what it held is lost.
            self._waiting.clear()
            self._slots = None
            if not isinstance(error, jax.errors.JaxRuntimeError):
                raise
            reason = str(error).partition("\n")[0]
            if "RESOURCE_EXHAUSTED" in reason:
                name = self.checkpoint.name
                raise DeviceFull(f"{name}: the device failed ({reason}); use a smaller --batch-size") from error
            raise EngineError(f"{self.checkpoint.name}: the device failed ({reason})") from error

    def warm(self) -> None:
        """Compile both programs, or read them from the cache. Called by the first `submit` if nobody did before."""
        if self._fill is not None:
            return
        started = time.perf_counter()

        def run_fill(params: Any, slots: Slots, arrivals: Arrivals) -> Slots:
            return fill(nnx.merge(self._graph, params), self.dims.n_mels, slots, arrivals)

        def run_advance(params: Any, slots: Slots) -> Slots:
            return advance(nnx.merge(self._graph, params), self._rules, slots, BLOCK_STEPS)

        with self._device_failures():
            slots = self._slots or self._empty_slots()
            fill_ = jax.jit(run_fill, donate_argnums=1).lower(self._params, slots, self._arrivals([], []))
            advance_ = jax.jit(run_advance, donate_argnums=1).lower(self._params, slots)
            self._fill, self._advance = fill_.compile(), advance_.compile()
        self.compile_seconds += time.perf_counter() - started

    @property
    def free(self) -> int:
        """Slots that wait for a chunk."""
        return self.n_slots - len(self._waiting)

    @property
    def busy(self) -> bool:
        """Whether any slot is decoding."""
        return bool(self._waiting)

    def submit(self, requests: Sequence[Request]) -> None:
        """Encode chunks into free slots.

        Raises:
            UsageError: a chunk is longer than the window, or its language or task is unknown to the checkpoint;
                then none of these chunks is in a slot.
            EngineError: more chunks than free slots; or the device failed, then all slots are empty.
        """
        if not requests:
            return
        if len(requests) > self.free:
            raise EngineError(f"{len(requests)} chunks for {self.free} free slots")
        self.warm()
        assert self._fill is not None
        started = time.perf_counter()
        free = (slot for slot in range(self.n_slots) if slot not in self._waiting)
        placed = list(zip(free, requests, strict=False))
        groups = [placed[first : first + self.encoder_batch] for first in range(0, len(placed), self.encoder_batch)]
        # All of them before the first is encoded: a chunk that is refused leaves nothing half done.
        arrivals = [self._arrivals([slot for slot, _ in group], [request for _, request in group]) for group in groups]
        with self._device_failures():
            slots = self._slots or self._empty_slots()
            for arrival in arrivals:
                slots = self._fill(self._params, slots, arrival)
            self._slots = slots
            self._waiting.update(placed)
        self.model_seconds += time.perf_counter() - started

    def step(self) -> list[Heard]:
        """Decode a block of tokens in every slot; returns the chunks that have finished and frees their slots.

        Raises:
            EngineError: the device failed; all slots are empty.
        """
        if not self._waiting:
            return []
        assert self._advance is not None
        started = time.perf_counter()
        with self._device_failures():
            self._slots = self._advance(self._params, self._slots)
            active = np.asarray(self._slots.active)
            finished = [slot for slot in self._waiting if not active[slot]]
            heard = self._harvest(finished) if finished else []
        self.model_seconds += time.perf_counter() - started
        return heard

    def drop(self) -> None:
        """Forget what is in the slots: the chunks were not decoded."""
        if self._waiting:
            self._waiting.clear()
            self._slots = None  # made anew when they are needed; these would go on decoding what nobody waits for

    def run(self, requests: Iterable[Request]) -> Iterator[Heard]:
        """Decode all requests, slots refilled as they fall free; yields in the order of finishing."""
        source = iter(requests)
        while True:
            self.submit(list(islice(source, self.free)))
            if not self._waiting:
                return
            yield from self.step()

    def _arrivals(self, slots: Sequence[int], requests: Sequence[Request]) -> Arrivals:
        rows = self.encoder_batch
        pcm = np.zeros((rows, self.dims.window), np.int16)
        slot = np.full(rows, self.n_slots, np.int32)  # beyond the last: dropped
        tokens = np.zeros((rows, self._longest), np.int32)
        prompt_length, limit = np.ones(rows, np.int32), np.ones(rows, np.int32)
        for row, (where, request) in enumerate(zip(slots, requests, strict=True)):
            if len(request.pcm) > self.dims.window:
                raise UsageError(f"a chunk of {len(request.pcm)} samples is longer than the window {self.dims.window}")
            pcm[row, : len(request.pcm)] = request.pcm
            slot[row] = where
            if request.language is None:  # one step is enough to see which language follows
                prompt: tuple[int, ...] = (self._rules.special.start_of_transcript,)
                limit[row] = 1
            else:
                prompt = self.vocabulary.prompt(request.language, request.task)
                limit[row] = len(prompt) + self.longest_text
            tokens[row, : len(prompt)] = prompt
            prompt_length[row] = len(prompt)
        return Arrivals(
            pcm=jnp.asarray(pcm),
            slot=jnp.asarray(slot),
            tokens=jnp.asarray(tokens),
            prompt_length=jnp.asarray(prompt_length),
            limit=jnp.asarray(limit),
        )

    def _harvest(self, finished: Sequence[int]) -> list[Heard]:
        slots = self._slots
        assert slots is not None
        tokens, position, sums, no_speech, languages = jax.device_get(
            (slots.tokens, slots.position, slots.sum_logprob, slots.no_speech, slots.languages)
        )
        codes = tuple(self._rules.special.languages)
        heard = []
        for slot in finished:
            request = self._waiting.pop(slot)
            sampled: list[int] = []
            if request.language is not None:
                begin = len(self.vocabulary.prompt(request.language, request.task))
                sampled = tokens[slot, begin : position[slot] + 1].tolist()
                if sampled[-1] == self._rules.special.end_of_text:
                    sampled.pop()
            heard.append(
                Heard(
                    key=request.key,
                    tokens=tuple(sampled),
                    avg_logprob=float(sums[slot]) / (len(sampled) + 1),
                    no_speech_prob=float(no_speech[slot]),
                    languages=dict(zip(codes, map(float, languages[slot]), strict=True)),
                )
            )
        return heard
