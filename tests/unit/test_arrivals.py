"""Whatever comes when, and whatever is given up meanwhile: every chunk gets what it gets alone.

At several paces: with the host looking at every block before the next, and with the device one or two blocks ahead, so
that a slot may have a new chunk while the report of its former one is still on its way.
"""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from models.checkpoint import find_checkpoint
from models.decoding.requests import Decoding, Heard, Request
from models.engine import Engine
from models.pace import Pace, suited_pace
from tests.hearing import RATE, sample

PLAIN = Decoding(language="en")
#: Not good enough at 0: tried again at 0.4, in other slots with two samples each.
FALLING = Decoding(language="en", temperature=(0.0, 0.4), best_of=2, log_prob_threshold=-0.05)
#: Found out, then decoded in the same slot.
DETECTED = Decoding(language=None)


@pytest.fixture(scope="module")
def requests() -> list[Request]:
    """Chunks from almost nothing to a whole window; some fall back, some ask for the language first, one only asks."""
    pcm = sample()
    spans = [(0, 30), (30, 34), (34, 41), (60, 61), (61, 68), (80, 80.4), (90, 100), (120, 126)]
    kinds = [PLAIN, FALLING, DETECTED, FALLING, PLAIN, PLAIN, None, FALLING]
    return [
        Request(key=key, pcm=pcm[round(start * RATE) : round(end * RATE)], decoding=decoding)
        for key, ((start, end), decoding) in enumerate(zip(spans, kinds, strict=True))
    ]


@pytest.fixture(scope="module")
def alone(busy_engine: Engine, requests: list[Request]) -> dict[object, Heard]:
    """Each decoded with no neighbour."""
    return {heard.key: heard for request in requests for heard in busy_engine.run([request])}


@pytest.fixture(
    scope="module",
    params=[suited_pace("cpu"), suited_pace("gpu"), Pace(3, 2, until_idle=False)],
    ids=["cpu", "gpu", "far ahead"],
)
def paced(request: pytest.FixtureRequest) -> Engine:
    """Four slots at a pace."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("models.engine.suited_pace", lambda _: request.param)
        return Engine(find_checkpoint("pocket"), dtype="float32", batch_size=4)


def drive(engine: Engine, requests: list[Request], random: Random) -> list[Heard]:
    """Submit a few at a time; give some up, or all that are in the slots, and submit those again later."""
    todo, flying, heard = random.sample(requests, len(requests)), list[Request](), list[Heard]()
    troubles = 6
    while todo or engine.busy:
        n = min(random.randint(0, engine.free), len(todo))
        some, todo = todo[:n], todo[n:]
        engine.submit(some)
        flying += some
        for one in engine.step():
            heard.append(one)
            flying = [request for request in flying if request.key != one.key]
        if troubles and flying and random.random() < 0.3:
            troubles -= 1
            lost = flying if random.random() < 0.3 else random.sample(flying, random.randint(1, len(flying)))
            keys = {request.key for request in lost}
            if lost is flying:
                engine.drop()
            else:
                engine.cancel(keys.__contains__)
            todo += lost
            flying = [request for request in flying if request.key not in keys]
            assert engine.free == engine.n_slots - len(flying)
    assert troubles < 6
    return heard


@pytest.mark.parametrize("seed", range(3))
def test_every_chunk_gets_what_it_gets_alone(
    paced: Engine, requests: list[Request], alone: dict[object, Heard], seed: int
) -> None:
    """Once, and the same tokens, however many were given up on the way."""
    heard = drive(paced, requests, Random(seed))

    assert Counter(one.key for one in heard) == Counter(range(len(requests)))
    for one in heard:
        expected = alone[one.key]
        assert (one.tokens, one.temperature, one.language) == (
            expected.tokens, expected.temperature, expected.language,
        )  # fmt: skip
        assert one.avg_logprob == pytest.approx(expected.avg_logprob, abs=1e-5)
        assert one.languages == pytest.approx(expected.languages, abs=1e-5)
    assert sum(bool(one.rejected) for one in heard) == 3
    assert (paced.free, paced.busy, paced.step()) == (4, False, [])


def test_occupancy_is_what_was_decoded(paced: Engine, requests: list[Request]) -> None:
    """Steps in which a slot was decoding: one for each token of the text, and one for its end."""
    paced.slot_steps = paced.active_steps = 0

    [heard] = paced.run(requests[:1])

    assert paced.active_steps == len(heard.tokens) + 1
    assert paced.slot_steps >= paced.n_slots * paced.active_steps
