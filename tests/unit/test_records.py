"""Records: whatever the ledger keeps as JSON comes back equal."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stenopool.domain import (
    ChunkResult,
    Coverage,
    CoverageKind,
    CoveragePiece,
    Provenance,
    Segment,
    Skip,
    Span,
    Word,
)
from storage.records import (
    document_of,
    provenance_of_record,
    read_document,
    record_of_provenance,
    record_of_result,
    result_of_record,
)
from tests import strategies

#: Any text that Python has, lone surrogates included: a tokenizer's bytes may come in halves.
TEXT = st.text(st.characters(exclude_categories=[]), max_size=20)
NUMBER = st.floats(allow_nan=False)
SPANS = st.tuples(st.integers(0, 2**40), st.integers(0, 2**40)).map(lambda ends: Span(min(ends), max(ends)))
SEGMENTS = strategies.segments(SPANS, TEXT, NUMBER)
RESULTS = st.builds(
    ChunkResult,
    index=st.integers(0, 10_000),
    span=SPANS,
    language=TEXT,
    segments=st.lists(SEGMENTS, max_size=3).map(tuple),
    skipped=st.none() | TEXT,
    quiet=st.lists(st.builds(Skip, SPANS, TEXT), max_size=2).map(tuple),
    failed=st.none() | TEXT,
)
PROVENANCES = strategies.provenances(TEXT, NUMBER)


@st.composite
def coverages(draw: st.DrawFn) -> Coverage:
    """A partition of any duration."""
    edges = sorted(draw(st.sets(st.integers(1, 2**40), max_size=5)))
    return Coverage(
        tuple(
            CoveragePiece(
                span=Span(start, end),
                kind=draw(st.sampled_from(CoverageKind)),
                score=draw(st.none() | NUMBER),
                reason=draw(st.none() | TEXT),
            )
            for start, end in zip([0, *edges], edges, strict=False)
        )
    )


def through_json(record: Mapping[str, Any]) -> dict[str, Any]:
    """As a database's column gives it back: lists for tuples, strings for enumerations."""
    text = json.dumps(record)
    text.encode()
    back = json.loads(text)
    assert isinstance(back, dict)
    return back


@given(RESULTS)
def test_a_result_comes_back(result: ChunkResult) -> None:
    """With its spans, segments and words in their own types."""
    assert result_of_record(through_json(record_of_result(result))) == result
    assert result_of_record(record_of_result(result)) == result


@given(PROVENANCES)
def test_a_provenance_comes_back(provenance: Provenance) -> None:
    """And its options have the digest that they had."""
    back = provenance_of_record(through_json(record_of_provenance(provenance)))

    assert back == provenance
    assert back.options.digest() == provenance.options.digest()


@given(st.lists(SEGMENTS, max_size=3), coverages())
def test_a_document_comes_back(segments: list[Segment], coverage: Coverage) -> None:
    """Segments and coverage, each piece's kind as an enumeration."""
    back_segments, back_coverage = read_document(through_json(document_of(segments, coverage)))

    assert back_segments == tuple(segments)
    assert back_coverage == coverage
    assert all(type(piece.kind) is CoverageKind for piece in back_coverage)


def test_a_record_is_what_it_looks_like() -> None:
    """The fields' own names, so that other programs can read the ledger."""
    segment = Segment(
        span=Span(1, 9),
        text=" Hi",
        chunk=2,
        avg_logprob=-0.5,
        compression_ratio=1.0,
        no_speech_prob=0.0,
        words=(Word(Span(1, 8), " Hi", 0.5),),
    )
    result = ChunkResult(index=2, span=Span(0, 10), language="en", segments=(segment,))

    assert through_json(record_of_result(result)) == {
        "index": 2,
        "span": {"start": 0, "end": 10},
        "language": "en",
        "segments": [
            {
                "span": {"start": 1, "end": 9},
                "text": " Hi",
                "chunk": 2,
                "avg_logprob": -0.5,
                "compression_ratio": 1.0,
                "no_speech_prob": 0.0,
                "temperature": 0.0,
                "words": [{"span": {"start": 1, "end": 8}, "text": " Hi", "probability": 0.5}],
                "language": None,
                "guards": [],
                "suspicion": 0.0,
            }
        ],
        "skipped": None,
        "quiet": [],
        "failed": None,
    }


def _hole(document: dict[str, Any]) -> None:
    document["coverage"][0]["span"]["end"] -= 1


def _kind(document: dict[str, Any]) -> None:
    document["coverage"][0]["kind"] = "lost"


def _span(document: dict[str, Any]) -> None:
    document["segments"][0]["span"]["start"] = 99


@pytest.mark.parametrize("damage", [_hole, _kind, _span])
def test_a_document_that_breaks_a_promise_is_refused(damage: Callable[[dict[str, Any]], None]) -> None:
    """A hole in the coverage, a fate that there is not, a span that ends before it starts."""
    segment = Segment(
        span=Span(1, 9), text="", chunk=0, avg_logprob=0, compression_ratio=0, no_speech_prob=0, temperature=0
    )
    pieces = [CoveragePiece(span=Span(i, i + 5), kind=CoverageKind.TRANSCRIBED) for i in (0, 5)]
    document = through_json(document_of([segment], Coverage(tuple(pieces))))
    assert read_document(document)[0] == (segment,)
    damage(document)

    with pytest.raises(ValueError, match=r"hole or an overlap|not a valid CoverageKind|a span needs"):
        read_document(document)
