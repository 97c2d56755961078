"""What every transcript is, and how each option of cutting shows in it: real sound through the Python face.

The properties are those that openai/whisper's and faster-whisper's own tests of `transcribe` state, and more of them.
"""

from __future__ import annotations

from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

import stenopool
from models.decoding.requests import Request
from models.engine import Engine
from stenopool.config import Config
from stenopool.domain import CoverageKind, Segment, Span, Transcript
from tests import sounds
from tests.hearing import RATE, sample

#: English, and what comes out first.
ONCE: dict[str, Any] = {"language": "en", "temperature": 0}
#: Chunks that lie side by side, each one segment.
TILED: dict[str, Any] = {**ONCE, "vad": False, "without_timestamps": True}


@pytest.fixture(scope="module")
def pool(busy_engine: Engine) -> stenopool.Pool:
    """The bundled model in six slots."""
    return stenopool.Pool(Config.from_env(), busy_engine, "float32", None)


@pytest.fixture(scope="module")
def minute(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first minute of the sample."""
    return sounds.write(tmp_path_factory.mktemp("minute") / "minute.wav", sample()[: 60 * RATE])


def chunks(transcript: Transcript) -> list[tuple[float, float]]:
    """From where to where each chunk's text reaches, in seconds."""
    spans: dict[int, list[Span]] = {}
    for segment in transcript.segments:
        assert segment.chunk is not None
        spans.setdefault(segment.chunk, []).append(segment.span)
    return [(run[0].start / RATE, run[-1].end / RATE) for run in spans.values()]


# Cutting


def test_chunks_are_as_long_as_they_may_be(pool: stenopool.Pool, minute: Path) -> None:
    """Without pauses to look for, all but the last are that long."""
    cut = pool.transcribe(minute, chunk_length=25, overlap=0, **TILED)

    assert chunks(cut) == [(0, 25), (25, 50), (50, 60)]


@pytest.mark.parametrize("overlap", [2, 4])
def test_chunks_overlap_by_as_much_as_they_are_told(pool: stenopool.Pool, minute: Path, overlap: int) -> None:
    """The text goes from one to the next somewhere in what they share, and nothing is said twice."""
    cut = chunks(pool.transcribe(minute, chunk_length=20, overlap=overlap, **TILED))

    step = 20 - overlap
    assert len(cut) == -(-(60 - overlap) // step)
    for index, ((_, end), (start, _)) in enumerate(pairwise(cut)):
        assert step * (index + 1) <= end <= start <= step * (index + 1) + overlap


def test_silence_is_left_out_where_that_is_asked(pool: stenopool.Pool, tmp_path: Path) -> None:
    """It is accounted for as silence; without voice activity detection the model hears all of it."""
    spoken, silence = sample()[: 12 * RATE], np.zeros(10 * RATE, np.int16)
    clip = sounds.write(tmp_path / "pause.wav", np.concatenate([spoken, silence, spoken]))

    with_vad, without = (pool.transcribe(clip, vad=vad, **ONCE).coverage for vad in (True, False))

    [pause] = [piece for piece in with_vad if piece.kind is CoverageKind.SILENCE]
    assert pause.span.start / RATE == pytest.approx(12, abs=1)
    assert pause.span.end / RATE == pytest.approx(22, abs=1)
    assert [piece.kind for piece in without if piece.kind is CoverageKind.SILENCE] == []


def test_windows_follow_the_text(pool: stenopool.Pool, minute: Path) -> None:
    """In sequential mode a window begins where the text before it ended; chunks begin where they were cut."""
    options: dict[str, Any] = {"vad": False, "chunk_length": 12, **ONCE}
    chunked = pool.transcribe(minute, overlap=0, **options)
    sequential = pool.transcribe(minute, mode="sequential", condition_on_previous_text=False, **options)

    def cut(transcript: Transcript) -> set[int]:
        spans = [segment.span for segment in transcript.segments]
        return {at for at in (12, 24, 36, 48) if not any(span.start < at * RATE < span.end for span in spans)}

    assert cut(chunked) == {12, 24, 36, 48}
    assert cut(sequential) < cut(chunked)
    assert {segment.chunk for segment in chunked.segments} == {0, 1, 2, 3, 4}
    assert {segment.chunk for segment in sequential.segments} == {0}


def test_what_was_heard_before_is_told_where_that_is_asked(pool: stenopool.Pool, minute: Path) -> None:
    """The first window is the same, what follows is not."""
    told, untold = (
        pool.transcribe(minute, vad=False, mode="sequential", condition_on_previous_text=tell, **ONCE)
        for tell in (True, False)
    )

    assert told.segments[:3] == untold.segments[:3]
    assert told.text != untold.text


def test_a_recording_may_change_its_language(pool: stenopool.Pool, busy_engine: Engine, minute: Path) -> None:
    """Each chunk is asked; of two languages that the model takes the first and the second half minute for, both are
    written. Without `multilingual` one is elected for the whole recording.
    """
    halves = [sample()[: 30 * RATE], sample()[30 * RATE : 60 * RATE]]
    asked = [Request(key=at, pcm=half, decoding=None) for at, half in enumerate(halves)]
    first, second = (heard.languages for heard in sorted(busy_engine.run(asked), key=lambda one: str(one.key)))
    pair = next(
        (one, other)
        for one, other in combinations(first, 2)
        if (first[one] > first[other]) != (second[one] > second[other])
    )
    options: dict[str, Any] = {"languages": list(pair), "temperature": 0, "vad": False, "overlap": 0}

    each = pool.transcribe(minute, multilingual=True, **options)
    elected = pool.transcribe(minute, **options)

    said = {segment.chunk: segment.language for segment in each.segments}
    assert said == {0: max(pair, key=first.__getitem__), 1: max(pair, key=second.__getitem__)}
    assert len(set(said.values())) == 2
    assert elected.language in pair
    assert {segment.language for segment in elected.segments} == {None}


# Text and times


PIECES = st.one_of(
    st.tuples(st.just("speech"), st.integers(0, 250), st.integers(2, 20)),
    st.tuples(st.just("silence"), st.just(0), st.integers(1, 6)),
    st.tuples(st.just("noise"), st.integers(0, 9), st.integers(1, 4)),
)

MODES = st.sampled_from(
    [
        {},
        {"vad": False},
        {"chunk_length": 8, "overlap": 2},
        {"vad": False, "chunk_length": 10, "overlap": 4},
        {"mode": "sequential"},
        {"mode": "sequential", "vad": False, "chunk_length": 15},
    ]
)

DECODING = st.sampled_from(
    [{"temperature": 0}, {"temperature": 0, "beam_size": 3}, {"temperature": [0, 0.6], "best_of": 3}]
)

TIMES = st.sampled_from(
    [
        {},
        {"word_timestamps": True},
        {"word_timestamps": True, "hallucination_silence_threshold": 1},
        {"max_initial_timestamp": None},
    ]
)


def sound(pieces: list[tuple[str, int, int]]) -> np.ndarray:
    """Speech from somewhere in the sample, silence and noise, one after the other: int16 at 16 kHz."""
    made = []
    for kind, at, length in pieces:
        if kind == "speech":
            made.append(sample()[at * RATE : (at + length) * RATE])
        elif kind == "noise":
            made.append(sounds.noise(length, seed=at)[0] // 16)
        else:
            made.append(np.zeros(length * RATE, np.int16))
    return np.concatenate(made)


@settings(
    max_examples=16,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@example(pieces=[("speech", 0, 20), ("silence", 0, 6), ("speech", 20, 20)], mode={}, decoding={}, times={})
@given(pieces=st.lists(PIECES, min_size=1, max_size=4), mode=MODES, decoding=DECODING, times=TIMES)
def test_whatever_is_heard_it_is_in_order(
    pool: stenopool.Pool,
    tmp_path_factory: pytest.TempPathFactory,
    pieces: list[tuple[str, int, int]],
    mode: dict[str, Any],
    decoding: dict[str, Any],
    times: dict[str, Any],
) -> None:
    """The text is that of the segments; times go forward and stay inside the recording; words are their segment's text
    and lie inside it; every sample is accounted for, and no text lies where nothing was transcribed.
    """
    pcm = sound(pieces)
    clip = sounds.write(tmp_path_factory.mktemp("clip") / "clip.wav", pcm)

    found = pool.transcribe(clip, language="en", **mode, **decoding, **times)

    assert found.duration == len(pcm)
    assert found.language == "en"
    assert found.text == "".join(segment.text for segment in found.segments).strip()
    assert_forward([segment.span for segment in found.segments], Span(0, len(pcm)))
    for segment in found.segments:
        assert segment.text.strip()
        assert_words(segment, asked="word_timestamps" in times)
    assert sum(len(piece.span) for piece in found.coverage) == len(pcm)
    quiet = [piece.span for piece in found.coverage if piece.kind is not CoverageKind.TRANSCRIBED]
    for segment in found.segments:
        assert not any(span.start <= segment.span.start and segment.span.end <= span.end for span in quiet)


def assert_forward(spans: list[Span], whole: Span) -> None:
    """In order, none before the one before it has ended, all inside."""
    for one, other in pairwise(spans):
        assert one.end <= other.start
    assert all(whole.start <= span.start <= span.end <= whole.end for span in spans)


def assert_words(segment: Segment, *, asked: bool) -> None:
    """They are the segment's text, in order, in its time, each with a probability; or there are none."""
    if not asked:
        assert segment.words == ()
        return
    assert "".join(word.text for word in segment.words) == segment.text
    assert_forward([word.span for word in segment.words], segment.span)
    assert all(word.probability is not None and 0 <= word.probability <= 1 for word in segment.words)


def test_a_recording_is_heard_the_same_in_any_company(pool: stenopool.Pool, minute: Path) -> None:
    """To the last bit, words and scores as well: in float32, in the same number of slots."""
    alone = pool.transcribe(minute, word_timestamps=True, **ONCE)
    _, together = pool.transcribe_batch([sounds.SAMPLE, minute], word_timestamps=True, **ONCE)

    assert together.segments == alone.segments


def test_nothing_said_is_no_text(pool: stenopool.Pool, tmp_path: Path) -> None:
    """Half a minute of silence, or a tenth of a second: a transcript without segments, and no error."""
    for length in (30.0, 0.1):
        silence = sounds.write(tmp_path / f"{length}.wav", np.zeros(round(length * RATE), np.int16))
        found = pool.transcribe(silence)

        assert (found.text, found.segments, found.language) == ("", (), None)
        assert found.coverage.duration == round(length * RATE)
