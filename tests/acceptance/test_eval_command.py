"""`stenopool eval` as people run it: real processes, the bundled recording, the bundled model."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from stenopool.cli import cli
from stenopool.domain import SAMPLE_RATE, Span
from stenopool.errors import StenopoolError
from stenopool.formats import render
from tests import sounds
from tests.transcripts import segment, transcript

SAMPLE = sounds.SAMPLE

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home that the tests share: what one has transcribed, the next need not."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def run(home: Path, tmp_path: Path) -> Run:
    """Run the command in a folder of its own."""

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "stenopool", "eval", *map(str, arguments)],
            env={**os.environ, "STENOPOOL_HOME": str(home)},
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert "Traceback" not in done.stderr
        return done

    return run


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Half a minute of the sample, with its long pause, and what is said in it."""
    known = json.loads(SAMPLE.with_suffix(".json").read_text())
    pause_start, pause_end = known["pauses"][1]
    span = Span(pause_start - 12 * SAMPLE_RATE, pause_end + 12 * SAMPLE_RATE)
    whole = [one for one in known["utterances"] if span.start <= one["start"] and one["end"] <= span.end]
    sound = sounds.read(SAMPLE)[whole[0]["start"] : whole[-1]["end"]]
    path = sounds.write(tmp_path_factory.mktemp("clip") / "clip.wav", sound)
    return path, " ".join(one["text"] for one in whole)


@pytest.fixture
def files(tmp_path: Path, clip: tuple[Path, str]) -> Path:
    """A folder with the clip, its text, and a transcript of it with one error."""
    path, said = clip
    shutil.copy(path, tmp_path / "clip.wav")
    (tmp_path / "clip.txt").write_text(said)
    heard = transcript(segment(0, 30, f" something {said}", words=True), source="clip.wav")
    (tmp_path / "heard.json").write_text(render(heard, "json"))
    return tmp_path


def test_a_recording_is_transcribed_timed_and_compared(run: Run, files: Path) -> None:
    """From a sound and what is said in it to figures and a page, in one command; every second is accounted for.

    The second time, the transcript comes from the ledger: the figures are the same, and there is no speed to tell.
    """
    command = ["clip.wav", "-r", "clip.txt", "-l", "en"]
    done = run(*command, "--json", "figures.json", "--html", "page.html")
    again = run(*command, "--json", "-", "-q")

    assert (done.returncode, again.returncode) == (0, 0), done.stderr
    report = json.loads((files / "figures.json").read_text())
    [recording] = report["recordings"]
    words, timing = recording["words"], report["run"]
    assert words["reference"] == words["hits"] + words["substitutions"] + words["deletions"] > 40
    assert recording["wer"] == (words["substitutions"] + words["deletions"] + words["insertions"]) / words["reference"]
    assert 0 < recording["cer"] < recording["wer"] < 1
    assert sum(recording["seconds"].values()) == pytest.approx(timing["audio_seconds"], abs=0.01)
    assert recording["seconds"]["silence"] > 5
    assert timing["real_time_factor"] == pytest.approx(timing["wall_seconds"] / timing["audio_seconds"], abs=1e-3)
    [_, row] = done.stdout.splitlines()[:2]
    assert row.split()[:2] == ["clip.wav", f"{recording['wer']:.1%}"]
    assert 'src="clip.wav"' in (files / "page.html").read_text()

    assert json.loads(again.stdout)["recordings"] == report["recordings"]
    assert json.loads(again.stdout)["run"] is None
    assert again.stderr == ""


def test_a_manifest_may_have_several_languages(run: Run, files: Path) -> None:
    """Each is transcribed by a driver of its own; that one of them is done stops none of the others."""
    lines = [{"audio": "clip.wav", "reference": "clip.txt", "language": language} for language in ("en", "de", "fr")]
    (files / "talks.jsonl").write_text("\n".join(map(json.dumps, lines)))

    done = run("-r", "talks.jsonl", "--json", "-", "--no-vad", "-q")

    assert (done.returncode, done.stderr) == (0, "")
    assert [recording["normalizer"] for recording in json.loads(done.stdout)["recordings"]] == [
        "english",
        "basic",
        "basic",
    ]


def test_a_manifest_mixes_transcripts_and_recordings(run: Run, files: Path) -> None:
    """What has a transcript is not transcribed; one file that is no sound fails alone, and is named in the total."""
    lines = [
        {"audio": "clip.wav", "reference": "clip.txt", "language": "en"},
        {"audio": "clip.wav", "reference": "clip.txt", "hypothesis": "heard.json"},
        {"audio": "gone.wav", "reference": "hello", "language": "en"},
        {"reference": "guten Tag", "hypothesis": "guten Tag!", "language": "German"},
    ]
    (files / "talks.jsonl").write_text("\n".join(map(json.dumps, lines)))

    done = run("-r", "talks.jsonl", "--json", "-", "--html", "page.html", "--embed-audio", "-q")

    assert done.returncode == 1
    assert re.fullmatch(r"stenopool: .*gone\.wav: does not exist\n", done.stderr)
    report = json.loads(done.stdout)
    names = [recording["name"] for recording in report["recordings"]]
    assert names == ["clip.wav", "clip.wav", "talks.jsonl line 4"]
    assert report["recordings"][0]["seconds"]["transcribed"] > 5
    assert report["recordings"][1]["words"]["insertions"] == 1
    assert [recording["normalizer"] for recording in report["recordings"]] == ["english", "english", "basic"]
    assert report["failed"] == [{"name": "gone.wav", "reason": "does not exist"}]
    assert report["total"]["words"]["reference"] == sum(one["words"]["reference"] for one in report["recordings"])
    assert (files / "page.html").read_text().count('src="data:audio/') == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-r", "clip.txt"], "name what to compare with clip.txt"),
        (["heard.json", "-r", "gone.txt"], "gone.txt: does not exist"),
        (["gone.json", "-r", "clip.txt"], "gone.json: does not exist"),
        (["clip.txt", "-r", "clip.txt"], "clip.txt: its language is not known; name it with --language"),
        (["heard.json", "-r", "clip.txt", "-l", "englsh"], "'englsh' is not a language that Whisper knows"),
        (["heard.json", "-r", "clip.txt", "-m", "pocket"], "--model: nothing is to be transcribed"),
        (["heard.json", "-r", "clip.txt", "--force"], "--force: nothing is to be transcribed"),
        (["heard.json", "-r", "clip.txt", "--embed-audio"], "--embed-audio: there is no page"),
        (["heard.json", "-r", "clip.txt", "--audio", "clip.wav"], "--audio clip.wav: there is no page"),
        (["heard.json", "-r", "clip.txt", "--html", "no/such/page.html"], "no/such/page.html: cannot be written"),
        (["heard.json", "-r", "clip.txt", "--html", "-"], "--html -: a page is a file"),
        (["heard.json", "-r", "clip.wav"], "clip.wav: is not text"),
        (["heard.json", "-r", "bad.jsonl"], "heard.json: a manifest names its own"),
        ([".", "-r", "clip.txt"], ".: is a folder"),
        (["-r", "bad.jsonl"], "bad.jsonl line 2: has no reference"),
        (["-r", "lost.csv"], "lost.csv line 2: lost.txt: does not exist"),
        (["clip.wav", "-r", "clip.txt", "-m", "no/such/model/here"], "no/such/model/here"),
        (["clip.wav", "-r", "clip.txt", "-l", "xx"], "does not know the language 'xx'"),
    ],
)
def test_what_does_not_fit_is_said_in_a_line(
    home: Path,
    files: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    """One line that names the thing, before any work is done; nothing is written. (In this process: it is quicker.)"""
    (files / "bad.jsonl").write_text('{"audio": "clip.wav", "reference": "a"}\n{"audio": "clip.wav"}\n')
    (files / "lost.csv").write_text("audio,reference\nclip.wav,lost.txt\n")
    before = sorted(files.iterdir())
    monkeypatch.chdir(files)
    monkeypatch.setenv("STENOPOOL_HOME", str(home))

    with pytest.raises(StenopoolError) as caught:
        cli.main(["eval", *arguments], standalone_mode=False, obj=threading.Event())

    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capsys.readouterr().out == ""
    assert sorted(files.iterdir()) == before


def test_an_error_is_a_line_and_a_code(run: Run, files: Path) -> None:
    """As the shell sees it: nothing on standard output, one line on the other, code 2 for what was asked wrongly."""
    done = run("clip.wav", "-r", "gone.txt")

    assert (done.returncode, done.stdout, done.stderr) == (2, "", "stenopool: gone.txt: does not exist\n")


def test_help_shows_how(run: Run) -> None:
    """With an example that can be copied."""
    assert "stenopool eval talk.json --reference talk.txt" in run("--help").stdout
