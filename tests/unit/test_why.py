"""Why a submission has not ended, in words: a table of situations, and what is said of each."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scheduler.dispatch import AHEAD
from scheduler.why import _AHEAD, span, why
from stenopool.domain import SAMPLE_RATE
from storage.situation import Part, Situation, Untold
from storage.tables import Lane, SubmissionState, TranscriptState

ALL = frozenset({"scheduler", "ingest", "merge", "publish", "engine"})
ACCEPTED = Situation(
    id=7, state=SubmissionState.ACCEPTED, lane=Lane.BULK, tenant="ada", model="pocket", roles=ALL, age=60.0
)
INGESTING = replace(ACCEPTED, state=SubmissionState.INGESTING, worker="w", lease_left=30.0, attempt=1)
PART = Part(id=3, state=TranscriptState.TRANSCRIBING, model="pocket", chunks=10, open=8, engines=1)
TRANSCRIBING = replace(ACCEPTED, state=SubmissionState.TRANSCRIBING, parts=(PART,))
PUBLISHING = replace(ACCEPTED, state=SubmissionState.PUBLISHING)
DONE = replace(ACCEPTED, state=SubmissionState.COMPLETED, age=7200.0)


def part(**changes: object) -> Situation:
    """Being transcribed, with a transcript that is like this."""
    return replace(TRANSCRIBING, parts=(replace(PART, **changes),))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("situation", "said"),
    [
        (ACCEPTED, ["turn: it is the next to be decoded"]),
        (replace(ACCEPTED, before=1), ["turn: it waits to be decoded, behind 1 other"]),
        (
            replace(ACCEPTED, before=90, ahead=100_000.0),
            [
                "turn: it waits to be decoded until engines have caught up: 27.8 h of audio are decoded and not "
                "transcribed in the lane bulk"
            ],
        ),
        (
            replace(ACCEPTED, roles=frozenset({"scheduler"})),
            ["no_ingest_worker: no worker that decodes is alive; start one: stenopool worker --role ingest"],
        ),
        (
            replace(ACCEPTED, roles=ALL - {"scheduler"}, before=2),
            [
                "no_scheduler: no scheduler is alive: nothing more is begun; start one: stenopool scheduler",
                "turn: it waits to be decoded, behind 2 others",
            ],
        ),
        (
            replace(ACCEPTED, error="the store does not answer", again_in=40.0),
            ["failing: it could not be decoded (the store does not answer), again in 40 s"],
        ),
        (
            replace(ACCEPTED, again_in=0.8),
            ["turn: the same file is being decoded for the same work: it waits for that"],
        ),
        (
            replace(ACCEPTED, error="its samples are gone", again_in=-1.0),
            ["failing: it could not be decoded (its samples are gone), again as soon as it is its turn"],
        ),
        (replace(ACCEPTED, paused=True, before=9), ["paused: it is paused; stenopool resume 7"]),
        (
            replace(TRANSCRIBING, lane_paused="the office works", tenant_paused="by root@desk"),
            [
                "lane_paused: the lane bulk is paused (the office works); stenopool admin resume --lane bulk",
                "tenant_paused: the tenant ada is paused (by root@desk); stenopool admin resume --tenant ada",
            ],
        ),
        (INGESTING, ["at_work: w decodes it"]),
        (
            replace(INGESTING, attempt=2, error="no room"),
            ["at_work: w decodes it, for the second time (no room)"],
        ),
        (
            replace(INGESTING, lease_left=-130.0),
            [
                "lease_ran_out: w was decoding it and gave no sign for 2 min after its lease; the scheduler takes it "
                "back"
            ],
        ),
        (
            replace(INGESTING, worker=None, lease_left=None),
            ["lease_ran_out: nobody is decoding it, though it is said to be; the scheduler mends that"],
        ),
        (part(), ["turn: 2 of 10 chunks of transcript 3 are done; it waits for its turn"]),
        (
            part(before=7200.0, beside=36_000.0, pace=100.0),
            [
                "turn: 2 of 10 chunks of transcript 3 are done; it waits for its turn behind 2.0 h of audio in more "
                "urgent lanes and beside 10.0 h in its own; all of it takes 7 min at the pace of lately"
            ],
        ),
        (
            part(ready=4, before=300.0, beside=36_000.0),
            [
                "turn: 2 of 10 chunks of transcript 3 are done, 4 ready for the next free engine behind 5 min of audio "
                "in more urgent lanes"
            ],
        ),
        (
            part(leased=3, ready=1),
            ["at_work: 2 of 10 chunks of transcript 3 are done, 3 being decoded, 1 ready"],
        ),
        (
            part(engines=0, model="openai/whisper-tiny", starting=1, ready=4),
            [
                "no_engine: no engine that can decode transcript 3 is alive (model openai/whisper-tiny); 1 engine "
                "starting; start one: stenopool worker --role engine --model openai/whisper-tiny"
            ],
        ),
        (
            part(suspects=1, deaths=1, ready=1),
            [
                "suspects: 1 chunk of transcript 3 is tried apart from others: a worker died with it; at three it is a "
                "gap",
                "turn: 2 of 10 chunks of transcript 3 are done, 1 ready for the next free engine",
            ],
        ),
        (
            part(suspects=4, deaths=2, leased=4),
            [
                "suspects: 4 chunks of transcript 3 are tried apart from others: 2 workers died with the worst of "
                "them; at three it is a gap",
                "at_work: 2 of 10 chunks of transcript 3 are done, 4 being decoded, 0 ready",
            ],
        ),
        (
            part(suspects=1, deaths=3, ready=1),
            [
                "suspects: 1 chunk of transcript 3 is tried apart from others: 3 workers died with it; it is tried "
                "again once no worker has died for a while",
                "turn: 2 of 10 chunks of transcript 3 are done, 1 ready for the next free engine",
            ],
        ),
        (part(language=False), ["no_language: the language of transcript 3 is still to be detected"]),
        (part(language=False, held=True), ["no_language: the language of transcript 3 is being detected"]),
        (
            part(paused=True),
            ["paused: transcript 3 is held, as its samples are missing or who waits for it is paused"],
        ),
        (part(open=0), ["turn: all 10 chunks of transcript 3 are done; it is the next to be merged"]),
        (
            part(open=0, state=TranscriptState.MERGING, held=True),
            ["at_work: all 10 chunks of transcript 3 are done, and it is being merged"],
        ),
        (
            replace(part(open=0), roles=ALL - {"merge"}),
            ["no_merge_worker: no worker that merges is alive; start one: stenopool worker --role merge"],
        ),
        (
            replace(TRANSCRIBING, parts=(replace(PART, state=TranscriptState.COMPLETED, open=0), replace(PART, id=4))),
            ["turn: 2 of 10 chunks of transcript 4 are done; it waits for its turn"],
        ),
        (PUBLISHING, ["turn: its transcripts are made, and are the next to be published"]),
        (
            replace(PUBLISHING, worker="w", lease_left=9.0, destination=True),
            ["at_work: w publishes it, and sends it on"],
        ),
        (
            replace(PUBLISHING, error="access denied", again_in=50.0),
            ["failing: its transcripts are made, and could not be published (access denied), again in 50 s"],
        ),
        (
            replace(PUBLISHING, roles=ALL - {"publish"}),
            ["no_publish_worker: no worker that publishes is alive; start one: stenopool worker --role publish"],
        ),
        (
            replace(ACCEPTED, due_in=-600.0),
            ["turn: it is the next to be decoded", "overdue: its deadline passed 10 min ago"],
        ),
        (replace(ACCEPTED, due_in=600.0), ["turn: it is the next to be decoded"]),
        (DONE, ["ended: it is completed, 2.0 h after it was handed in"]),
        (
            replace(DONE, state=SubmissionState.FAILED, error="no such file"),
            ["ended: it is failed: no such file; once that is mended: stenopool retry 7"],
        ),
        (replace(DONE, state=SubmissionState.CANCELLED), ["ended: it is cancelled"]),
        (
            replace(DONE, state=SubmissionState.DELETING, deletion="the bucket refuses"),
            ["not_deleted: it is being deleted: the bucket refuses; the scheduler goes on with it"],
        ),
        (
            replace(
                DONE,
                state=SubmissionState.COMPLETED_WITH_GAPS,
                untold=(
                    Untold(endpoint=1, state="enabled", attempts=3, again_in=600.0, error="500"),
                    Untold(endpoint=2, state="paused"),
                    Untold(endpoint=3, state="disabled", error="410"),
                    Untold(endpoint=4, state="enabled"),
                ),
            ),
            [
                "ended: it is completed with gaps, 2.0 h after it was handed in",
                "untold: webhook 1 was not told of it yet: 3 times without success (500), again in 10 min",
                "untold: webhook 2 was not told of it yet: it failed for days and is paused; once it answers: "
                "stenopool webhook test 2",
                "untold: webhook 3 was not told of it yet: it is disabled (410)",
                "untold: webhook 4 was not told of it yet: it is about to be",
            ],
        ),
    ],
)
def test_what_is_said(situation: Situation, said: list[str]) -> None:
    """Each with its word, the first thing first."""
    assert [f"{reason.code}: {reason.text}" for reason in why(situation)] == said


def test_something_is_said_of_everything() -> None:
    """Whatever its state, there is a reason, and what has not ended is not said to have."""
    for state in SubmissionState:
        reasons = why(replace(TRANSCRIBING, state=state))
        assert reasons, state


def test_spans_of_time() -> None:
    """As people say them."""
    spans = [0, 59.6, 119, 120, 3599, 3600, 7300, 172_800, 1e6]
    assert [span(one) for one in spans] == [
        "0 s", "60 s", "119 s", "2 min", "60 min", "1.0 h", "2.0 h", "2.0 days", "11.6 days"
    ]  # fmt: skip


def test_what_is_decoded_ahead_is_what_the_dispatcher_has() -> None:
    """The sentence is by the same figure."""
    assert AHEAD / SAMPLE_RATE == _AHEAD
