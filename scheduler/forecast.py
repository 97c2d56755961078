"""Forecast: how much work a campaign is, and when it will be done; pure.

    audio    what is known, and for each recording of unknown length the mean of the known ones
    speed    seconds of audio that an engine of that model transcribed per second in which it had work, as a ratio of
             sums over pieces of five minutes (storage/throughput.py)
    engine   audio / speed
    ingest   (audio + a fixed time for each recording) / speed of ingest, measured likewise / how many workers ingest
    finish   engine / how many engines there are, or ingest, whichever takes longer: both go on at once

The band holds in nine of ten cases, as far as what is to come is like what was measured. Relative errors of audio and
speed add in squares, and the band is that of a log-normal: no end of it is below nothing.

- Audio: the sum of n unknown lengths, predicted from m known ones with the variance v, has the variance n·v·(1 + n/m).
- Speed: the residuals of the pieces from the ratio (the linearised ratio estimator), but never less than `LEAST`, and
  never less than `ALONE / √pieces`, as pieces beside each other are alike. What is to take minutes goes at the speed of
  the last minutes, and what is to take days at that of days: a piece loses half of its weight each time that it is as
  old as the work is to take, and their number is that of pieces of equal weight that would say as much.
- Where nothing was measured, an engine's self-test is all there is: one chunk alone, in one of its slots. Engines are
  faster with all slots full, by a factor between 1 and their number. The estimate is the middle of these, by their
  logarithms, and the band reaches from one to the other.

An engine that others keep busy does not work for this campaign: with what they have open, the last hour of the band is
later by all of it. What no figure knows of: a feed that is slow, engines that come or go, somebody with a higher lane.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from storage.campaign_progress import Lengths
from storage.fleet import Worker
from storage.throughput import A_FILE, Done

#: Standard deviations of a normal distribution that hold in nine of ten cases.
Z = 1.645
#: The least relative error of a measured speed, and that of a single piece.
LEAST, ALONE = 0.05, 0.3
#: Seconds in which what was measured loses half of its weight, for the shortest work and for the longest.
SOONEST, LATEST = 900.0, 86_400.0
#: Recordings that must have ended lately for their own rate to say when the rest will be done.
ENOUGH = 5


@dataclass(frozen=True, slots=True)
class Band:
    """An estimate, and where it lies in nine of ten cases."""

    low: float
    mid: float
    high: float

    def __mul__(self, by: float) -> Band:
        return Band(self.low * by, self.mid * by, self.high * by)

    def __truediv__(self, by: float) -> Band:
        return self * (1 / by)


@dataclass(frozen=True, slots=True)
class Speed:
    """Of an engine."""

    #: Seconds of audio per second in which it has work.
    rate: float
    #: Relative standard error.
    error: float
    #: How that is known, for people.
    basis: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What a campaign will take; seconds."""

    audio: Band
    engine: Band
    #: Until all of it is ingested, from now on; None where that was never measured.
    ingest: Band | None
    #: From now on; None where there is no engine.
    finish: Band | None
    engines: int
    speed: Speed
    #: Recordings whose length is not known.
    n_unknown: int


def speed_of(done: Sequence[Done], workers: Iterable[Worker], model: str, *, horizon: float = math.inf) -> Speed | None:
    """How fast engines of a model are; None where nobody knows.

    Args:
        done: what they did lately.
        workers: who works now.
        horizon: seconds that the work is to take of which it is asked; it says how much older pieces count.
    """
    half = min(max(horizon, SOONEST), LATEST)
    youngest = min((one.age for one in done), default=0.0)  # where all is old, the youngest counts in full
    weights = [0.5 ** ((one.age - youngest) / half) for one in done]
    audio = sum(weight * one.audio for weight, one in zip(weights, done, strict=True))
    busy = sum(weight * one.busy for weight, one in zip(weights, done, strict=True))
    if audio > 0 and busy > 0:
        rate = audio / busy
        n, alike = len(done), sum(weights) ** 2 / sum(weight**2 for weight in weights)
        residuals = sum(
            (weight * (one.audio - rate * one.busy)) ** 2 for weight, one in zip(weights, done, strict=True)
        )
        error = math.sqrt(n / (n - 1) * residuals) / audio if n > 1 else 0.0
        basis = f"measured in {sum(one.busy for one in done) / 3600:.1f} engine-hours"
        return Speed(rate, max(error, LEAST, ALONE / math.sqrt(alike)), basis)
    tried = [(one.speed, one.slots) for one in workers if one.model == model and one.speed]
    if not tried:
        return None
    slow, fast = min(speed for speed, _ in tried), max(speed * max(slots, 1) for speed, slots in tried)
    error = max(math.log(fast / slow) / 2 / Z, LEAST)
    return Speed(math.sqrt(slow * fast), error, "guessed from the engines' self-test: none has worked yet")


def ingest_speed_of(done: Sequence[Done], workers: Iterable[Worker], *, horizon: float = math.inf) -> Speed | None:
    """How fast all workers together ingest; None where that was not measured, or nobody does.

    Args:
        done: what they did lately, `A_FILE` for each recording included.
    """
    n = sum("ingest" in one.role.split("+") for one in workers)
    one = speed_of(done, (), "", horizon=horizon)
    return Speed(one.rate * n, one.error, one.basis) if one and n else None


def engines_of(workers: Iterable[Worker], model: str) -> int:
    """How many engines of a model there are."""
    return sum(one.model == model and one.slots > 0 for one in workers)


def forecast(
    lengths: Lengths,
    speed: Speed,
    engines: int,
    others: float = 0.0,
    done: float = 0.0,
    ingest_speed: Speed | None = None,
) -> Forecast | None:
    """What so much work will take; None where no length is known.

    Args:
        engines: that work on it.
        others: seconds of audio that they have to do besides, for whoever else.
        done: seconds of these recordings that are transcribed already.
        ingest_speed: of all who ingest; None where nobody knows.
    """
    audio = _left_of(lengths, done)
    if audio is None:
        return None
    mid, error = audio
    ingest = None
    if ingest_speed is not None and mid:
        work = mid + A_FILE * (lengths.n_known + lengths.n_unknown)
        ingest = _band(work / ingest_speed.rate, math.hypot(error, ingest_speed.error))
    engine = _band(mid / speed.rate, math.hypot(error, speed.error))
    finish = engine / engines if engines else None
    if finish is not None and ingest is not None:
        finish = Band(max(finish.low, ingest.low), max(finish.mid, ingest.mid), max(finish.high, ingest.high))
    if finish is not None and others:
        finish = Band(finish.low, finish.mid, finish.high + others / speed.rate / engines)
    return Forecast(
        audio=_band(mid, error),
        engine=engine,
        ingest=ingest,
        finish=finish,
        engines=engines,
        speed=speed,
        n_unknown=lengths.n_unknown,
    )


def total_of(lengths: Lengths) -> tuple[float, float] | None:
    """Seconds of audio of recordings of which some are of unknown length, and their relative standard error."""
    n, m = lengths.n_unknown, lengths.n_known
    if m == 0:
        return (0.0, 0.0) if n == 0 else None
    mean = lengths.total / m
    # Of a single known length, nobody knows how far others are from it: as far as it is long.
    variance = max(0.0, lengths.squares / m - mean**2) * m / (m - 1) if m > 1 else mean**2
    total = lengths.total + n * mean
    return total, math.sqrt(n * variance * (1 + n / m)) / total if total else 0.0


def _left_of(lengths: Lengths, done: float) -> tuple[float, float] | None:
    """As `total_of`, without what is transcribed of them already; all of the error is in what is left."""
    total = total_of(lengths)
    if total is None or done <= 0:
        return total
    left = max(0.0, total[0] - done)
    return left, total[1] * total[0] / left if left else 0.0


def eta(remaining: Lengths, done: float, seconds: float, n: int, partly: float = 0.0) -> Band | None:
    """Seconds until the rest of a campaign is done, at the rate at which it goes now; None where that is not known.

    Args:
        done: seconds of audio that were done within the last so many `seconds`.
        n: how many recordings ended in them.
        partly: seconds that are transcribed of what remains.
    """
    audio = _left_of(remaining, partly)
    if audio is None or n < ENOUGH or done <= 0 or seconds <= 0:
        return None
    mid, error = audio
    return _band(mid / (done / seconds), math.hypot(error, max(LEAST, 1 / math.sqrt(n))))


def error_of(forecast: float, took: float) -> float:
    """How much longer something took than was forecast, as a share of the forecast; negative where it was shorter."""
    return (took - forecast) / forecast if forecast else 0.0


def _band(mid: float, error: float) -> Band:
    factor = math.exp(Z * error)
    return Band(mid / factor, mid, mid * factor)
