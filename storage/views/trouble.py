"""Views of what is wrong, or may be: who holds what, what was begun again, what was given up, what does not go on."""

from __future__ import annotations

from storage.invariants import INVARIANTS
from storage.keys import PCM
from storage.views.view import ALIVE, FAILED, NOW, View, age, is_paused, seconds

_LEFT = "round((h.lease_until - " + NOW + ")::numeric, 1)::float8"

LEASES = View(
    name="leases",
    help="who holds what, and for how long",
    order="lease_left_s, kind, id, chunk",
    columns=(
        ("kind", "chunk, ingest, publish, language or merge"),
        ("id", "of the submission (ingest, publish) or of the transcript"),
        ("chunk", "its index"),
        ("tenant", "whose it is"),
        ("worker", "that holds it; null for a merge"),
        ("alive", "it was seen lately"),
        ("fence", "under which a result counts"),
        ("attempt", "times it was claimed"),
        ("crashes", "leases of it that ran out"),
        ("audio_s", "seconds of the chunk"),
        ("lease_left_s", "seconds until it may be taken back"),
    ),
    sql=f"""
WITH alive AS ({ALIVE}), held AS (
    SELECT 'chunk' AS kind, c.transcript_id AS id, c.index AS chunk, t.tenant, c.worker, c.fence, c.attempt,
        c.crashes::int AS crashes, c."end" - c.start AS samples, c.lease_until
    FROM chunks c JOIN transcripts t ON t.id = c.transcript_id WHERE c.state = 'leased'
    UNION ALL
    SELECT CASE s.state WHEN 'ingesting' THEN 'ingest' ELSE 'publish' END, s.id, NULL, s.tenant, s.worker, s.fence,
        s.attempt, NULL, s.duration, s.lease_until
    FROM submissions s WHERE s.state IN ('ingesting', 'publishing') AND s.worker IS NOT NULL
    UNION ALL
    SELECT CASE t.state WHEN 'merging' THEN 'merge' ELSE 'language' END, t.id, NULL, t.tenant,
        CASE t.state WHEN 'merging' THEN NULL ELSE t.elector END, t.fence, NULL, NULL, NULL, t.lease_until
    FROM transcripts t
    WHERE t.state = 'merging' OR t.state = 'transcribing' AND t.language IS NULL AND t.elector IS NOT NULL
)
SELECT h.kind, h.id, h.chunk, h.tenant, h.worker,
    CASE WHEN h.worker IS NOT NULL THEN EXISTS (SELECT 1 FROM alive a WHERE a.id = h.worker) END AS alive,
    h.fence, h.attempt, h.crashes, {seconds("h.samples")} AS audio_s, {_LEFT} AS lease_left_s
FROM held h
""",
)

ATTEMPTS = View(
    name="attempts",
    help="what was begun more than once, or failed, and is not done yet",
    order="crashes DESC NULLS LAST, attempt DESC, kind, id, chunk",
    columns=(
        ("kind", "chunk, submission or delivery"),
        ("id", "of the transcript, the submission or the endpoint"),
        ("chunk", "its index; of a delivery, the position of the event"),
        ("tenant", "whose it is"),
        ("state", "its state now"),
        ("attempt", "times it was begun"),
        ("crashes", "workers that died with it; from 1 on it is decoded apart"),
        ("next_at", "when it is tried again; null: as soon as it is its turn"),
        ("error", "why it failed the last time"),
    ),
    sql="""
SELECT 'chunk' AS kind, c.transcript_id AS id, c.index AS chunk, t.tenant, c.state, c.attempt,
    c.crashes::int AS crashes, NULL::timestamptz AS next_at,
    CASE WHEN c.crashes > 0 THEN 'its lease ran out ' || c.crashes || ' times' ELSE 'it was given back' END AS error
FROM chunks c JOIN transcripts t ON t.id = c.transcript_id
WHERE c.state = 'ready' AND c.attempt > 0 OR c.state = 'leased' AND c.attempt > 1
UNION ALL
SELECT 'submission', s.id, NULL, s.tenant, s.state, s.attempt, NULL, to_timestamp(s.not_before), s.error
FROM submissions s
WHERE s.state IN ('accepted', 'ingesting', 'transcribing', 'publishing') AND (s.error IS NOT NULL OR s.attempt > 1)
UNION ALL
SELECT 'delivery', d.endpoint_id, d.position, e.tenant, d.state, d.attempts, NULL, to_timestamp(d.not_before), d.error
FROM deliveries d JOIN endpoints e ON e.id = d.endpoint_id WHERE d.state = 'waiting' AND d.attempts > 0
""",
)

QUARANTINE = View(
    name="quarantine",
    help="chunks that were given up, and why: the gaps of transcripts",
    order="transcript DESC, chunk",
    columns=(
        ("transcript", "in which the gap is"),
        ("version", "of the transcript"),
        ("chunk", "its index"),
        ("tenant", "whose it is"),
        ("submissions", "that have it; `stenopool retry` tries their gaps again"),
        ("start_s", "where the gap begins, in seconds"),
        ("end_s", "where it ends"),
        ("reason", "why it was given up"),
        ("attempt", "times it was claimed"),
        ("crashes", "workers that died with it"),
        ("audio_key", "of the samples in the object store"),
        ("completed_at", "when the transcript was merged"),
    ),
    sql=f"""
SELECT c.transcript_id AS transcript, t.generation AS version, c.index AS chunk, t.tenant,
    (SELECT string_agg(l.submission_id::text, ' ' ORDER BY l.submission_id) FROM submission_transcripts l
        WHERE l.transcript_id = c.transcript_id) AS submissions,
    {seconds("c.start")} AS start_s, {seconds('c."end"')} AS end_s, c.result ->> 'failed' AS reason, c.attempt,
    c.crashes::int AS crashes, '{PCM}/' || t.recording_id AS audio_key, to_timestamp(t.completed_at) AS completed_at
FROM chunks c JOIN transcripts t ON t.id = c.transcript_id
WHERE {FAILED}
""",
)

STUCK = View(
    name="stuck",
    help="what does not go on by itself, or goes on too late, and why",
    order="since, kind, id",
    columns=(
        ("kind", "submission, worker, endpoint or deletion"),
        ("id", "of it"),
        ("tenant", "whose it is"),
        ("state", "its state"),
        ("reason", "a word: see docs/admin.md; `stenopool admin why ID` says more of a submission"),
        ("detail", "the model that is missing, or what went wrong the last time"),
        ("since", "when it was handed in, was seen last, began to fail or was asked for"),
        ("age_s", "seconds since then"),
    ),
    sql=f"""
WITH alive AS ({ALIVE}), roles AS (
    SELECT coalesce(bool_or(role = 'scheduler'), false) AS scheduler,
        coalesce(bool_or('ingest' = ANY (string_to_array(role, '+'))), false) AS ingest,
        coalesce(bool_or('merge' = ANY (string_to_array(role, '+'))), false) AS merge,
        coalesce(bool_or('publish' = ANY (string_to_array(role, '+'))), false) AS publish
    FROM alive WHERE state <> 'starting'
), making AS (
    SELECT l.submission_id, bool_or(t.chunks_open = 0) AS to_merge,
        bool_or(t.chunks_open > 0 AND NOT EXISTS (SELECT 1 FROM alive a WHERE a.engine_key = t.engine_key)) AS deaf,
        min(t.provenance ->> 'model') AS model
    FROM transcripts t JOIN submission_transcripts l ON l.transcript_id = t.id
    WHERE t.state IN ('transcribing', 'merging') GROUP BY l.submission_id
), submitted AS (
    SELECT s.id, s.tenant, s.state, s.created_at, s.error, m.model, CASE
        WHEN s.paused THEN 'paused'
        WHEN {is_paused("s")} THEN
            CASE WHEN EXISTS (SELECT 1 FROM pauses p WHERE p.lane = s.lane) THEN 'lane_paused' ELSE 'tenant_paused' END
        WHEN NOT r.scheduler THEN 'no_scheduler'
        WHEN s.lease_until < {NOW} - 10 THEN 'lease_ran_out'
        WHEN s.state = 'accepted' AND NOT r.ingest THEN 'no_ingest_worker'
        WHEN s.state = 'transcribing' AND m.deaf THEN 'no_engine'
        WHEN s.state = 'transcribing' AND m.to_merge AND NOT r.merge THEN 'no_merge_worker'
        WHEN s.state = 'publishing' AND NOT r.publish THEN 'no_publish_worker'
        WHEN s.error IS NOT NULL THEN 'failing'
        WHEN s.deadline_at < {NOW} THEN 'overdue'
        END AS reason
    FROM submissions s CROSS JOIN roles r LEFT JOIN making m ON m.submission_id = s.id AND s.state = 'transcribing'
    WHERE s.state IN ('accepted', 'ingesting', 'transcribing', 'publishing')
), found AS (
    SELECT 'submission' AS kind, id::text AS id, tenant, state, reason,
        CASE reason WHEN 'no_engine' THEN model ELSE error END AS detail, created_at AS since
    FROM submitted WHERE reason IS NOT NULL
    UNION ALL
    SELECT 'worker', w.id, NULL, w.state, CASE WHEN w.seen_at < {NOW} - 30 THEN 'silent'
        WHEN w.state = 'starting' THEN 'starts_long' ELSE 'drains_long' END, w.role,
        CASE WHEN w.seen_at < {NOW} - 30 THEN w.seen_at ELSE w.started_at END
    FROM workers w
    WHERE w.seen_at < {NOW} - 30 OR w.state = 'starting' AND w.started_at < {NOW} - 900
        OR w.drain AND w.started_at < {NOW} - 3600
    UNION ALL
    SELECT 'endpoint', e.id::text, e.tenant, e.state,
        CASE e.state WHEN 'enabled' THEN 'failing' ELSE 'endpoint_' || e.state END,
        e.reason, coalesce(e.failing_since, e.created_at)
    FROM endpoints e WHERE e.state <> 'enabled' OR e.failing_since < {NOW} - 3600
    UNION ALL
    SELECT 'deletion', d.submission_id::text, s.tenant, s.state, 'not_deleted', d.error, d.asked_at
    FROM deletions d JOIN submissions s ON s.id = d.submission_id
    WHERE d.completed_at IS NULL AND (d.error IS NOT NULL OR d.asked_at < {NOW} - 3600)
)
SELECT f.kind, f.id, f.tenant, f.state, f.reason, f.detail, to_timestamp(f.since) AS since, {age("f.since")} AS age_s
FROM found f
""",
)

INVARIANTS_VIEW = View(
    name="invariants",
    help="promises that are broken: rows here are bugs",
    order="name, id",
    columns=(
        ("name", "of the promise"),
        ("kind", "transcript, submission or events"),
        ("id", "of what it is broken"),
        ("detail", "how"),
    ),
    sql=INVARIANTS,
)

VIEWS = (STUCK, LEASES, ATTEMPTS, QUARANTINE, INVARIANTS_VIEW)
