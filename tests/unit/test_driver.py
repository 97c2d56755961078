"""The one-machine driver in trouble: a device that fails, samples that go, results that come late."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from models.decoding.requests import Heard, Request
from models.engine import Engine
from stenopool.config import Config
from stenopool.domain import CoverageKind, Options
from stenopool.errors import EngineError, LedgerError
from storage.chunks import Claim
from tests import sounds
from workers.local import Driver, Outcome
from workers.prepare import SourceFile

RATE = 16_000
OPTIONS = Options(language="en", chunk_length=8)


class Failing(Engine):
    """The engine as it is, on a device that fails whenever certain chunks come into its slots; None: whatever comes."""

    def __init__(self, real: Engine, poison: Sequence[int] | None) -> None:
        self.__dict__ = real.__dict__  # its slots are the same slots
        self._poison = poison

    def submit(self, requests: Sequence[Request]) -> None:
        keys = [request.key for request in requests]
        if requests and (
            self._poison is None or any(isinstance(key, Claim) and key.index in self._poison for key in keys)
        ):
            self.drop()
            raise EngineError("pocket: the device failed (INTERNAL: bad chunk)")
        super().submit(requests)


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    """40 s of the bundled recording, int16 at 16 kHz."""
    return sounds.read(sounds.SAMPLE)[: 40 * RATE]


@pytest.fixture
def clip(tmp_path: Path, speech: np.ndarray) -> SourceFile:
    """That as a file."""
    path = sounds.write(tmp_path / "clip.wav", speech[None])
    return SourceFile(path, "clip.wav")


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """A home of its own."""
    return Config(home=tmp_path / "home", cache=Config.from_env().cache)


def run(config: Config, engine: Engine, source: SourceFile, *, options: Options = OPTIONS) -> list[Outcome]:
    """Drive one source to its end."""
    with Driver(config, engine.checkpoint, options, dtype="float32", engine=engine) as driver:
        return list(driver.run([source]))


def test_a_chunk_that_kills_the_device_is_a_gap_and_its_neighbours_live(
    config: Config, pool_engine: Engine, clip: SourceFile
) -> None:
    """Tried alone three times, then named in the coverage; every other chunk is as in an undisturbed run."""
    [disturbed] = run(config, Failing(pool_engine, [1]), clip)
    [undisturbed] = run(Config(home=config.home / "other", cache=config.cache), pool_engine, clip)

    [ours], [theirs] = disturbed.transcripts, undisturbed.transcripts
    [gap] = ours.coverage.gaps
    assert gap.reason == "pocket: the device failed (INTERNAL: bad chunk)"
    assert theirs.coverage.gaps == ()
    assert ours.coverage.duration == theirs.coverage.duration == ours.duration
    assert [s for s in ours.segments if s.chunk != 1] == [s for s in theirs.segments if s.chunk != 1]
    assert not any(segment.chunk == 1 for segment in ours.segments)
    with sqlite3.connect(config.home / "ledger.sqlite") as ledger:
        assert ledger.execute("select state from transcripts").fetchall() == [("completed_with_gaps",)]


def test_a_device_that_fails_on_everything_is_not_the_chunks_fault(
    config: Config, pool_engine: Engine, clip: SourceFile
) -> None:
    """No recording becomes all gaps: the error is raised, and the work is there for the next run."""
    with pytest.raises(EngineError, match="INTERNAL"):
        run(config, Failing(pool_engine, None), clip)
    [outcome] = run(config, pool_engine, clip)

    assert outcome.transcripts[0].coverage.gaps == ()


def test_a_device_that_is_full_goes_on_with_half_the_slots(
    config: Config, pool_engine: Engine, clip: SourceFile
) -> None:
    """In the middle of the work: what was in the slots is decoded again, and the text is as ever."""

    class Full(Engine):
        steps = 0

        def step(self) -> list[Heard]:
            self.steps += 1
            if self.steps in (2, 5):
                with self._device_failures():
                    raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 12 bytes.")
            return super().step()

    engine = Full(pool_engine.checkpoint, dtype="float32", batch_size=4)
    for options in (OPTIONS, replace(OPTIONS, language="auto")):
        engine.resize(4)
        engine.steps = 0
        fresh = Config(home=config.home / str(options.language), cache=config.cache)
        [disturbed] = run(fresh, engine, clip, options=options)
        [undisturbed] = run(Config(home=fresh.home / "other", cache=config.cache), pool_engine, clip, options=options)

        assert engine.n_slots == 1
        [ours], [theirs] = disturbed.transcripts, undisturbed.transcripts
        assert (ours.text, ours.language, ours.coverage) == (theirs.text, theirs.language, theirs.coverage)


def test_samples_that_are_cut_short_are_not_taken_for_speech(
    config: Config, pool_engine: Engine, clip: SourceFile
) -> None:
    """The run stops with one line, and the next one decodes the file again."""

    class Cutting(Failing):
        def submit(self, requests: Sequence[Request]) -> None:
            super().submit(requests)
            for path in (config.home / "objects" / "pcm").iterdir():
                with path.open("r+b") as file:
                    file.truncate(path.stat().st_size // 2)

    with pytest.raises(LedgerError, match=r"^clip\.wav: its samples are gone from the object store; run the same"):
        run(config, Cutting(pool_engine, []), clip)
    [outcome] = run(config, pool_engine, clip)

    assert outcome.transcripts[0].coverage.gaps == ()
    assert outcome.transcripts[0].duration == 40 * RATE


def test_a_result_that_comes_after_its_lease_is_dropped(config: Config, pool_engine: Engine, clip: SourceFile) -> None:
    """Another process completes the recording while ours is stopped: both end well, with the same transcript."""
    others: list[Outcome] = []

    class Stopped(Failing):
        def step(self) -> list[Heard]:
            if not others:
                with sqlite3.connect(config.home / "ledger.sqlite") as ledger:
                    ledger.execute("update chunks set state = 'ready', worker = null where state = 'leased'")
                other = Engine(self.checkpoint, dtype="float32", batch_size=3)
                others.extend(run(config, other, clip))
            return super().step()

    [ours] = run(config, Stopped(pool_engine, []), clip)

    assert ours.transcripts == others[0].transcripts
    with sqlite3.connect(config.home / "ledger.sqlite") as ledger:
        assert ledger.execute("select count(*), sum(chunks_open) from transcripts").fetchall() == [(1, 0)]


def test_silence_is_all_accounted_for_without_the_model(config: Config, pool_engine: Engine, tmp_path: Path) -> None:
    """No speech is a result: empty text, one silence, no language, also where it was to be detected."""
    path = sounds.write(tmp_path / "quiet.wav", np.zeros((1, 5 * RATE), np.int16))

    [outcome] = run(config, Failing(pool_engine, None), SourceFile(path, "quiet.wav"), options=Options())

    [transcript] = outcome.transcripts
    assert transcript.text == ""
    assert transcript.language is None
    assert [(piece.kind, len(piece.span)) for piece in transcript.coverage] == [(CoverageKind.SILENCE, 5 * RATE)]
