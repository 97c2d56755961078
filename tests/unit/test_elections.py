"""The elections of several transcripts at once."""

from __future__ import annotations

from stenopool.domain import Span
from workers.elections import Elections, Question

S = 16_000  # one second


def spans(transcript: int) -> list[Span]:
    """Two chunks of 40 s of any transcript."""
    return [Span(transcript * S, (transcript + 40) * S), Span((transcript + 40) * S, (transcript + 80) * S)]


def opened(*allowed: str) -> Elections:
    """Elections in two transcripts."""
    elections = Elections(allowed, 30 * S)
    elections.begin(1, 2)
    elections.begin(2, 2)
    return elections


def test_questions_are_asked_as_slots_are_free() -> None:
    """Up to the limit, each once, in order; of a chunk longer than the window, its beginning."""
    elections = opened()

    assert elections.ask(3, spans) == [
        (Question(1, 0), Span(1 * S, 31 * S)),
        (Question(1, 1), Span(41 * S, 71 * S)),
        (Question(2, 0), Span(2 * S, 32 * S)),
    ]
    assert elections.ask(3, spans) == [(Question(2, 1), Span(42 * S, 72 * S))]
    assert elections.ask(3, spans) == []


def test_each_transcript_has_its_own_result() -> None:
    """Once all of its answers are in, whatever the order; answers nobody waits for any more count nothing."""
    elections = opened()
    elections.ask(9, spans)

    assert elections.count(Question(1, 1), {"de": 0.75, "en": 0.25}) is None
    assert elections.count(Question(2, 0), {"de": 0.0, "en": 1.0}) is None
    assert elections.count(Question(1, 0), {"de": 0.25, "en": 0.75}) == ("de", 0.5)
    elections.end(2)
    assert elections.count(Question(2, 1), {"de": 0.0, "en": 1.0}) is None


def test_only_what_is_allowed_is_elected() -> None:
    """However sure the model is of another."""
    elections = opened("de", "en")
    elections.ask(9, spans)

    for index in (0, 1):
        elected = elections.count(Question(1, index), {"la": 0.75, "de": 0.125, "en": 0.0625})
    assert elected == ("de", 0.125)


def test_lost_questions_are_asked_again() -> None:
    """All of them, of those whose election is not over."""
    elections = opened()
    elections.ask(9, spans)
    elections.count(Question(1, 0), {"en": 1.0})
    elections.end(2)

    elections.begin_anew()

    assert [question for question, _ in elections.ask(9, spans)] == [Question(1, 0), Question(1, 1)]
