"""Metrics of an engine's process: what its room and its engine have counted."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from workers.engine import EngineWorker
from workers.metrics import Spread, counter, gauge, histogram

#: Seconds that "lately" is, at least.
LATELY = 60.0
#: Of chunks in the slots.
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


@dataclass(frozen=True, slots=True)
class Counted:
    """What was counted up to a moment; the ratios are of what came between two of them."""

    at: float
    slot_steps: int = 0
    active_steps: int = 0
    #: Samples that the windows of the encoder had room for, and samples of sound in them.
    windows: int = 0
    sounding: int = 0
    #: Seconds.
    busy: float = 0.0
    audio: float = 0.0


class Lately:
    """Remembers what was counted, as far back as is needed, however often it is asked."""

    def __init__(self, first: Counted) -> None:
        self._seen = deque([first])

    def before(self, last: Counted) -> Counted:
        """What was counted at least `LATELY` seconds ago; where that is not known, in the beginning."""
        if last.at - self._seen[-1].at >= LATELY / 6:  # seven are enough
            self._seen.append(last)
        while len(self._seen) > 1 and last.at - self._seen[1].at >= LATELY:
            self._seen.popleft()
        return self._seen[0]


class EngineMetrics(Collector):
    """Reads what an engine's worker has counted; nothing of the work waits for it."""

    def __init__(self, work: EngineWorker) -> None:
        self._work = work
        self._lately = Lately(Counted(time.monotonic()))
        self._lock = threading.Lock()

    def collect(self) -> Iterator[Metric]:
        """See `Collector`."""
        work, room, engine = self._work, self._work.room, self._work.room.engine
        last = self._counted()
        with self._lock:
            first = self._lately.before(last)
        outcomes = {name: work.outcomes[name] for name in ("done", "gap", "given_back", "refused")}
        yield counter("chunks", {(name,): n for name, n in outcomes.items()})
        yield counter("fence_rejected", outcomes["refused"])
        yield gauge("slots", engine.n_slots)
        sizes = Spread(SIZES)
        for size, turns in dict(room.turns).items():
            sizes.add(size, turns)
        yield histogram("batch_size", {(): sizes})
        yield gauge(
            "batch_fill_ratio", _share(last.active_steps - first.active_steps, last.slot_steps - first.slot_steps)
        )
        windows = last.windows - first.windows
        yield gauge("padding_ratio", _share(windows - (last.sounding - first.sounding), windows))
        phases = {"load": engine.load_seconds, "compile": engine.compile_seconds, "run": engine.model_seconds}
        yield counter("inference_seconds", {(phase,): max(0.0, seconds) for phase, seconds in phases.items()})
        yield counter("busy_seconds", last.busy)
        yield counter("audio_seconds", last.audio)
        yield gauge("realtime_factor", _share(last.busy - first.busy, last.audio - first.audio))
        yield counter("compile", engine.programs)
        yield counter("gpu_oom", room.full)
        yield gauge("engine_stalled_seconds", room.stalled)

    def _counted(self) -> Counted:
        room, engine, done = self._work.room, self._work.room.engine, self._work.done
        return Counted(
            at=time.monotonic(),
            slot_steps=engine.slot_steps,
            active_steps=engine.active_steps,
            windows=room.encoded * engine.dims.window,
            sounding=room.sounding,
            busy=done.busy,
            audio=done.audio,
        )


def _share(part: float, whole: float) -> float:
    """0 where there was nothing: a gauge that is not a number says no more, and spoils averages."""
    return part / whole if whole > 0 else 0.0
