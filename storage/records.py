"""Domain values as JSON records, the way the ledger's columns keep them, and back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields, replace
from typing import Any

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
from stenopool.options import options_of


def record_of_result(result: ChunkResult) -> dict[str, Any]:
    """A chunk's result as a record."""
    return asdict(replace(result, segments=())) | {"segments": tuple(map(_record, result.segments))}


def result_of_record(record: Mapping[str, Any]) -> ChunkResult:
    """The inverse of `record_of_result`."""
    return ChunkResult(
        **{
            **record,
            "span": Span(**record["span"]),
            "segments": tuple(map(_segment, record["segments"])),
            "quiet": tuple(Skip(Span(**skip["span"]), skip["reason"]) for skip in record["quiet"]),
        }
    )


def record_of_provenance(provenance: Provenance) -> dict[str, Any]:
    """A provenance as a record."""
    return asdict(provenance)


def provenance_of_record(record: Mapping[str, Any]) -> Provenance:
    """The inverse of `record_of_provenance`."""
    return Provenance(**{**record, "options": options_of(record["options"])})


def document_of(segments: Iterable[Segment], coverage: Coverage) -> dict[str, Any]:
    """What a merge found, as a record."""
    return {
        "segments": list(map(_record, segments)),
        "coverage": [asdict(piece) for piece in coverage],
    }


def read_document(document: Mapping[str, Any]) -> tuple[tuple[Segment, ...], Coverage]:
    """The inverse of `document_of`."""
    return tuple(map(_segment, document["segments"])), Coverage(read_coverage(document["coverage"]))


def segments_of(document: Mapping[str, Any] | None) -> tuple[Segment, ...]:
    """The segments alone of what is a document, or is none yet."""
    return tuple(map(_segment, (document or {}).get("segments", ())))


def read_coverage(pieces: Iterable[Mapping[str, Any]]) -> tuple[CoveragePiece, ...]:
    """The pieces of a document's coverage."""
    return tuple(
        CoveragePiece(**{**piece, "span": Span(**piece["span"]), "kind": CoverageKind(piece["kind"])})
        for piece in pieces
    )


def gap_samples(document: Mapping[str, Any]) -> int:
    """Samples of a recording that could not be transcribed."""
    spans = (piece["span"] for piece in document.get("coverage", ()) if piece["kind"] == CoverageKind.FAILED)
    return sum(span["end"] - span["start"] for span in spans)


#: What a segment has, in its order.
_SEGMENT = tuple(field.name for field in fields(Segment))


def _record(segment: Segment) -> dict[str, Any]:
    """A segment as a record; without a speaker where nobody knows one, as all were before there were speakers."""
    # By hand: `asdict` copies every number and text as something that may hold others, and takes many times as long.
    record = {name: getattr(segment, name) for name in _SEGMENT}
    record["span"] = _span(segment.span)
    record["words"] = tuple(
        {"span": _span(word.span), "text": word.text, "probability": word.probability} for word in segment.words
    )
    if segment.speaker is None:
        del record["speaker"]
    return record


def _span(span: Span) -> dict[str, int]:
    return {"start": span.start, "end": span.end}


def _segment(record: Mapping[str, Any]) -> Segment:
    words = (Word(**{**word, "span": Span(**word["span"])}) for word in record["words"])
    return Segment(
        **{**record, "span": Span(**record["span"]), "words": tuple(words), "guards": tuple(record["guards"])}
    )
