"""`stenopool transcribe --mode sequential` as people run it: a real process, killed, and begun again."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from tests import sounds

RATE = 16_000


def test_a_killed_run_goes_on_with_what_it_was_told(tmp_path: Path) -> None:
    """kill -9 between two chunks: only the one in work is heard again, and the transcript is the undisturbed one."""
    sound, silence = sounds.read(sounds.SAMPLE), np.zeros(8 * RATE, np.int16)
    parts = [sound[: 12 * RATE], silence, sound[12 * RATE : 24 * RATE], silence, sound[24 * RATE : 36 * RATE]]
    clip = sounds.write(tmp_path / "clip.wav", np.concatenate(parts)[None])

    def command(folder: str) -> list[str]:
        options = ["--mode", "sequential", "--chunk-length", "10", "-l", "en", "-f", "json,srt", "--batch-size", "1"]
        return [sys.executable, "-m", "stenopool", "transcribe", str(clip), *options, "-o", str(tmp_path / folder)]

    def environment(home: str) -> dict[str, str]:
        return {**os.environ, "STENOPOOL_HOME": str(tmp_path / home)}

    def chunks() -> list[tuple[str, int]]:
        try:
            with sqlite3.connect(f"file:{tmp_path}/second/ledger.sqlite?mode=ro", uri=True, timeout=30) as database:
                return database.execute("select state, attempt from chunks order by [index]").fetchall()
        except sqlite3.OperationalError:  # there is no ledger yet
            return []

    def result(folder: str) -> dict[str, Any]:
        loaded: dict[str, Any] = json.loads((tmp_path / folder / "clip.json").read_text())
        return loaded

    undisturbed = subprocess.run(command("a"), env=environment("first"), capture_output=True, check=False, timeout=300)
    assert undisturbed.returncode == 0, undisturbed.stderr
    with subprocess.Popen(command("b"), env=environment("second"), stderr=subprocess.PIPE) as killed:
        deadline = time.monotonic() + 120
        while not (state := chunks()) or state[0][0] != "done":
            assert killed.poll() is None
            assert time.monotonic() < deadline, "waited too long"
            time.sleep(0.02)
        killed.kill()
        killed.communicate()
    before = chunks()
    assert before[0] == ("done", 1)
    assert before[-1] == ("waiting", 0)

    resumed = subprocess.run(command("b"), env=environment("second"), capture_output=True, check=False, timeout=300)

    assert resumed.returncode == 0, resumed.stderr
    after = chunks()
    assert {state for state, _ in after} == {"done"}
    assert [attempt for _, attempt in after if attempt > 1] in ([], [2])
    assert after[0] == ("done", 1)
    assert result("b")["segments"] == result("a")["segments"]
    assert result("b")["coverage"] == result("a")["coverage"]
    assert result("b")["text"]
