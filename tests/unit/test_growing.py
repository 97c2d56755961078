"""A text that grows chunk by chunk is, in the end, that of the merged transcript."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from scheduler.growing import Growing
from scheduler.merge import merge_chunks
from stenopool.domain import ChunkResult, Segment, Span, Word, join_text

S = 16_000


def chunk(index: int, start: int, end: int, *texts: str, failed: str | None = None) -> ChunkResult:
    """A chunk in seconds, whose texts share its time, word by word."""
    words = [word for text in texts for word in text.split()]
    each = (end - start) * S // max(1, len(words))
    segments, at = [], start * S
    for text in texts:
        timed = []
        for word in text.split():
            timed.append(Word(Span(at, at + each), f" {word}"))
            at += each
        span = Span(timed[0].span.start, timed[-1].span.end) if timed else Span(at, at)
        segments.append(
            Segment(
                span=span, text="".join(word.text for word in timed) or text, chunk=index, words=tuple(timed),
                avg_logprob=-0.1, compression_ratio=1.0, no_speech_prob=0.0,
            )
        )  # fmt: skip
    return ChunkResult(
        index=index, span=Span(start * S, end * S), language="en", segments=tuple(segments), failed=failed
    )


def told(results: list[ChunkResult]) -> list[str]:
    """What is told after each chunk."""
    growing = Growing(10_000 * S)
    spans = [result.span for result in results[1:]]
    return [growing.add(result, following) for result, following in zip(results, [*spans, None], strict=True)]


def test_what_no_seam_touches_is_told_at_once() -> None:
    """Chunks that meet at a pause."""
    results = [chunk(0, 0, 2, " one two"), chunk(1, 2, 4, " three", " four "), chunk(2, 5, 6, " five")]

    assert told(results) == ["one two", " three four", " five"]


def test_what_a_seam_may_change_waits_for_it() -> None:
    """A hard cut: the left chunk's text is certain when the right one is there, and then each word is there once."""
    left = chunk(0, 0, 6, " a b c d e f")
    right = chunk(1, 3, 9, " d e f g h i")

    first, second = told([left, right])

    assert first == ""
    assert second == join_text(segment.text for segment in merge_chunks(9 * S, [left, right]).segments)
    assert second.split() == ["a", "b", "c", "d", "e", "f", "g", "h", "i"]


def test_the_rest_is_what_was_not_told() -> None:
    """Where the transcript says something else, nothing is added to what was said."""
    growing = Growing(10 * S)
    assert growing.add(chunk(0, 0, 2, " one"), Span(2 * S, 4 * S)) == "one"
    assert growing.finish("one two") == " two"
    assert growing.finish("other") == ""


@st.composite
def recordings(draw: st.DrawFn) -> list[ChunkResult]:
    """Chunks that overlap their neighbours or not, some of which failed or say nothing."""
    results, start = [], 0
    for index in range(draw(st.integers(1, 6))):
        end = start + draw(st.integers(4, 8))
        words = draw(st.lists(st.sampled_from("abcdefgh"), max_size=8))
        cut = draw(st.integers(0, len(words)))
        texts = [f" {' '.join(part)}" for part in (words[:cut], words[cut:]) if part]
        results.append(chunk(index, start, end, *texts, failed=draw(st.sampled_from([None, None, None, "broken"]))))
        start = end - draw(st.sampled_from([0, 0, 1, 3])) if index % 2 == 0 else end + draw(st.integers(0, 1))
    return results


@given(recordings())
def test_the_pieces_are_the_whole(results: list[ChunkResult]) -> None:
    """Whatever is heard: joined, they are the merged text, and no piece is taken back."""
    whole = merge_chunks(10_000 * S, results)

    assert "".join(told(results)) == join_text(segment.text for segment in whole.segments)
