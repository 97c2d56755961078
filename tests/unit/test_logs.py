"""Logs: what a line is about, in both forms, and what no line has."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from stenopool import logs
from stenopool.logs import _Json, _note, about, without_secrets

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("said", "logged"),
    [
        ("postgresql://farm:secret@host/name: no ledger answers", "postgresql://***@host/name: no ledger answers"),
        ("redis://:secret@host:6379/0", "redis://***@host:6379/0"),
        ("http://h/a.mp3?X-Amz-Signature=secret&b=c (404)", "http://h/a.mp3?*** (404)"),
        ("'s3://b/k?endpoint=https://h' and", "'s3://b/k?***' and"),
        ("Authorization: Bearer abcdefgh12345678", "Authorization: Bearer ***"),
        ("talk.mp3: is what? No sound", "talk.mp3: is what? No sound"),
        ("a@b.org wrote", "a@b.org wrote"),
    ],
)
def test_no_line_has_a_secret(said: str, logged: str) -> None:
    """Passwords and signatures go from URLs, wherever one stands; nothing else is changed."""
    assert without_secrets(said) == logged


def line_of(message: str, *arguments: object, error: BaseException | None = None, **extra: object) -> dict[str, object]:
    """As it is logged now."""
    info = None if error is None else (type(error), error, error.__traceback__)
    record = logging.getLogger("workers.stages").makeRecord(
        "workers.stages", logging.WARNING, __file__, 1, message, arguments, info, extra=extra
    )
    _note(record)
    line: dict[str, object] = json.loads(_Json().format(record))
    return line


def test_a_line_says_what_it_is_about(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the thread is at, and what the line itself names, which goes before; another thread's is not its own."""
    monkeypatch.setattr(logs, "_process", {})  # other tests are workers, too
    seen = []
    with about(submission=7, campaign=None), about(transcript=3):
        seen.append(line_of("chunk %d", 5, chunk=5, transcript=4))
        other = threading.Thread(target=lambda: seen.append(line_of("nothing")))
        other.start()
        other.join()
    seen.append(line_of("afterwards"))

    assert seen[0].pop("time")
    assert seen[0] == {
        "level": "warning",
        "logger": "workers.stages",
        "message": "chunk 5",
        "submission": 7,
        "transcript": 4,
        "chunk": 5,
    }
    assert all("submission" not in line for line in seen[1:])


def test_an_error_is_in_its_line() -> None:
    """Without its secrets."""
    line = line_of("it fails", error=ValueError("redis://:secret@host"))

    assert "ValueError: redis://***@host" in str(line["exception"])


PROGRAM = """
import logging, threading, warnings
from stenopool.logs import set_up
set_up("json")
logging.getLogger("a").info("two\\nlines")
warnings.warn("of Python", stacklevel=1)
def fails():
    raise OSError("postgresql://u:secret@h/d")
thread = threading.Thread(target=fails)
thread.start()
thread.join()
fails()
"""


def test_every_line_is_an_object() -> None:
    """What Python itself has to say, too: warnings, and errors that nobody caught, in threads and at the end."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, check=False
    )
    lines = [json.loads(line) for line in done.stderr.splitlines()]

    assert done.returncode == 1
    assert [line["level"] for line in lines] == ["info", "warning", "critical", "critical"]
    assert lines[0]["message"] == "two\nlines"
    assert "secret" not in done.stderr
    assert all("OSError" in line["exception"] for line in lines[2:])


def test_the_last_words_of_a_command_have_the_same_form(tmp_path: Path) -> None:
    """Where it logs JSON, that too; else they are as they are in all commands."""
    env = {**os.environ, "STENOPOOL_HOME": str(tmp_path), "STENOPOOL_DATABASE": "", "STENOPOOL_BROKER": ""}

    def last_words(style: str) -> str:
        return subprocess.run(
            [sys.executable, "-m", "stenopool", "scheduler"],
            env={**env, "STENOPOOL_LOG": style},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        ).stderr.splitlines()[-1]

    assert json.loads(last_words("json"))["message"].startswith("there is no farm")
    assert last_words("text").startswith("stenopool: there is no farm")
