"""The shared words: spans, coverage, the digest of options."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stenopool.domain import (
    Coverage,
    CoverageKind,
    CoveragePiece,
    Options,
    Provenance,
    Segment,
    Span,
    Transcript,
    join_text,
)

SPANS = st.tuples(st.integers(0, 30), st.integers(0, 30)).map(lambda ends: Span(min(ends), max(ends)))


def samples(span: Span | None) -> set[int]:
    """The samples themselves."""
    return set() if span is None else set(range(span.start, span.end))


# Spans


def test_a_span_is_half_open() -> None:
    """The first second has 16,000 samples; the next one begins where it ends."""
    assert len(Span(0, 16_000)) == 16_000
    assert Span(0, 16_000).seconds == 1.0
    assert len(Span(16_000, 24_000)) == 8000
    assert Span(16_000, 24_000).seconds == 0.5
    assert len(Span(7, 7)) == 0


@pytest.mark.parametrize(("start", "end"), [(-1, 5), (5, 4), (-2, -1)])
def test_what_is_no_span(start: int, end: int) -> None:
    """No time before the beginning, and none that runs backwards."""
    with pytest.raises(ValueError, match=rf"^a span needs 0 <= start <= end, got \[{start}, {end}\)$"):
        Span(start, end)


@given(SPANS, SPANS)
def test_the_intersection_is_what_both_have(a: Span, b: Span) -> None:
    """None where they share no sample: neighbours only touch."""
    shared = a.intersection(b)

    assert samples(shared) == samples(a) & samples(b)
    assert shared is None or len(shared) > 0
    assert shared == b.intersection(a)


@given(SPANS, SPANS)
def test_spans_are_ordered_by_time(a: Span, b: Span) -> None:
    """First by where they start, then by where they end."""
    assert (a < b) == ((a.start, a.end) < (b.start, b.end))


def test_spans_are_values() -> None:
    """Equal ones are one in a set, and none can be changed."""
    assert len({Span(1, 2), Span(1, 2)}) == 1
    with pytest.raises(FrozenInstanceError):
        Span(1, 2).start = 0  # type: ignore[misc]


# Coverage


def piece(start: int, end: int, kind: CoverageKind = CoverageKind.TRANSCRIBED) -> CoveragePiece:
    """A piece of a coverage."""
    return CoveragePiece(span=Span(start, end), kind=kind)


def test_a_coverage_counts_samples_by_kind() -> None:
    """Each kind on its own, and the whole; the failures are its gaps."""
    failed, later = piece(10, 15, CoverageKind.FAILED), piece(20, 21, CoverageKind.FAILED)
    coverage = Coverage((piece(0, 10), failed, piece(15, 20, CoverageKind.SILENCE), later, piece(21, 30)))

    assert coverage.duration == 30
    assert {kind.value: coverage.samples(kind) for kind in CoverageKind} == {
        "transcribed": 19,
        "silence": 5,
        "failed": 6,
        "skipped": 0,
    }
    assert coverage.gaps == (failed, later)
    assert list(coverage) == list(coverage.pieces)


def test_the_coverage_of_nothing() -> None:
    """A recording without samples is covered by no pieces."""
    assert Coverage(()).duration == 0
    assert Coverage(()).gaps == ()


@pytest.mark.parametrize(
    ("pieces", "at"),
    [
        ([(1, 10)], 0),
        ([(0, 10), (11, 20)], 10),
        ([(0, 10), (9, 20)], 10),
        ([(0, 10), (0, 10)], 10),
        ([(10, 20), (0, 10)], 0),
    ],
)
def test_a_coverage_has_no_holes_and_no_overlaps(pieces: list[tuple[int, int]], at: int) -> None:
    """It names the sample where it fails."""
    with pytest.raises(ValueError, match=rf"^coverage has a hole or an overlap at sample {at}: next piece is "):
        Coverage(tuple(piece(*ends) for ends in pieces))


# Options

#: Another value of each option.
OTHER: dict[str, Any] = {
    "language": "en",
    "languages": ("de", "en"),
    "multilingual": True,
    "task": "translate",
    "mode": "sequential",
    "chunk_length": 20.0,
    "overlap": 2.0,
    "vad": False,
    "beam_size": 5,
    "patience": 2.0,
    "best_of": 1,
    "length_penalty": 1.0,
    "temperature": (0.0,),
    "compression_ratio_threshold": None,
    "log_prob_threshold": -2.0,
    "no_speech_threshold": 0.5,
    "initial_prompt": "Anna",
    "hotwords": "Anna",
    "prefix": "Anna",
    "condition_on_previous_text": True,
    "prompt_reset_on_temperature": 0.3,
    "without_timestamps": True,
    "max_initial_timestamp": None,
    "suppress_tokens": (),
    "suppress_blank": False,
    "max_new_tokens": 100,
    "word_timestamps": True,
    "prepend_punctuations": "",
    "append_punctuations": "",
    "loop_guard": False,
    "max_tokens_per_second": None,
    "hallucination_silence_threshold": 2.0,
}


def test_each_option_is_part_of_the_digest() -> None:
    """Work under other options is other work, whichever of them it is."""
    assert OTHER.keys() == {field.name for field in fields(Options)}
    digests = {Options().digest(), *(replace(Options(), **{name: value}).digest() for name, value in OTHER.items())}

    assert len(digests) == 1 + len(OTHER)


def test_the_digest_is_the_same_everywhere() -> None:
    """A ledger outlives the process: work that is done is found again by this name."""
    assert Options().digest() == "aeeb0e80348329cc"


NUMBERS = st.sampled_from([0, 0.0, -0.0, 1, 1.0, -1, -1.0, 30, 30.0, 0.5])
ANY_OPTIONS = st.builds(
    Options,
    language=st.sampled_from(["auto", "en"]),
    chunk_length=NUMBERS,
    overlap=NUMBERS,
    vad=st.booleans(),
    no_speech_threshold=NUMBERS,
    log_prob_threshold=NUMBERS,
)


@given(ANY_OPTIONS, st.data())
def test_equal_options_have_equal_digests(options: Options, data: st.DataObject) -> None:
    """`chunk_length=30` from Python is `--chunk-length 30.0` from the command line; unequal ones differ."""
    name = data.draw(st.sampled_from(["chunk_length", "overlap", "no_speech_threshold", "log_prob_threshold"]))
    change: dict[str, Any] = {name: data.draw(NUMBERS)}
    other = replace(options, **change)

    assert (other.digest() == options.digest()) == (other == options)


# Text


def test_texts_are_joined_as_they_are() -> None:
    """The tokenizer's own spaces stand between them; only the ends are trimmed."""
    assert join_text([" It was", " late", "ly", " cold. "]) == "It was lately cold."
    assert join_text(["私は", "行く"]) == "私は行く"
    assert join_text([]) == ""


def test_a_transcript_writes_itself() -> None:
    """Its text is its segments'; each format has its method."""
    spans = [Span(0, 8000), Span(8000, 16_000)]
    texts = [" Good", " evening."]
    transcript = Transcript(
        source="talk.mp3",
        recording="5e" * 32,
        duration=16_000,
        language="en",
        language_probability=None,
        segments=tuple(
            Segment(span=span, text=text, chunk=0, avg_logprob=0, compression_ratio=1, no_speech_prob=0)
            for span, text in zip(spans, texts, strict=True)
        ),
        coverage=Coverage((piece(0, 16_000),)),
        provenance=Provenance(model="m", model_digest="d", dtype="float32", options=Options(), version="1"),
    )

    assert transcript.text == "Good evening."
    assert transcript.to_txt() == "Good\nevening.\n"
    assert transcript.to_tsv() == "start\tend\ttext\n0\t500\tGood\n500\t1000\tevening.\n"
    assert transcript.to_srt().startswith("1\n00:00:00,000 --> ")
    assert transcript.to_vtt().startswith("WEBVTT\n")
    assert transcript.to_json().startswith("{\n")
