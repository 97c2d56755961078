"""Forecasts: what follows from what was measured, and how far it may be off."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest

from scheduler.forecast import (
    Band,
    Speed,
    engines_of,
    error_of,
    eta,
    forecast,
    ingest_speed_of,
    speed_of,
    total_of,
)
from storage.campaign_progress import Lengths
from storage.fleet import Worker
from storage.throughput import Done

KNOWN = Speed(10.0, 0.1, "measured")


def lengths(*known: float, unknown: int = 0) -> Lengths:
    """Recordings of these lengths, and so many others."""
    return Lengths(len(known), sum(known), sum(one**2 for one in known), unknown)


def engine(speed: float | None = 4.0, *, model: str | None = "pocket", slots: int = 16) -> Worker:
    """One that works."""
    return Worker(id="e", role="engine", host="h", pid=1, version="1", model=model, slots=slots, speed=speed)


def test_the_speed_is_a_ratio_of_sums() -> None:
    """A piece with little work counts for little."""
    speed = speed_of([Done(3000, 300), Done(10, 5)], [], "pocket")

    assert speed is not None
    assert speed.rate == pytest.approx(3010 / 305)
    assert speed.basis == "measured in 0.1 engine-hours"


def test_more_pieces_say_more_but_never_all() -> None:
    """The error falls with their number, to a floor; where they differ, it stays."""
    errors = [speed_of([Done(3000, 300)] * n, [], "pocket") for n in (1, 4, 1000)]
    uneven = speed_of([Done(6000, 300), Done(600, 300)] * 10, [], "pocket")

    assert [round(one.error, 3) for one in errors if one] == [0.3, 0.15, 0.05]
    assert uneven is not None
    assert uneven.error > 0.15


def test_what_takes_minutes_goes_by_the_last_minutes() -> None:
    """And what takes days by days; where nothing is of late, what there is counts as if it were."""
    slower = [Done(3000, 300, age=300.0 * at) for at in range(3)]
    before = [Done(6000, 300, age=900.0 + 300 * at) for at in range(285)]

    soon, late = (speed_of([*slower, *before], [], "pocket", horizon=of) for of in (60.0, 7 * 86_400.0))
    old = speed_of([Done(one.audio, one.busy, one.age + 86_400) for one in slower], [], "pocket", horizon=60.0)

    assert soon is not None
    assert late is not None
    assert 14 < soon.rate < 16, "half of the weight is in the last quarter of an hour"
    assert 19.8 < late.rate < 20
    assert soon.error > late.error
    assert old is not None
    assert old.rate == pytest.approx(10.0)


def test_before_anything_was_measured_the_self_test_says_it() -> None:
    """Between one slot and all of them; of that model's engines only."""
    speed = speed_of([], [engine(4.0), engine(99.0, model="other"), engine(None)], "pocket")

    assert speed is not None
    assert speed.rate == pytest.approx(16.0)  # between 4 and 64
    found = forecast(lengths(3600.0), speed, 1)
    assert found is not None
    assert found.engine.low == pytest.approx(3600 / 64)
    assert found.engine.high == pytest.approx(3600 / 4)
    assert speed_of([], [engine(None)], "pocket") is None


def test_what_is_known_is_divided() -> None:
    """Audio over speed is the engines' time, and over their number the time until it is done."""
    found = forecast(lengths(3600.0, 7200.0), KNOWN, 4)

    assert found is not None
    assert found.audio == Band(10_800.0, 10_800.0, 10_800.0)
    assert found.engine.mid == pytest.approx(1080.0)
    assert found.finish is not None
    assert found.finish.mid == pytest.approx(270.0)
    assert found.finish.high / found.finish.mid == pytest.approx(math.exp(1.645 * 0.1))
    assert found.engines == 4


def test_where_ingest_is_slower_more_engines_do_not_help() -> None:
    """A file costs by itself what four minutes of sound cost; workers that ingest share them."""
    workers = [replace(engine(model=None), role=role) for role in ("ingest+merge", "ingest", "publish", "engine")]
    ingest = ingest_speed_of([Done(audio=10 * (10 + 240.0), busy=5.0)], workers)
    short = [10.0] * 100

    one, many = (forecast(lengths(*short), KNOWN, n, ingest_speed=ingest) for n in (1, 50))
    long = forecast(lengths(10 * 3600.0), KNOWN, 1, ingest_speed=ingest)

    assert ingest is not None
    assert ingest.rate == pytest.approx(1000.0), "two workers, each of them ten files in five seconds"
    for found, expected in ((one, 100.0), (many, 25.0)):
        assert found is not None
        assert found.ingest is not None
        assert found.ingest.mid == pytest.approx(25.0)
        assert found.finish is not None
        assert found.finish.mid == pytest.approx(expected)
    assert long is not None
    assert long.finish == long.engine
    assert ingest_speed_of([], workers) is None
    assert ingest_speed_of([Done(1.0, 1.0)], workers[2:]) is None


def test_without_engines_it_never_ends() -> None:
    """But what it takes is known."""
    found = forecast(lengths(3600.0), KNOWN, 0)

    assert found is not None
    assert found.finish is None
    assert found.engine.mid == pytest.approx(360.0)
    assert engines_of([engine(), engine(model="other"), engine(slots=0)], "pocket") == 1


def test_others_may_keep_it_waiting() -> None:
    """For as long as their work takes, at worst."""
    alone, beside = (forecast(lengths(3600.0), KNOWN, 2, others) for others in (0.0, 7200.0))

    assert alone is not None
    assert beside is not None
    assert alone.finish is not None
    assert beside.finish is not None
    assert (beside.finish.low, beside.finish.mid) == (alone.finish.low, alone.finish.mid)
    assert beside.finish.high == pytest.approx(alone.finish.high + 360.0)


def test_unknown_lengths_count_as_the_mean_of_the_others() -> None:
    """And widen the band; where none is known there is no forecast."""
    total, error = total_of(lengths(100.0, 300.0, unknown=2)) or (0, 0)

    assert total == pytest.approx(800.0)
    assert error > 0.2
    assert total_of(lengths(unknown=1)) is None
    assert forecast(lengths(unknown=1), KNOWN, 1) is None
    assert total_of(lengths()) == (0.0, 0.0)
    assert total_of(lengths(100.0, unknown=1)) == pytest.approx((200.0, math.sqrt(2) / 2))


def test_bands_hold_in_nine_of_ten_cases() -> None:
    """Of archives with lengths as podcasts have them, of which some are known, and engines that are not steady."""
    chance = random.Random(7)
    held = 0
    for _ in range(400):
        archive = [chance.lognormvariate(8.0, 0.5) for _ in range(200)]
        pieces = [Done(300 * chance.gauss(20, 4), 300.0) for _ in range(36)]
        speed = speed_of(pieces, [], "pocket")
        assert speed is not None
        found = forecast(lengths(*archive[:50], unknown=150), speed, 1)
        assert found is not None
        held += found.engine.low <= sum(archive) / 20 <= found.engine.high
    assert 0.85 <= held / 400 <= 1.0


def test_what_ended_lately_says_when_the_rest_will() -> None:
    """At its own rate; a few recordings say nothing."""
    found = eta(lengths(1000.0), 500.0, 100.0, 25)

    assert found is not None
    assert found.mid == pytest.approx(200.0)
    assert found.high / found.mid == pytest.approx(math.exp(1.645 * 0.2))
    assert eta(lengths(1000.0), 500.0, 100.0, 4) is None
    assert eta(lengths(unknown=3), 500.0, 100.0, 25) is None


def test_what_is_half_done_is_half_to_be_done() -> None:
    """A recording of ten hours counts by what is left of it, also before the first one has ended."""
    found = forecast(lengths(36_000.0, 3600.0), KNOWN, 1, done=35_600.0)
    nearly = eta(lengths(1000.0), 500.0, 100.0, 25, partly=900.0)

    assert found is not None
    assert found.engine.mid == pytest.approx(400.0)
    assert nearly is not None
    assert nearly.mid == pytest.approx(20.0)
    through = forecast(lengths(10.0), KNOWN, 1, done=10.1)
    assert through is not None
    assert through.engine == Band(0.0, 0.0, 0.0)


def test_the_error_is_a_share_of_the_forecast() -> None:
    """Longer is more than nothing."""
    assert [error_of(100.0, took) for took in (125.0, 100.0, 50.0)] == [0.25, 0.0, -0.5]
    assert error_of(0.0, 5.0) == 0.0
