"""What must hold of a ledger at every moment: a query whose rows are broken promises, in SQL that both databases know.

It sees one snapshot; counters change in the transactions that change what they count, so that it may be asked while a
farm runs. The view `admin.invariants` is this query, and the drills ask it, too (tests/faults/history.py).
"""

from __future__ import annotations

from collections.abc import Iterable

from storage.tables import COMPLETED, MAKING, OPEN, PUBLISHED, ChunkState, SubmissionState, TranscriptState


def listed(states: Iterable[str]) -> str:
    """States as SQL has them: ('completed', 'failed')."""
    return "(" + ", ".join(f"'{state}'" for state in map(str, states)) + ")"


_SETTLED = (*PUBLISHED, SubmissionState.FAILED, SubmissionState.CANCELLED)
_SAME_WORK = (
    "{0}.tenant = {1}.tenant AND {0}.recording_id = {1}.recording_id AND {0}.work_digest = {1}.work_digest".format
)

#: Of each transcript's chunks: how many there are, and in what state. All of it is in one index: no row is looked at.
_COUNTED = f"""
    SELECT t.id, t.state, t.chunks_total, t.chunks_open, t.chunks_waiting, t.sequential, t.lane, t.forgotten,
           coalesce(c.total, 0) AS total, coalesce(c.done, 0) AS done, coalesce(c.waiting, 0) AS waiting,
           coalesce(c.ready, 0) AS ready, coalesce(c.leased, 0) AS leased
    FROM transcripts t
    LEFT JOIN (
        SELECT transcript_id, count(*) AS total,
               count(*) FILTER (WHERE state = '{ChunkState.DONE}') AS done,
               count(*) FILTER (WHERE state = '{ChunkState.WAITING}') AS waiting,
               count(*) FILTER (WHERE state = '{ChunkState.READY}') AS ready,
               count(*) FILTER (WHERE state = '{ChunkState.LEASED}') AS leased
        FROM chunks GROUP BY transcript_id
    ) c ON c.transcript_id = t.id
"""

#: Of a sequential transcript only the chunk that goes next counts as waiting.
_WAITING = "CASE WHEN NOT sequential THEN waiting WHEN ready + leased > 0 OR waiting = 0 THEN 0 ELSE 1 END"

#: What is broken: name, of what, which rows (id and detail), and what it means.
CHECKS: tuple[tuple[str, str, str, str], ...] = (
    (
        "chunks_total",
        "transcript",
        "SELECT id, 'has ' || total || ' chunks, not ' || chunks_total FROM counted WHERE total <> chunks_total",
        "a transcript has more chunks than were planned, or fewer",
    ),
    (
        "chunks_open",
        "transcript",
        "SELECT id, 'counts ' || chunks_open || ' open chunks, and has ' || (total - done) FROM counted"
        " WHERE total - done <> chunks_open",
        "the counter by which a transcript is merged is wrong",
    ),
    (
        "chunks_waiting",
        "transcript",
        f"SELECT id, 'counts ' || chunks_waiting || ' waiting chunks, and has ' || waiting FROM counted"
        f" WHERE lane IS NOT NULL AND chunks_waiting <> {_WAITING}",
        "the counter by which chunks are made ready is wrong",
    ),
    (
        "leased_without_lease",
        "transcript",
        f"SELECT transcript_id, count(*) || ' chunks are leased by nobody, or for ever' FROM chunks"
        f" WHERE state = '{ChunkState.LEASED}' AND (worker IS NULL OR lease_until IS NULL) GROUP BY transcript_id",
        "a leased chunk has no worker or no end of its lease: nobody would take it back",
    ),
    (
        "held_without_lease",
        "transcript",
        f"SELECT transcript_id, count(*) || ' chunks are ready, and have a worker' FROM chunks"
        f" WHERE state = '{ChunkState.READY}' AND worker IS NOT NULL GROUP BY transcript_id",
        "a chunk is ready for anybody, and has a worker",
    ),
    (
        "done_without_result",
        "transcript",
        # Transcript by transcript, of those that have some: else all chunks would be looked at.
        f"SELECT id, unheard || ' chunks are done without a result' FROM (SELECT t.id, (SELECT count(*) FROM chunks c"
        f" WHERE c.transcript_id = t.id AND c.state = '{ChunkState.DONE}' AND c.result IS NULL) AS unheard"
        f" FROM counted t WHERE t.done > 0 AND NOT t.forgotten AND t.state IN {listed(MAKING)}) u WHERE unheard > 0",
        "a chunk of a transcript that is being made is done, and what was heard is not there",
    ),
    (
        "ended_with_open_chunks",
        "transcript",
        f"SELECT id, 'is ' || state || ' with ' || (total - done) || ' open chunks' FROM counted"
        f" WHERE state IN {listed((*COMPLETED, TranscriptState.MERGING))} AND total > done",
        "a transcript is merged before all its chunks are done",
    ),
    (
        "cancelled_with_ready_chunks",
        "transcript",
        f"SELECT id, 'is cancelled, and ' || ready || ' chunks are ready' FROM counted"
        f" WHERE state = '{TranscriptState.CANCELLED}' AND ready > 0",
        "work is handed out that nobody wants",
    ),
    (
        "completed_without_document",
        "transcript",
        f"SELECT id, 'is ' || state || ' without a document' FROM transcripts"
        f" WHERE state IN {listed(COMPLETED)} AND document IS NULL",
        "a transcript is complete, and its text is not there",
    ),
    (
        "made_twice",
        "transcript",
        f"SELECT max(id), count(*) || ' versions of it are being made at once' FROM transcripts"
        f" WHERE state IN {listed(MAKING)} GROUP BY tenant, recording_id, work_digest HAVING count(*) > 1",
        "two versions of the same transcript are being made at once",
    ),
    (
        "shown_twice",
        "transcript",
        f"SELECT t.id, 'is found by search, and a later version is shown' FROM transcripts t"
        f" WHERE t.state IN {listed(COMPLETED)}"
        f" AND EXISTS (SELECT 1 FROM passages p WHERE p.transcript_id = t.id)"
        f" AND (t.withheld OR EXISTS (SELECT 1 FROM transcripts n WHERE {_SAME_WORK('n', 't')}"
        f" AND n.generation > t.generation AND n.state IN {listed(COMPLETED)} AND NOT n.withheld))",
        "two versions of the same transcript are shown",
    ),
    (
        "leased_submission_without_lease",
        "submission",
        f"SELECT id, 'is ingested by nobody, or for ever' FROM submissions"
        f" WHERE state = '{SubmissionState.INGESTING}' AND (worker IS NULL OR lease_until IS NULL)",
        "a submission is being ingested without a lease: nobody would take it back",
    ),
    (
        "ended_with_lease",
        "submission",
        f"SELECT id, 'is ' || state || ', and ' || worker || ' holds it' FROM submissions"
        f" WHERE state IN {listed(_SETTLED)} AND worker IS NOT NULL",
        "a submission has ended, and a worker holds it",
    ),
    (
        "end_without_time",
        "submission",
        f"SELECT id, 'is ' || state || ', and its time of ending says otherwise' FROM submissions"
        f" WHERE state IN {listed(_SETTLED)} AND ended_at IS NULL"
        f" OR state IN {listed(OPEN)} AND settled IS NULL AND ended_at IS NOT NULL",
        "a submission has ended without a time, or has a time and has not ended",
    ),
    (
        "transcribing_nothing",
        "submission",
        f"SELECT id, 'is transcribing, and has no transcript' FROM submissions s"
        f" WHERE state = '{SubmissionState.TRANSCRIBING}'"
        f" AND NOT EXISTS (SELECT 1 FROM submission_transcripts l WHERE l.submission_id = s.id)",
        "a submission waits for transcripts and has none",
    ),
    (
        "published_without_transcript",
        "submission",
        f"SELECT s.id, 'is ' || s.state || ', and nothing is shown of transcript ' || t.id FROM submissions s"
        f" JOIN submission_transcripts l ON l.submission_id = s.id JOIN transcripts t ON t.id = l.transcript_id"
        f" WHERE s.state IN {listed(PUBLISHED)} AND NOT EXISTS (SELECT 1 FROM transcripts n"
        f" WHERE {_SAME_WORK('n', 't')} AND n.state IN {listed(COMPLETED)} AND NOT n.withheld)",
        "a submission is published, and no version of its transcript is complete",
    ),
    (
        "event_positions",
        "events",
        "SELECT max(position), 'are ' || count(position) || ' with a number, the last is ' || max(position)"
        " FROM events HAVING count(position) <> max(position)",
        "events are numbered with gaps: who reads them would wait",
    ),
)

#: Columns name, kind, id, detail.
INVARIANTS = f"WITH counted AS ({_COUNTED})\n" + "\nUNION ALL\n".join(
    f"SELECT '{name}' AS name, '{kind}' AS kind, q.id AS id, q.detail AS detail FROM (SELECT NULL AS id, NULL AS detail"
    f" WHERE 1 = 0 UNION ALL {query}) q"
    for name, kind, query, _ in CHECKS
)
