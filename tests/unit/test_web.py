"""What pages show, as far as it is decided without a database: plots, strips, paragraphs, snapshots."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from stenopool.domain import Span, Word
from stenopool.web.live import Snapshots
from stenopool.web.overview import figures, plots
from stenopool.web.pages import clock, hours, lasting, own_path
from stenopool.web.plots import HEIGHT, WIDTH, ceiling, plot
from stenopool.web.reading import rows, seams, timed, unsure
from stenopool.web.searching import marked
from stenopool.web.strip import drawing
from storage.campaign_progress import Lengths
from storage.overview import Busy, Look, Piece
from storage.strip import StripPiece, StripState
from tests.transcripts import segment, transcript


def test_figures_are_written_for_people() -> None:
    """With as much as says something."""
    assert [clock(one) for one in (0, 59.9, 61, 3725.4, None)] == ["0:00", "0:59", "1:01", "1:02:05", "–"]
    assert [hours(one) for one in (0, 59, 90, 5400, 3.6e7)] == ["0 s", "59 s", "2 min", "1.5 h", "10,000 h"]
    assert [lasting(one) for one in (-3, 89, 600, 7200, 200_000)] == ["0 s", "89 s", "10 min", "2.0 h", "2.3 d"]


def test_nobody_is_led_elsewhere() -> None:
    """A path of this site, or its first page."""
    assert own_path("/recordings?state=open") == "/recordings?state=open"
    for elsewhere in ("https://x", "//x", "/\\x", "x", "", "/a\nb"):
        assert own_path(elsewhere) == "/"


def test_plots_place_values_in_time() -> None:
    """The highest one reaches no higher than the edge, which is a round figure."""
    drawn = plot("T", "u", [(0, 3.0), (300, 6.0), (9000, 1.0)], 0, 3600, 300)

    assert drawn.top == 10
    assert [(bar.x, bar.height) for bar in drawn.bars] == [(0.5, 0.3 * HEIGHT), (50.5, 0.6 * HEIGHT)]
    assert [bar.y + bar.height for bar in drawn.bars] == [HEIGHT, HEIGHT]
    assert drawn.marks == ((0.0, 0.0),)
    assert [ceiling(one) for one in (0, 0.3, 7, 23, 100)] == [1.0, 0.5, 10, 50, 100]
    assert plot("T", "u", [], 0, 3600, 300).latest is None


LOOK = Look(
    now=10_000,
    backlog=(),
    failures=(),
    workers=tuple(
        Busy(
            id=name,
            role="engine",
            host="h",
            state="working",
            model="m",
            slots=8,
            held=held,
            audio=0,
            busy=0,
            silent=age,
        )
        for name, held, age in (("a", 8, 1), ("b", 3, 2), ("c", 8, 25))
    ),
    history=(Piece(3600, 900, 90, 2), Piece(9600, 3000, 300, 2), Piece(9900, 500, 100, 2)),
    remaining={"m": Lengths(n_known=1, total=3600, squares=3600**2, n_unknown=0)},
)


def test_the_overview_counts_who_is_well() -> None:
    """Speeds are those of the last quarter of an hour; the end is forecast by all that is known."""
    found = figures(LOOK)

    assert (found.engines, found.silent, found.held, found.slots) == (2, 1, 11, 16)
    assert found.speed == 3500 / 400
    assert found.factor == 400 / 3500
    assert found.eta is not None
    assert found.eta.mid == 3600 / (4400 / 490) / 2
    assert figures(replace(LOOK, history=(), workers=())).eta is None
    speed, factor = plots(LOOK)
    assert [round(bar.value, 3) for bar in speed.bars] == [3.0, 10.0, 5.0]
    assert [round(bar.value, 3) for bar in factor.bars] == [0.1, 0.1, 0.2]
    assert all(0 <= bar.x < WIDTH for bar in speed.bars)


def piece(index: int, state: StripState, **other: object) -> StripPiece:
    """A chunk of a second."""
    return StripPiece(span=Span(index * 16_000, (index + 1) * 16_000), state=state, index=index, **other)  # type: ignore[arg-type]


def test_a_strip_is_as_wide_as_the_recording() -> None:
    """What something is to be said of is said, gaps first."""
    pieces = [
        piece(0, StripState.DONE, attempts=1),
        piece(1, StripState.RETRY, attempts=2, reason="it was given back"),
        piece(2, StripState.GAP, attempts=3, reason="the device failed"),
        StripPiece(span=Span(48_000, 64_000), state=StripState.SILENCE, score=0.1),
    ]
    drawn = drawing(pieces, 64_000)

    assert [(box.x, box.width, box.state) for box in drawn.boxes] == [
        (0, 250, "done"),
        (250, 250, "retry"),
        (500, 250, "gap"),
        (750, 250, "silence"),
    ]
    assert drawn.boxes[1].said == "0:01–0:02, chunk 1: retry, attempt 2, it was given back"
    assert [one.index for one in drawn.told] == [2, 1]
    assert drawn.counts == (("done", 1), ("retry", 1), ("gap", 1), ("silence", 1))


def test_a_strip_of_thousands_is_drawn_in_few_boxes() -> None:
    """Neighbours that are alike are one; no other is lost among them."""
    pieces = [piece(i, StripState.GAP if i == 5000 else StripState.DONE, attempts=1) for i in range(10_000)]
    drawn = drawing(pieces, 10_000 * 16_000)

    assert [box.state for box in drawn.boxes] == ["done", "gap", "done"]
    assert drawn.boxes[0].said.endswith("chunks 0 to 4999: done")
    assert drawn.counts == (("done", 9999), ("gap", 1))


def test_words_have_their_times_and_stay_text() -> None:
    """Those that are unlikely are marked."""
    spoken = segment(1, 3, " Hello <b>", words=True)
    sure, doubtful = spoken.words
    spoken = replace(spoken, words=(sure, Word(doubtful.span, doubtful.text, 0.25)))
    [row] = rows(transcript(spoken))

    assert row.text == (
        '<span data-t="1.00">Hello</span> <span data-t="2.00" class="l" title="25% sure">&lt;b&gt;</span>'
    )
    assert timed(transcript(spoken))
    assert unsure(transcript(spoken)) == 1


def test_gaps_and_seams_stand_where_they_are() -> None:
    """A seam is where chunks meet, unless something else lies between."""
    first, second = segment(0, 10, " one"), replace(segment(10, 20, " two"), chunk=1)
    third = replace(segment(40, 50, " three"), chunk=2)
    found = rows(transcript(first, second, third, gap=(20, 40, "the device failed")))

    assert [(row.kind, row.start) for row in found] == [
        ("text", 0),
        ("seam", 10),
        ("text", 10),
        ("gap", 20),
        ("text", 40),
    ]
    assert found[3].note == "the device failed"
    assert seams(transcript(first, second, third)) == [10, 40]


def test_unlikely_segments_without_words_are_marked() -> None:
    """As nothing finer is known of them."""
    doubtful = replace(segment(0, 2, " hm"), avg_logprob=-1.5)

    assert [row.unsure for row in rows(transcript(doubtful, segment(2, 4, " yes")))] == [True, False]
    assert not timed(transcript(doubtful))


def test_what_was_found_is_marked_and_stays_text() -> None:
    """Markup around it, none of its own."""
    assert marked("a <b> c", [(2, 5)]) == "a <mark>&lt;b&gt;</mark> c"


def test_many_who_look_ask_once() -> None:
    """The database is asked again when the snapshot is old; the longer it takes, the later."""
    now, asked = [100.0], []

    def look(tenant: str | None) -> Look:
        asked.append(tenant)
        now[0] += 1.0  # it takes a second
        return LOOK

    snapshots = Snapshots(look, clock=lambda: now[0])
    with ThreadPoolExecutor(8) as several:
        list(several.map(lambda _: snapshots.of(None), range(32)))
    assert asked == [None]
    snapshots.of("ada")
    assert asked == [None, "ada"]
    now[0] += 8.5
    snapshots.of(None)
    assert asked == [None, "ada"]
    now[0] += 1.0
    snapshots.of(None)
    assert asked == [None, "ada", None]
