"""A farm's servers for one measure, and work for it in any amount."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import text

from stenopool.servers import Postgres, Redis
from storage.database import make_or_migrate
from storage.desk import Submission
from storage.tables import Lane
from tests.faults.storm import Storm
from tests.servers import server_folder
from workers.farm import Farm, Places


@contextmanager
def servers() -> Iterator[tuple[Places, Path]]:
    """A Postgres, a Redis and a folder of objects, gone afterwards; and a folder for what processes say."""
    with server_folder() as folder, Postgres(folder / "postgres") as postgres, Redis(folder / "redis") as redis:
        make_or_migrate(postgres.url)
        (folder / "logs").mkdir()
        yield Places(database=postgres.url, broker=redis.url, store=str(folder / "objects")), folder / "logs"


def template(storm: Storm, chunks: int = 10) -> int:
    """A planned transcript of so many chunks, none of them ready; its id."""
    [submission] = storm.hand_in(1, seconds=2 * chunks)
    return held_back(storm.farm, submission)


def held_back(farm: Farm, submission: Submission) -> int:
    """The transcript of a submission that is never to go on itself."""
    farm.desk.pause(submission.id)
    [(_, transcript)] = farm.desk.submission(submission.id).transcripts
    return transcript


def clones(farm: Farm, transcript: int, n: int, *, tenants: str, lane: Lane = Lane.NORMAL) -> None:
    """So many transcripts more of the same sound, to be transcribed.

    Args:
        tenants: an SQL expression of the number g of each.
    """
    statements = (
        f"""INSERT INTO tenants (name, weight, created_at)
            SELECT DISTINCT {tenants}, 1, 0 FROM generate_series(1, {n}) g ON CONFLICT DO NOTHING""",
        f"""INSERT INTO transcripts (tenant, recording_id, work_digest, generation, provenance, state, sequential,
                engine_key, lane, priority, paused, language, chunks_total, chunks_open, chunks_waiting, fence,
                created_at)
            SELECT {tenants}, recording_id, gen_random_uuid()::text, 1, provenance, 'transcribing', false, engine_key,
                {int(lane)}, 0, false, language, chunks_total, chunks_total, chunks_total, 0, created_at
            FROM transcripts, generate_series(1, {n}) g WHERE id = {transcript}""",
        f"""INSERT INTO chunks (transcript_id, index, start, "end", speech, state, engine_key, lane, attempt, fence,
                crashes)
            SELECT t.id, c.index, c.start, c."end", c.speech, 'waiting', t.engine_key, t.lane, 0, 0, 0
            FROM transcripts t, chunks c
            WHERE c.transcript_id = {transcript} AND t.id > (SELECT max(transcript_id) FROM chunks)""",
    )
    with farm.database.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))
    with farm.database.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE"))


def backlog(farm: Farm, n: int, *, tenant: str) -> None:
    """So many submissions that are accepted, and that nobody is to begin for an hour."""
    statement = f"""INSERT INTO submissions (tenant, name, source, file_sha256, model, options, split, again, lane,
            priority, paused, state, attempt, fence, not_before, created_at)
        SELECT '{tenant}', g || '.mp3', 'sources/' || g, g::text, 'pocket', '{{}}', false, false, {int(Lane.NORMAL)}, 0,
            false, 'accepted', 0, 0, extract(epoch from now()) + 3600, 0
        FROM generate_series(1, {n}) g"""
    with farm.database.begin() as connection:
        connection.execute(text(statement))
