"""The bundled model on the bundled recording, against the same checkpoint in transformers on the same chunks."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from models.accuracy import word_error_rate
from models.checkpoint import find_checkpoint
from models.decoding.segments import split_segments
from models.tokens import Vocabulary
from scheduler.merge import merge_chunks
from stenopool.domain import ChunkResult, Segment, Span, join_text
from stenopool.pool import load_model

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "samples" / "meeting.mp3"
sys.path.append(str(SAMPLE.parent))


@pytest.fixture(scope="module")
def recorded() -> dict[str, Any]:
    """What transformers decoded."""
    loaded: dict[str, Any] = json.loads((ROOT / "tests" / "references" / "sample.json").read_text())
    return loaded


def test_the_reference_is_of_this_sample_and_this_model(recorded: dict[str, Any]) -> None:
    """A new sample or model needs new references: tests/references/make_sample_reference.py records them."""
    assert recorded["sample"] == hashlib.sha256(SAMPLE.read_bytes()).hexdigest()
    assert recorded["model"] == find_checkpoint("pocket").digest


def test_word_error_rate_is_that_of_transformers(recorded: dict[str, Any]) -> None:
    """Our word error rate on the sample is at most 1.25 times what transformers gets on the same chunks."""
    from script import reference_text

    vocabulary = Vocabulary(find_checkpoint("pocket"))
    theirs = merge_chunks(
        recorded["chunks"][-1]["end"], [_result(*one, vocabulary) for one in enumerate(recorded["chunks"])]
    )
    ours = load_model("pocket", dtype="float32").transcribe(SAMPLE, language="en")
    reference = reference_text(SAMPLE.with_name("script.txt"))

    error = word_error_rate(reference, ours.text)
    assert error <= 1.25 * word_error_rate(reference, join_text(segment.text for segment in theirs.segments))
    assert len({segment.chunk for segment in ours.segments}) == len(recorded["chunks"])


def _result(index: int, chunk: dict[str, Any], vocabulary: Vocabulary) -> ChunkResult:
    """Their tokens as a chunk's result, merged by the same rules as ours."""
    span = Span(chunk["start"], chunk["end"])
    pieces = split_segments(chunk["tokens"], vocabulary.special.timestamp_begin, len(span))
    segments = tuple(
        Segment(
            span=Span(span.start + piece.span.start, span.start + piece.span.end),
            text=vocabulary.text(piece.tokens),
            chunk=index,
            avg_logprob=0.0,
            compression_ratio=1.0,
            no_speech_prob=0.0,
        )
        for piece in pieces
    )
    return ChunkResult(index=index, span=span, language="en", segments=segments)
