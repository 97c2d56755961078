"""Every sample is accounted for."""

from __future__ import annotations

from dataclasses import replace
from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.coverage import coverage_of
from scheduler.plan import Silence, SpeechRun, plan_recording, plan_without_vad
from stenopool.domain import ChunkResult, CoverageKind, CoveragePiece, Skip, Span

S = 16_000  # one second


def chunk(index: int, start: int, end: int, *, failed: str | None = None, skipped: str | None = None) -> ChunkResult:
    """A result without text; what counts here is what became of it."""
    at = Span(start, end)
    return ChunkResult(index=index, span=at, language="en", segments=(), failed=failed, skipped=skipped)


def pieces(duration: int, results: list[ChunkResult], silences: list[Silence]) -> list[tuple[int, int, str]]:
    """Start, end and kind of each piece."""
    return [(p.span.start, p.span.end, p.kind.value) for p in coverage_of(duration, silences, results)]


def test_chunks_and_silences_make_the_partition() -> None:
    """Silences keep their score, gaps and skips their reason."""
    results = [chunk(0, 10, 20), chunk(1, 20, 30, failed="out of memory"), chunk(2, 40, 50, skipped="no speech")]
    silences = [Silence(span=Span(30, 40), score=0.2), Silence(span=Span(0, 10), score=0.1)]

    assert coverage_of(50, silences, results).pieces == (
        CoveragePiece(span=Span(0, 10), kind=CoverageKind.SILENCE, score=0.1),
        CoveragePiece(span=Span(10, 20), kind=CoverageKind.TRANSCRIBED),
        CoveragePiece(span=Span(20, 30), kind=CoverageKind.FAILED, reason="out of memory"),
        CoveragePiece(span=Span(30, 40), kind=CoverageKind.SILENCE, score=0.2),
        CoveragePiece(span=Span(40, 50), kind=CoverageKind.SKIPPED, reason="no speech"),
    )


def test_transcribed_neighbours_are_one_piece() -> None:
    """Whether they overlap or touch, transcribed speech is one run."""
    assert pieces(90, [chunk(0, 0, 30), chunk(1, 27, 57), chunk(2, 57, 90)], []) == [(0, 90, "transcribed")]


@pytest.mark.parametrize("why", ["failed", "skipped"])
def test_what_a_neighbour_transcribed_is_transcribed(why: str) -> None:
    """A lost chunk's overlaps on both sides were heard by its neighbours."""
    results = [chunk(0, 0, 30), chunk(1, 27, 57, **{why: "reason"}), chunk(2, 54, 84)]

    assert pieces(84, results, []) == [(0, 30, "transcribed"), (30, 54, why), (54, 84, "transcribed")]


def test_what_a_skipped_chunk_heard_is_no_gap() -> None:
    """Where a failed chunk overlaps a skipped one, the shared part was decoded."""
    assert pieces(57, [chunk(0, 0, 30, failed="a"), chunk(1, 27, 57, skipped="b")], []) == [
        (0, 27, "failed"),
        (27, 57, "skipped"),
    ]


def test_gaps_with_one_reason_are_one_gap() -> None:
    """Two failures in a row are joined if they failed for the same reason, and only then."""
    same = [chunk(0, 0, 30, failed="a"), chunk(1, 27, 57, failed="a")]
    other = [chunk(0, 0, 30, failed="a"), chunk(1, 27, 57, failed="b")]

    assert pieces(57, same, []) == [(0, 57, "failed")]
    assert pieces(57, other, []) == [(0, 30, "failed"), (30, 57, "failed")]


def test_silences_stay_apart() -> None:
    """Touching silences have each their own score."""
    silences = [Silence(span=Span(0, 5), score=0.1), Silence(span=Span(5, 9), score=0.3)]

    assert [piece.score for piece in coverage_of(9, silences, [])] == [0.1, 0.3]


@pytest.mark.parametrize(
    ("results", "silences", "message"),
    [
        ([chunk(0, 0, 20)], [], r"coverage ends at sample 20 of 30"),
        ([chunk(0, 0, 31)], [], r"coverage ends at sample 31 of 30"),
        ([], [], r"coverage ends at sample 0 of 30"),
        ([chunk(0, 5, 30)], [], r"coverage has a hole or an overlap at sample 0"),
        ([chunk(0, 0, 10), chunk(1, 11, 30)], [], r"coverage has a hole or an overlap at sample 10"),
        ([chunk(0, 0, 30)], [Silence(span=Span(10, 12), score=0)], r"coverage has a hole or an overlap at sample 30"),
        ([chunk(0, 0, 30), chunk(1, 10, 20)], [], r"one lies within the other"),
        ([chunk(0, 0, 30), chunk(1, 0, 30)], [], r"one lies within the other"),
        ([chunk(0, 0, 20), chunk(1, 5, 25), chunk(2, 10, 30)], [], r"which is not its neighbour"),
    ],
)
def test_what_is_not_accounted_for_is_a_bug(results: list[ChunkResult], silences: list[Silence], message: str) -> None:
    """A hole, an overlap with a silence or an end at the wrong sample never becomes a coverage."""
    with pytest.raises(ValueError, match=message):
        coverage_of(30, silences, results)


def test_what_was_quiet_inside_a_chunk_is_skipped() -> None:
    """Windows without speech in a long chunk are cut out of what it transcribed, each with its reason."""
    long = replace(
        chunk(0, 0, 100 * S),
        quiet=(Skip(Span(0, 10 * S), "no speech (a)"), Skip(Span(40 * S, 70 * S), "no speech (b)")),
    )

    assert [(piece.span, piece.kind, piece.reason) for piece in coverage_of(100 * S, [], [long])] == [
        (Span(0, 10 * S), CoverageKind.SKIPPED, "no speech (a)"),
        (Span(10 * S, 40 * S), CoverageKind.TRANSCRIBED, None),
        (Span(40 * S, 70 * S), CoverageKind.SKIPPED, "no speech (b)"),
        (Span(70 * S, 100 * S), CoverageKind.TRANSCRIBED, None),
    ]
    failed = replace(long, failed="the device failed")
    assert [piece.kind for piece in coverage_of(100 * S, [], [failed])] == [CoverageKind.FAILED]


@st.composite
def transcribed(draw: st.DrawFn) -> tuple[int, list[Silence], list[ChunkResult]]:
    """A planned recording, and what became of its chunks."""
    lengths = draw(st.lists(st.tuples(st.integers(1, 8 * S), st.integers(1, 20 * S)), max_size=20))
    edges = list(accumulate(length for pair in lengths for length in pair))
    duration = (edges[-1] if edges else 0) + draw(st.integers(1, 20 * S))
    runs = [SpeechRun(Span(a, b), 0.9) for a, b in zip(edges[::2], edges[1::2], strict=True)]
    if draw(st.booleans()):
        plan = plan_recording(duration, runs, peak=lambda span: 0.1, window=6 * S, overlap=2 * S)
    else:
        plan = plan_without_vad(duration, window=6 * S, overlap=2 * S)
    fates = st.sampled_from([{}, {"failed": "a"}, {"failed": "b"}, {"skipped": "c"}])
    results = [chunk(c.index, c.span.start, c.span.end, **draw(fates)) for c in plan.chunks]
    return duration, list(plan.silences), results


@given(transcribed())
def test_the_sum_is_the_duration(recording: tuple[int, list[Silence], list[ChunkResult]]) -> None:
    """Any plan, any fate of its chunks: each sample counts once, and as the best that any of its chunks became."""
    duration, silences, results = recording
    coverage = coverage_of(duration, silences, results)

    assert sum(coverage.samples(kind) for kind in CoverageKind) == coverage.duration == duration
    assert all(a.kind is not b.kind or a.reason != b.reason for a, b in pairwise(coverage))
    spans = [silence.span for silence in silences] + [result.span for result in results]
    edges = {edge for span in spans for edge in (span.start, span.end)}
    for piece in coverage:
        for at in sorted(edge for edge in edges if piece.span.start <= edge < piece.span.end):
            here = [r for r in results if r.span.start <= at < r.span.end]
            if any(r.failed is None and r.skipped is None for r in here):
                assert piece.kind is CoverageKind.TRANSCRIBED
            elif any(r.skipped is not None for r in here):
                assert piece.kind is CoverageKind.SKIPPED
            elif here:
                assert piece.kind is CoverageKind.FAILED
                assert piece.reason in {r.failed for r in here}
            else:
                assert piece.kind is CoverageKind.SILENCE
