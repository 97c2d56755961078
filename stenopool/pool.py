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
from models.device import use_compile_cache
from models.engine import Engine
from models.sizes import Remembered
from stenopool.config import Config
from stenopool.domain import DType, Options, Transcript
from stenopool.errors import UsageError
from stenopool.options import options_of
from workers.local import Driver, Outcome
from workers.media import probe
from workers.prepare import SourceFile

if TYPE_CHECKING:
    PathLike = str | os.PathLike[str]


def load_model(
    name: str = "pocket",
    *,
    dtype: DType = "auto",
    batch_size: int | None = None,
    assistant: str | None = None,
    mesh: str | None = None,
) -> Pool:
    """Load a model for `Pool.transcribe`.

    Args:
        name: `pocket` (bundled), a folder in Hugging Face's layout, or a repository such as `openai/whisper-tiny`;
            `@` and a revision pin it.
        dtype: `float32`, `bfloat16`, `int8`, or `auto` for what suits the device.
        batch_size: chunks decoded together, at most; None for what suits model and device.
        assistant: a smaller model, named as `name`, that drafts greedy text for it: the same text, sooner.
        mesh: devices, such as "2x4": batches over 2, each model over 4; None for one.

    Raises:
        CheckpointError: there is no such model, it is damaged, or the assistant does not fit.
        UsageError: there is no such dtype, or the batch size is not a positive number.
    """
    config = Config.from_env()
    use_compile_cache(config.cache / "xla")
    checkpoint, helper = find_checkpoint(name), find_checkpoint(assistant) if assistant else None
    engine = Engine(
        checkpoint,
        dtype=dtype,
        batch_size=batch_size,
        assistant=helper,
        mesh=mesh,
        remembered=Remembered(config.sizes),
    )
    return Pool(config, engine, dtype, mesh)


class Pool:
    """A model on a device; made by `load_model`. Not for several threads at once.

    Each call is a function of its arguments: it neither finds nor leaves work in the ledger of this machine. While it
    runs, the samples of its files lie in the system's folder for temporary files.
    """

    def __init__(self, config: Config, engine: Engine, dtype: DType, mesh: str | None) -> None:
        self._config = config
        self._mesh = mesh
        self._engine = engine
        self._dtype: DType = dtype

    def transcribe(self, path: PathLike, **options: Any) -> Transcript:
        """Transcribe one file, its channels mixed.

        Args:
            path: any sound or video that FFmpeg reads.
            options: the fields of `stenopool.domain.Options`: `language="en"`, `task="translate"`,
                `beam_size=5`, `word_timestamps=True`, ...; `language=None` is "auto".

        Raises:
            MediaError: the file is no sound.
            UsageError: an option's value does not fit the model or the others.
            TypeError: there is no such option.
        """
        return self.transcribe_batch([path], **options)[0]

    def transcribe_channels(self, path: PathLike, **options: Any) -> list[Transcript]:
        """Transcribe each channel of a file on its own; otherwise as `transcribe`."""
        return list(self._run([path], options_of(options), split=True)[0].transcripts)

    def transcribe_batch(
        self,
        paths: Sequence[PathLike],
        *,
        batch_size: int | None = None,
        vocabulary: Sequence[str | None] | None = None,
        decoders: int | None = None,
        **options: Any,
    ) -> list[Transcript]:
        """Transcribe several files together: their chunks share the model's batches. As `transcribe` otherwise.

        All files are looked at before the first is decoded, so that one that is no sound costs no work.

        Args:
            paths: the files.
            vocabulary: for each file, words to expect in it, besides the `hotwords` of all; None for none.
            decoders: files decoded at once, each by a process of its own; 1 is a thread, None what suits the machine.
            batch_size: chunks decoded together from now on; None leaves it as it is. Another size is compiled once.
            options: as of `transcribe`.
        """
        if isinstance(paths, str | bytes | os.PathLike):
            raise TypeError("transcribe_batch takes a list of files; for one file use transcribe")
        if batch_size not in (None, self._engine.batch_size, self._engine.n_slots):
            self._engine.resize(batch_size)
        outcomes = self._run(paths, options_of(options), split=False, vocabulary=vocabulary, decoders=decoders)
        return [outcome.transcripts[0] for outcome in outcomes]

    def _run(
        self,
        paths: Sequence[PathLike],
        options: Options,
        *,
        split: bool,
        vocabulary: Sequence[str | None] | None = None,
        decoders: int | None = None,
    ) -> list[Outcome]:
        if isinstance(vocabulary, str) or (vocabulary is not None and len(vocabulary) != len(paths)):
            raise UsageError(f"vocabulary must be a list of words for each of the {len(paths)} files, or None")
        sources = [
            SourceFile(Path(path), os.fspath(path), words)
            for path, words in zip(paths, vocabulary or [None] * len(paths), strict=True)
        ]
        for source in sources:
            probe(source.path, self._config.limits)
        outcomes: dict[SourceFile, Outcome] = {}
        with tempfile.TemporaryDirectory(prefix="stenopool-") as home:
            config = replace(self._config, home=Path(home))
            with Driver(
                config,
                self._engine.checkpoint,
                options,
                dtype=self._dtype,
                split=split,
                engine=self._engine,
                decoders=decoders,
            ) as driver:
                for outcome in driver.run(sources):
                    outcomes[outcome.source] = outcome
        for source in sources:
            if error := outcomes[source].error:
                raise error
        return [outcomes[source] for source in sources]
