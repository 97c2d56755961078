"""A farm without processes: real ledger and objects, stages that are called by hand, and an engine that is a sentence.

What is heard in a chunk says which chunk it is, and by whom: so a text tells what was done again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Container
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from sqlalchemy import Engine, select, update

from stenopool.domain import ChunkResult, Options, Segment
from storage.chunks import Claim, Finished
from storage.desk import Order, Submission
from storage.keys import source_key
from storage.objects import ObjectStore
from storage.records import record_of_result
from storage.tables import ChunkRow, Lane, SubmissionRow, TranscriptRow
from storage.window import Window
from tests import sounds
from workers import stages
from workers.collect import Collected, Collector
from workers.farm import Farm, Places
from workers.ingest import Ingested, digest_file, ingest
from workers.shown import transcripts_of

S = 16_000  # one second
#: Long before anything was put.
AT_ONCE = -60.0


class InThisThread:
    """Decodes as decoders do, and then, before anybody is told, does what a test would have happen `meanwhile`."""

    def __init__(self) -> None:
        self.meanwhile: Callable[[], object] = lambda: None
        self.files = 0

    def ingest(self, path: Path, store: ObjectStore, **how: Any) -> list[Ingested]:
        """See `workers.ingest`."""
        self.files += 1
        found = ingest(path, store, **how)
        self.meanwhile()
        return found

    def close(self) -> None:
        """Nothing is left."""


class HandFarm:
    """A farm, and what its processes would do."""

    def __init__(self, engine: Engine, store: ObjectStore, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.farm = Farm(Places(database="", broker="redis://127.0.0.1:1/0", store=""), lease=60)
        vars(self.farm).update(database=engine, store=store)
        self.store = store
        self.window = Window(engine)
        self.decoders = InThisThread()
        patch.setattr(stages, "Decoders", lambda _: self.decoders)
        self.stages = stages.Stages(self.farm, "ingest+merge+publish")
        self._folder = folder
        self._n = 0

    # Handing in

    def submit(self, seconds: int = 6, *, channels: int = 1, **other: Any) -> Submission:
        """Noise that nobody has heard before, in chunks of two seconds; `other` changes the order."""
        self._n += 1
        noise = np.random.default_rng(self._n).integers(-8000, 8000, (channels, seconds * S)).astype(np.int16)
        return self.order(sounds.write(self._folder / f"talk{self._n}.wav", noise), **other)

    def order(self, path: Path, **other: Any) -> Submission:
        """A file, handed in as the command does it."""
        digest = digest_file(path)
        options = Options(language="en", vad=False, chunk_length=2, overlap=0)
        order = {
            "tenant": "ada",
            "name": path.name,
            "source": source_key(digest),
            "file_sha256": digest,
            "model": "pocket",
            "options": {name: getattr(options, name) for name in Options.__dataclass_fields__},
        }
        while True:
            try:
                return self.farm.desk.accept(Order(**(order | other)), there=self.store.exists)
            except KeyError:
                self.store.upload(path, source_key(digest))

    def again(self, submission: Submission, **other: Any) -> Submission:
        """The same file, handed in once more."""
        return self.order(self._folder / submission.name, **other)

    def now(self, submission: Submission) -> Submission:
        """As it is now."""
        return self.farm.desk.submission(submission.id)

    # What processes do

    def ingest(self) -> None:
        """All that waits to be decoded."""
        for lane in Lane:
            for id in self.farm.desk.ingests(lane, 100, -1):
                self.stages.ingest(id)

    def admit(self) -> None:
        """All that waits to be ready."""
        for key, lane in self.window.waiting():
            self.window.admit(key, lane, 1000)

    def claim(self, limit: int = 100) -> list[Claim]:
        """What is ready, whether a worker died with it or not."""
        claims: list[Claim] = []
        for key, _ in sorted(self.window.ready()):
            while len(claims) < limit and (suspects := self.farm.ledger.claim_suspects("engine", key)):
                claims += suspects
            claims += self.farm.ledger.claim_queued("engine", key, limit - len(claims))
        return claims

    def finish(self, claims: list[Claim], by: str = "first", failing: Container[int] = ()) -> None:
        """What was claimed is heard, but for those chunks that are `failing`."""
        self.farm.ledger.finish_all([Finished(claim, _heard(claim, by, failing)) for claim in claims])

    def hear(self, by: str = "first", failing: Container[int] = ()) -> list[int]:
        """All chunks that are admitted; which they were."""
        heard = []
        self.admit()
        while claims := self.claim():
            self.finish(claims, by, failing)
            heard += [claim.index for claim in claims]
        return sorted(heard)

    def merge(self) -> None:
        """All that is heard."""
        for transcript in self.window.merges(100, -1):
            self.stages.merge(transcript)

    def publish(self) -> None:
        """All that is merged."""
        for id in self.farm.desk.publishes(100, -1):
            self.stages.publish(id)

    def go(self, by: str = "first", failing: Container[int] = ()) -> list[int]:
        """All there is to do, to the end; the chunks that were heard."""
        self.ingest()
        heard = self.hear(by, failing)
        self.merge()
        self.publish()
        return heard

    def expire(self) -> None:
        """Every worker has died long ago, and that is found."""
        for row in (ChunkRow, TranscriptRow, SubmissionRow):
            with self.farm.database.begin() as connection:
                connection.execute(update(row).where(row.lease_until.is_not(None)).values(lease_until=0))
        self.farm.ledger.sweep_crashed()
        self.farm.desk.sweep()

    def collect(self, *, keep: float = 0.0, grace: float = AT_ONCE, dry: bool = False) -> list[Collected]:
        """A round of the collector, as if all had been put long ago."""
        return list(Collector(self.farm, keep=keep, grace=grace, dry=dry).round())

    # What came of it

    def keys(self, prefix: str = "") -> list[str]:
        """Of all objects."""
        return [found.key for found in self.store.list(prefix)]

    def texts(self, submission: Submission, version: int | None = None) -> list[str]:
        """What is shown of it, by channel; or another version."""
        return [transcript.text for transcript in transcripts_of(self.farm, self.now(submission), version)]

    def states(self, submission: Submission) -> list[str]:
        """Of its chunks."""
        with self.farm.database.connect() as connection:
            return list(
                connection.scalars(
                    select(ChunkRow.state)
                    .where(ChunkRow.transcript_id == self.now(submission).transcripts[0][1])
                    .order_by(ChunkRow.index)
                )
            )


def _heard(claim: Claim, by: str, failing: Container[int]) -> dict[str, Any]:
    failed = "the device failed" if claim.index in failing else None
    segment = Segment(
        span=claim.span,
        text=f" {by}{claim.index}",
        chunk=claim.index,
        avg_logprob=-0.1,
        compression_ratio=1.0,
        no_speech_prob=0.0,
    )
    result = ChunkResult(
        index=claim.index, span=claim.span, language="en", segments=() if failed else (segment,), failed=failed
    )
    return record_of_result(result)


def command(*arguments: str) -> Result:
    """A command, in this process."""
    from stenopool.cli import cli

    return CliRunner().invoke(cli, arguments, obj=threading.Event())
