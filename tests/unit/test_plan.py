"""Where recordings are cut."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import accumulate, pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.plan import (
    LONG_PAUSE,
    MIN_SILENCE,
    MIN_TAIL,
    PAD,
    Plan,
    Silence,
    SpeechRun,
    plan_islands,
    plan_recording,
    plan_whole,
    plan_without_vad,
)
from stenopool.domain import Span
from stenopool.errors import UsageError

S = 16_000  # one second
WINDOW, OVERLAP = 30 * S, 3 * S


def at(*seconds: float) -> list[SpeechRun]:
    """Runs from pairs of seconds: `at(1, 5, 7, 9)` speaks in [1, 5) and [7, 9)."""
    edges = [round(second * S) for second in seconds]
    return [SpeechRun(Span(a, b), 0.9) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def plan(duration: float, runs: list[SpeechRun], **options: int) -> Plan:
    """A plan with the usual window."""
    settings = {"window": WINDOW, "overlap": OVERLAP} | options
    return plan_recording(round(duration * S), runs, peak=lambda span: 0.1, **settings)


def seconds(plan: Plan) -> list[tuple[float, float]]:
    """The chunks in seconds."""
    return [(chunk.span.start / S, chunk.span.end / S) for chunk in plan.chunks]


def test_speech_is_padded_and_the_rest_is_silence() -> None:
    """Non-speech of two seconds or more, after padding, belongs to no chunk."""
    result = plan(60, at(5, 10, 45, 50))

    assert seconds(result) == [(4.6, 10.4), (44.6, 50.4)]
    assert [(s.span.start / S, s.span.end / S) for s in result.silences] == [(0, 4.6), (10.4, 44.6), (50.4, 60)]
    assert [chunk.index for chunk in result.chunks] == [0, 1]


def test_no_speech_is_one_silence() -> None:
    """A silent recording has no chunk, and its silence carries the highest probability that VAD saw."""
    result = plan_recording(5 * S, [], peak=lambda span: len(span) / (10 * S), window=WINDOW, overlap=OVERLAP)

    assert result == Plan((), (Silence(span=Span(0, 5 * S), score=0.5),))


def test_each_silence_is_scored_by_its_own_span() -> None:
    """`peak` is asked for exactly the silences."""
    asked = []

    def peak(span: Span) -> float:
        asked.append(span)
        return len(asked) / 10

    result = plan_recording(40 * S, at(10, 20), peak=peak, window=WINDOW, overlap=OVERLAP)

    assert [silence.span for silence in result.silences] == asked
    assert [silence.score for silence in result.silences] == [0.1, 0.2]


def test_padding_stops_at_the_recording() -> None:
    """Speech from the first to the last sample gives one chunk of the whole recording."""
    assert seconds(plan(10, at(0, 10))) == [(0, 10)]


def test_short_silence_at_the_ends_joins_its_chunk() -> None:
    """Less than `min_silence` of non-speech at either end is no silence of its own ..."""
    assert seconds(plan(10, at(1, 9))) == [(0, 10)]


def test_short_silence_at_the_ends_costs_no_window() -> None:
    """... unless the chunk has no room for it."""
    assert seconds(plan(30.5, at(0.3, 29.2))) == [(0, 29.6)]


@pytest.mark.parametrize(("gap", "chunks"), [(2.79, [(0, 22.79)]), (2.8, [(0, 10.4), (12.4, 22.8)])])
def test_silence_is_measured_after_padding(gap: float, chunks: list[tuple[float, float]]) -> None:
    """Two seconds have to be left between padded speech; one millisecond less is a pause."""
    assert seconds(plan(20 + gap, at(0, 10, 10 + gap, 20 + gap), max_bridge=0)) == chunks


def test_sparse_talk_shares_a_window() -> None:
    """Islands are bridged while they fit into one window; the silences between them go along."""
    result = plan(60, at(0, 2, 6, 8, 12, 14, 18, 20, 24, 26, 29.5, 32))

    assert seconds(result) == [(0, 26.4), (29.1, 32.4)]


def test_a_long_silence_is_not_bridged() -> None:
    """More than five seconds are not worth decoding, whatever would fit."""
    assert seconds(plan(20, at(0, 3, 8.8, 20))) == [(0, 20)]
    assert seconds(plan(20, at(0, 3, 8.9, 20))) == [(0, 3.4), (8.5, 20)]


def test_the_tail_of_a_long_island_is_bridged() -> None:
    """What a cut leaves over shares its window with the next island."""
    assert seconds(plan(60, at(0, 20, 20.6, 40, 44, 49))) == [(0, 20.3), (20.3, 49.4)]


def test_a_short_island_before_a_long_one_shares_its_first_window() -> None:
    """Bridging to an island longer than the window happens when that costs no window."""
    assert seconds(plan(45, at(0, 4, 7.5, 24, 24.6, 45))) == [(0, 24.3), (24.3, 45)]


def test_the_longest_pause_wins_within_the_slack() -> None:
    """Two windows reach the end from any of the pauses; the cut is in the middle of the longest."""
    assert seconds(plan(50, at(0, 22, 22.4, 25, 25.2, 28, 28.1, 50))) == [(0, 22.2), (22.2, 50)]


def test_of_pauses_long_enough_the_later_wins() -> None:
    """From half a second on, pauses are equal."""
    assert seconds(plan(50, at(0, 22, 23, 25, 25.5, 28, 28.4, 50))) == [(0, 25.25), (25.25, 50)]


def test_the_fewest_windows_come_before_the_longest_pause() -> None:
    """A cut in the long pause at 16 s would need a third window."""
    assert seconds(plan(50, at(0, 16, 17, 28, 28.2, 50))) == [(0, 28.1), (28.1, 50)]


def test_speech_without_a_pause_is_cut_with_overlap() -> None:
    """Two hours without a pause are tiled by whole windows that overlap."""
    result = plan(7200, at(0, 7200))

    assert seconds(result)[:2] == [(0, 30), (27, 57)]
    assert seconds(result)[-1] == (7182, 7200)
    assert len(result.chunks) == 267


def test_a_pause_in_the_first_half_of_a_window_is_no_cut() -> None:
    """A window is not left half empty for the sake of a pause."""
    assert seconds(plan(50, at(0, 14, 14.5, 50))) == [(0, 30), (27, 50)]


def test_a_tiny_tail_is_avoided() -> None:
    """The pause that would leave half a second is passed over for an earlier, shorter one."""
    runs = at(0, 20, 20.2, 29.4, 29.9, 30.3)

    assert seconds(plan(30.3, runs)) == [(0, 20.1), (20.1, 30.3)]


def test_a_tiny_tail_is_avoided_without_overlap() -> None:
    """Where hard cuts do not overlap, the last one is early enough to leave a second."""
    assert seconds(plan(30.1, at(0, 30.1), overlap=0)) == [(0, 29.1), (29.1, 30.1)]


def test_without_vad_the_whole_recording_is_tiled() -> None:
    """Chunks of one window each overlap by as much as was asked for."""
    result = plan_without_vad(60 * S, window=WINDOW, overlap=OVERLAP)

    assert seconds(result) == [(0, 30), (27, 57), (54, 60)]
    assert result.silences == ()


def test_a_recording_of_one_window_is_one_chunk() -> None:
    """Thirty seconds fit; one sample more needs a second chunk."""
    assert seconds(plan_without_vad(WINDOW, window=WINDOW, overlap=OVERLAP)) == [(0, 30)]
    assert len(plan_without_vad(WINDOW + 1, window=WINDOW, overlap=OVERLAP).chunks) == 2


def islands(duration: float, runs: list[SpeechRun], **options: int) -> Plan:
    """A plan for a sequential transcript, with the usual window."""
    return plan_islands(round(duration * S), runs, peak=lambda span: 0.1, **{"window": WINDOW} | options)


def test_islands_are_not_cut() -> None:
    """A sequential transcript goes through speech of any length as one chunk; silences are the usual ones."""
    result = islands(200, at(5, 40, 41, 120, 130, 150))

    assert seconds(result) == [(4.6, 120.4), (129.6, 150.4)]
    assert [(s.span.start / S, s.span.end / S) for s in result.silences] == [(0, 4.6), (120.4, 129.6), (150.4, 200)]


def test_islands_are_bridged_where_that_saves_a_window() -> None:
    """Sparse talk shares windows; where both sides fill theirs, the silence between them stays a silence."""
    assert seconds(islands(60, at(5, 10, 14, 20, 28, 30))) == [(4.6, 20.4), (27.6, 30.4)]
    assert seconds(islands(70, at(5, 34, 38, 64))) == [(4.6, 34.4), (37.6, 64.4)]
    assert seconds(islands(100, at(5, 40, 44, 54))) == [(4.6, 54.4)]


def test_short_silence_at_the_ends_joins_an_island() -> None:
    """Whatever its length."""
    assert seconds(islands(60, at(1, 59))) == [(0, 60)]


def test_a_whole_recording_may_be_one_chunk() -> None:
    """Without voice activity detection nothing says where silence is."""
    assert seconds(plan_whole(7200 * S)) == [(0, 7200)]
    with pytest.raises(ValueError, match="a recording of 0 samples has nothing to plan"):
        plan_whole(0)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(plan_without_vad, id="without VAD"),
        pytest.param(lambda duration, **lengths: plan(duration / S, [], **lengths), id="with VAD"),
    ],
)
class TestRefusals:
    """Both ways to plan refuse the same."""

    @pytest.mark.parametrize(
        ("window", "overlap", "message"),
        [
            (S, 0, "a chunk length of 1 s is too short: use at least 2 s, at best the model's whole window"),
            (30 * S, -S, "an overlap of -1 s makes no sense: use 0 s or more"),
            (
                30 * S,
                15 * S,
                "an overlap of 15 s does not fit chunks of 30 s: use less than 15 s, or longer chunks",
            ),
        ],
    )
    def test_window_and_overlap_that_do_not_fit(
        self, make: Callable[..., Plan], window: int, overlap: int, message: str
    ) -> None:
        """The message is one line that says what would fit."""
        with pytest.raises(UsageError) as caught:
            make(60 * S, window=window, overlap=overlap)
        assert str(caught.value) == message

    def test_no_duration(self, make: Callable[..., Plan]) -> None:
        """An empty recording is a mistake of the caller."""
        with pytest.raises(ValueError, match="a recording of 0 samples has nothing to plan"):
            make(0, window=WINDOW, overlap=OVERLAP)


@pytest.mark.parametrize("make", [plan, islands])
@pytest.mark.parametrize("runs", [at(5, 8, 1, 2), at(1, 5, 4, 6), at(5, 11)])
def test_runs_that_make_no_sense(make: Callable[..., Plan], runs: list[SpeechRun]) -> None:
    """Unsorted, overlapping or outside the recording: a bug upstream, not a plan."""
    with pytest.raises(ValueError, match="speech runs must be sorted, disjoint and inside the recording"):
        make(10, runs)


def test_a_day_is_planned() -> None:
    """24 hours with 100,000 runs and pauses of all lengths are cut into no fewer windows than they fill."""
    random = Random(1)
    lengths = [random.expovariate(1) for _ in range(200_000)]
    scale = 24 * 3600 * S / sum(lengths)
    edges = list(accumulate(max(1, int(length * scale)) for length in lengths))
    runs = [SpeechRun(Span(a, b), 0.9) for a, b in zip(edges[::2], edges[1::2], strict=True)]

    result = plan_recording(edges[-1], runs, peak=lambda span: 0.1, window=WINDOW, overlap=OVERLAP)

    assert len(result.chunks) >= sum(len(chunk.span) for chunk in result.chunks) / WINDOW > 0.8 * 24 * 120


@st.composite
def recordings(draw: st.DrawFn) -> tuple[int, list[SpeechRun], int, int]:
    """Duration, runs, window and overlap, in tenths of a second and a few odd samples."""
    window = draw(st.integers(20, 60))
    overlap = draw(st.integers(0, (window - 1) // 2))
    pauses = st.one_of(st.integers(1, 8), st.integers(1, 60))
    speech = st.one_of(st.integers(1, 20), st.integers(1, 200))
    gaps = draw(st.lists(st.tuples(pauses, speech), max_size=25))
    edges = list(accumulate(length for pair in gaps for length in pair))
    spans = [Span(a * 1600, b * 1600) for a, b in zip(edges[::2], edges[1::2], strict=True)]
    duration = (edges[-1] if edges else 0) * 1600 + draw(st.integers(1, 60 * 1600))
    return duration, [SpeechRun(span, 0.9) for span in spans], window * 1600, overlap * 1600 + draw(st.integers(-1, 0))


@settings(deadline=None)
@given(recordings())
def test_chunks_and_silences_divide_the_recording(recording: tuple[int, list[SpeechRun], int, int]) -> None:
    """Whatever VAD heard: all is covered, no speech is silent, chunks fit and meet only their neighbours."""
    duration, runs, window, overlap = recording
    overlap = max(overlap, 0)
    result = plan_recording(duration, runs, peak=lambda span: 0.1, window=window, overlap=overlap)

    chunks = [chunk.span for chunk in result.chunks]
    assert all(0 < len(chunk) <= window for chunk in chunks)
    assert all(a.start < b.start and a.end < b.end and a.end - b.start <= overlap for a, b in pairwise(chunks))
    assert all(a.end <= b.start for a, b in zip(chunks, chunks[2:], strict=False))
    reached = 0
    for piece in sorted(chunks + [silence.span for silence in result.silences]):
        assert piece.start <= reached
        reached = max(reached, piece.end)
    assert reached == duration
    for silence in result.silences:
        assert len(silence.span) > 0
        assert not any(silence.span.intersection(chunk) for chunk in chunks)
        assert not any(silence.span.intersection(run.span) for run in runs)


@settings(deadline=None)
@given(recordings())
def test_long_speech_is_cut_into_the_fewest_windows(recording: tuple[int, list[SpeechRun], int, int]) -> None:
    """One island: as few chunks as trying every allowed cut gives, each cut the best within the slack."""
    duration, runs, window, overlap = recording
    overlap = max(overlap, 0)
    pauses = [Span(a.span.end, b.span.start) for a, b in pairwise(runs)]
    middles = {(pause.start + pause.end) // 2: len(pause) for pause in pauses}

    def cuts(start: int) -> list[int]:
        return [middle for middle in middles if start + window / 2 <= middle <= start + window]

    @cache
    def fewest(start: int) -> int:
        if duration - start <= window:
            return 1
        return 1 + min(fewest(following) for following in cuts(start) or [start + window - overlap])

    result = plan_recording(
        duration, runs, peak=lambda span: 0.1, window=window, overlap=overlap, pad=duration, min_silence=duration
    )

    chunks = [chunk.span for chunk in result.chunks]
    assert len(chunks) == (fewest(0) if runs else 0)
    for chunk, following in pairwise(chunks):
        assert len(chunk) >= window / 2
        slack = [cut for cut in cuts(chunk.start) if fewest(cut) < fewest(chunk.start)]
        spared = [cut for cut in slack if duration - cut >= MIN_TAIL] or slack
        if spared:
            assert following.start == chunk.end == max(spared, key=lambda cut: (min(middles[cut], LONG_PAUSE), cut))
        else:
            assert chunk.end - following.start == overlap
            assert len(chunk) == window or duration - following.start == MIN_TAIL


@settings(deadline=None)
@given(recordings())
def test_islands_and_silences_divide_the_recording(recording: tuple[int, list[SpeechRun], int, int]) -> None:
    """Whatever VAD heard: all is covered once, all speech with its padding is in a chunk, silences are long enough."""
    duration, runs, window, _ = recording
    result = plan_islands(duration, runs, peak=lambda span: 0.1, window=window)

    chunks, silences = [chunk.span for chunk in result.chunks], [silence.span for silence in result.silences]
    pieces = sorted(chunks + silences)
    assert [piece.start for piece in pieces] == [0, *(piece.end for piece in pieces[:-1])]
    assert pieces[-1].end == duration
    for run in runs:
        padded = Span(max(0, run.span.start - PAD), min(duration, run.span.end + PAD))
        assert any(chunk.intersection(padded) == padded for chunk in chunks)
    for before, silence in zip([None, *pieces], pieces, strict=False):
        if silence in silences and before is not None and silence.end < duration:
            assert len(silence) >= MIN_SILENCE
    joined = sum(-(-len(chunk) // window) for chunk in chunks)
    alone = plan_islands(duration, runs, peak=lambda span: 0.1, window=window, max_bridge=0)
    assert joined <= sum(-(-len(chunk.span) // window) for chunk in alone.chunks)
