"""Views of the work: what was handed in, what is made of it, what there is still to do."""

from __future__ import annotations

from stenopool.domain import SAMPLE_RATE
from storage.invariants import listed
from storage.tables import COMPLETED, ENDED, OPEN, SubmissionState
from storage.views.view import ALIVE, FAILED, NOW, PACE, UNDER_WAY, View, age, is_paused, lane, seconds

#: Of a transcript: samples that are still to be transcribed, if all its chunks were equally long.
_LEFT = "r.duration::float8 * t.chunks_open / greatest(t.chunks_total, 1)"

SUBMISSIONS = View(
    name="submissions",
    help="what was handed in, and how far it is",
    order="id DESC",
    columns=(
        ("id", "of the submission"),
        ("tenant", "whose it is"),
        ("name", "what people call it"),
        ("campaign", "that it belongs to"),
        ("model", "as it was named"),
        ("lane", "urgent, normal or bulk"),
        ("priority", "within tenant and lane, the higher first"),
        ("state", "what has become of it"),
        ("paused", "by itself, or with its lane or tenant"),
        ("age_s", "seconds since it was handed in; of what has ended, until it did"),
        ("deadline_at", "when it is due"),
        ("late", "it was, or will be, done after that"),
        ("audio_s", "seconds of all its transcripts, once it is decoded"),
        ("chunks", "of all its transcripts"),
        ("done", "of these"),
        ("waiting", "of these: not ready yet"),
        ("ready", "of these: for the next engine"),
        ("leased", "of these: being decoded"),
        ("gaps", "of these: given up"),
        ("eta_s", "seconds until all of its model is done in its lane and those before it, at the pace of lately"),
        ("worker", "that ingests or publishes it"),
        ("attempt", "times its present stage was begun"),
        ("error", "why it failed, or is tried again"),
        ("created_at", "when it was handed in"),
        ("ended_at", "when nothing more was to be done"),
    ),
    sql=f"""
WITH pace AS ({PACE}),
left_over AS (
    SELECT t.engine_key, t.lane, t.provenance ->> 'model' AS model, sum({_LEFT}) AS samples
    FROM transcripts t JOIN recordings r ON r.id = t.recording_id
    WHERE t.state = 'transcribing' AND t.lane IS NOT NULL GROUP BY 1, 2, 3
),
queue AS (
    SELECT l.engine_key, l.lane, sum(before.samples) / {SAMPLE_RATE} / max(pace.pace) AS eta
    FROM left_over l JOIN left_over before ON before.engine_key = l.engine_key AND before.lane <= l.lane
    JOIN pace ON pace.model = l.model GROUP BY 1, 2
)
SELECT s.id, s.tenant, s.name, s.campaign_id AS campaign, s.model, {lane("s.lane")} AS lane, s.priority, s.state,
    s.state IN {listed(OPEN)} AND (s.paused OR {is_paused("s")}) AS paused,
    round((coalesce(s.ended_at, {NOW}) - s.created_at)::numeric, 1)::float8 AS age_s,
    to_timestamp(s.deadline_at) AS deadline_at,
    s.deadline_at IS NOT NULL AND coalesce(s.ended_at, {NOW}) > s.deadline_at AS late,
    {seconds("s.duration")} AS audio_s, m.chunks, m.chunks - m.open AS done,
    greatest(m.open - m.ready - m.leased, 0) AS waiting, m.ready, m.leased, m.gaps,
    round(m.eta::numeric)::float8 AS eta_s, s.worker, s.attempt, s.error,
    to_timestamp(s.created_at) AS created_at, to_timestamp(s.ended_at) AS ended_at
FROM submissions s
LEFT JOIN LATERAL (
    SELECT sum(t.chunks_total)::int AS chunks, sum(t.chunks_open)::int AS open,
        sum(u.ready)::int AS ready, sum(u.leased)::int AS leased, sum(u.gaps)::int AS gaps, max(q.eta) AS eta
    FROM submission_transcripts l JOIN transcripts t ON t.id = l.transcript_id
    LEFT JOIN queue q ON q.engine_key = t.engine_key AND q.lane = t.lane AND t.state = 'transcribing'
    CROSS JOIN LATERAL (
        SELECT CASE WHEN t.chunks_open = 0 THEN 0 ELSE (
                SELECT count(*) FROM chunks c WHERE c.transcript_id = t.id AND c.state = 'ready') END AS ready,
            CASE WHEN t.chunks_open = 0 THEN 0 ELSE (
                SELECT count(*) FROM chunks c WHERE c.transcript_id = t.id AND c.state = 'leased') END AS leased,
            (SELECT count(*) FROM chunks c WHERE c.transcript_id = t.id AND {FAILED}) AS gaps
    ) u
    WHERE l.submission_id = s.id
) m ON true
""",
)

TRANSCRIPTS = View(
    name="transcripts",
    help="versions of texts: those that are made, and those that are being made",
    order="id DESC",
    columns=(
        ("id", "of the transcript"),
        ("tenant", "whose it is"),
        ("recording", "SHA-256 of the samples"),
        ("version", "its number among those of the same work"),
        ("model", "that hears it"),
        ("lane", "urgent, normal or bulk"),
        ("priority", "within tenant and lane, the higher first"),
        ("state", "what has become of it"),
        ("paused", "none of its chunks is made ready"),
        ("withheld", "it has more gaps than the version that is shown"),
        ("language", "null until it is detected"),
        ("audio_s", "seconds of the recording"),
        ("chunks", "of which it consists"),
        ("done", "of these"),
        ("gaps", "of these: given up"),
        ("submissions", "that have it"),
        ("created_at", "when it was planned"),
        ("completed_at", "when it was merged"),
    ),
    sql=f"""
SELECT t.id, t.tenant, t.recording_id AS recording, t.generation AS version, t.provenance ->> 'model' AS model,
    {lane("t.lane")} AS lane, t.priority, t.state,
    t.state = 'transcribing' AND (t.paused OR {is_paused("t")}) AS paused, t.withheld, t.language,
    {seconds("r.duration")} AS audio_s, t.chunks_total AS chunks, t.chunks_total - t.chunks_open AS done,
    (SELECT count(*) FROM chunks c WHERE c.transcript_id = t.id AND {FAILED})::int AS gaps,
    (SELECT count(*) FROM submission_transcripts l WHERE l.transcript_id = t.id)::int AS submissions,
    to_timestamp(t.created_at) AS created_at, to_timestamp(t.completed_at) AS completed_at
FROM transcripts t JOIN recordings r ON r.id = t.recording_id
""",
)

RECORDINGS = View(
    name="recordings",
    help="decoded sound, whatever it was wrapped in, by tenant",
    order="created_at DESC, id, tenant",
    columns=(
        ("id", "SHA-256 of the samples"),
        ("tenant", "who has it"),
        ("audio_s", "its length in seconds"),
        ("submissions", "of that tenant, in which it is"),
        ("transcripts", "of that tenant, all versions"),
        ("being_made", "of these"),
        ("with_gaps", "of these"),
        ("shown", "transcripts that have a version to show"),
        ("created_at", "when it was decoded first"),
    ),
    sql=f"""
SELECT r.id, t.tenant, {seconds("r.duration")} AS audio_s, coalesce(l.submissions, 0)::int AS submissions,
    t.transcripts::int, t.being_made::int, t.with_gaps::int, t.shown::int, to_timestamp(r.created_at) AS created_at
FROM recordings r
JOIN (
    SELECT recording_id, tenant, count(*) AS transcripts,
        count(*) FILTER (WHERE state IN ('transcribing', 'merging')) AS being_made,
        count(*) FILTER (WHERE state = 'completed_with_gaps') AS with_gaps,
        count(DISTINCT work_digest) FILTER (WHERE state IN {listed(COMPLETED)} AND NOT withheld) AS shown
    FROM transcripts GROUP BY recording_id, tenant
) t ON t.recording_id = r.id
LEFT JOIN (
    SELECT t.recording_id, t.tenant, count(DISTINCT l.submission_id) AS submissions
    FROM submission_transcripts l JOIN transcripts t ON t.id = l.transcript_id GROUP BY 1, 2
) l ON l.recording_id = t.recording_id AND l.tenant = t.tenant
""",
)

BACKLOG = View(
    name="backlog",
    help="what there is still to do, by lane, tenant and model",
    order="array_position(ARRAY['urgent', 'normal', 'bulk'], lane), tenant, model",
    columns=(
        ("lane", "urgent, normal or bulk"),
        ("tenant", "whose it is"),
        ("model", "that is to hear it"),
        ("paused", "the lane or the tenant"),
        ("undecoded", "submissions that are not decoded yet"),
        ("transcripts", "that are being made"),
        ("chunks", "that are not done"),
        ("ready", "of these: for the next engine"),
        ("leased", "of these: being decoded"),
        ("audio_s", "seconds of audio in them; what is not decoded yet is not counted"),
        ("oldest_age_s", "seconds since the oldest of it was handed in or planned"),
        ("engines", "that are alive and can decode it"),
        ("audio_per_s", "seconds of audio that engines of its model have transcribed in a second, lately"),
        ("drain_s", "seconds until it is done, if they did nothing else"),
    ),
    sql=f"""
WITH pace AS ({PACE}), alive AS ({ALIVE}), under_way AS ({UNDER_WAY}),
parts AS (
    SELECT s.lane, s.tenant, s.model, count(*) AS undecoded, 0 AS transcripts, 0 AS chunks, 0 AS ready, 0 AS leased,
        0 AS samples, min(s.created_at) AS oldest, NULL AS engine_key
    FROM submissions s
    WHERE s.state IN ('{SubmissionState.ACCEPTED}', '{SubmissionState.INGESTING}') GROUP BY 1, 2, 3
    UNION ALL
    SELECT t.lane, t.tenant, t.provenance ->> 'model', 0, count(*), sum(t.chunks_open), sum(coalesce(u.ready, 0)),
        sum(coalesce(u.leased, 0)), sum({_LEFT}), min(t.created_at), max(t.engine_key)
    FROM transcripts t JOIN recordings r ON r.id = t.recording_id LEFT JOIN under_way u ON u.transcript_id = t.id
    WHERE t.state = 'transcribing' AND t.lane IS NOT NULL GROUP BY 1, 2, 3
)
SELECT {lane("b.lane")} AS lane, b.tenant, b.model, {is_paused("b")} AS paused,
    b.undecoded::int, b.transcripts::int, b.chunks::int, b.ready::int, b.leased::int,
    round((b.samples / {SAMPLE_RATE})::numeric, 1)::float8 AS audio_s, {age("b.oldest")} AS oldest_age_s,
    (SELECT count(*) FROM alive a WHERE a.role = 'engine' AND a.state = 'working'
        AND (a.engine_key = b.engine_key OR b.engine_key IS NULL AND a.model = b.model))::int AS engines,
    round(coalesce(pace.pace, 0)::numeric, 1)::float8 AS audio_per_s,
    round((b.samples / {SAMPLE_RATE} / pace.pace)::numeric)::float8 AS drain_s
FROM (
    SELECT lane, tenant, model, sum(undecoded) AS undecoded, sum(transcripts) AS transcripts, sum(chunks) AS chunks,
        sum(ready) AS ready, sum(leased) AS leased, sum(samples) AS samples, min(oldest) AS oldest,
        max(engine_key) AS engine_key
    FROM parts GROUP BY lane, tenant, model
) b LEFT JOIN pace ON pace.model = b.model
""",
)

CAMPAIGNS = View(
    name="campaigns",
    help="archives that were handed in as one",
    order="id DESC",
    columns=(
        ("id", "of the campaign"),
        ("tenant", "whose it is"),
        ("name", "what people call it"),
        ("state", "listing, ready, running, paused or cancelled"),
        ("lane", "urgent, normal or bulk"),
        ("model", "as it was named"),
        ("items", "recordings that are listed"),
        ("problems", "of these: they cannot be transcribed"),
        ("duplicates", "of these: another one is done instead"),
        ("submitted", "of these: handed in"),
        ("ended", "of the submissions"),
        ("failed", "of these: failed or cancelled"),
        ("deadline_at", "when it is due"),
        ("created_at", "when it was made"),
        ("started_at", "when it was started"),
    ),
    sql=f"""
SELECT c.id, c.tenant, c.name, c.state, {lane("c.lane")} AS lane, c.model, coalesce(i.items, 0)::int AS items,
    coalesce(i.problems, 0)::int AS problems, coalesce(i.duplicates, 0)::int AS duplicates,
    coalesce(s.submitted, 0)::int AS submitted, coalesce(s.ended, 0)::int AS ended,
    coalesce(s.failed, 0)::int AS failed,
    to_timestamp(c.deadline_at) AS deadline_at, to_timestamp(c.created_at) AS created_at,
    to_timestamp(c.started_at) AS started_at
FROM campaigns c
LEFT JOIN (
    SELECT campaign_id, count(*) AS items, count(problem) AS problems, count(duplicate_of) AS duplicates
    FROM campaign_items GROUP BY campaign_id
) i ON i.campaign_id = c.id
LEFT JOIN (
    SELECT campaign_id, count(*) AS submitted, count(*) FILTER (WHERE state IN {listed(ENDED)}) AS ended,
        count(*) FILTER (WHERE state IN ('{SubmissionState.FAILED}', '{SubmissionState.CANCELLED}')) AS failed
    FROM submissions WHERE campaign_id IS NOT NULL GROUP BY campaign_id
) s ON s.campaign_id = c.id
""",
)

PAUSES = View(
    name="pauses",
    help="lanes and tenants of which nothing more is begun",
    order="since, lane, tenant",
    columns=(
        ("lane", "urgent, normal or bulk; null where it is a tenant"),
        ("tenant", "null where it is a lane"),
        ("reason", "as it was given"),
        ("by", "who asked for it"),
        ("since", "when"),
    ),
    sql=f'SELECT {lane("p.lane")} AS lane, p.tenant, p.reason, p."by", to_timestamp(p.at) AS since FROM pauses p',
)

VIEWS = (SUBMISSIONS, TRANSCRIPTS, RECORDINGS, BACKLOG, CAMPAIGNS, PAUSES)
