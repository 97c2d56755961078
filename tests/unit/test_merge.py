"""Chunk results become one transcript: nothing is lost, nothing appears twice.

The simulation: words are spoken; `plan_without_vad` cuts them with overlaps of 3 s; each chunk hears its words with
times that are off, and damages those near its own edges: it drops, alters or halves them. What the tests promise holds
for the damage and the time errors that each of them states. Hunted through 20,000 recordings each, none failed, but for
interpolated times: 2. Beyond the limits it fades slowly: with damage 0.75 s deep and times 0.3 s wrong, 1 of 20,000
failed.
"""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.merge import Merged, Seam, merge_chunks
from scheduler.plan import plan_without_vad
from scheduler.seams import words_of
from stenopool.domain import ChunkResult, Segment, Span, Word, join_text

S = 16_000  # one second
TALK = """
    a about again and because budget cat it is meeting money next no of okay people question really recording right
    so that the think to topic transcribe very we yes you
"""
VOCABULARY = TALK.split()


def span(start: float, end: float) -> Span:
    """A span from seconds."""
    return Span(round(start * S), round(end * S))


def segment(chunk: int, *words: tuple[float, float, str], timed: bool = True) -> Segment:
    """A segment from its words in seconds."""
    spans = [span(start, end) for start, end, _ in words]
    return Segment(
        span=Span(spans[0].start, spans[-1].end),
        text="".join(text for *_, text in words),
        chunk=chunk,
        avg_logprob=-0.2,
        compression_ratio=1.1,
        no_speech_prob=0.01,
        words=tuple(Word(at, text) for at, (*_, text) in zip(spans, words, strict=True)) if timed else (),
    )


def result(
    index: int, at: Span, *segments: Segment, skipped: str | None = None, failed: str | None = None
) -> ChunkResult:
    """What a chunk gave."""
    return ChunkResult(index=index, span=at, language="en", segments=segments, skipped=skipped, failed=failed)


def spoken(text: str, start: float, step: float = 0.5) -> list[tuple[float, float, str]]:
    """Words of a sentence, one each `step` seconds."""
    return [(start + step * i, start + step * (i + 1), f" {word}") for i, word in enumerate(text.split())]


LEFT, RIGHT = span(0, 30), span(27, 57)


def test_a_sentence_in_the_overlap_appears_once_with_its_punctuation() -> None:
    """Both chunks heard it; the text reads as if there had been no cut."""
    left = segment(0, *spoken("We met. Yes. No. Okay. Right. Okay.", 26.5))
    right = segment(1, *spoken("no. Okay. Right. Okay. So next topic is money.", 28))

    merged = merge_chunks(57 * S, [result(0, LEFT, left), result(1, RIGHT, right)])

    assert join_text(s.text for s in merged.segments) == "We met. Yes. No. Okay. Right. Okay. So next topic is money."
    assert merged.segments[0].words + merged.segments[1].words == tuple(
        Word(span(start, end), text)
        for start, end, text in spoken("We met. Yes. No. Okay. Right. Okay. So next topic is money.", 26.5)
    )


def test_segments_that_lose_words_are_tightened() -> None:
    """A rebuilt segment's text and span are those of the words it keeps; its scores stay."""
    left = segment(0, *spoken("one two three four five six", 27))
    right = segment(1, *spoken("one two three four five six seven eight", 27))

    merged = merge_chunks(57 * S, [result(0, LEFT, left), result(1, RIGHT, right)])

    assert [(s.text, s.span, s.chunk) for s in merged.segments] == [
        (" one two three", span(27, 28.5), 0),
        (" four five six seven eight", span(28.5, 31), 1),
    ]
    assert merged.segments[0].avg_logprob == -0.2
    assert merged.seams == (
        Seam(at=span(28.5, 29).start, overlap=span(27, 30), matched=6, left_only=0, right_only=0, agreement=1.0),
    )


def test_segments_left_empty_vanish() -> None:
    """What the neighbour tells whole leaves no empty segment behind."""
    left = [segment(0, *spoken("one two three", 27)), segment(0, *spoken("four five six", 28.5))]
    right = [segment(1, *spoken("one two three", 27)), segment(1, *spoken("four five six", 28.5))]

    merged = merge_chunks(57 * S, [result(0, LEFT, *left), result(1, RIGHT, *right)])

    assert merged.segments == (left[0], right[1])


def test_a_word_that_the_chosen_side_missed_goes_with_the_word_before_it() -> None:
    """The right chunk missed "five" in the overlap's second half: the left one's is kept, in its place."""
    left = segment(0, *spoken("one two three four five six", 27))
    right = segment(1, *(word for word in spoken("one two three four five six seven", 27) if word[2] != " five"))

    merged = merge_chunks(57 * S, [result(0, LEFT, left), result(1, RIGHT, right)])

    assert [s.text for s in merged.segments] == [" one two three", " four five six seven"]
    assert (merged.seams[0].matched, merged.seams[0].left_only, merged.seams[0].agreement) == (5, 1, 5 / 6)


@pytest.mark.parametrize("why", [{"failed": "out of memory"}, {"skipped": "silence"}])
def test_a_chunk_without_text_takes_nothing_from_its_neighbours(why: dict[str, str]) -> None:
    """Beside a failed or skipped chunk the healthy ones keep all words; there is no seam to audit."""
    first = segment(0, *spoken("one two three four five six", 27))
    last = segment(2, *spoken("seven eight nine", 54))

    merged = merge_chunks(84 * S, [result(0, LEFT, first), result(1, RIGHT, **why), result(2, span(54, 84), last)])

    assert merged == Merged((first, last), ())


def test_chunks_that_only_touch_are_left_alone() -> None:
    """A cut in a pause has no overlap: the segments come out as the same objects."""
    left = segment(0, *spoken("one two three", 28))
    right = segment(1, *spoken("three two one", 30))

    merged = merge_chunks(60 * S, [result(0, span(0, 30), left), result(1, span(30, 60), right)])

    assert [s is before for s, before in zip(merged.segments, (left, right), strict=True)] == [True, True]
    assert merged.seams == ()


def test_a_chunk_that_heard_nothing_loses_nothing() -> None:
    """An overlap of which one side is empty keeps the other side's words, half-heard or not."""
    left = segment(0, *spoken("one two three four five six", 27))

    merged = merge_chunks(57 * S, [result(0, LEFT, left), result(1, RIGHT)])

    assert merged.segments == (left,)
    assert (merged.seams[0].matched, merged.seams[0].left_only, merged.seams[0].agreement) == (0, 6, 0.0)


def test_interpolated_times_are_not_passed_off_as_heard() -> None:
    """A rebuilt segment that came without words stays without, and its span is interpolated."""
    left = segment(0, *spoken("four five nine four five nine", 27), timed=False)
    right = segment(1, *spoken("four five nine four five nine four five", 27), timed=False)

    merged = merge_chunks(57 * S, [result(0, LEFT, left), result(1, RIGHT, right)])

    assert [(s.text, s.span, s.words) for s in merged.segments] == [
        (" four five nine", span(27, 28.5), ()),
        (" four five nine four five", span(28.5, 31), ()),
    ]


def test_text_without_spaces_joins_without_spaces() -> None:
    """Where a word is a character, the merged text has no space either."""
    text = "今天我们开会讨论预算的问题"
    words = [(26 + 0.5 * i, 26.5 + 0.5 * i, c) for i, c in enumerate(text)]
    left = segment(0, *[word for word in words if word[0] < 30])
    right = segment(1, *[word for word in words if word[0] >= 27])

    merged = merge_chunks(57 * S, [result(0, LEFT, left), result(1, RIGHT, right)])

    assert join_text(s.text for s in merged.segments) == text


def test_two_languages_share_an_overlap_by_time() -> None:
    """Without a single match the text changes sides in the middle; neither language is doubled by the other."""
    left = segment(0, *spoken("one two three four five six", 27))
    right = segment(1, *spoken("eins zwei drei vier fünf sechs sieben", 27.1, 0.45))

    merged = merge_chunks(57 * S, [result(0, LEFT, left), result(1, RIGHT, right)])

    assert [s.text for s in merged.segments] == [" one two three", " vier fünf sechs sieben"]
    assert merged.seams[0].agreement == 0.0


def test_times_are_clamped_into_the_chunk_and_the_recording() -> None:
    """A segment reaches neither beyond its chunk nor beyond the recording, nor do its words."""
    left = segment(0, *spoken("early bird", 1), (4, 6.5, " late"))
    right = segment(1, (4.5, 5.5, " too"), *spoken("soon and long", 7, 2))

    merged = merge_chunks(12 * S, [result(0, span(0, 6), left), result(1, span(6, 13), right)])

    assert [(s.span, s.text) for s in merged.segments] == [
        (span(1, 6), " early bird late"),
        (span(6, 12), " too soon and long"),
    ]
    assert [word.span for word in merged.segments[1].words] == [span(6, 6), span(7, 9), span(9, 11), span(11, 12)]


def test_segments_that_run_into_each_other_are_clamped() -> None:
    """The end of one is the start of the next; a start that lies before the last one is moved to it."""
    first, second, third = (segment(0, *spoken(text, at)) for text, at in (("a b c", 1), ("d e", 2), ("f", 1.5)))

    merged = merge_chunks(30 * S, [result(0, LEFT, first, second, third)])

    assert [s.span for s in merged.segments] == [span(1, 2), span(2, 2), span(2, 2)]


def test_results_must_be_sorted() -> None:
    """Chunks out of order are a bug of the caller."""
    with pytest.raises(ValueError, match=r"chunk results must be sorted: 0 .* follows 1"):
        merge_chunks(57 * S, [result(1, RIGHT), result(0, LEFT)])


def test_only_neighbours_overlap() -> None:
    """An overlap of three chunks has no meaning."""
    spans = [span(0, 30), span(10, 40), span(20, 50)]
    with pytest.raises(ValueError, match=r"chunk 0 .* overlaps chunk 2 .*, which is not its neighbour"):
        merge_chunks(57 * S, [result(index, at) for index, at in enumerate(spans)])


def test_no_results_give_no_segments() -> None:
    """A silent recording has no text and no seams."""
    assert merge_chunks(57 * S, []) == Merged((), ())


def speak(random: Random, duration: float, vocabulary: list[str], apart: float) -> list[tuple[float, float, str]]:
    """What was said: words of 0.12 to 0.5 s, few pauses; the same word never starts again within `apart` seconds."""
    said: list[tuple[float, float, str]] = []
    at = 0.0
    while True:
        at += random.choice([0, 0, 0.05, random.uniform(0, 0.6)])
        end = at + random.uniform(0.12, 0.5)
        if end > duration:
            return said
        recent = {word for start, _, word in said[-30:] if start > at - apart}
        said.append((at, end, random.choice([word for word in vocabulary if word not in recent])))
        at = end


def hear(
    random: Random, said: list[tuple[float, float, str]], chunk: Span, duration: int, *, off: float, damage: float
) -> list[tuple[float, float, str]]:
    """What a chunk hears of it: times up to `off` seconds wrong, damage up to `damage` seconds from its cut edges."""
    low, high = chunk.start / S, chunk.end / S
    heard = []
    for start, end, word in said:
        if end <= low or start >= high:
            continue
        cut = start < low or end > high
        near = (chunk.start > 0 and start < low + damage) or (chunk.end < duration and end > high - damage)
        fate = random.choice(["whole", "dropped", "altered", "head", "tail"]) if cut or near else "whole"
        if fate == "dropped":
            continue
        half = (len(word) + 1) // 2
        forms = {"whole": word, "altered": random.choice(["bird", "hm", f"{word}s"]), "head": word[:half]}
        text = forms.get(fate, word[half - 1 :])
        text = random.choice([text, text, text.capitalize() + random.choice(".,?")])
        shift = random.uniform(-off, off)
        heard.append((min(max(start + shift, low), high), min(max(end + shift, low), high), f" {text}"))
    # In order: sorting moves no time farther from its truth than the farthest was.
    starts, ends = sorted(start for start, _, _ in heard), sorted(end for _, end, _ in heard)
    return [(start, end, text) for start, end, (*_, text) in zip(starts, ends, heard, strict=True)]


def simulate(
    seed: int, *, apart: float, off: float, damage: float, timed: bool = True, vocabulary: list[str] = VOCABULARY
) -> tuple[list[str], int, list[ChunkResult]]:
    """The words that were said, the duration, and what the chunks made of them."""
    random = Random(seed)
    duration = random.randint(10 * S, 60 * S)
    said = speak(random, duration / S, vocabulary, apart)
    plan = plan_without_vad(duration, window=random.randint(8 * S, 30 * S), overlap=3 * S)
    results = []
    for chunk in plan.chunks:
        heard = hear(random, said, chunk.span, duration, off=off, damage=damage)
        segments = []
        while heard:
            count = random.randint(2, 8)
            segments.append(segment(chunk.index, *heard[:count], timed=timed))
            heard = heard[count:]
        results.append(result(chunk.index, chunk.span, *segments))
    return [word for *_, word in said], duration, results


def told(merged: Merged) -> list[str]:
    """The words of the text, without punctuation and capitals."""
    return [word.strip(".,?").lower() for word in join_text(s.text for s in merged.segments).split()]


def check_times(duration: int, results: list[ChunkResult], merged: Merged) -> None:
    """Times never run backwards, segments stay in their chunk, and words joined are the text."""
    spans = [s.span for s in merged.segments]
    assert all(a.end <= b.start for a, b in pairwise(spans))
    chunks = {r.index: r.span for r in results}
    for s in merged.segments:
        assert chunks[s.chunk].start <= s.span.start <= s.span.end <= min(chunks[s.chunk].end, duration)
        times = [word.span for word in s.words]
        assert all(a.end <= b.start for a, b in pairwise(times))
        assert all(s.span.start <= time.start and time.end <= s.span.end for time in times)
        assert "".join(word.text for word in words_of(s)) == s.text


seeds = st.integers(0, 2**32)


@settings(deadline=None, max_examples=200, derandomize=True)
@given(seeds)
def test_every_word_appears_once_whatever_the_edges_did(seed: int) -> None:
    """Any damage within 0.6 s of an edge, times off by up to 0.25 s, the same word at least 0.6 s apart: exact."""
    said, duration, results = simulate(seed, apart=0.6, off=0.25, damage=0.6)
    merged = merge_chunks(duration, results)

    assert told(merged) == said
    check_times(duration, results, merged)


@settings(deadline=None, max_examples=200, derandomize=True)
@given(seeds)
def test_repeats_are_told_apart_by_time(seed: int) -> None:
    """No no no yes no: repeats as close as speech allows, only cut words damaged, times off by up to 0.05 s: exact."""
    said, duration, results = simulate(
        seed, apart=0, off=0.05, damage=0, vocabulary=["no", "no", "no", "no", "yes", "okay"]
    )
    merged = merge_chunks(duration, results)

    assert told(merged) == said
    check_times(duration, results, merged)


@settings(deadline=None, max_examples=200, derandomize=True)
@given(seeds)
def test_interpolated_times_still_find_the_words(seed: int) -> None:
    """Segments without words, only cut words damaged, the same word at least 3 s apart: exact."""
    said, duration, results = simulate(seed, apart=3, off=0.1, damage=0, timed=False)
    merged = merge_chunks(duration, results)

    assert told(merged) == said
    check_times(duration, results, merged)


@settings(deadline=None, max_examples=200, derandomize=True)
@given(seeds)
def test_times_hold_under_any_damage(seed: int) -> None:
    """Damage up to 1.5 s deep, times off by a second, some chunks lost: all that is outside overlaps is still told."""
    said, duration, results = simulate(seed, apart=0, off=1, damage=1.5)
    random = Random(seed)
    results = [result(r.index, r.span, failed="lost") if random.random() < 0.2 else r for r in results]
    merged = merge_chunks(duration, results)

    check_times(duration, results, merged)
    assert sum(s.matched for s in merged.seams) <= len(said)
    assert all(0 <= s.agreement <= 1 and s.overlap.start <= s.at <= s.overlap.end for s in merged.seams)
