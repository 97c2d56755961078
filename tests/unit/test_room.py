"""The engine room: whoever hands a chunk in gets its text, whatever happens to the others."""

from __future__ import annotations

import gc
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from itertools import pairwise

import jax
import numpy as np
import pytest

from models.compiling import seconds_on_programs
from models.decoding.requests import Decoding, Heard, Request
from models.engine import Engine
from models.programs import compiled
from stenopool.errors import DeviceFull, EngineError, UsageError
from tests import sounds
from tests.standin import StandIn, text_of
from workers.room import Closed, EngineRoom

S = 16_000  # one second
ENGLISH = Decoding(language="en")


@pytest.fixture(scope="module")
def speech() -> list[np.ndarray]:
    """Seven chunks of speech of different lengths."""
    sample = sounds.read(sounds.SAMPLE)
    return [sample[at * 5 * S :][: (3 + at) * S] for at in range(1, 8)]


def request(pcm: np.ndarray, decoding: Decoding = ENGLISH) -> Request:
    """One chunk."""
    return Request(key=None, pcm=pcm, decoding=decoding)


@pytest.fixture
def room_of() -> Iterator[Callable[[Engine | StandIn], EngineRoom]]:
    """Makes rooms that are closed in the end."""
    rooms: list[EngineRoom] = []

    def make(engine: Engine | StandIn) -> EngineRoom:
        rooms.append(EngineRoom(engine))  # type: ignore[arg-type]
        return rooms[-1]

    yield make
    for room in rooms:
        room.close()


def test_what_is_heard_is_let_go(room_of: Callable[[StandIn], EngineRoom]) -> None:
    """Samples go with whoever asked, and not when Python next looks for rings: a worker does not grow with the day."""
    room = room_of(StandIn())
    pcm = np.ones(S, np.int16)
    held = weakref.ref(pcm)
    gc.disable()
    try:
        future = room.decode(request(pcm))
        assert future.result(60).key is None
        del pcm, future
        room.decode(request(np.zeros(S, np.int16))).result(60)  # the thread of the room is at another
        assert held() is None
    finally:
        gc.enable()


def test_it_hears_what_the_engine_hears(
    pool_engine: Engine, speech: list[np.ndarray], room_of: Callable[[Engine], EngineRoom]
) -> None:
    """From several threads at once, more chunks than there are slots; each gets its own text."""
    alone = {
        heard.key: heard.tokens
        for heard in pool_engine.run([Request(key=i, pcm=pcm, decoding=ENGLISH) for i, pcm in enumerate(speech)])
    }
    room = room_of(pool_engine)
    found: dict[int, tuple[int, ...]] = {}

    def ask(at: int) -> None:
        found[at] = room.decode(request(speech[at])).result(60).tokens

    threads = [threading.Thread(target=ask, args=(at,)) for at in range(len(speech))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert found == alone
    assert room.stalled == 0


class Watched(StandIn):
    """A stand-in that notes who was in its slots together, and fails as it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.together: list[int] = []
        self.failures: list[Exception] = []
        self.gate = threading.Event()
        self.gate.set()

    def submit(self, requests: Sequence[Request]) -> None:
        if any(len(one.pcm) > 30 * S for one in requests):
            raise UsageError("a chunk is longer than the window")
        super().submit(requests)

    def step(self) -> list[Heard]:
        self.gate.wait(10)
        self.together.append(len(self._in_slots))
        if self.failures and self._in_slots:
            self.drop()
            raise self.failures.pop(0)
        return super().step()


def sound(n: int) -> np.ndarray:
    """Samples that no other has."""
    return np.full(S, 100 + n, np.int16)


def texts(engine: StandIn, futures: Sequence[Future[Heard]]) -> list[str]:
    """What was heard."""
    return [engine.vocabulary.text(future.result(10).tokens) for future in futures]


def test_a_party_is_by_itself(room_of: Callable[[StandIn], EngineRoom]) -> None:
    """The slots are emptied first, and whoever comes meanwhile waits; another party, too."""
    engine = Watched()
    room = room_of(engine)
    engine.gate.clear()
    before = [room.decode(request(sound(n))) for n in range(3)]
    alone, both = object(), object()
    apart = [room.decode(request(sound(10 + n)), party) for n, party in enumerate((alone, both, both))]
    after = [room.decode(request(sound(20 + n))) for n in range(3)]
    engine.gate.set()

    assert texts(engine, [*before, *apart, *after]) == [text_of(sound(n)) for n in (0, 1, 2, 10, 11, 12, 20, 21, 22)]
    assert (1, 2) in pairwise(engine.together), "one party after the other"
    assert sum(engine.together) == 9


def test_a_chunk_that_does_not_fit_is_refused_alone(room_of: Callable[[StandIn], EngineRoom]) -> None:
    """Those that came with it are heard."""
    engine = Watched()
    room = room_of(engine)
    engine.gate.clear()
    first = room.decode(request(sound(0)))  # the others wait behind it, and go in together
    good, bad = room.decode(request(sound(1))), room.decode(request(np.ones(31 * S, np.int16)))
    engine.gate.set()

    assert texts(engine, [first, good]) == [text_of(sound(0)), text_of(sound(1))]
    with pytest.raises(UsageError, match="longer than the window"):
        bad.result(10)


def test_a_device_that_fails_is_told_to_those_in_its_slots(room_of: Callable[[StandIn], EngineRoom]) -> None:
    """And to nobody else: the next chunk is decoded as ever."""
    engine = Watched()
    engine.failures = [EngineError("the device failed"), ValueError("a fault of ours")]
    room = room_of(engine)

    with pytest.raises(EngineError, match="the device failed"):
        room.decode(request(sound(0))).result(10)
    with pytest.raises(EngineError, match="ValueError: a fault of ours"):
        room.decode(request(sound(1))).result(10)
    assert texts(engine, [room.decode(request(sound(2)))]) == [text_of(sound(2))]


def test_a_device_that_is_full_is_tried_again(room_of: Callable[[StandIn], EngineRoom]) -> None:
    """It has fewer slots then; nobody who waits notices."""
    engine = Watched()
    engine.failures = [DeviceFull("no room", retryable=True)]
    room = room_of(engine)

    assert texts(engine, [room.decode(request(sound(0)))]) == [text_of(sound(0))]


def test_closing_leaves_nobody_waiting(room_of: Callable[[StandIn], EngineRoom]) -> None:
    """What is in the slots and what waits is refused, and so is whatever comes later."""
    engine = Watched()
    room = room_of(engine)
    engine.gate.clear()
    futures = [room.decode(request(sound(n))) for n in range(40)]
    closing = threading.Thread(target=room.close)
    closing.start()
    engine.gate.set()
    closing.join(10)

    assert not wait(futures, 10).not_done
    assert all(future.exception() is None or isinstance(future.exception(), Closed) for future in futures)
    assert isinstance(futures[-1].exception(), Closed)
    with pytest.raises(Closed):
        room.decode(request(sound(99))).result(1)


def test_to_compile_is_not_to_hang(room_of: Callable[[StandIn], EngineRoom]) -> None:
    """A program that takes long to make costs no worker its leases."""
    engine = Watched()
    room = room_of(engine)
    begun, go_on, before = threading.Event(), threading.Event(), seconds_on_programs()

    def slow(x: jax.Array) -> jax.Array:  # called as it is traced
        begun.set()
        go_on.wait(30)
        return x

    step = engine.step

    def compiling() -> list[Heard]:
        compiled(jax.jit(slow), (jax.numpy.zeros(1),), "slow", of=uuid.uuid4().hex, devices=jax.devices())
        return step()

    engine.step = compiling  # type: ignore[method-assign]
    heard = room.decode(request(sound(1)))
    assert begun.wait(30)
    time.sleep(0.5)
    assert room.stalled < 0.1
    go_on.set()
    assert heard.result(30)
    room.close()
    assert room.worked < seconds_on_programs() - before, "nor is it work by which anything is forecast"
