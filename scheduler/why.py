"""Why a submission has not ended, in words: from what the ledger knows of it, without asking anything more."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from storage.blame import DEATHS
from storage.situation import Part, Situation, Untold
from storage.tables import ENDED, PUBLISHED, SubmissionState, TranscriptState

#: Seconds of audio that are decoded ahead of the engines, in a lane, at most: see `scheduler.dispatch.AHEAD`.
_AHEAD = 24 * 3600.0
#: Seconds after the end of a lease in which the scheduler has taken it back.
_SWEPT_WITHIN = 10.0


@dataclass(frozen=True, slots=True)
class Reason:
    """One of them: a word for programs, as the view `stuck` has it where it is in it, and a sentence."""

    code: str
    text: str


def why(one: Situation) -> list[Reason]:
    """What a submission waits for, the first thing first; of one that has ended, how, and who was not told of it."""
    if one.state in ENDED:
        return [_ended(one), *_untold(one)]
    if blocked := list(_paused(one)):
        return blocked
    reasons: list[Reason] = []
    if "scheduler" not in one.roles:
        reasons.append(
            Reason("no_scheduler", "no scheduler is alive: nothing more is begun; start one: stenopool scheduler")
        )
    reasons += _stage(one)
    if one.due_in is not None and one.due_in < 0:
        reasons.append(Reason("overdue", f"its deadline passed {span(-one.due_in)} ago"))
    return reasons


def _ended(one: Situation) -> Reason:
    if one.state in PUBLISHED:
        return Reason("ended", f"it is {_words(one.state)}, {span(one.age)} after it was handed in")
    if one.state is SubmissionState.DELETING:
        if one.deletion:
            return Reason("not_deleted", f"it is being deleted: {one.deletion}; the scheduler goes on with it")
        return Reason("deleting", "it is being deleted")
    error = f": {one.error}" if one.error else ""
    cure = f"; once that is mended: stenopool retry {one.id}" if one.state is SubmissionState.FAILED else ""
    return Reason("ended", f"it is {_words(one.state)}{error}{cure}")


def _untold(one: Situation) -> Iterator[Reason]:
    for endpoint in one.untold:
        yield Reason("untold", f"webhook {endpoint.endpoint} was not told of it yet: {_delivery(endpoint)}")


def _delivery(one: Untold) -> str:
    error = f" ({one.error})" if one.error else ""
    if one.state == "paused":
        return f"it failed for days and is paused{error}; once it answers: stenopool webhook test {one.endpoint}"
    if one.state == "disabled":
        return f"it is disabled{error}"
    if one.attempts:
        return f"{_times(one.attempts)} without success{error}, again in {span(one.again_in)}"
    return "it is about to be"


def _paused(one: Situation) -> Iterator[Reason]:
    if one.paused:
        yield Reason("paused", f"it is paused; stenopool resume {one.id}")
    lane = one.lane.name.lower()
    if one.lane_paused is not None:
        yield Reason(
            "lane_paused", f"the lane {lane} is paused ({one.lane_paused}); stenopool admin resume --lane {lane}"
        )
    if one.tenant_paused is not None:
        yield Reason(
            "tenant_paused",
            f"the tenant {one.tenant} is paused ({one.tenant_paused}); stenopool admin resume --tenant {one.tenant}",
        )


def _stage(one: Situation) -> Iterator[Reason]:
    match one.state:
        case SubmissionState.ACCEPTED:
            yield from _accepted(one)
        case SubmissionState.INGESTING:
            yield _at_work(one, "decodes it", "decoding")
        case SubmissionState.TRANSCRIBING:
            for part in one.parts:
                yield from _part(one, part)
        case SubmissionState.PUBLISHING:
            yield from _publishing(one)


def _accepted(one: Situation) -> Iterator[Reason]:
    if "ingest" not in one.roles:
        yield Reason("no_ingest_worker", "no worker that decodes is alive; start one: stenopool worker --role ingest")
    if one.again_in is not None and one.again_in > 0:
        if one.error:
            yield Reason("failing", f"{_again(one)}, again in {span(one.again_in)}")
        else:
            yield Reason("turn", "the same file is being decoded for the same work: it waits for that")
        return
    if one.error:
        yield Reason("failing", f"{_again(one)}, again as soon as it is its turn")
    if one.ahead >= _AHEAD:
        yield Reason(
            "turn",
            f"it waits to be decoded until engines have caught up: {span(one.ahead)} of audio are decoded and not "
            f"transcribed in the lane {one.lane.name.lower()}",
        )
    elif one.before:
        yield Reason("turn", f"it waits to be decoded, behind {_count(one.before, 'other')}")
    elif not one.error and "ingest" in one.roles:
        yield Reason("turn", "it is the next to be decoded")


def _again(one: Situation) -> str:
    return f"it could not be decoded ({one.error})"


def _at_work(one: Situation, does: str, doing: str) -> Reason:
    if one.worker is None or one.lease_left is None:
        return Reason("lease_ran_out", f"nobody is {doing} it, though it is said to be; the scheduler mends that")
    if one.lease_left < -_SWEPT_WITHIN:
        return Reason(
            "lease_ran_out",
            f"{one.worker} was {doing} it and gave no sign for {span(-one.lease_left)} after its lease; the scheduler "
            "takes it back",
        )
    attempt = f", for the {_nth(one.attempt)} time ({one.error})" if one.attempt > 1 and one.error else ""
    return Reason("at_work", f"{one.worker} {does}{attempt}")


def _publishing(one: Situation) -> Iterator[Reason]:
    if one.worker is not None:
        yield _at_work(one, "publishes it" + (", and sends it on" if one.destination else ""), "publishing")
        return
    if "publish" not in one.roles:
        yield Reason(
            "no_publish_worker", "no worker that publishes is alive; start one: stenopool worker --role publish"
        )
    if one.error:
        again = f", again in {span(one.again_in)}" if one.again_in is not None and one.again_in > 0 else ""
        yield Reason("failing", f"its transcripts are made, and could not be published ({one.error}){again}")
    elif "publish" in one.roles:
        yield Reason("turn", "its transcripts are made, and are the next to be published")


def _part(one: Situation, part: Part) -> Iterator[Reason]:
    name = f"transcript {part.id}"
    if part.state not in (TranscriptState.TRANSCRIBING, TranscriptState.MERGING):
        return
    if part.paused:
        yield Reason("paused", f"{name} is held, as its samples are missing or who waits for it is paused")
        return
    if part.open == 0:
        yield from _merge(one, part, name)
        return
    if not part.engines:
        starting = f"; {_count(part.starting, 'engine')} starting" if part.starting else ""
        yield Reason(
            "no_engine",
            f"no engine that can decode {name} is alive (model {part.model}){starting}; start one: stenopool worker "
            f"--role engine --model {part.model}",
        )
    if part.suspects:
        died = "a worker" if part.deaths == 1 else f"{part.deaths} workers"
        then = (
            "at three it is a gap" if part.deaths < DEATHS else "it is tried again once no worker has died for a while"
        )
        yield Reason(
            "suspects",
            f"{_count(part.suspects, 'chunk')} of {name} {'is' if part.suspects == 1 else 'are'} tried apart from "
            f"others: {died} died with {'it' if part.suspects == 1 else 'the worst of them'}; {then}",
        )
    if not part.engines:
        return
    done = f"{part.chunks - part.open} of {part.chunks} chunks of {name} are done"
    if not part.language:
        yield Reason(
            "no_language",
            f"the language of {name} is being detected"
            if part.held
            else f"the language of {name} is still to be detected",
        )
    elif part.leased:
        yield Reason("at_work", f"{done}, {part.leased} being decoded, {part.ready} ready")
    elif part.ready:
        yield Reason("turn", f"{done}, {part.ready} ready for the next free engine{_behind(part.before, 0, part)}")
    else:
        yield Reason("turn", f"{done}; it waits for its turn{_behind(part.before, part.beside, part)}")


def _merge(one: Situation, part: Part, name: str) -> Iterator[Reason]:
    if "merge" not in one.roles:
        yield Reason("no_merge_worker", "no worker that merges is alive; start one: stenopool worker --role merge")
    elif part.held:
        yield Reason("at_work", f"all {part.chunks} chunks of {name} are done, and it is being merged")
    else:
        yield Reason("turn", f"all {part.chunks} chunks of {name} are done; it is the next to be merged")


def _behind(before: float, beside: float, part: Part) -> str:
    """Behind how much it waits, and for how long."""
    parts = []
    if before >= 1:
        parts.append(f"behind {span(before)} of audio in more urgent lanes")
    if beside >= 1:
        parts.append(f"beside {span(beside)} in its own")
    if not parts:
        return ""
    when = f"; all of it takes {span((before + beside) / part.pace)} at the pace of lately" if part.pace > 0 else ""
    return f" {' and '.join(parts)}{when}"


def span(seconds: float) -> str:
    """Seconds as people say them: 40 s, 12 min, 3.5 h, 2.1 days."""
    for unit, name, digits in ((86_400, "days", 1), (3600, "h", 1), (60, "min", 0)):
        if seconds >= 2 * unit or (unit == 3600 and seconds >= unit):
            return f"{seconds / unit:.{digits}f} {name}"
    return f"{max(0.0, seconds):.0f} s"


def _words(state: SubmissionState) -> str:
    return state.value.replace("_", " ")


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"


def _times(n: int) -> str:
    return "once" if n == 1 else f"{n} times"


def _nth(n: int) -> str:
    return {2: "second", 3: "third"}.get(n, f"{n}th")
