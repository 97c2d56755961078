"""The Python face: a loaded model that transcribes files.

import stenopool
pool = stenopool.load_model("pocket")
result = pool.transcribe("talk.mp3", language="en")
print(result.text, result.language, result.coverage.gaps)
results = pool.transcribe_batch(["a.wav", "b.mp3"])
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.checkpoint import find_checkpoint
from models.device import DType, use_compile_cache
from models.engine import Engine
from stenopool.config import Config
from stenopool.domain import Options, Transcript
from workers.local import Driver, Outcome
from workers.prepare import SourceFile

if TYPE_CHECKING:
    PathLike = str | os.PathLike[str]


def load_model(name: str = "pocket", *, dtype: DType = "auto", batch_size: int | None = None) -> Pool:
    """Load a model for `Pool.transcribe`.

    Args:
        name: `pocket` (bundled), a folder in Hugging Face's layout, or a repository such as `openai/whisper-tiny`.
        dtype: `float32`, `bfloat16`, or `auto` for what suits the device.
        batch_size: chunks decoded together; None for what suits the device.

    Raises:
        CheckpointError: there is no such model, or it is damaged.
    """
    config = Config.from_env()
    use_compile_cache(config.cache / "xla")
    return Pool(config, Engine(find_checkpoint(name), dtype=dtype, batch_size=batch_size), dtype)


class Pool:
    """A model on a device; made by `load_model`. Not for several threads at once."""

    def __init__(self, config: Config, engine: Engine, dtype: DType) -> None:
        self._config = config
        self._engine = engine
        self._dtype: DType = dtype

    def transcribe(self, path: PathLike, **options: Any) -> Transcript:
        """Transcribe one file, its channels mixed.

        Args:
            path: any sound or video that FFmpeg reads.
            options: the fields of `stenopool.domain.Options`: `language="en"`, `task="translate"`,
                `chunk_length=30.0`, `vad=True`, ...

        Raises:
            MediaError: the file is no sound.
            UsageError: the options do not fit the model or each other.
            TypeError: there is no such option.
        """
        return self.transcribe_batch([path], **options)[0]

    def transcribe_channels(self, path: PathLike, **options: Any) -> list[Transcript]:
        """Transcribe each channel of a file on its own; otherwise as `transcribe`."""
        return list(self._run([path], Options(**options), split=True)[0].transcripts)

    def transcribe_batch(self, paths: Sequence[PathLike], **options: Any) -> list[Transcript]:
        """Transcribe several files together: their chunks share the model's batches. As `transcribe` otherwise.

        The first file that is no sound raises its MediaError, once all others are done.
        """
        return [outcome.transcripts[0] for outcome in self._run(paths, Options(**options), split=False)]

    def _run(self, paths: Sequence[PathLike], options: Options, *, split: bool) -> list[Outcome]:
        sources = [SourceFile(Path(path), os.fspath(path)) for path in paths]
        outcomes: dict[SourceFile, Outcome] = {}
        # A call is a function of its arguments: it neither finds nor leaves work in the ledger of this machine.
        with tempfile.TemporaryDirectory(prefix="stenopool-") as home:
            config = replace(self._config, home=Path(home))
            with Driver(
                config, self._engine.checkpoint, options, dtype=self._dtype, split=split, engine=self._engine
            ) as driver:
                for outcome in driver.run(sources):
                    outcomes[outcome.source] = outcome
        for source in sources:
            if error := outcomes[source].error:
                raise error
        return [outcomes[source] for source in sources]
