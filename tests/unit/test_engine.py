"""The engine: whoever shares a batch, every chunk gets its own result; what does not fit is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest

from models.checkpoint import BUNDLED, Checkpoint, find_checkpoint
from models.decoding.requests import Decoding, Heard, Prompt, Request
from models.engine import Engine
from models.group import Group, Job
from models.sizes import Sizes
from stenopool.errors import EngineError, UsageError
from tests import sounds

S = 16_000  # one second
ENGLISH = Decoding(language="en")


@pytest.fixture(scope="module")
def requests() -> list[Request]:
    """Chunks of the bundled sample: whole windows, shorter ones, one empty, and two that ask for the language."""
    pcm = sounds.read(sounds.SAMPLE)
    seconds = [(0, 30), (30, 60), (60, 73.4), (75, 78), (80, 80)]
    chunks = [
        Request(key=number, pcm=pcm[round(start * S) : round(end * S)], decoding=ENGLISH)
        for number, (start, end) in enumerate(seconds)
    ]
    chunks.insert(2, Request(key="ask whole", pcm=chunks[0].pcm, decoding=None))
    chunks.insert(5, Request(key="ask short", pcm=chunks[4].pcm, decoding=None))
    return chunks


def decode(engine: Engine, requests: Iterable[Request]) -> dict[object, Heard]:
    """What was heard, by key."""
    return {heard.key: heard for heard in engine.run(requests)}


@pytest.fixture(scope="module")
def alone(pool_engine: Engine, requests: list[Request]) -> dict[object, Heard]:
    """Each chunk decoded with no neighbour."""
    return {key: heard for request in requests for key, heard in decode(pool_engine, [request]).items()}


def assert_same(ours: dict[object, Heard], theirs: dict[object, Heard]) -> None:
    """The same tokens, and scores within 1e-5."""
    assert ours.keys() == theirs.keys()
    for key, heard in ours.items():
        assert heard.tokens == theirs[key].tokens, key
        assert heard.avg_logprob == pytest.approx(theirs[key].avg_logprob, abs=1e-5)
        assert heard.no_speech_prob == pytest.approx(theirs[key].no_speech_prob, abs=1e-5)
        assert heard.languages == pytest.approx(theirs[key].languages, abs=1e-5)


def test_speech_becomes_text(pool_engine: Engine, alone: dict[object, Heard]) -> None:
    """The sample's first words are heard, as text between timestamps."""
    heard = alone[0]
    begin = pool_engine.vocabulary.special.timestamp_begin

    assert pool_engine.vocabulary.text(heard.tokens).startswith(" Welcome to the weekly meeting")
    assert heard.tokens[0] >= begin
    assert pool_engine.vocabulary.special.end_of_text not in heard.tokens
    assert -2 < heard.avg_logprob < 0
    assert 0 <= heard.no_speech_prob < 0.5


def test_a_question_is_answered_with_languages(alone: dict[object, Heard]) -> None:
    """A chunk without a language is not transcribed; its answer is a probability for each language."""
    for key in ("ask whole", "ask short"):
        heard = alone[key]

        assert heard.tokens == ()
        assert len(heard.languages) == 99
        assert sum(heard.languages.values()) == pytest.approx(1, abs=1e-5)
        assert max(heard.languages, key=heard.languages.__getitem__) == "en"
    assert alone["ask whole"].languages == pytest.approx(alone[0].languages, abs=1e-5)


@pytest.mark.parametrize("order", ["backwards", "shuffled"])
def test_order_and_neighbours_do_not_matter(
    pool_engine: Engine, requests: list[Request], alone: dict[object, Heard], order: str
) -> None:
    """Refilled slots, neighbours of any length and any order of arrival give what each chunk gives alone."""
    arriving = {
        "backwards": requests[::-1],
        "shuffled": Random(1).sample(requests, len(requests)),
    }[order]

    assert_same(decode(pool_engine, arriving), alone)


@pytest.mark.parametrize("n_slots", [1, 8])
def test_the_number_of_slots_does_not_matter(requests: list[Request], alone: dict[object, Heard], n_slots: int) -> None:
    """One slot after the other or eight at once: the same results."""
    engine = Engine(find_checkpoint("pocket"), dtype="float32", batch_size=n_slots)

    assert (engine.n_slots, engine.free) == (n_slots, n_slots)
    assert_same(decode(engine, requests), alone)


def test_chunks_come_and_go_one_by_one(
    pool_engine: Engine, requests: list[Request], alone: dict[object, Heard]
) -> None:
    """Driven by hand: a chunk that arrives while others are half done changes nothing for either."""
    first, second, third = requests[0], requests[1], requests[3]
    heard: list[Heard] = []

    pool_engine.submit([first])
    heard += pool_engine.step()
    pool_engine.submit([second])
    assert (pool_engine.free, pool_engine.busy) == (1, True)
    heard += pool_engine.step()
    pool_engine.submit([third])
    assert pool_engine.free == 0
    while pool_engine.busy:
        heard += pool_engine.step()

    assert_same(
        {one.key: one for one in heard}, {request.key: alone[request.key] for request in (first, second, third)}
    )
    assert (pool_engine.free, pool_engine.step()) == (3, [])


def test_requests_are_taken_as_slots_fall_free(pool_engine: Engine, requests: list[Request]) -> None:
    """`run` draws no more from its source than it has slots for."""
    taken = 0

    def source() -> Iterator[Request]:
        nonlocal taken
        for key in range(5):
            taken += 1
            yield Request(key=key, pcm=requests[0].pcm, decoding=None)

    running = pool_engine.run(source())
    assert taken == 0
    next(running)
    assert taken == 3
    assert sum(1 for _ in running) == 4
    assert taken == 5
    assert list(pool_engine.run([])) == []


def test_a_chunk_longer_than_the_window_is_refused(
    pool_engine: Engine, requests: list[Request], alone: dict[object, Heard]
) -> None:
    """A window is 480,000 samples; one more is refused, and those that came with it take no slot."""
    window = Request(key="window", pcm=np.zeros(480_000, np.int16), decoding=None)
    longer = replace(window, pcm=np.zeros(480_001, np.int16))

    pool_engine.submit([requests[4]])
    with pytest.raises(UsageError, match="a chunk of 480001 samples is longer than the window 480000"):
        pool_engine.submit([window, longer])
    assert pool_engine.free == 2

    heard = decode(pool_engine, [window])

    assert heard.keys() == {"window", requests[4].key}
    assert heard[requests[4].key].tokens == alone[requests[4].key].tokens


def test_more_chunks_than_slots_are_refused(pool_engine: Engine, requests: list[Request]) -> None:
    """Four chunks do not go into three slots; none of them does."""
    with pytest.raises(EngineError, match="4 chunks for 3 free slots"):
        pool_engine.submit(requests[:4])

    assert not pool_engine.busy


def test_unknown_languages_are_refused(pool_engine: Engine, requests: list[Request]) -> None:
    """A chunk in a language that the checkpoint does not know takes no slot."""
    with pytest.raises(UsageError, match="does not know the language 'xx'"):
        pool_engine.submit([requests[0], replace(requests[1], decoding=Decoding(language="xx"))])

    assert not pool_engine.busy


@pytest.mark.parametrize("batch_size", [0, -1])
def test_a_batch_size_is_a_positive_number(batch_size: int) -> None:
    """No slots are refused before anything is loaded."""
    with pytest.raises(UsageError, match=f"the batch size must be at least 1, got {batch_size}"):
        Engine(Checkpoint("nowhere", Path("nowhere")), batch_size=batch_size)


def test_batches_of_the_encoder_are_full(
    monkeypatch: pytest.MonkeyPatch, requests: list[Request], alone: dict[object, Heard]
) -> None:
    """A freed slot waits until there are enough for a batch; only the last batch may be smaller. Texts are the same."""
    monkeypatch.setattr("models.engine.wished", lambda *_: Sizes(2, 4))
    engine = Engine(find_checkpoint("pocket"), dtype="float32")
    batches: list[int] = []
    fill = Group.fill

    def watched(self: Group, placed: Sequence[tuple[int, Job, Prompt]]) -> None:
        batches.append(len(placed))
        fill(self, placed)

    monkeypatch.setattr(Group, "fill", watched)

    assert_same(decode(engine, requests), alone)
    assert [n % 2 for n in batches] == [0] * (len(batches) - 1) + [len(requests) % 2]


def test_dropped_chunks_leave_no_trace(
    pool_engine: Engine, requests: list[Request], alone: dict[object, Heard]
) -> None:
    """After `drop` all slots are free, nothing of what was in them is heard, and the next chunk is heard as ever."""
    pool_engine.submit([requests[0], requests[1], requests[4]])
    pool_engine.step()

    pool_engine.drop()

    assert (pool_engine.free, pool_engine.busy, pool_engine.step()) == (3, False, [])
    assert_same(decode(pool_engine, requests[:1]), {0: alone[0]})


def test_a_loop_ends_at_the_limit(tmp_path: Path, requests: list[Request]) -> None:
    """A model that never says the end stops after half of its context, 224 tokens, and gives its slot back."""
    endless = Path(shutil.copytree(BUNDLED["pocket"], tmp_path / "endless"))
    generation = json.loads((endless / "generation_config.json").read_text())
    (endless / "generation_config.json").write_text(json.dumps(generation | {"suppress_tokens": [1000]}))
    engine = Engine(Checkpoint("endless", endless), dtype="float32", batch_size=1)

    heard = decode(engine, [requests[4], replace(requests[4], key="next", decoding=None)])

    assert len(heard[3].tokens) == 224
    assert -20 < heard[3].avg_logprob < 0
    assert heard["next"].tokens == ()
    assert not engine.busy
