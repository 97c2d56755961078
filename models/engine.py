"""The engine: chunks of any recordings in, tokens and scores out.

`submit` encodes chunks into free slots, `step` decodes a block of tokens in all slots and hands over what has finished;
whoever drives it keeps the slots full. A chunk whose text is not good enough goes on at its next temperature, one whose
language was asked for goes on in that language, all in the slots and beside the others. Results do not depend on the
order of arrival nor on the neighbours in the batch.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from models.checkpoint import Checkpoint
from models.decoding.fallback import Attempt, Hypothesis, best, chosen
from models.decoding.loops import without_loop
from models.decoding.reports import Report, outcome
from models.decoding.requests import (
    Decoding,
    Heard,
    Prompt,
    Request,
    Stop,
    TokenTimes,
    longest_prompt,
    prompt_of,
    question,
)
from models.decoding.segments import compression_ratio, up_to_seek
from models.decoding.slots import Shape
from models.decoding.steps import Search
from models.device import resolve_dtype
from models.features import log_mel
from models.group import Group, Job, Setup
from models.mesh import make_mesh, placed_params
from models.pace import Pace, suited_pace
from models.sizes import Remembered, Sizes, fitting, free_memory, place_of, smaller, wished
from models.tokens import TIMESTAMP_STEP, Vocabulary
from models.whisper.attention import suited
from models.whisper.modules import Whisper
from models.whisper.quantize import quantize_decoder, quantized
from models.whisper.weights import load_whisper
from stenopool.domain import DType
from stenopool.errors import CheckpointError, DeviceFull, EngineError, UsageError

_log = logging.getLogger(__name__)

#: Room for prompts, in tokens: few sizes, so that few programs are compiled. The first holds what every chunk begins
#: with, the second a few names, the third the text before.
ROOMS = (4, 32, 256)

#: Tokens that an assistant drafts in a round.
DRAFTED = 4


class Engine:
    """A checkpoint on a device, compiled for few shapes.

    Args:
        checkpoint: which model.
        dtype: of weights and activations; `int8` for the weights' kernels and the cache of the audio.
        batch_size: decoder slots, at most; None for what suits model and device.
        assistant: a smaller model that drafts greedy text, for speculative decoding.
        mesh: devices along `data` and along `model`, such as "2x4"; None for one device.
        remembered: sizes that the device had room for before.

    A device that is full is no end: the slots are halved, and those who submitted are told by `DeviceFull`, which is
    retryable then.

    Raises:
        CheckpointError: a checkpoint is missing, damaged or foreign, or the assistant has another vocabulary.
        UsageError: the batch size is not a positive number, or there are not as many devices.
        EngineError: the device has no room for it.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        dtype: DType = "auto",
        batch_size: int | None = None,
        assistant: Checkpoint | None = None,
        mesh: str | None = None,
        remembered: Remembered | None = None,
    ) -> None:
        #: As it was asked for; `n_slots` is what it became.
        self.batch_size = _checked(batch_size)
        self.checkpoint = checkpoint
        self.assistant = assistant
        self.dims = checkpoint.dims
        self.vocabulary = Vocabulary(checkpoint)
        self.dtype = resolve_dtype(dtype)
        self.mesh = make_mesh(mesh)
        self._remembered = remembered
        self._loaded = False
        #: Per device along `data`.
        self._sizes = self._fitting()
        #: Seconds spent on compiling (or on reading compiled programs from the cache).
        self.compile_seconds = 0.0
        #: Programs that were compiled, or read.
        self.programs = 0
        #: Seconds until the weights were on the device.
        self.load_seconds = 0.0
        #: Seconds spent on the device's work, the wait for it included.
        self.model_seconds = 0.0
        #: Steps of all slots so far, and those of them in which the slot was decoding: their ratio is the occupancy.
        self.slot_steps = 0
        self.active_steps = 0
        #: As openai/whisper: half of the context is for the text.
        self._half = self.dims.n_text_ctx // 2
        self._groups: dict[tuple[Search, Shape], Group] = {}
        self._n_jobs = 0
        self._logits: Callable[..., Array] | None = None
        self._ways = suited(jax.default_backend(), activations(self.dtype), self.mesh.size)
        began = time.perf_counter()
        with self._device_failures():
            models = self._load()
            graph, params = nnx.split(models)
        self._setup = Setup(
            graph=graph,
            params=placed_params(params, self.mesh),
            mesh=self.mesh,
            dims=self.dims,
            draft_dims=assistant.dims if assistant else None,
            special=self.vocabulary.special,
            ways=self._ways,
            int8=self.dtype == "int8",
            heads=checkpoint.alignment_heads,
            encoder_batch=self._sizes.encoder_batch * self.mesh.shape["data"],
            pace=suited_pace(jax.default_backend()),
            compiled=self._count_compiling,
        )
        self._loaded = True
        self.load_seconds = time.perf_counter() - began

    @property
    def n_slots(self) -> int:
        """Chunks that are decoded together."""
        return self._sizes.slots * int(self.mesh.shape["data"])

    def resize(self, batch_size: int | None) -> None:
        """Decode so many chunks together from now on, at most; what is in the slots is dropped.

        Raises:
            UsageError: the batch size is not a positive number.
        """
        self.batch_size = _checked(batch_size)
        self.drop()
        self._groups.clear()
        self._take(self._fitting())

    def _fitting(self) -> Sizes:
        """What suits the model, or was asked for, as far as there is room for it."""
        backend, data = jax.default_backend(), self.mesh.shape["data"]
        suits = wished(self.dims, self.dtype, backend)
        asked = Sizes(suits.encoder_batch, -(-self.batch_size // data)) if self.batch_size else suits
        sizes = asked
        if self._remembered and (known := self._remembered.get(self._place)):
            sizes = Sizes(min(asked.encoder_batch, known.encoder_batch), min(asked.slots, known.slots))
        models = [self.dims] + ([self.assistant.dims] if self.assistant else [])
        free = free_memory(list(self.mesh.devices.flat))
        if self._loaded:  # the parameters are there already
            free += sum(leaf.nbytes for leaf in jax.tree.leaves(self.params)) // self.mesh.size
        # What lies along `model` is split over its devices.
        sizes = fitting(models, self.dtype, sizes, backend, free * self.mesh.shape["model"])
        if sizes.slots < asked.slots:
            _log.warning(
                "%s: %d chunks are decoded together, not %d: there is no room for more in %.1f GB%s",
                self.checkpoint.name, sizes.slots * data, asked.slots * data, free / 1e9,
                f", or was none before ({self._remembered.file})" if self._remembered else "",
            )  # fmt: skip
        return Sizes(min(sizes.encoder_batch, sizes.slots), sizes.slots)

    @property
    def _place(self) -> str:
        """What sizes are remembered of."""
        helper = f" with {self.assistant.name}" if self.assistant else ""
        return place_of(f"{self.checkpoint.name}{helper}", self.dtype, dict(self.mesh.shape))

    def _take(self, sizes: Sizes) -> None:
        """Use these sizes from now on; all slots are empty."""
        self._sizes = sizes
        self._setup = replace(self._setup, encoder_batch=sizes.encoder_batch * self.mesh.shape["data"])

    def _shrink(self) -> bool:
        """Half the slots from now on, which are empty; False where there is nothing to halve."""
        sizes = smaller(self._sizes)
        if sizes == self._sizes:
            return False
        self._groups.clear()
        self._take(sizes)
        if self._remembered:
            self._remembered.put(self._place, sizes)
        return True

    def _load(self) -> tuple[Whisper, Whisper | None]:
        whisper = self._load_one(self.checkpoint)
        if self.assistant is None:
            return whisper, None
        if self.assistant.dims.n_vocab != self.dims.n_vocab:
            raise CheckpointError(
                f"{self.assistant.name}: its vocabulary of {self.assistant.dims.n_vocab} tokens is not that of "
                f"{self.checkpoint.name} ({self.dims.n_vocab}); name an assistant that was made for this model"
            )
        draft = self._load_one(self.assistant)
        if _same(whisper.encoder, draft.encoder):
            draft.encoder = whisper.encoder  # Distil-Whisper keeps its teacher's: the audio is encoded once for both
        return whisper, draft

    def _load_one(self, checkpoint: Checkpoint) -> Whisper:
        int8 = self.dtype == "int8"
        # What an int8 decoder computes between its products is float32: bfloat16 would cost more than int8 does.
        decoder = jnp.dtype(jnp.float32) if int8 else activations(self.dtype)
        whisper = self._read(checkpoint, encoder=activations(self.dtype), decoder=decoder)
        whisper.attend(self._ways)
        return quantize_decoder(whisper) if int8 else whisper

    def _read(self, checkpoint: Checkpoint, *, encoder: jnp.dtype, decoder: jnp.dtype) -> Whisper:
        """The weights in these dtypes."""
        return load_whisper(checkpoint.dims, checkpoint.weights, encoder, decoder=decoder)

    def _count_compiling(self, seconds: float) -> None:
        self.compile_seconds += seconds
        self.programs += 1

    @contextmanager
    def _device_failures(self) -> Iterator[None]:
        """Name what goes wrong on the device."""
        started, compiled = time.perf_counter(), self.compile_seconds
        try:
            yield
        except BaseException as error:
            # The state was given away to the program that failed or was interrupted: what it held is lost.
            self.drop()
            if not isinstance(error, jax.errors.JaxRuntimeError):
                raise
            reason = str(error).partition("\n")[0]
            if "RESOURCE_EXHAUSTED" in reason:
                raise self._full(reason) from error
            raise EngineError(f"{self.checkpoint.name}: the device failed ({reason})") from error
        finally:
            self.model_seconds += time.perf_counter() - started - (self.compile_seconds - compiled)

    def _full(self, reason: str) -> DeviceFull:
        """What to tell those whose chunks were in the slots, which are halved if that can be."""
        name, before = self.checkpoint.name, self.n_slots
        if not self._loaded or not self._shrink():
            cure = "a smaller model, or --dtype int8, or another device"
            return DeviceFull(f"{name}: the device has no room for it ({reason}); use {cure}")
        text = f"{name}: the device has no room for {before} slots; going on with {self.n_slots}"
        _log.warning("%s", text)
        return DeviceFull(text, retryable=True)

    def warm(self, decoding: Decoding | None = None) -> None:
        """Compile what chunks of this kind need, or read it from the cache; else done when the first one comes.

        Raises:
            EngineError: the device failed, or has no room for a single slot; all slots are empty.
        """
        decoding = decoding or Decoding()
        while not self._group(decoding, 0).warm_already:
            busy = self.busy
            try:
                with self._device_failures():
                    self._group(decoding, 0).warm()
            except DeviceFull as full:
                if busy or not full.retryable:  # those who wait for their chunks have to be told
                    raise

    @property
    def params(self) -> Any:
        """All parameters, as they lie on the devices; those of the assistant among them."""
        return self._setup.params

    @property
    def pace(self) -> Pace:
        """How blocks of steps follow each other."""
        return self._setup.pace

    @property
    def free(self) -> int:
        """Chunks that may be submitted."""
        return self.n_slots - self._n_jobs

    @property
    def room(self) -> int:
        """Chunks to submit now: the free slots, but in whole batches of the encoder as long as others are decoding.

        The encoder takes as long for one chunk as for a batch of them; a slot that waits for a few others costs less.
        """
        return self.free - self.free % self._setup.encoder_batch if self.busy else self.free

    @property
    def busy(self) -> bool:
        """Whether any slot is decoding."""
        return self._n_jobs > 0

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
        # All of them before the first is encoded: a chunk that is refused leaves nothing half done.
        jobs = [self._job(request) for request in requests]
        with self._device_failures():
            for job in jobs:
                self._group(job.decoding, 0).waiting.append(job)
                self._n_jobs += 1
            self._fill()

    def step(self) -> list[Heard]:
        """Decode a block of tokens in every slot; returns the chunks that have finished and frees their slots.

        Raises:
            EngineError: the device failed; all slots are empty.
        """
        heard: list[Heard] = []
        if not self._n_jobs:
            return heard
        with self._device_failures():
            busy = [group for group in self._groups.values() if group.jobs]
            for group in busy:  # all of them, before the first is waited for
                group.advance()
            for group in busy:
                if (found := group.finished()) is None:
                    continue
                slots, report = found
                self.slot_steps += group.shape.n_slots * int(report.steps)
                self.active_steps += int(report.active_steps)
                if slots:
                    heard += self._harvest(group, slots, report)
            self._fill()
        self._n_jobs -= len(heard)
        return heard

    def cancel(self, unwanted: Callable[[Any], bool]) -> None:
        """Free the slots of chunks that nobody waits for any more: those whose key is `unwanted`."""
        for group in self._groups.values():
            self._n_jobs -= group.cancel(unwanted)

    def drop(self) -> None:
        """Forget what is in the slots: the chunks were not decoded."""
        for group in self._groups.values():
            group.forget()
        self._n_jobs = 0

    def run(self, requests: Iterable[Request]) -> Iterator[Heard]:
        """Decode all requests, slots refilled as they fall free; yields in the order of finishing."""
        source = iter(requests)
        while True:
            self.submit(list(islice(source, self.room)))
            if not self.busy:
                return
            yield from self.step()

    def logits(self, pcm: np.ndarray, tokens: Sequence[int]) -> np.ndarray:
        """Teacher-forced logits of a text in a chunk, for those who compare models; no slot is used.

        Args:
            pcm: int16 [samples], at most the window.
            tokens: at most the decoder's context.

        Returns:
            float32 [tokens, n_vocab]: at each token, of the one after it.
        """
        window = np.zeros((1, self.dims.window), np.int16)
        window[0, : len(pcm)] = pcm
        padded = np.zeros((1, self.dims.n_text_ctx), np.int32)
        padded[0, : len(tokens)] = tokens
        if self._logits is None:
            int8 = self.dtype == "int8"

            def run(params: Any, pcm: Array, tokens: Array) -> Array:
                whisper: Whisper = nnx.merge(self._setup.graph, params)[0]
                cross = whisper.decoder.cross_keys_values(whisper.encoder(log_mel(pcm, self.dims.n_mels)))
                return whisper.decoder(tokens, jax.tree.map(quantized, cross) if int8 else cross)

            self._logits = jax.jit(run)
        with self._device_failures():
            return np.asarray(self._logits(self.params, window, padded))[0, : len(tokens)]

    # Where a job belongs

    def _job(self, request: Request) -> Job:
        if len(request.pcm) > self.dims.window:
            raise UsageError(
                f"a chunk of {len(request.pcm)} samples is longer than the window {self.dims.window}"
            )  # fmt: skip
        languages = self.vocabulary.special.languages
        job = Job(request, request.decoding.language if request.decoding else None)
        if job.language is None and languages:
            job.asking = True
            unknown = [code for code in job.decoding.languages if code not in languages]
            if unknown:
                self.vocabulary.prompt(unknown[0], job.decoding.task)  # says which there are
        else:
            job.language = job.language or "en"
            self._prompt(job)
        return job

    def _prompt(self, job: Job) -> Prompt:
        if job.asking:
            return question(self.vocabulary.special)
        assert job.language is not None
        return prompt_of(self.vocabulary, job.decoding, job.language, self._half)

    def _group(self, decoding: Decoding, attempt: int) -> Group:
        """The group that decodes so, made when it is first needed."""
        needed = longest_prompt(decoding, self._half)
        room = next((room for room in ROOMS if room >= needed), self.dims.n_text_ctx)
        room = min(room, self.dims.n_text_ctx)
        # The last token is never fed: it may stand one beyond the context.
        length = min(room + self._half, self.dims.n_text_ctx + 1)
        search, width, capacity, drafted = Search.GREEDY, 1, 0, 0
        if decoding.temperature[attempt] > 0:
            search, width = Search.SAMPLE, decoding.best_of
        elif decoding.beam_size > 1:
            search, width = Search.BEAM, decoding.beam_size
            capacity = round(decoding.beam_size * decoding.patience)
        elif self.assistant:
            drafted = DRAFTED
        n_slots = _multiple(max(1, self.n_slots // width), self.mesh.shape["data"])
        shape = Shape(n_slots=n_slots, width=width, capacity=capacity, room=room, length=length, drafted=drafted)
        if (search, shape) not in self._groups:
            self._groups[search, shape] = Group(self._setup, search, shape)
        return self._groups[search, shape]

    def _fill(self) -> None:
        for group in self._groups.values():
            if group.waiting:
                slots = group.free[: len(group.waiting)]
                jobs = [group.waiting.popleft() for _ in slots]
                group.fill([(slot, job, self._prompt(job)) for slot, job in zip(slots, jobs, strict=True)])

    # What becomes of a finished slot

    def _harvest(self, group: Group, slots: Sequence[int], report: Report) -> list[Heard]:
        again: list[tuple[int, Job]] = []
        done: list[tuple[int, Job, Attempt]] = []
        heard = []
        special = self.vocabulary.special
        for slot in slots:
            job = group.jobs[slot]
            beams = group.search is Search.BEAM
            out = outcome(report, slot, beams=beams, end_of_text=special.end_of_text)
            codes = special.languages
            job.languages = job.languages or dict(zip(codes, map(float, out.languages), strict=True))
            if job.asking:
                if job.request.decoding is None:
                    heard.append(_answer(job, out.no_speech))
                    continue
                job.asking = False
                allowed = job.decoding.languages or codes
                job.language = max(allowed, key=job.languages.__getitem__)
                again.append((slot, job))
                continue
            text = best(out.texts, job.decoding.length_penalty)
            ratio = compression_ratio(self.vocabulary.text((*self._given(job), *text.tokens)).strip())
            if job.decoding.loop_guard:
                kept = without_loop(text.tokens, special.timestamp_begin)
                if len(kept) < len(text.tokens):
                    text = Hypothesis(text.tokens, text.sum_logprob, Stop.LOOP)
            job.attempts.append(
                Attempt(text=text, temperature=job.temperature, compression_ratio=ratio, no_speech_prob=out.no_speech)
            )
            answer = chosen(job.attempts, job.decoding)
            if answer is None:
                again.append((slot, job))
            else:
                done.append((slot, job, answer))
        times = self._times(group, done)
        heard += [self._heard(job, answer, times.get(slot)) for slot, job, answer in done]
        # Audio that goes on is copied before its slot is freed.
        self._again(group, again)
        stay = {slot for slot, job in again if group.jobs.get(slot) is job and self._group_of(job) is group}
        for slot in slots:
            if slot not in stay:
                del group.jobs[slot]
        return heard

    def _group_of(self, job: Job) -> Group:
        return self._group(job.decoding, len(job.attempts))

    def _again(self, group: Group, again: Sequence[tuple[int, Job]]) -> None:
        """Jobs that go on, where they are or in another group; what finds no slot there is encoded again later."""
        targets: dict[int, list[tuple[int, int, Job]]] = {}
        for slot, job in again:
            target = self._group_of(job)
            taken = targets.setdefault(id(target), [])
            # What an assistant would hear is not in slots that are not drafted for.
            heard = bool(group.shape.drafted) >= bool(target.shape.drafted)
            if target is group:
                taken.append((slot, slot, job))
            elif heard and len(target.free) > len(taken):
                taken.append((slot, target.free[len(taken)], job))
            else:
                target.waiting.append(job)
        for target in list(self._groups.values()):
            if taken := targets.get(id(target), []):
                placed = [(to, job, self._prompt(job)) for _, to, job in taken]
                target.refill(placed, group, [slot for slot, _, _ in taken])

    def _times(self, group: Group, done: Sequence[tuple[int, Job, Attempt]]) -> dict[int, TokenTimes]:
        """When each text token was said, of those who asked for it."""
        special = self.vocabulary.special
        timed: list[tuple[int, tuple[int, ...], tuple[int, ...], int]] = []
        for slot, job, answer in done:
            if not job.decoding.word_timestamps:
                continue
            tokens = self._text(job, answer)
            if job.decoding.seek:
                tokens = up_to_seek(tokens, special.timestamp_begin)
            words = tuple(token for token in tokens if token < special.end_of_text)
            if words:
                start = self.vocabulary.prompt(job.language or "en", job.decoding.task)
                n_frames = max(1, min(len(job.request.pcm) // TIMESTAMP_STEP, self.dims.n_audio_ctx))
                timed.append((slot, words, start, n_frames))
        if not timed:
            return {}
        located = group.locate(timed)
        return {
            slot: TokenTimes(
                tokens=text,
                starts=tuple((np.asarray(begins, int) * TIMESTAMP_STEP).tolist()),
                probabilities=tuple(np.asarray(probabilities, float).tolist()),
            )
            for (slot, text, _, _), (begins, probabilities) in zip(timed, located, strict=True)
        }

    def _given(self, job: Job) -> tuple[int, ...]:
        """What the text begins with."""
        return job.decoding.prefix if job.decoding.prefix_is_text else ()

    def _text(self, job: Job, answer: Attempt) -> tuple[int, ...]:
        tokens = answer.text.tokens
        if answer.text.stop is Stop.LOOP:
            tokens = without_loop(tokens, self.vocabulary.special.timestamp_begin)
        return (*self._given(job), *tokens)

    def _heard(self, job: Job, answer: Attempt, times: TokenTimes | None) -> Heard:
        objections = [one.objection(job.decoding) for one in job.attempts if one is not answer]
        return Heard(
            key=job.request.key,
            tokens=self._text(job, answer),
            avg_logprob=answer.text.avg_logprob,
            no_speech_prob=answer.no_speech_prob,
            compression_ratio=answer.compression_ratio,
            temperature=answer.temperature,
            language=job.language,
            languages=job.languages,
            stop=answer.text.stop,
            rejected=tuple(one for one in objections if one),
            times=times,
        )


def _checked(batch_size: int | None) -> int | None:
    if batch_size is not None and (not isinstance(batch_size, int) or batch_size < 1):
        raise UsageError(f"the batch size must be at least 1, got {batch_size!r}")
    return batch_size


def _multiple(number: int, of: int) -> int:
    """The number, rounded up."""
    return -(-number // of) * of


def activations(dtype: str) -> jnp.dtype:
    """What the encoder computes in where the dtype of the engine is this."""
    return jnp.dtype("bfloat16" if dtype == "int8" else dtype)


def _same(ours: nnx.Module, theirs: nnx.Module) -> bool:
    """Whether two modules have the same parameters."""
    a, b = (jax.tree.leaves(nnx.state(module)) for module in (ours, theirs))
    return len(a) == len(b) and all(
        x.shape == y.shape and bool((x == y).all()) for x, y in zip(a, b, strict=True)
    )  # fmt: skip


def _answer(job: Job, no_speech: float) -> Heard:
    return Heard(
        key=job.request.key,
        tokens=(),
        avg_logprob=0.0,
        no_speech_prob=no_speech,
        compression_ratio=0.0,
        temperature=0.0,
        language=None,
        languages=job.languages,
        stop=Stop.LIMIT,
        rejected=(),
        times=None,
    )
