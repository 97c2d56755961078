"""Manners: a host is asked for a few files at once, and left alone where it says so."""

from __future__ import annotations

import threading

import pytest

from stenopool.errors import FetchError
from workers.hosts import A_WHILE, LONGEST, NEXT_TURN, Hosts


def test_a_host_is_asked_for_two_files_at_once() -> None:
    """The third is told to come again; another host has turns of its own, and a turn that ends is free."""
    hosts = Hosts(patience=0.0)
    with hosts.turn("a"), hosts.turn("a"):
        with pytest.raises(FetchError, match=r"^2 files are being fetched from a; ") as caught, hosts.turn("a"):
            pass
        assert (caught.value.code, caught.value.retryable, caught.value.later) == ("busy", True, NEXT_TURN)
        with hosts.turn("b"):
            pass
    with hosts.turn("a"):
        pass


def test_some_wait_for_a_turn_as_long_as_they_say() -> None:
    """And no longer."""
    hosts = Hosts(1, patience=60.0)
    with hosts.turn("a"), pytest.raises(FetchError, match=r"^1 files are being fetched from a; "), hosts.turn("a", 0.0):
        pass


def test_a_turn_is_waited_for() -> None:
    """Until one is given back."""
    hosts = Hosts(1, patience=60.0)
    begun, end = threading.Event(), threading.Event()

    def fetch() -> None:
        with hosts.turn("a"):
            begun.set()
            end.wait()

    thread = threading.Thread(target=fetch)
    thread.start()
    begun.wait()
    threading.Timer(0.01, end.set).start()
    with hosts.turn("a"):
        assert end.is_set()
    thread.join()


@pytest.mark.parametrize(("asked", "given"), [(5.0, 5.0), (None, A_WHILE), (1e9, LONGEST)])
def test_a_host_that_asks_for_time_has_it(asked: float | None, given: float) -> None:
    """Nobody asks it meanwhile, for an hour at most."""
    now = 100.0
    hosts = Hosts(clock=lambda: now)
    with pytest.raises(FetchError) as caught, hosts.turn("a"):
        raise FetchError("later", "a: status 429", retryable=True, later=asked)
    assert caught.value.later == given

    now += given - 1
    with pytest.raises(FetchError, match=r"^a asked to be left alone") as caught, hosts.turn("a"):
        pass
    assert (caught.value.code, caught.value.later) == ("busy", 1.0)
    now += 1
    with hosts.turn("a"):
        pass
