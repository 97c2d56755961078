"""The feed: several files prepared at once beside the model, and what one of them does to the others."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from models.engine import Engine
from stenopool.config import Config
from stenopool.domain import Options, Transcript
from stenopool.errors import MediaError, UsageError
from tests import sounds
from tests.processes import children, remember
from tests.unit.test_decoders import drafts, kill
from workers import feed as feeding
from workers.feed import Feed
from workers.local import Driver, Outcome
from workers.prepare import Prepared, SourceFile
from workers.transcriber import Observer

RATE = 16_000


@pytest.fixture(autouse=True)
def servers() -> None:
    """What runs before a test is nothing of it."""
    remember()


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[SourceFile]:
    """Four pieces of the bundled recording, of different lengths."""
    folder, speech = tmp_path_factory.mktemp("clips"), sounds.read(sounds.SAMPLE)
    paths = [
        sounds.write(folder / f"{at}.wav", speech[at * 20 * RATE :][: (at + 1) * 4 * RATE][None]) for at in range(4)
    ]
    return [SourceFile(path, path.name) for path in paths]


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> SourceFile:
    """A file that takes seconds to decode."""
    path = tmp_path_factory.mktemp("long") / "long.wav"
    return SourceFile(sounds.write(path, np.zeros(1200 * 8000, np.uint8), rate=8000), "long.wav")


def run(
    home: Path, engine: Engine, sources: list[SourceFile], decoders: int | None, observer: Observer | None = None
) -> dict[str, Outcome]:
    """Drive sources to their end; outcomes by name."""
    config = Config(home=home, cache=Config.from_env().cache)
    options = Options(language="en", temperature=(0.0,))
    with Driver(
        config, engine.checkpoint, options, dtype="float32", engine=engine, decoders=decoders, observer=observer
    ) as driver:
        outcomes = {outcome.source.name: outcome for outcome in driver.run(sources)}
    assert children() == []
    assert drafts(home / "objects") == []
    return outcomes


def transcripts(outcomes: dict[str, Outcome]) -> dict[str, tuple[Transcript, ...]]:
    """Those of what did not fail."""
    return {name: outcome.transcripts for name, outcome in outcomes.items() if outcome.error is None}


class Killing:
    """An observer that kills whatever decodes a file, each time it hears of it."""

    def __init__(self, victim: SourceFile) -> None:
        self._victim = victim

    def decoded(self, source: SourceFile, _: int, /) -> None:
        if source == self._victim:
            kill(source.path)

    def planned(self, *_: object) -> None:
        pass

    def advanced(self, *_: object) -> None:
        pass


def test_texts_are_the_same_whoever_decodes(pool_engine: Engine, clips: list[SourceFile], tmp_path: Path) -> None:
    """A thread, or three processes: outcomes may come in another order, and that is all. What is known starts none."""
    alone = run(tmp_path / "1", pool_engine, clips, 1)
    together = run(tmp_path / "3", pool_engine, clips, 3)
    again = run(tmp_path / "3", pool_engine, clips, 3)

    assert transcripts(alone) == transcripts(together) == transcripts(again)
    assert len(alone) == 4
    assert all(outcome.transcripts[0].text for outcome in together.values())
    assert all(outcome.known for outcome in again.values())


def test_a_file_that_kills_its_decoder_ends_nothing_else(
    pool_engine: Engine, clips: list[SourceFile], long: SourceFile, tmp_path: Path
) -> None:
    """It fails by its name, as one that is no sound does; the others are as they were alone."""
    text = tmp_path / "text.mp3"
    text.write_bytes(b"this is not sound\n" * 100)
    hostile = SourceFile(long.path, "hostile.wav")
    sources = [hostile, clips[0], SourceFile(text, "text.mp3"), clips[1]]

    outcomes = run(tmp_path / "home", pool_engine, sources, 2, Killing(hostile))

    errors = {name: str(outcome.error) for name, outcome in outcomes.items() if outcome.error}
    assert errors["hostile.wav"] == f"{long.path}: the decoder died on it (killed), 2 times"
    assert errors["text.mp3"].startswith(f"{text}: is text, not audio or video")
    assert transcripts(outcomes) == transcripts(run(tmp_path / "alone", pool_engine, clips[:2], 1))


def test_leaving_ends_what_is_on_its_way(
    pool_engine: Engine, clips: list[SourceFile], long: SourceFile, tmp_path: Path
) -> None:
    """By an interrupt or because nobody wants the rest: no process, no draft; and the caller's event is its own."""
    config = Config(home=tmp_path, cache=Config.from_env().cache)
    stop = threading.Event()
    for clip in clips[:2]:
        with Driver(
            config, pool_engine.checkpoint, Options(language="en"), engine=pool_engine, decoders=2, stop=stop
        ) as driver:
            assert next(driver.run([long, clip])).source == clip  # the short one does not wait
            assert len(children()) == 2
        assert children() == []
        assert drafts(tmp_path / "objects") == []
        assert not stop.is_set()


def test_nobody_has_no_decoder(pool_engine: Engine, clips: list[SourceFile], tmp_path: Path) -> None:
    """In Python it is refused where it is said."""
    with pytest.raises(UsageError, match=r"^decoders must be a number from 1 to 64, or None; is 0$"):
        run(tmp_path, pool_engine, clips, 0)


# The feed alone: `prepare` stands still until it is told to go on


class Gates:
    """In place of `prepare`: each file waits for its gate, and tells how far it is."""

    def __init__(self, *names: str) -> None:
        self.gates = {name: threading.Event() for name in names}
        self.begun = {name: threading.Event() for name in names}

    def prepare(self, source: SourceFile, *_: object, progress: Any, **__: object) -> Prepared:
        progress(100)
        self.begun[source.name].set()
        assert self.gates[source.name].wait(10)
        if source.name == "bad":
            raise MediaError("bad: is not audio")
        return Prepared(source, (), ())


def source(name: str) -> SourceFile:
    """A file that nobody opens."""
    return SourceFile(Path(name), name)


@pytest.fixture
def gates(monkeypatch: pytest.MonkeyPatch) -> Gates:
    """Three files that are prepared when their gates open."""
    gates = Gates("long", "short", "bad")
    monkeypatch.setattr(feeding, "prepare", gates.prepare)
    return gates


@pytest.fixture
def feed() -> Feed:
    """A feed of three at a time, of which no ledger or store knows."""
    assignment = SimpleNamespace(expecting=lambda _: None)
    nothing = cast(Any, None)
    return Feed(cast(Any, assignment), nothing, nothing, decoders=3, observer=None)


def test_what_is_ready_does_not_wait(gates: Gates, feed: Feed) -> None:
    """A short file comes before a long one that was begun before it; an error is that file's own."""
    for name in ("long", "short", "bad"):
        feed.add(source(name))
    assert not feed.wait(0.05)
    assert list(feed.ready()) == []
    gates.gates["short"].set()
    assert feed.wait(10)
    [(first, prepared)] = feed.ready()
    gates.gates["bad"].set()
    assert feed.wait(10)
    [(second, error)] = feed.ready()
    gates.gates["long"].set()
    feed.close()

    assert (first.name, second.name) == ("short", "bad")
    assert isinstance(prepared, Prepared)
    assert isinstance(error, MediaError)
    assert feed.busy


def test_no_more_is_begun_than_is_wanted(gates: Gates, feed: Feed) -> None:
    """Files on their way count as far as they are; an idle device is fed with all there is."""
    assert feed.takes(0, 1000)
    assert feed.takes(999, 1000)
    assert not feed.takes(1000, 1000)
    for name in ("long", "short"):
        feed.add(source(name))
        assert gates.begun[name].wait(10)
    assert feed.takes(799, 1000)
    assert not feed.takes(800, 1000)
    assert feed.takes(0, 1)
    feed.add(source("bad"))
    assert not feed.takes(0, 1000)
    for gate in gates.gates.values():
        gate.set()
    feed.close()
