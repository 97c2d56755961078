"""`stenopool transcribe` as people run it: real processes, real sound, the bundled model."""

from __future__ import annotations

import csv
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import jsonschema
import numpy as np
import psutil
import pytest

from stenopool.cli import cli
from stenopool.errors import UsageError
from tests import podcasts, sounds
from tests.transcripts import SCHEMA

SAMPLE = sounds.SAMPLE
RATE = 16_000

Run = Callable[..., subprocess.CompletedProcess[str]]


def _environment(home: Path) -> dict[str, str]:
    return {**os.environ, "STENOPOOL_HOME": str(home)}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run the command in a home of its own."""

    def run(*arguments: str | Path, stdin: bytes | None = None) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "stenopool", "transcribe", *map(str, arguments)],
            env=_environment(tmp_path / "home"),
            cwd=tmp_path,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            check=False,
            timeout=300,
        )
        assert b"Traceback" not in done.stderr
        return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())

    return run


@pytest.fixture(scope="session")
def sound() -> np.ndarray:
    """The bundled recording, int16 [samples] at 16 kHz."""
    return sounds.read(SAMPLE)


def transcript(path: Path) -> dict[str, Any]:
    """A JSON transcript."""
    loaded: dict[str, Any] = json.loads(path.read_text())
    return loaded


def rows(home: Path, query: str) -> list[tuple[Any, ...]]:
    """What the ledger says."""
    with sqlite3.connect(f"file:{home / 'ledger.sqlite'}?mode=ro", uri=True, timeout=30) as database:
        return database.execute(query).fetchall()


def test_formats_are_written_beside_each_other(run: Run, tmp_path: Path) -> None:
    """One command gives one file per format; nothing else is left in the folder, and no samples in the home."""
    done = run(SAMPLE, "-o", "out", "--format", "txt,srt,vtt,json,tsv", "--language", "en")

    assert done.returncode == 0, done.stderr
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["meeting.json", "meeting.srt", "meeting.tsv", "meeting.txt", "meeting.vtt"]
    result = transcript(tmp_path / "out" / "meeting.json")
    assert result["text"] == "".join(segment["text"] for segment in result["segments"]).strip()
    assert [piece["start_sample"] for piece in result["coverage"]] == [
        0,
        *(piece["end_sample"] for piece in result["coverage"][:-1]),
    ]
    assert result["coverage"][-1]["end_sample"] == result["duration"]
    assert [piece["kind"] for piece in result["coverage"]].count("silence") >= 1
    assert not list((tmp_path / "home" / "objects" / "pcm").iterdir())
    [(document,)] = rows(tmp_path / "home", "select document from transcripts")
    [seam] = json.loads(document)["seams"]  # in the stretch that has no pause
    assert seam["overlap"]["end"] - seam["overlap"]["start"] == 3 * RATE
    assert seam["matched"] + seam["left_only"] + seam["right_only"] > 0


def test_done_files_are_skipped_with_a_word(run: Run, sound: np.ndarray, tmp_path: Path) -> None:
    """The second run says so and decodes nothing; another option is other work; --force does it again."""
    clip = sounds.write(tmp_path / "clip.wav", sound[: 12 * RATE])
    first = run(clip, "-l", "en", "-f", "json")
    again = run(clip, "-l", "en", "-f", "json")
    other = run(clip, "-l", "en", "-f", "json", "--chunk-length", "10")
    forced = run(clip, "-l", "en", "-f", "json", "--force")

    assert [done.returncode for done in (first, again, other, forced)] == [0, 0, 0, 0]
    assert "already" not in first.stderr
    assert "already transcribed" in again.stderr
    assert "up to date" in again.stderr
    assert "already" not in other.stderr
    assert "already" not in forced.stderr
    assert sorted(rows(tmp_path / "home", "select generation, state from transcripts")) == [
        (1, "completed"),
        (1, "completed"),
        (2, "completed"),
    ]


def test_a_lost_output_is_written_again_without_the_model(run: Run, sound: np.ndarray, tmp_path: Path) -> None:
    """A deleted file comes back from the ledger, in a new format, too."""
    clip = sounds.write(tmp_path / "clip.wav", sound[: 8 * RATE])
    run(clip, "-l", "en", "-f", "txt")
    text = (tmp_path / "clip.txt").read_text()
    (tmp_path / "clip.txt").unlink()

    done = run(clip, "-l", "en", "-f", "txt,srt")

    assert "already transcribed" in done.stderr
    assert (tmp_path / "clip.txt").read_text() == text
    assert (tmp_path / "clip.srt").read_text().startswith("1\n")


def test_a_killed_run_goes_on_where_it_was(run: Run, sound: np.ndarray, tmp_path: Path) -> None:
    """kill -9 in the middle: the same command runs only what is missing, and the transcript is the undisturbed one."""
    clip = sounds.write(tmp_path / "long.wav", sound[: 160 * RATE])
    undisturbed = run(clip, "-l", "en", "-f", "json", "--batch-size", "2")
    assert undisturbed.returncode == 0, undisturbed.stderr
    expected = transcript(tmp_path / "long.json")
    home = tmp_path / "second"
    command = [sys.executable, "-m", "stenopool", "transcribe", str(clip), "-l", "en", "-f", "json", "-o", "second-out"]
    command += ["--batch-size", "2"]

    def done_chunks() -> int:
        try:
            return int(rows(home, "select count(*) from chunks where state = 'done'")[0][0])
        except sqlite3.OperationalError:  # there is no ledger yet
            return 0

    with subprocess.Popen(command, cwd=tmp_path, env=_environment(home), stderr=subprocess.PIPE) as killed:
        _wait_until(lambda: done_chunks() >= 3 or killed.poll() is not None)
        killed.send_signal(signal.SIGKILL)
        killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    before = done_chunks()
    total = int(rows(home, "select chunks_total from transcripts")[0][0])
    assert 3 <= before < total
    assert not list((tmp_path / "second-out").iterdir())

    resumed = subprocess.run(
        command, cwd=tmp_path, env=_environment(home), capture_output=True, check=False, timeout=300
    )

    assert resumed.returncode == 0, resumed.stderr
    attempts = [attempt for (attempt,) in rows(home, "select attempt from chunks")]
    assert attempts.count(2) <= 2  # what the killed process held, and nothing else, ran twice
    assert attempts.count(1) >= total - 2
    assert transcript(tmp_path / "second-out" / "long.json") == expected
    assert not list((home / "objects" / "pcm").iterdir())


def _wait_until(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


def test_interrupting_leaves_nothing_broken(sound: np.ndarray, tmp_path: Path, run: Run) -> None:
    """Ctrl-C ends at once with a word and code 130; no lease stays, and the same command finishes the work."""
    clip = sounds.write(tmp_path / "long.wav", sound[: 90 * RATE])
    command = [sys.executable, "-m", "stenopool", "transcribe", str(clip), "-l", "en", "-f", "txt", "--batch-size", "2"]
    home = tmp_path / "home"
    with subprocess.Popen(command, cwd=tmp_path, env=_environment(home), stderr=subprocess.PIPE) as stopped:

        def leased() -> bool:
            try:
                return bool(rows(home, "select 1 from chunks where state = 'leased'"))
            except sqlite3.OperationalError:
                return False

        _wait_until(lambda: leased() or stopped.poll() is not None)
        stopped.send_signal(signal.SIGINT)
        _, said = stopped.communicate(timeout=60)

    assert stopped.returncode == 130
    assert b"stopped; the same command goes on from here" in said
    assert b"Traceback" not in said
    assert not rows(home, "select 1 from chunks where state = 'leased'")
    assert not list((home / "objects" / "unfinished").iterdir())
    assert run(clip, "-l", "en", "-f", "txt", "--batch-size", "2").returncode == 0


def test_interrupting_ends_all_decoders(sound: np.ndarray, tmp_path: Path) -> None:
    """Ctrl-C in a terminal, while three files are decoded by processes: none of them stays, and no draft."""
    clip, long = sounds.write(tmp_path / "clip.wav", sound[: 5 * RATE]), np.zeros(1800 * 8000, np.uint8)
    files = [clip, *(sounds.write(tmp_path / f"{name}.wav", long, rate=8000) for name in ("a", "b"))]
    command = [sys.executable, "-m", "stenopool", "transcribe", *map(str, files), "-l", "en", "--decoders", "3"]
    home = tmp_path / "home"
    with subprocess.Popen(
        command, cwd=tmp_path, env=_environment(home), stderr=subprocess.PIPE, process_group=0
    ) as stopped:
        unfinished = home / "objects" / "unfinished"
        _wait_until(lambda: len(list(unfinished.glob("*"))) >= 2 or stopped.poll() is not None)
        children = psutil.Process(stopped.pid).children(recursive=True)
        os.killpg(stopped.pid, signal.SIGINT)
        _, said = stopped.communicate(timeout=60)

    assert stopped.returncode == 130
    assert said.splitlines()[-1] == b"stenopool: stopped; the same command goes on from here"
    assert b"Traceback" not in said
    assert len(children) == 3
    assert psutil.wait_procs(children, timeout=0)[1] == []
    assert not list(unfinished.iterdir())


def test_a_stop_signal_is_an_interrupt(sound: np.ndarray, tmp_path: Path) -> None:
    """SIGTERM, while standard input is transcribed: the same word, code 143, and nothing left behind."""
    clip = sounds.write(tmp_path / "long.wav", sound)
    (tmp_path / "tmp").mkdir()
    environment = {**_environment(tmp_path / "home"), "TMPDIR": str(tmp_path / "tmp")}
    command = [sys.executable, "-m", "stenopool", "transcribe", "-", "-l", "en", "--batch-size", "2"]
    with (
        clip.open("rb") as piped,
        subprocess.Popen(command, cwd=tmp_path, env=environment, stdin=piped, stderr=subprocess.PIPE) as stopped,
    ):
        _wait_until(lambda: (tmp_path / "home" / "ledger.sqlite").exists() or stopped.poll() is not None)
        assert list((tmp_path / "tmp").glob("stenopool-*"))
        stopped.send_signal(signal.SIGTERM)
        _, said = stopped.communicate(timeout=60)

    assert stopped.returncode == 143
    assert b"stopped; the same command goes on from here" in said
    assert not list((tmp_path / "tmp").glob("stenopool-*"))


def test_a_forced_run_that_was_killed_goes_on(sound: np.ndarray, tmp_path: Path, run: Run) -> None:
    """--force again after kill -9 does not begin anew, and leaves no samples behind."""
    clip = sounds.write(tmp_path / "clip.wav", sound[: 30 * RATE])
    command = (clip, "-l", "en", "-f", "txt", "--chunk-length", "5", "--overlap", "1", "--batch-size", "1", "--force")
    assert run(*command).returncode == 0
    home = tmp_path / "home"
    done = "select count(*) from chunks where state = 'done' and transcript_id = 2"
    with subprocess.Popen(
        [sys.executable, "-m", "stenopool", "transcribe", *map(str, command)],
        cwd=tmp_path,
        env=_environment(home),
        stderr=subprocess.DEVNULL,
    ) as killed:
        _wait_until(lambda: rows(home, done)[0][0] >= 2 or killed.poll() is not None)
        killed.kill()

    assert run(*command).returncode == 0

    assert rows(home, "select generation, state from transcripts") == [(1, "completed"), (2, "completed")]
    assert rows(home, "select count(*) from chunks where attempt > 1")[0][0] <= 1
    assert not list((home / "objects" / "pcm").iterdir())


def test_an_output_that_cannot_be_written_does_not_stop_the_others(run: Run, sound: np.ndarray, tmp_path: Path) -> None:
    """One line names it, the other file is written, the code is 1."""
    sounds.write(tmp_path / "a.wav", sound[: 5 * RATE])
    sounds.write(tmp_path / "b.wav", sound[5 * RATE : 10 * RATE])
    (tmp_path / "out" / "a.txt").mkdir(parents=True)

    done = run("a.wav", "b.wav", "-l", "en", "-f", "txt", "-o", "out")

    assert done.returncode == 1
    assert "stenopool: out/a.txt: cannot be written (Is a directory)" in done.stderr
    assert (tmp_path / "out" / "b.txt").is_file()


def test_an_output_folder_that_is_a_file_is_refused_before_any_work(run: Run, tmp_path: Path) -> None:
    """Code 2, and no ledger was made."""
    (tmp_path / "out").touch()

    done = run(SAMPLE, "-o", "out")

    assert done.returncode == 2
    assert done.stderr == "stenopool: out: cannot be written to (File exists); choose another folder with -o\n"
    assert not (tmp_path / "home").exists()


def test_a_cache_that_cannot_be_used_is_named(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line, with the setting that helps."""
    (tmp_path / "cache").touch()
    monkeypatch.setenv("STENOPOOL_CACHE", str(tmp_path / "cache"))

    done = run(SAMPLE)

    assert done.returncode == 2
    assert "set STENOPOOL_CACHE elsewhere" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_bad_inputs_do_not_stop_the_good_ones(run: Run, sound: np.ndarray, tmp_path: Path) -> None:
    """Each bad file gets one line and the others go on; the code is 1 at the end."""
    good = sounds.write(tmp_path / "good.wav", sound[: 6 * RATE])
    (tmp_path / "empty.mp3").touch()
    (tmp_path / "notes.txt").write_text("not a sound at all\n" * 40)
    (tmp_path / "folder").mkdir()

    done = run("missing.wav", "empty.mp3", good, "notes.txt", "folder", "-l", "en", "-f", "txt")

    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if line.startswith("stenopool: ")]
    assert [line.split(": ")[1] for line in lines] == ["missing.wav", "empty.mp3", "notes.txt", "folder"]
    assert (tmp_path / "good.txt").exists()


def test_a_recording_that_ended_early_is_transcribed_and_named(run: Run, sound: np.ndarray, tmp_path: Path) -> None:
    """A truncated file gives what is there, says so in the result, and the code is 3."""
    whole = sounds.write(tmp_path / "whole.wav", sound[: 30 * RATE]).read_bytes()
    (tmp_path / "cut.wav").write_bytes(whole[: len(whole) // 3])

    done = run("cut.wav", "-l", "en", "-f", "json", "--quiet")

    assert done.returncode == 3
    assert "cut.wav: ended early: " in done.stderr
    assert len(done.stderr.splitlines()) == 1
    result = transcript(tmp_path / "cut.json")
    assert result["ended_early"]
    assert result["seconds"] == pytest.approx(10, abs=0.1)
    assert result["text"]


def test_standard_input_is_a_recording_like_any_other(run: Run, sound: np.ndarray, tmp_path: Path) -> None:
    """`-` reads a recording; its outputs are called stdin."""
    clip = sounds.write(tmp_path / "clip.wav", sound[: 8 * RATE])
    piped = run("-", "-l", "en", "-f", "txt", stdin=clip.read_bytes())
    named = run(clip, "-l", "en", "-f", "txt")

    assert piped.returncode == 0, piped.stderr
    assert "already transcribed" in named.stderr  # the same samples are the same recording
    assert (tmp_path / "stdin.txt").read_text() == (tmp_path / "clip.txt").read_text()


def test_nothing_on_standard_input_is_named(run: Run) -> None:
    """Empty standard input gets one line that says so."""
    done = run("-", stdin=b"")

    assert done.returncode == 1
    assert done.stderr.startswith("stenopool: standard input: ")


def test_channels_can_be_split(run: Run, sound: np.ndarray, tmp_path: Path) -> None:
    """A transcript per channel; a silent channel is all silence, an empty text and no failure."""
    speech = sound[: 10 * RATE]
    call = sounds.write(tmp_path / "call.wav", np.stack([speech, np.zeros_like(speech)]))
    alone = sounds.write(tmp_path / "alone.wav", speech)

    formats = "json,txt,csv,podcast-vtt,podcast-srt,podcast-json,podcast-html,chapters"
    done = run(call, alone, "-l", "en", "-f", formats, "--channels", "split", "--speakers", "Ada", "--word-timestamps")

    assert done.returncode == 0, done.stderr
    left, right = (transcript(tmp_path / f"call.channel{n}.json") for n in (1, 2))
    assert left["text"] == transcript(tmp_path / "alone.channel1.json")["text"]
    assert right["text"] == ""
    assert [(piece["kind"], piece["end_sample"]) for piece in right["coverage"]] == [("silence", len(speech))]
    assert (left["channel"], right["channel"]) == (1, 2)
    assert rows(tmp_path / "home", "select count(*) from recordings") == [(2,)]
    both = transcript(tmp_path / "call.json")
    assert [one["speaker"] for one in both["channels"]] == ["Ada", "Channel 2"]
    assert {segment["speaker"] for segment in both["segments"]} == {"Ada"}
    for path in tmp_path.glob("c*l.json"), tmp_path.glob("*.channel?.json"):
        for document in path:
            jsonschema.Draft202012Validator(SCHEMA).validate(transcript(document))
    assert podcasts.check_srt((tmp_path / "call.podcast.srt").read_text())[0][1][0].startswith("Ada: ")
    assert podcasts.check_vtt((tmp_path / "call.podcast.vtt").read_text())[0][1] == "Ada"
    assert podcasts.check_json((tmp_path / "call.podcast.json").read_text())[0]["speaker"] == "Ada"
    assert podcasts.check_html((tmp_path / "call.podcast.html").read_text())[0][:2] == ("Ada", "0:00")
    assert podcasts.check_chapters((tmp_path / "call.channel2.chapters.json").read_text()) == [0]
    with (tmp_path / "call.csv").open() as file:
        words = list(csv.DictReader(file))
    assert "".join(f" {word['word']}" for word in words).strip() == " ".join(left["text"].split())
    assert all(word["probability"] and word["speaker"] == "Ada" for word in words)


def test_more_speakers_than_channels_are_named(run: Run, sound: np.ndarray, tmp_path: Path) -> None:
    """So are names of channels that are mixed."""
    sounds.write(tmp_path / "call.wav", sound[:RATE])

    done = run("call.wav", "--channels", "split", "--speakers", "Ada,Grace")
    mixed = run("call.wav", "--speakers", "Ada")

    assert (done.returncode, mixed.returncode) == (1, 2)
    assert done.stderr == "stenopool: call.wav: has 1 channels, and --speakers names 2\n"
    assert "say --channels split as well" in mixed.stderr


def test_the_language_is_detected(run: Run, sound: np.ndarray, tmp_path: Path) -> None:
    """Without --language the recording's own is found, with its probability."""
    clip = sounds.write(tmp_path / "clip.wav", sound[: 10 * RATE])

    run(clip, "-f", "json")

    result = transcript(tmp_path / "clip.json")
    assert result["language"] == "en"
    assert 0.5 < result["language_probability"] <= 1


def test_two_processes_share_one_recording(sound: np.ndarray, tmp_path: Path) -> None:
    """Two runs of the same command at once divide the chunks, and both write the same transcript."""
    clip = sounds.write(tmp_path / "clip.wav", sound[: 150 * RATE])
    home = tmp_path / "home"

    def start(folder: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "stenopool", "transcribe", str(clip), "-l", "en", "-f", "json", "-o", folder]
        command += ["--batch-size", "2"]
        return subprocess.Popen(command, cwd=tmp_path, env=_environment(home), stderr=subprocess.PIPE)

    both = [start("a"), start("b")]
    said = [process.communicate(timeout=300)[1] for process in both]

    assert [process.returncode for process in both] == [0, 0], said
    assert (tmp_path / "a" / "clip.json").read_bytes() == (tmp_path / "b" / "clip.json").read_bytes()
    assert rows(home, "select count(*) from transcripts") == [(1,)]
    assert rows(home, "select max(attempt) from chunks") == [(1,)]


WRONG_COMMANDS: Sequence[tuple[list[str], str]] = (
    (["a.mp3", "--format", "docx"], "docx; choose from txt, srt, vtt, tsv, json, csv, podcast-json"),
    (["a.mp3", "--format", ","], "nothing; choose from txt, srt, vtt, tsv, json, csv, podcast-json"),
    (["a.mp3", "--batch-size", "0"], "0; a positive number, or auto"),
    (["a.mp3", "--batch-size", "many"], "many; a positive number, or auto"),
    (["a.mp3", "--batch-size", "²"], "²; a positive number, or auto"),
    (["a.mp3", "--decoders", "0"], "0; a number from 1 to 64, or auto"),
    (["a.mp3", "--decoders", "65"], "65; a number from 1 to 64, or auto"),
    (["a.mp3", "--dtype", "int3"], "'int3' is not one of"),
    (["a.mp3", "--beam", "5"], "No such option"),
    (["a.mp3", "a.mp3"], "a.mp3 is named twice"),
    (["x/a.mp3", "y/a.mp3"], "x/a.mp3 and y/a.mp3 would both write a.mp3.*"),
    ([str(SAMPLE), "--language", "klingon"], "does not know the language 'klingon'; it knows: af am ar"),
    (
        [str(SAMPLE), "--chunk-length", "31"],
        "--chunk-length must be between 2 and the model's window of 30 seconds",
    ),
    (
        [str(SAMPLE), "--overlap", "15"],
        "--overlap must be between 0 and less than half of the chunk length of 30",
    ),
)


@pytest.mark.parametrize(
    ("arguments", "said"), WRONG_COMMANDS, ids=lambda value: " ".join(value[1:]) if isinstance(value, list) else ""
)
def test_a_wrong_command_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    """What is wrong with the command itself is said before any work. (In this process: it is quicker.)"""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STENOPOOL_HOME", str(tmp_path / "home"))

    with pytest.raises((click.UsageError, UsageError)) as caught:
        cli.main(["transcribe", *arguments], standalone_mode=False, obj=threading.Event())

    error = caught.value
    assert said in (error.format_message() if isinstance(error, click.UsageError) else str(error))
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("arguments", [["a.mp3", "--beam", "5"], [str(SAMPLE), "--overlap", "15"]])
def test_a_wrong_command_has_a_code_of_its_own(run: Run, arguments: list[str]) -> None:
    """2, as the shell sees it, and nothing on standard output."""
    done = run(*arguments)

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("nowhere", "nowhere: no such model; use pocket, a folder, or a repository such as openai/whisper-tiny"),
        ("./nowhere", "./nowhere: no such model; use pocket, a folder, or a repository"),
        (str(SAMPLE), "is a file; name the folder that holds config.json and model.safetensors"),
        (str(SAMPLE.parent), "config.json is missing"),
    ],
)
def test_a_wrong_model_is_named(run: Run, model: str, said: str) -> None:
    """A model that is not there, or is none, gets one line."""
    done = run(SAMPLE, "--model", model)

    assert done.returncode == 1
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
