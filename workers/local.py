"""The one-machine driver: the stages of a recording's life, called in order.

The next files are prepared beside (`workers/feed.py`) while the caller's thread transcribes what is planned. All state
is in the ledger and the object store: whatever kills this process, the next one with the same files and options goes on
from there; and several processes may share one home.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

from models.checkpoint import Checkpoint
from models.device import use_compile_cache
from models.engine import Engine
from models.mesh import make_mesh
from models.sizes import Remembered
from models.tokens import Vocabulary
from scheduler.redaction import Rules
from stenopool.config import Config
from stenopool.domain import SAMPLE_RATE, DType, Options, Transcript
from stenopool.errors import MediaError
from storage.database import open_database
from storage.folder import FolderStore
from storage.keys import pcm_key
from storage.ledger import Ledger
from storage.redactions import Redactions
from workers.aggregate import aggregate, transcript_of
from workers.assignment import assign
from workers.decoders import decoders_for, usable_cores
from workers.feed import Feed
from workers.prepare import Prepared, SourceFile
from workers.presence import Presence
from workers.redact import redact
from workers.transcriber import Observer, Transcriber

#: Samples planned but not transcribed at which no further file is begun: enough to keep any device busy, and bounded on
#: disk.
LOOKAHEAD = 2 * 3600 * SAMPLE_RATE

#: Seconds after which samples that no process works on are removed, though a transcript of them was begun: its options
#: were given up. Whoever takes it up again decodes again.
GIVEN_UP_AFTER = 7 * 24 * 3600.0

DECODING_FOR_SURE = 0.5  # seconds; a file that the ledger knows is prepared sooner
LOOK_EVERY = 2.0  # seconds, for what other processes have done or left behind


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one source: its transcripts (one, or one per channel), or the error that stopped it."""

    source: SourceFile
    transcripts: tuple[Transcript, ...] = ()
    error: MediaError | None = None
    #: Nothing had to be done: the ledger had the transcripts.
    known: bool = False
    #: The same transcripts without what is not for everybody, where that was asked for.
    redacted: tuple[Transcript, ...] = ()


@dataclass(slots=True)
class Timings:
    """Where the time went, in seconds; files are prepared beside the model, several at once: theirs is the sum."""

    prepare: float = 0.0
    compile: float = 0.0
    model: float = 0.0


class Driver:
    """Transcribes files on this machine. A context manager; leaving it gives back what is not done.

    Args:
        config: where ledger, objects and compiled programs are, and what files may be.
        checkpoint: the model.
        options: what changes the text.
        dtype, batch_size: the engine's.
        split: a transcript per channel; else channels are mixed.
        force: work that is done is done again.
        rules: what is to be redacted; None: nothing is.
        observer: told of progress.
        engine: one of that checkpoint, dtype, batch size, assistant and mesh to use, if it is loaded already.
        assistant: a smaller model that drafts for it.
        mesh: devices, such as "2x4"; None for one.
        decoders: files decoded at once, each by a process of its own where there are several; None for what suits.
        stop: set it to interrupt: `run` raises KeyboardInterrupt at its next turn.

    Raises:
        CheckpointError: the checkpoint is damaged or foreign.
        UsageError: the options do not fit the checkpoint or each other.
        LedgerError: the home cannot be used.
    """

    def __init__(
        self,
        config: Config,
        checkpoint: Checkpoint,
        options: Options,
        *,
        dtype: DType = "auto",
        batch_size: int | None = None,
        split: bool = False,
        force: bool = False,
        rules: Rules | None = None,
        observer: Observer | None = None,
        engine: Engine | None = None,
        assistant: Checkpoint | None = None,
        mesh: str | None = None,
        decoders: int | None = None,
        stop: threading.Event | None = None,
    ) -> None:
        vocabulary = engine.vocabulary if engine else Vocabulary(checkpoint)
        helper = engine.assistant if engine else assistant
        self._assignment = assign(
            checkpoint, vocabulary, options, dtype=dtype, split=split, force=force, assistant=helper
        )
        make_mesh(mesh)  # refused before any work is done
        use_compile_cache(config.cache / "xla")
        self._rules = rules
        self._observer = observer
        self._decoders = decoders
        self._limits = config.limits
        self._stop = stop or threading.Event()
        self.timings = Timings()
        with ExitStack() as opened:
            self._presence = Presence(config.home / "workers")
            opened.callback(self._presence.close)
            self._store = FolderStore(config.home / "objects")
            database = open_database(config.home / "ledger.sqlite")
            self._ledger = Ledger(database)
            self._redactions = Redactions(database)
            opened.callback(self._ledger.close)
            self._transcriber = Transcriber(
                self._ledger,
                self._store,
                self._presence.worker,
                self._assignment,
                vocabulary,
                make_engine=lambda: Engine(
                    checkpoint,
                    dtype=dtype,
                    batch_size=batch_size,
                    assistant=helper,
                    mesh=mesh,
                    remembered=Remembered(config.sizes),
                ),
                engine=engine,
                observer=observer,
            )
            opened.callback(self._transcriber.close)
            self._opened = opened.pop_all()

    def __enter__(self) -> Driver:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def run(self, sources: Sequence[SourceFile]) -> Iterator[Outcome]:
        """Transcribe; yields each source's outcome as soon as it is known, in no certain order.

        Raises:
            UsageError: nobody can have so many decoders.
            KeyboardInterrupt: `stop` was set.
        """
        feed = self._feed(len(sources))
        self._clear_up()
        todo = deque(sources)
        unfinished: list[Prepared] = []
        looked = time.monotonic()
        news = False  # the ledger may have something that is complete now: it is not asked after every block of tokens
        while todo or feed.busy or unfinished:
            if self._stop.is_set():  # also where the interrupt itself was lost in a library's callback
                raise KeyboardInterrupt
            while todo and feed.takes(self._transcriber.backlog, LOOKAHEAD):
                feed.add(todo.popleft())
            if not unfinished:
                self._await(feed)
            for source, prepared in feed.ready():
                self.timings.prepare = feed.seconds
                if isinstance(prepared, MediaError):
                    yield Outcome(source, error=prepared)
                else:
                    self._transcriber.add(source, prepared.works)
                    unfinished.append(prepared)
                    news = True
            if news:
                self._complete()
            for prepared in [one for one in unfinished if self._is_complete(one)]:
                unfinished.remove(prepared)
                yield self._outcome(prepared)
            ended = self._transcriber.ended
            if self._transcriber.open and not self._turn():
                self._pause(feed)
                news = True  # of another process, which has the chunks we wait for
            else:
                news = self._transcriber.ended > ended
            if time.monotonic() - looked > LOOK_EVERY:
                self._take_back()
                looked = time.monotonic()
                news = True

    def _clear_up(self) -> None:
        """What killed processes left behind: their leases, and samples that no transcript needs any more."""
        self._take_back()
        for key in self._store.idle("pcm"):
            self._remove_samples(key.rpartition("/")[2])
        for key in self._store.idle("pcm", GIVEN_UP_AFTER):
            self._store.delete(key)

    def _take_back(self) -> None:
        self._ledger.release(self._presence.dead(self._ledger.holders()))
        self._ledger.sweep()

    def _remove_samples(self, recording: str) -> None:
        self._ledger.unless_needed(recording, partial(self._store.delete, pcm_key(recording)))

    # Preparing: in threads and processes of its own

    def _feed(self, n_sources: int) -> Feed:
        decoders = decoders_for(self._decoders, sources=n_sources, cores=usable_cores())
        feed = Feed(
            self._assignment,
            self._ledger,
            self._store,
            decoders=decoders,
            observer=self._observer,
            limits=self._limits,
        )
        self._opened.callback(feed.close)
        return feed

    def _await(self, feed: Feed) -> None:
        """Until a file is prepared; meanwhile, the model that it will need is loaded."""
        if not self._transcriber.loaded and not feed.wait(DECODING_FOR_SURE):
            self._transcriber.warm()
        while not self._stop.is_set() and not feed.wait(0.5):
            pass
        if self._stop.is_set():
            raise KeyboardInterrupt

    @staticmethod
    def _pause(feed: Feed) -> None:
        """Nothing to do here: another process has the chunks we wait for, or files are still being decoded."""
        if feed.busy:
            feed.wait(0.2)
        else:
            time.sleep(0.2)

    # Transcribing: in the caller's thread

    def _turn(self) -> bool:
        progressed = self._transcriber.turn()
        engine = self._transcriber.engine
        self.timings.compile, self.timings.model = engine.compile_seconds, engine.model_seconds
        return progressed

    # Ending

    def _complete(self) -> None:
        """Merge what has no open chunk left, whoever finished the last one."""
        if not self._transcriber.open:
            return
        for transcript in self._ledger.without_open_chunks(self._transcriber.open):
            aggregate(self._ledger, transcript)
            if self._ledger.work(transcript).complete:
                self._transcriber.remove(transcript)

    def _is_complete(self, prepared: Prepared) -> bool:
        return self._transcriber.open.isdisjoint(work.id for work in prepared.works)

    def _outcome(self, prepared: Prepared) -> Outcome:
        transcripts, redacted = [], []
        for work, source in zip(prepared.works, prepared.sources, strict=True):
            transcript = transcript_of(self._ledger.work(work.id), source, prepared.source.name)
            transcripts.append(transcript)
            if self._rules is not None:
                redacted.append(redact(self._redactions, work.id, transcript, self._rules).transcript)
            self._ledger.call(work.recording, prepared.source.name)
            self._remove_samples(work.recording)
        return Outcome(prepared.source, tuple(transcripts), known=prepared.known, redacted=tuple(redacted))
