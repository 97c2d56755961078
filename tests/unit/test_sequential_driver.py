"""Sequential mode through the one-machine driver: chunks in turn, recordings side by side, and trouble on the way."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.decoding.requests import Request
from models.engine import Engine
from stenopool.config import Config
from stenopool.domain import Options, Transcript
from stenopool.errors import EngineError
from storage.chunks import Claim
from tests import sounds
from workers import local
from workers.local import Driver
from workers.prepare import SourceFile

RATE = 16_000
OPTIONS = Options(mode="sequential", language="en", chunk_length=10, temperature=(0.0,))


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    """The bundled recording's first 36 s, int16 at 16 kHz."""
    return sounds.read(sounds.SAMPLE)[: 36 * RATE]


@pytest.fixture(scope="module")
def islands(tmp_path_factory: pytest.TempPathFactory, speech: np.ndarray) -> SourceFile:
    """Three stretches of speech of two windows each or more, with 8 s of silence between them."""
    silence = np.zeros(8 * RATE, np.int16)
    parts = [speech[: 12 * RATE], silence, speech[12 * RATE : 24 * RATE], silence, speech[24 * RATE :]]
    path = tmp_path_factory.mktemp("sound") / "islands.wav"
    return SourceFile(sounds.write(path, np.concatenate(parts)[None]), "islands.wav")


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """A home of its own."""
    return Config(home=tmp_path / "home", cache=Config.from_env().cache)


class Watched(Engine):
    """The engine as it is, and what comes into its slots; `before` may object."""

    def __init__(self, real: Engine, before: Callable[[Claim], None] = lambda _: None) -> None:
        self.__dict__ = real.__dict__  # its slots are the same slots
        self.seen: list[Claim] = []
        self.together: list[int] = []
        self._before = before

    def submit(self, requests: Sequence[Request]) -> None:
        """Into the slots."""
        for request in requests:
            if isinstance(request.key, Claim):
                self._before(request.key)
                self.seen.append(request.key)
        super().submit(requests)
        self.together.append(self.n_slots - self.free)


class Watching:
    """An observer that adds up."""

    def __init__(self) -> None:
        self.total = 0
        self.steps: list[int] = []

    def decoded(self, source: SourceFile, samples: int, /) -> None:
        """Nothing of interest."""

    def planned(self, source: SourceFile, samples: int, done: int, /) -> None:
        """What there is to do."""
        self.total += samples - done

    def advanced(self, source: SourceFile, samples: int, /) -> None:
        """What is done."""
        self.steps.append(samples)


def run(
    config: Config, engine: Engine, *sources: SourceFile, options: Options = OPTIONS, observer: Any = None
) -> list[Transcript]:
    """Drive sources to their end."""
    with Driver(config, engine.checkpoint, options, dtype="float32", engine=engine, observer=observer) as driver:
        found = {outcome.source: outcome.transcripts[0] for outcome in driver.run(sources)}
    return [found[source] for source in sources]


def rows(config: Config, query: str) -> list[tuple[Any, ...]]:
    """What the ledger says."""
    with sqlite3.connect(config.home / "ledger.sqlite") as ledger:
        return ledger.execute(query).fetchall()


def told(config: Config) -> list[Any]:
    """What each chunk was told by the one before."""
    return [
        carried and json.loads(carried) for (carried,) in rows(config, "select carried from chunks order by [index]")
    ]


@dataclass
class Run:
    """A run that was watched from its beginning to its end."""

    config: Config
    engine: Watched
    observer: Watching
    transcript: Transcript


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, pool_engine: Engine, islands: SourceFile) -> Run:
    """The three stretches, transcribed alone and at once."""
    config = Config(home=tmp_path_factory.mktemp("home"), cache=Config.from_env().cache)
    engine, observer = Watched(pool_engine), Watching()
    [transcript] = run(config, engine, islands, observer=observer)
    return Run(config, engine, observer, transcript)


def test_chunks_are_heard_in_turn_and_told_what_was_before(undisturbed: Run) -> None:
    """One window after the other, islands in order; the bar moves with every window, to its end."""
    engine, observer, transcript = undisturbed.engine, undisturbed.observer, undisturbed.transcript

    indices = [claim.index for claim in engine.seen]
    assert indices == sorted(indices)
    assert set(indices) == {0, 1, 2}
    assert all(indices.count(index) >= 2 for index in range(3))
    assert set(engine.together) <= {0, 1}
    assert {segment.chunk for segment in transcript.segments} == {0, 1, 2}
    silences = sum(len(piece.span) for piece in transcript.coverage if piece.kind == "silence")
    assert sum(observer.steps) == transcript.duration - silences
    assert len(observer.steps) >= len(engine.seen)
    nothing, first, second = told(undisturbed.config)
    assert nothing is None
    assert len(second["tokens"]) > len(first["tokens"]) > 0
    assert second["tokens"][: len(first["tokens"])] == first["tokens"]  # they are few, and nothing is pushed out


def test_recordings_share_the_batch(
    config: Config,
    pool_engine: Engine,
    islands: SourceFile,
    undisturbed: Run,
    speech: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each has a window in a slot at a time, and none hears of the others; as many are prepared as there are slots."""
    monkeypatch.setattr(local, "LOOKAHEAD", 1)  # sample: else enough is planned
    other = SourceFile(sounds.write(tmp_path / "other.wav", speech[20 * RATE :][None]), "other.wav")
    engine = Watched(pool_engine)

    ours, _ = run(config, engine, islands, other)

    assert max(engine.together) == 2
    assert ours.segments == undisturbed.transcript.segments
    assert ours.coverage == undisturbed.transcript.coverage


def test_a_run_that_ended_goes_on_with_the_chunk_it_was_at(
    config: Config, pool_engine: Engine, islands: SourceFile, undisturbed: Run
) -> None:
    """What was done stays done, and is told to the next chunk by the ledger: the transcript is the undisturbed one."""

    def interrupt(claim: Claim) -> None:
        if claim.index == 1 and interrupted.seen.count(claim) == 1:
            raise KeyboardInterrupt

    interrupted = Watched(pool_engine, interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(config, interrupted, islands)
    resumed = Watched(pool_engine)

    [ours] = run(config, resumed, islands)

    assert {claim.index for claim in resumed.seen} == {1, 2}
    assert ours.segments == undisturbed.transcript.segments
    assert [attempt for (attempt,) in rows(config, "select attempt from chunks order by [index]")] == [1, 2, 1]


def test_a_chunk_that_kills_the_device_is_a_gap_and_the_next_goes_on(
    config: Config, pool_engine: Engine, islands: SourceFile
) -> None:
    """It is told what the chunk before the gap told; the bar does not run ahead of what is done."""

    def kill(claim: Claim) -> None:
        if claim.index == 1 and engine.seen.count(claim) == 1:  # its second window, each time
            engine.drop()
            raise EngineError("pocket: the device failed (INTERNAL: bad chunk)")

    engine, observer = Watched(pool_engine, kill), Watching()

    [transcript] = run(config, engine, islands, observer=observer)

    [gap] = transcript.coverage.gaps
    assert gap.reason == "pocket: the device failed (INTERNAL: bad chunk)"
    assert {segment.chunk for segment in transcript.segments} == {0, 2}
    _, before, after = told(config)
    assert before == after
    assert min(observer.steps) < 0
    silences = sum(len(piece.span) for piece in transcript.coverage if piece.kind == "silence")
    assert sum(observer.steps) == transcript.duration - silences


def test_without_voice_activity_a_recording_is_one_chunk(
    config: Config, pool_engine: Engine, islands: SourceFile
) -> None:
    """Covered as a whole; its language is asked of its beginning."""
    options = Options(mode="sequential", vad=False, chunk_length=10, temperature=(0.0,))

    [transcript] = run(config, pool_engine, islands, options=options)

    assert transcript.language == "en"
    assert transcript.language_probability is not None
    assert [(piece.kind, len(piece.span)) for piece in transcript.coverage] == [("transcribed", transcript.duration)]
    assert {segment.chunk for segment in transcript.segments} == {0}
