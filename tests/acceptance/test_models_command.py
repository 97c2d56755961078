"""`stenopool models` as people run it: real processes, the bundled model, a stand-in of the hub."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path

import pytest

from models.checkpoint import BUNDLED
from tests.hub import COMMIT, NOWHERE, Hub, environment

POCKET = BUNDLED["pocket"]
COMMAND = [sys.executable, "-m", "stenopool", "models"]

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run the command with a hub's cache of its own."""

    def run(*arguments: str | Path, endpoint: str = NOWHERE, **settings: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*COMMAND, *map(str, arguments)],
            env=environment(tmp_path / "home", endpoint, **settings),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert "Traceback" not in done.stderr
        return done

    return run


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    """A hub that has pocket's files."""
    return Hub({COMMIT: Path(shutil.copytree(POCKET, tmp_path / "shelf"))})


def test_what_was_fetched_is_listed_described_and_verified(run: Run, hub: Hub, tmp_path: Path) -> None:
    """fetch prints the folder; afterwards list, info and verify know it without a network."""
    with hub.serving() as endpoint:
        fetched = run("fetch", "someone/pocket", endpoint=endpoint)
    folder = Path(fetched.stdout.strip())

    assert fetched.returncode == 0, fetched.stderr
    assert (folder.name, folder.is_dir()) == (COMMIT, True)
    assert fetched.stderr == f"someone/pocket at {COMMIT}: 13.4 MB of weights\n"

    listed = run("list")
    assert [line.split() for line in listed.stdout.splitlines()] == [
        ["NAME", "REVISION", "ENCODER", "DECODER", "WIDTH", "MELS", "PARAMETERS", "LANGUAGES", "SIZE"],
        ["pocket", "bundled", "4", "2", "256", "80", "6.7", "M", "99", "13.8", "MB"],
        ["someone/pocket", COMMIT[:12], "4", "2", "256", "80", "6.7", "M", "99", "13.8", "MB"],
    ]
    assert listed.stderr == ""

    verified = run("verify", f"someone/pocket@{COMMIT}", HF_HUB_OFFLINE="1")
    bundled = run("verify", "pocket")
    assert (verified.returncode, bundled.returncode) == (0, 0), verified.stderr + bundled.stderr
    assert verified.stdout.splitlines() == [
        "119 tensors, float16: all fit, all finite",
        "SHA-256 as the hub has it: model.safetensors",
        bundled.stdout.splitlines()[-1],
    ]


def test_what_the_cache_holds_besides(run: Run, tmp_path: Path) -> None:
    """Models of other kinds are not listed; a Whisper model that cannot be used is, with the reason."""
    cache = tmp_path / "home" / "hub"
    for name, model_type in (("bert", "bert"), ("old", "whisper")):
        snapshot = cache / f"models--someone--{name}" / "snapshots" / COMMIT
        snapshot.mkdir(parents=True)
        config = json.loads((POCKET / "config.json").read_text()) | {"model_type": model_type}
        (snapshot / "config.json").write_text(json.dumps(config))
        shutil.copy(POCKET / "generation_config.json", snapshot)
    (snapshot / "pytorch_model.bin").write_bytes(b"a pickle")

    done = run("list", "--json")
    plain = run("list")

    rows = json.loads(done.stdout)
    assert [(row["name"], row["revision"]) for row in rows] == [("pocket", None), ("someone/old", COMMIT)]
    assert rows[0]["problem"] is None
    assert rows[0]["n_parameters"] == 6_689_792
    assert (rows[0]["dims"]["n_text_layer"], rows[0]["n_languages"]) == (2, 99)
    assert rows[1]["problem"].startswith("someone/old: only pickled weights (pytorch_model.bin)")
    assert plain.returncode == 0
    assert plain.stderr == f"stenopool: {rows[1]['problem']}\n"


def test_info_of_a_folder(run: Run, tmp_path: Path) -> None:
    """The same figures for people and as JSON; a decoder without named heads is aligned by its upper half."""
    folder = Path(shutil.copytree(POCKET, tmp_path / "copy"))
    generation = json.loads((folder / "generation_config.json").read_text())
    del generation["alignment_heads"]
    (folder / "generation_config.json").write_text(json.dumps(generation))

    figures = json.loads(run("info", folder, "--json").stdout)
    done = run("info", folder)

    assert done.stderr == ""
    said = {line.split("  ")[0]: line.split("  ")[-1].strip() for line in done.stdout.splitlines() if line[:1].strip()}
    assert said["digest"] == figures["digest"]
    assert said["decoder"] == "2 layers of 4 heads, 2608 tokens"
    assert said["alignment"] == "4 heads, the decoder's upper half: 1.0 1.1 1.2 1.3"
    assert said["on disk"] == "float16 6.7 M"
    assert figures["stored"] == {"float16": 6_689_792}
    assert figures["languages"]["de"] == "German"
    assert len(figures["languages"]) == 99
    assert figures["files"]["model.safetensors"] == (POCKET / "model.safetensors").stat().st_size
    assert figures["memory"]["float32"]["parameters"] == 4 * 6_689_792
    assert figures["special"]["timestamp_begin"] == 1107
    assert "a slot                   7.97 MB  3.99 MB   2.55 MB" in done.stdout.splitlines()


def test_fetch_at_a_revision(run: Run, hub: Hub) -> None:
    """--revision is the same as an @; what does not exist is one line and exit code 1."""
    hub.branches["v1"] = COMMIT
    with hub.serving() as endpoint:
        first = run("fetch", "someone/pocket", "--revision", "v1", endpoint=endpoint)
        second = run("fetch", "someone/pocket@v1", endpoint=endpoint)
        unknown = run("fetch", "someone/pocket", "--revision", "v2", endpoint=endpoint)

    assert (first.returncode, first.stdout) == (0, second.stdout)
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert unknown.stderr == (
        "stenopool: someone/pocket@v2: no such revision; name a branch, a tag or a commit after the @\n"
    )


@pytest.mark.parametrize("settings", [{}, {"HF_HUB_OFFLINE": "1"}])
def test_fetch_without_network(run: Run, settings: dict[str, str]) -> None:
    """One line that says what to do."""
    done = run("fetch", "openai/whisper-tiny", **settings)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "stenopool: openai/whisper-tiny: not on this machine and the model hub cannot be reached; "
        "connect once, or name a folder that holds the checkpoint\n"
    )


def test_progress_on_a_terminal(hub: Hub, tmp_path: Path) -> None:
    """A terminal sees how much of the weights has come, and nothing of the small files."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    with hub.serving() as endpoint, os.fdopen(ours, "rb", buffering=0) as screen:
        process = subprocess.Popen(
            [*COMMAND, "fetch", "someone/pocket"],
            env=environment(tmp_path / "home", endpoint),
            stdout=subprocess.DEVNULL,
            stderr=theirs,
        )
        os.close(theirs)
        drawn = b""
        try:
            while some := screen.read(1024):
                drawn += some
        except OSError:  # Linux's way to say that the other side has closed
            pass
        assert process.wait(60) == 0

    assert b"someone/pocket: model.safetensors: 100%" in drawn
    assert b"13.4M/13.4M" in drawn
    assert b"config" not in drawn


def test_verify_prints_all_that_is_wrong(run: Run, hub: Hub, tmp_path: Path) -> None:
    """A line for each problem, a count, exit code 1; the hub's hash tells a flipped bit that everything else misses."""
    with hub.serving() as endpoint:
        folder = Path(run("fetch", "someone/pocket", endpoint=endpoint).stdout.strip())
    blob = (folder / "model.safetensors").resolve()
    content = blob.read_bytes()
    blob.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))

    flipped = run("verify", "someone/pocket")
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer.json").write_text("{")
    both = run("verify", folder)

    assert flipped.returncode == 1
    assert flipped.stdout == (
        f"{folder}/model.safetensors: its SHA-256 is not {blob.name}, as the hub has it; "
        f"delete {blob} and fetch it again\n"
    )
    assert flipped.stderr == "stenopool: someone/pocket: 1 problem; do not transcribe with it\n"
    assert both.returncode == 1
    assert len(both.stdout.splitlines()) == 2
    assert both.stderr == f"stenopool: {folder}: 2 problems; do not transcribe with it\n"
