"""Views of the farm: who works, how well promises are kept, who is told, how the tables are."""

from __future__ import annotations

from storage.invariants import listed
from storage.tables import OPEN, PUBLISHED, Base, SubmissionState
from storage.throughput import PIECE
from storage.views.view import FAILED, LATELY, NOW, View, age, lane, seconds

WORKERS = View(
    name="workers",
    help="processes that work, and what they do",
    order="role, id",
    columns=(
        ("id", "of the process, in the ledger"),
        ("role", "engine, scheduler, or of ingest, merge, publish some"),
        ("state", "starting, working or draining; silent where it was not seen for half a minute"),
        ("host", "its machine"),
        ("pid", "there"),
        ("version", "of Stenopool"),
        ("model", "an engine's"),
        ("dtype", "in which it computes"),
        ("slots", "chunks that it decodes at once"),
        ("leased", "chunks that it holds"),
        ("submissions", "that it ingests or publishes"),
        ("audio_x", "seconds of audio that it has transcribed in a second, lately: times real time"),
        ("busy", "share of that time in which it had work"),
        ("heartbeat_age_s", "seconds since it was seen"),
        ("uptime_s", "seconds since it was begun"),
    ),
    sql=f"""
WITH lately AS (
    SELECT worker, sum(audio) AS audio, sum(busy) AS busy FROM throughput
    WHERE began >= floor({NOW} / {PIECE}) * {PIECE} - {LATELY} GROUP BY worker
), period AS (
    SELECT {NOW} - (floor({NOW} / {PIECE}) * {PIECE} - {LATELY}) AS length
)
SELECT w.id, w.role,
    CASE WHEN w.seen_at < {NOW} - 30 THEN 'silent' WHEN w.drain THEN 'draining' ELSE w.state END AS state,
    w.host, w.pid, w.version, w.model, w.dtype, w.slots,
    (SELECT count(*) FROM chunks c WHERE c.state = 'leased' AND c.worker = w.id)::int AS leased,
    (SELECT count(*) FROM submissions s WHERE s.state IN ('ingesting', 'publishing') AND s.worker = w.id)::int
        AS submissions,
    round((l.audio / greatest(least(p.length, {NOW} - w.started_at), 1))::numeric, 1)::float8 AS audio_x,
    CASE WHEN l.busy IS NOT NULL THEN  -- least() passes over null
        round(least(l.busy / greatest(least(p.length, {NOW} - w.started_at), 1), 1)::numeric, 3)::float8 END AS busy,
    {age("w.seen_at")} AS heartbeat_age_s, {age("w.started_at")} AS uptime_s
FROM workers w CROSS JOIN period p LEFT JOIN lately l ON l.worker = w.id
""",
)

#: When a submission was first being transcribed.
_BEGUN = "SELECT submission_id, min(at) AS at FROM events WHERE state = 'transcribing' GROUP BY submission_id"


def _percentile(share: float, of: str) -> str:
    return f"round((percentile_cont({share}) WITHIN GROUP (ORDER BY {of}))::numeric, 1)::float8"


_FAILED = f"s.state IN ('{SubmissionState.FAILED}', '{SubmissionState.CANCELLED}')"

TENANT_USAGE = View(
    name="tenant_usage",
    help="what ended, by day (UTC) and tenant",
    order="day DESC, tenant",
    columns=(
        ("day", "on which it ended"),
        ("tenant", "whose it was"),
        ("submissions", "that ended"),
        ("published", "of these: with a transcript"),
        ("with_gaps", "of these"),
        ("failed", "failed or cancelled"),
        ("audio_s", "seconds of what was published"),
        ("gap_chunks", "chunks that were given up in them"),
        ("wait_p50_s", "half of them waited so long until they were decoded and planned"),
        ("wait_p95_s", "19 of 20 did"),
        ("e2e_p50_s", "half of those that were published were so within these seconds"),
        ("e2e_p95_s", "19 of 20 were"),
    ),
    sql=f"""
WITH begun AS ({_BEGUN}), gaps AS (
    SELECT l.submission_id, count(*) AS n FROM chunks c
    JOIN submission_transcripts l ON l.transcript_id = c.transcript_id WHERE {FAILED} GROUP BY 1
)
SELECT (to_timestamp(s.ended_at) AT TIME ZONE 'UTC')::date AS day, s.tenant, count(*)::int AS submissions,
    count(*) FILTER (WHERE s.state IN {listed(PUBLISHED)})::int AS published,
    count(*) FILTER (WHERE s.state = '{SubmissionState.COMPLETED_WITH_GAPS}')::int AS with_gaps,
    count(*) FILTER (WHERE {_FAILED})::int AS failed,
    coalesce({seconds(f"sum(s.duration) FILTER (WHERE s.state IN {listed(PUBLISHED)})")}, 0) AS audio_s,
    coalesce(sum(g.n), 0)::int AS gap_chunks,
    {_percentile(0.5, "b.at - s.created_at")} AS wait_p50_s, {_percentile(0.95, "b.at - s.created_at")} AS wait_p95_s,
    {_percentile(0.5, f"CASE WHEN s.state IN {listed(PUBLISHED)} THEN s.ended_at - s.created_at END")} AS e2e_p50_s,
    {_percentile(0.95, f"CASE WHEN s.state IN {listed(PUBLISHED)} THEN s.ended_at - s.created_at END")} AS e2e_p95_s
FROM submissions s LEFT JOIN begun b ON b.submission_id = s.id LEFT JOIN gaps g ON g.submission_id = s.id
WHERE s.ended_at IS NOT NULL GROUP BY 1, 2
""",
)

SLA = View(
    name="sla",
    help="how long it takes, and whether deadlines are kept, by lane",
    order=(
        "array_position(ARRAY['hour', 'day', 'week'], period), array_position(ARRAY['urgent', 'normal', 'bulk'], lane)"
    ),
    columns=(
        ("period", "what ended in the last hour, day or week"),
        ("lane", "urgent, normal or bulk"),
        ("published", "submissions that ended with a transcript"),
        ("failed", "that failed or were cancelled"),
        ("wait_p50_s", "half of them waited so long until they were decoded and planned"),
        ("wait_p95_s", "19 of 20 did"),
        ("wait_p99_s", "99 of 100 did"),
        ("e2e_p50_s", "half of those that were published were so within these seconds"),
        ("e2e_p95_s", "19 of 20 were"),
        ("e2e_p99_s", "99 of 100 were"),
        ("deadlines", "published submissions that had one"),
        ("kept", "of these: in time"),
        ("overdue", "open now, and past their deadline"),
    ),
    sql=f"""
WITH periods (period, length) AS (VALUES ('hour', 3600), ('day', 86400), ('week', 604800)),
lanes (lane) AS (VALUES (0), (1), (2)),
begun AS ({_BEGUN}),
overdue AS (
    SELECT lane, count(*) AS n FROM submissions WHERE state IN {listed(OPEN)} AND deadline_at < {NOW} GROUP BY lane
),
ended AS (
    SELECT s.lane, s.ended_at, s.deadline_at, s.state IN {listed(PUBLISHED)} AS published, {_FAILED} AS failed,
        b.at - s.created_at AS wait,
        CASE WHEN s.state IN {listed(PUBLISHED)} THEN s.ended_at - s.created_at END AS e2e
    FROM submissions s LEFT JOIN begun b ON b.submission_id = s.id WHERE s.ended_at > {NOW} - 604800
)
SELECT p.period, {lane("l.lane")} AS lane, count(*) FILTER (WHERE e.published)::int AS published,
    count(*) FILTER (WHERE e.failed)::int AS failed,
    {_percentile(0.5, "e.wait")} AS wait_p50_s, {_percentile(0.95, "e.wait")} AS wait_p95_s,
    {_percentile(0.99, "e.wait")} AS wait_p99_s, {_percentile(0.5, "e.e2e")} AS e2e_p50_s,
    {_percentile(0.95, "e.e2e")} AS e2e_p95_s, {_percentile(0.99, "e.e2e")} AS e2e_p99_s,
    count(*) FILTER (WHERE e.published AND e.deadline_at IS NOT NULL)::int AS deadlines,
    count(*) FILTER (WHERE e.published AND e.ended_at <= e.deadline_at)::int AS kept,
    coalesce(max(o.n), 0)::int AS overdue
FROM periods p CROSS JOIN lanes l
LEFT JOIN ended e ON e.lane = l.lane AND e.ended_at > {NOW} - p.length
LEFT JOIN overdue o ON o.lane = l.lane
GROUP BY p.period, l.lane
""",
)

OUTBOX = View(
    name="outbox",
    help="who is still to be told what: events without a number, and the endpoints of webhooks",
    order="oldest_age_s DESC NULLS LAST, endpoint NULLS FIRST",
    columns=(
        ("endpoint", "its id; null: events that wait for their number, which the scheduler gives"),
        ("tenant", "whose endpoint it is"),
        ("host", "that is told; not the whole URL, which may hold secrets"),
        ("state", "enabled, paused or disabled"),
        ("waiting", "events that it was not told of yet"),
        ("oldest_age_s", "seconds since the oldest of these"),
        ("tried", "of these: at least once, without success"),
        ("refused", "that it wanted no further attempt of"),
        ("given_up", "that were tried for as long as anything is"),
        ("failures", "one after the other"),
        ("next_at", "until then it is left alone"),
        ("reason", "how it failed the last time"),
    ),
    sql=f"""
SELECT NULL::int AS endpoint, NULL AS tenant, NULL AS host, 'numbering' AS state, count(*)::int AS waiting,
    {age("min(e.at)")} AS oldest_age_s, NULL::int AS tried, NULL::int AS refused, NULL::int AS given_up,
    NULL::int AS failures, NULL::timestamptz AS next_at, NULL AS reason
FROM events e WHERE e.position IS NULL
UNION ALL
SELECT e.id, e.tenant, substring(e.url FROM '^[a-z]+://(?:[^/?#]*@)?([^/?#]*)'), e.state,
    (coalesce(w.waiting, 0) + b.behind)::int, {age("least(w.oldest, b.oldest)")}, coalesce(w.tried, 0)::int,
    coalesce(g.refused, 0)::int, coalesce(g.given_up, 0)::int, e.failures::int, to_timestamp(e.not_before), e.reason
FROM endpoints e
LEFT JOIN (
    SELECT d.endpoint_id, count(*) AS waiting, count(*) FILTER (WHERE d.attempts > 0) AS tried, min(v.at) AS oldest
    FROM deliveries d JOIN events v ON v.position = d.position WHERE d.state = 'waiting' GROUP BY 1
) w ON w.endpoint_id = e.id
LEFT JOIN (
    SELECT endpoint_id, count(*) FILTER (WHERE state = 'refused') AS refused,
        count(*) FILTER (WHERE state = 'given_up') AS given_up
    FROM deliveries WHERE state IN ('refused', 'given_up') GROUP BY 1
) g ON g.endpoint_id = e.id
CROSS JOIN LATERAL (
    SELECT count(*) AS behind, min(v.at) AS oldest FROM events v
    WHERE v.position > e.position AND v.tenant = e.tenant AND e.state <> 'disabled'
) b
""",
)

#: Named as they are found while the views are made, and kept by their ids from then on.
_TABLES = ", ".join(f"'{table}'::regclass" for table in sorted(Base.metadata.tables))

BLOAT = View(
    name="bloat",
    help="the ledger's tables: sizes, dead rows, and when they were last cleaned",
    order="bytes DESC, name",
    columns=(
        ("name", "of the table"),
        ("live", "rows, about"),
        ("dead", "rows that are no longer, and take room until they are vacuumed"),
        ("dead_share", "of all"),
        ("bytes", "of the table with its indexes"),
        ("index_bytes", "of these: the indexes"),
        ("vacuumed_at", "when it was last vacuumed"),
        ("analyzed_at", "when it was last looked at for the planner"),
    ),
    sql=f"""
SELECT c.relname::text AS name, greatest(s.n_live_tup, c.reltuples::bigint, 0) AS live, s.n_dead_tup AS dead,
    round(s.n_dead_tup::numeric / greatest(s.n_live_tup + s.n_dead_tup, 1), 3)::float8 AS dead_share,
    pg_total_relation_size(c.oid) AS bytes, pg_indexes_size(c.oid) AS index_bytes,
    greatest(s.last_vacuum, s.last_autovacuum) AS vacuumed_at,
    greatest(s.last_analyze, s.last_autoanalyze) AS analyzed_at
FROM pg_class c JOIN pg_stat_all_tables s ON s.relid = c.oid
WHERE c.oid = ANY (ARRAY[{_TABLES}])
""",
)

VIEWS = (WORKERS, TENANT_USAGE, SLA, OUTBOX, BLOAT)
