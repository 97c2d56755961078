"""Ctrl-C that falls into a library's callback, where Python can only ignore what is raised."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import gc, os, signal, sys
import click
from stenopool import cli

@cli.cli.command("collect")
@click.pass_obj
def collect(stop):
    def callback(phase, info):
        if not stop.is_set() and phase == "start":
            {callback}
    gc.callbacks.append(callback)
    gc.collect()
    assert stop.wait(10)
    raise KeyboardInterrupt

sys.argv = ["stenopool", "collect"]
cli.main()
"""


@pytest.mark.parametrize(
    ("callback", "reported"),
    [
        pytest.param("os.kill(os.getpid(), signal.SIGINT)", False, id="the interrupt, which is kept"),
        pytest.param("stop.set(); raise RuntimeError", True, id="a real mistake"),
    ],
)
def test_only_a_lost_interrupt_is_passed_over(callback: str, reported: bool) -> None:
    """What a callback lost is reported, but for the interrupt: the command ends because of it, with a word."""
    program = PROGRAM.format(callback=callback)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert ("Traceback" in done.stderr) == reported
    assert "stenopool: stopped; the same command goes on from here" in done.stderr
