"""Who is to blame for the death of a worker: which chunks are tried again, beside whom, and which are given up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, exists, or_, select, tuple_
from sqlalchemy.orm import Session, aliased

from storage.conditions import now
from storage.database import database_clock
from storage.tables import CHUNK_KEY, ChunkRow, ChunkState, DeathRow

#: Workers that a chunk may take with it: the first with whatever was beside it, the second with a few that a worker
#: died with as well, the third alone. Where machines die of something else, so many at most.
DEATHS, MOST_DEATHS = 3, 6
#: Chunks that a worker died with once, and that are tried again beside each other.
SUSPECTS = 8
#: Leases for which a death of nothing that the worker had says that machines die.
TIMES = 10
#: Leases for which a chunk waits at most until nobody dies.
PATIENCE = 60
#: Seconds for which deaths are remembered.
_REMEMBERED = 86_400.0

#: Transcript and index of a chunk.
ChunkKey = tuple[int, int]


def machines_die(lease: Any) -> ColumnElement[bool]:
    """A worker died lately of nothing that it had: a death is no proof against a chunk that was there."""
    return exists(select(DeathRow.worker).where(DeathRow.cleared, DeathRow.at > now() - TIMES * lease))


def may_be_tried(lease: Any) -> ColumnElement[bool]:
    """A suspect's turn may come: not that of one that is tried alone, whose next death might be taken for proof.

    That one waits until no worker has died for a lease's time: whoever dies then with it alone has died of it. Where it
    is known that machines die, a third death is no proof, and it is tried at once; who three died with all the same
    waits again. Nobody waits for ever: a machine that fails again and again must not keep recordings from ending.
    """
    other = aliased(ChunkRow)
    return or_(
        ChunkRow.crashes < DEATHS - 1,
        and_(ChunkRow.crashes < DEATHS, machines_die(lease)),
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


def clear_deaths(session: Session, lease: float) -> None:
    """Find those who died of nothing that they had: others have heard all of that since.

    Not those of the last lease: what they had may not all be known yet.
    """
    open_ = (~DeathRow.cleared, DeathRow.at > now() - TIMES * lease, DeathRow.at < now() - lease)
    for death in session.scalars(select(DeathRow).where(*open_).with_for_update(skip_locked=True)).all():
        chunks = {(of, at) for of, at in death.chunks}
        death.cleared = chunks <= _heard(session, chunks)


def _heard(session: Session, chunks: Iterable[ChunkKey]) -> set[ChunkKey]:
    done = select(*CHUNK_KEY).where(
        tuple_(*CHUNK_KEY).in_(list(chunks)),
        ChunkRow.state == ChunkState.DONE,
        ChunkRow.result["failed"].as_string().is_(None),
    )
    return {(of, at) for of, at in session.execute(done)}
