"""Who is to blame for the death of a worker: which chunks are tried again, beside whom, and which are given up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, delete, exists, or_, select, tuple_
from sqlalchemy.orm import Session, aliased

from storage.conditions import now
from storage.database import database_clock
from storage.tables import CHUNK_KEY, ChunkRow, ChunkState, DeathRow

#: Workers that a chunk may take with it: the first with whatever was beside it, the second with a few that a worker
#: died with as well, the third alone. Where machines die of something else, so many at most.
DEATHS, MOST_DEATHS = 3, 6
#: Chunks that a worker died with once, and that are tried again beside each other.
SUSPECTS = 8
#: Leases for which a death tells of the times in which it was; the first tells nothing, as what it had is not told yet.
TIMES = 10
#: Leases for which a chunk waits at most until nobody dies.
PATIENCE = 60
#: Deaths that are looked at, the latest.
_LOOKED_AT = 50
#: Seconds for which deaths are remembered.
_REMEMBERED = 86_400.0

#: Transcript and index of a chunk.
ChunkKey = tuple[int, int]


def may_be_tried(lease: Any) -> ColumnElement[bool]:
    """A suspect's turn may come: but for one that three workers died with by chance, as it seems, that is now.

    That one waits until no worker has died for a lease's time, so that it is not the next as well. It does not wait for
    ever: a machine that fails again and again must not keep recordings from ending.
    """
    other = aliased(ChunkRow)
    return or_(
        ChunkRow.crashes < DEATHS,
        ~exists(select(other.index).where(other.blamed_at > now() - lease)),
        ChunkRow.blamed_at < now() - PATIENCE * lease,
    )


def note_deaths(session: Session, expired: Mapping[str, Sequence[ChunkKey]]) -> None:
    """These workers died, by name, with these chunks; what is known of them already is added to.

    Whoever calls is alone to note them.
    """
    known = {row.worker: row for row in session.scalars(select(DeathRow).where(DeathRow.worker.in_(expired)))}
    for worker, chunks in expired.items():
        row = known.get(worker)
        if row is None:
            session.add(DeathRow(worker=worker, at=database_clock(), chunks=[list(key) for key in chunks]))
        else:
            row.chunks = [*row.chunks, *map(list, chunks)]
    session.execute(delete(DeathRow).where(DeathRow.at < database_clock() - _REMEMBERED))


def unexplained(session: Session, lease: float) -> list[frozenset[ChunkKey]]:
    """What workers had that died lately of none of it: others have heard all of that since."""
    lately = (DeathRow.at > now() - TIMES * lease, DeathRow.at < now() - lease)
    rows = session.scalars(select(DeathRow.chunks).where(*lately).order_by(DeathRow.at.desc()).limit(_LOOKED_AT))
    deaths = [frozenset((of, at) for of, at in chunks) for chunks in rows]
    heard = _heard(session, {key for chunks in deaths for key in chunks})
    return [chunks for chunks in deaths if chunks <= heard]


def _heard(session: Session, chunks: Iterable[ChunkKey]) -> set[ChunkKey]:
    done = select(*CHUNK_KEY).where(
        tuple_(*CHUNK_KEY).in_(list(chunks)),
        ChunkRow.state == ChunkState.DONE,
        ChunkRow.result["failed"].as_string().is_(None),
    )
    return {(of, at) for of, at in session.execute(done)}
