"""What a view is, and the pieces of SQL that several are made of."""

from __future__ import annotations

from dataclasses import dataclass

from stenopool.domain import SAMPLE_RATE
from storage.fleet import GONE_AFTER
from storage.tables import Lane
from storage.throughput import PIECE

#: The schema that they are in.
SCHEMA = "admin"


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A view of the schema `admin`."""

    name: str
    #: What its rows are, in one line.
    help: str
    #: Its columns, in their order, and what is in them.
    columns: tuple[tuple[str, str], ...]
    #: In which order it is shown.
    order: str
    #: Its query; names of columns as above.
    sql: str

    @property
    def names(self) -> tuple[str, ...]:
        """Of its columns."""
        return tuple(name for name, _ in self.columns)

    @property
    def of_tenants(self) -> bool:
        """Its rows belong to tenants."""
        return "tenant" in self.names


#: Seconds since 1970, now, as columns have it.
NOW = "extract(epoch FROM now())::float8"


def age(of: str) -> str:
    """Seconds since then, to a tenth."""
    return f"round(({NOW} - {of})::numeric, 1)::float8"


def seconds(samples: str) -> str:
    """Samples as seconds, to a tenth."""
    return f"round(({samples})::numeric / {SAMPLE_RATE}, 1)::float8"


def lane(of: str) -> str:
    """A lane by its name."""
    names = " ".join(f"WHEN {one.value} THEN '{one.name.lower()}'" for one in Lane)
    return f"CASE {of} {names} END"


#: Seconds over which the pace of engines is taken, besides the piece of time that has only begun.
LATELY = 3 * PIECE

#: By model: seconds of audio that its engines have transcribed in a second, lately; no row where nothing was.
PACE = f"""
    SELECT model, sum(audio) / ({NOW} - (floor({NOW} / {PIECE}) * {PIECE} - {LATELY})) AS pace
    FROM throughput WHERE began >= floor({NOW} / {PIECE}) * {PIECE} - {LATELY}
    GROUP BY model HAVING sum(audio) > 0
"""

#: Workers that were seen lately.
ALIVE = f"SELECT * FROM workers WHERE seen_at > {NOW} - {GONE_AFTER:g}"

#: Chunks that are ready or leased, by transcript: both are few, and have indexes of their own.
UNDER_WAY = """
    SELECT transcript_id, sum(ready)::int AS ready, sum(leased)::int AS leased FROM (
        SELECT transcript_id, count(*) AS ready, 0 AS leased FROM chunks WHERE state = 'ready' GROUP BY transcript_id
        UNION ALL
        SELECT transcript_id, 0, count(*) FROM chunks WHERE state = 'leased' GROUP BY transcript_id
    ) AS parts GROUP BY transcript_id
"""

#: What has failed of a chunk's result; there is an index of those that have.
FAILED = "(c.result ->> 'failed') IS NOT NULL"


def is_paused(row: str) -> str:
    """Whether the lane or the tenant of a row is paused."""
    return f"EXISTS (SELECT 1 FROM pauses p WHERE p.lane = {row}.lane OR p.tenant = {row}.tenant)"
