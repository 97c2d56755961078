"""What a worker with an engine does on the farm: chunks and languages, of whichever recordings.

A hint names chunks; they are claimed, read, decoded beside those of other hints, and kept as they finish.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from stenopool import tracing
from stenopool.domain import SAMPLE_RATE, Span
from stenopool.errors import BrokerUnreachable, StenopoolError, UsageError
from stenopool.tracing import Batch, Origin
from storage.chunks import Claim, Finished
from storage.ledger import Work
from storage.throughput import Done
from workers.farm import Farm
from workers.hearing import Hearing
from workers.ingest import SamplesGone, has_pcm, read_pcm
from workers.origins import origin_of
from workers.patience import patiently
from workers.room import EngineRoom

if TYPE_CHECKING:
    from models.engine import Engine

_log = logging.getLogger(__name__)

#: Seconds that a finished chunk waits for others to be kept with it, in one transaction.
COALESCE = 0.1


class EngineWorker:
    """An engine's work on the farm; its methods are called by as many threads as there are hints in flight.

    Args:
        worker: this process, in the ledger.
        engine_key: of the chunks that this engine can decode.
    """

    def __init__(self, farm: Farm, worker: str, engine: Engine, engine_key: str) -> None:
        self._farm = farm
        self._worker = worker
        self._engine_key = engine_key
        self._vocabulary = engine.vocabulary
        self._window = engine.dims.window
        self._prompt_room = engine.dims.n_text_ctx // 2 - 1
        self.room = EngineRoom(engine)
        self._heard = 0.0
        #: What became of chunks: done, gap, given_back; refused where they came too late.
        self.outcomes: Counter[str] = Counter()
        self._counting = threading.Lock()
        self._held: set[Claim] = set()
        self._origins: dict[int, Origin | None] = {}
        # One at a time: a suspect that waits while another kills this worker would be blamed for it.
        self._suspects = threading.Lock()
        # A chunk waits in a thread for the engine; those of the hints that are in flight, and those to come.
        self._threads = ThreadPoolExecutor(max(64, 8 * engine.n_slots), thread_name_prefix="chunk")

    @property
    def done(self) -> Done:
        """All that it has done so far. Of a recording each chunk is the same share, silences and overlaps included."""
        return Done(self._heard, self.room.worked)

    def held(self) -> list[Claim]:
        """Chunks that some thread of it is about: their leases are to be renewed, and no others."""
        with self._counting:
            return list(self._held)

    def close(self) -> None:
        """End: what is in the slots is given up."""
        self.room.close()
        engine = self.room.engine
        if engine.slot_steps:
            _log.info("its slots were in use for %.0f %% of its steps", 100 * engine.active_steps / engine.slot_steps)
        self._threads.shutdown()

    def transcribe(self, chunks: Sequence[tuple[int, int]], *, suspect: bool) -> None:
        """Decode these chunks, or others that are ready where these are gone; suspects, apart."""
        ledger = self._farm.ledger
        if suspect:
            with self._suspects:
                # All of them, party by party: hints of the others may have gone down with who had taken them.
                while claims := ledger.claim_suspects(self._worker, self._engine_key):
                    self._transcribe(claims, party=object())
        else:
            self._transcribe(ledger.claim_queued(self._worker, self._engine_key, len(chunks), chunks))

    def _transcribe(self, claims: list[Claim], party: object | None = None) -> None:
        batch = Batch()
        mine: set[Claim] = set()
        try:
            self._transcribe_batch(claims, party, batch, mine)
        finally:
            self._hold(mine, ())
            batch.close()

    def _hold(self, before: set[Claim], now: Iterable[Claim]) -> None:
        """What a thread is about, and was before."""
        with self._counting:
            self._held -= before
            before.clear()
            before.update(now)
            self._held |= before

    def _transcribe_batch(self, claims: list[Claim], party: object | None, batch: Batch, mine: set[Claim]) -> None:
        ledger = self._farm.ledger
        works: dict[int, Work] = {}
        open_futures: dict[Future[Finished], Claim] = {}
        while claims or open_futures:
            self._hold(mine, (*open_futures.values(), *claims))
            for claim in claims:
                if claim.transcript not in works:
                    works[claim.transcript] = patiently(partial(ledger.work, claim.transcript))
                hear = partial(self._hearing(works[claim.transcript]).chunk, claim, party)
                open_futures[self._threads.submit(hear)] = claim
            if tracing.is_on():
                batch.begin({claim: (self._origin(claim.transcript), _told(claim)) for claim in claims})
            done = wait(open_futures, return_when=FIRST_COMPLETED).done
            if len(done) < len(open_futures):  # others may be through in a moment
                done = wait(open_futures, COALESCE).done
            finished = [(open_futures.pop(future), future) for future in done]
            self._keep(finished, works)
            for claim, future in finished:
                batch.end(claim, "given_back" if future.exception() is not None else _outcome(future.result()))
            # Of a sequential transcript, the next chunk is ready now; there is no need to wait for a hint.
            following = [
                (claim.transcript, claim.index + 1) for claim, _ in finished if works[claim.transcript].sequential
            ]
            claims = patiently(partial(ledger.claim_these, self._worker, following)) if following else []

    def detect(self, transcript: int) -> None:
        """Find out a transcript's language."""
        ledger = self._farm.ledger
        if not ledger.begin_election(transcript, self._worker):
            return
        try:
            language, probability = self._hearing(ledger.work(transcript)).language(ledger.spans(transcript))
        except SamplesGone:
            self._lost(transcript)
            return
        except StenopoolError as error:
            line = "transcript %d: its language is not detected yet (%s)"
            _log.warning(line, transcript, error, extra={"transcript": transcript})
            return  # the lease runs out, and somebody tries again
        patiently(partial(ledger.set_language, transcript, language, probability))

    def _keep(self, done: Iterable[tuple[Claim, Future[Finished]]], works: Mapping[int, Work]) -> None:
        finished: list[Finished] = []
        given_back: list[Claim] = []
        lost: set[int] = set()
        for claim, future in done:
            try:
                finished.append(future.result())
            except SamplesGone:
                given_back.append(claim)
                lost.add(claim.transcript)
            except UsageError as error:
                finished.append(Hearing.gap(claim, str(error)))
            except StenopoolError as error:
                ids = {"chunk": claim.index, "transcript": claim.transcript}
                _log.warning("chunk %d of transcript %d is given back (%s)", *ids.values(), error, extra=ids)
                given_back.append(claim)
        if given_back:
            patiently(partial(self._farm.ledger.give_back, given_back))
        kept = patiently(partial(self._farm.ledger.finish_all, finished))
        late = len(finished) - len(kept)
        with self._counting:
            self.outcomes.update(given_back=len(given_back), refused=late)
            self.outcomes.update(_outcome(one) for one in finished if one.claim in kept)
            for claim in kept:
                work = works[claim.transcript]
                self._heard += work.duration / SAMPLE_RATE / work.chunks_total
        if late:
            _log.warning("%d chunks came too late: their leases had run out", late)
        for transcript in {claim.transcript for claim, still_open in kept.items() if not still_open}:
            try:
                self._farm.broker.merge(transcript)
            except BrokerUnreachable as error:  # the dispatcher tells of it as well
                _log.warning("%s", error)
        for transcript in sorted(lost):
            self._lost(transcript)

    def _origin(self, transcript: int) -> Origin | None:
        """Whose trace its chunks belong to; asked once."""
        if transcript not in self._origins:
            if len(self._origins) > 10_000:
                self._origins.clear()
            self._origins[transcript] = origin_of(self._farm.desk, transcript)
        return self._origins[transcript]

    def _lost(self, transcript: int) -> None:
        """Somebody removed its samples: they are decoded again before any more of it is heard."""
        work = self._farm.ledger.work(transcript)
        try:
            if has_pcm(self._farm.store, work.recording, work.duration):  # they are there again
                return
        except StenopoolError as error:  # whoever comes to these chunks next finds it out
            _log.warning("%s", error)
            return
        for submission in self._farm.desk.lost(transcript):
            line = "submission %d is decoded again: its samples are gone from the object store"
            _log.warning(line, submission, extra={"submission": submission, "transcript": transcript})

    def _hearing(self, work: Work) -> Hearing:
        return Hearing(
            work=work,
            vocabulary=self._vocabulary,
            decode=self.room.decode,
            read=self._read,
            window=self._window,
            room=self._prompt_room,
        )

    def _read(self, recording: str, duration: int, span: Span) -> np.ndarray:
        return read_pcm(self._farm.store, recording, duration, span)


def _told(claim: Claim) -> dict[str, int | float]:
    """What a chunk's span says of it."""
    seconds = len(claim.span) / SAMPLE_RATE
    return {"transcript": claim.transcript, "chunk": claim.index, "audio_seconds": seconds}


def _outcome(finished: Finished) -> str:
    return "done" if finished.result.get("failed") is None else "gap"
