"""Checkpoints of a training that is under way: the state, and where its data stands; whole or not there at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from models.training.batches import Cursor
from models.training.state import State
from stenopool.errors import CheckpointError


class Kept:
    """The last few checkpoints of a folder, by their steps; a context manager.

    Each is written beside the others and renamed when it is whole (orbax): who is killed meanwhile loses nothing.
    """

    def __init__(self, folder: Path, most: int) -> None:
        options = ocp.CheckpointManagerOptions(max_to_keep=most, enable_async_checkpointing=False)
        self._folder = folder
        self._manager = ocp.CheckpointManager(folder.absolute(), options=options)

    def __enter__(self) -> Kept:
        return self

    def __exit__(self, *_: object) -> None:
        self._manager.close()

    @property
    def latest(self) -> int | None:
        """Steps that the newest has behind it; None where there is none."""
        step: int | None = self._manager.latest_step()
        return step

    def keep(self, step: int, state: State, cursor: Cursor) -> None:
        """Write one; the oldest of too many is deleted."""
        parts = ocp.args.Composite(state=ocp.args.StandardSave(state), data=ocp.args.JsonSave({"cursor": cursor}))
        self._manager.save(step, args=parts)
        self._manager.wait_until_finished()

    def read(self, like: State) -> tuple[int, State, Cursor]:
        """The newest: its step, its state where `like` lies, where its data stands.

        Raises:
            CheckpointError: it cannot be read, or is of another model.
        """
        step = self.latest
        assert step is not None
        shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), like)
        parts = ocp.args.Composite(state=ocp.args.StandardRestore(shapes), data=ocp.args.JsonRestore())
        try:
            found: Any = self._manager.restore(step, args=parts)
        except Exception as error:  # whatever its storage raises
            reason = " ".join(str(error).split())[:200]
            raise CheckpointError(
                f"{self._folder / str(step)}: cannot be read ({reason}); delete it to go on from the one before"
            ) from error
        return step, found["state"], found["data"]["cursor"]
