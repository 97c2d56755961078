"""The farm as people run it: `stenopool up`, real servers and processes, real sound, the bundled model."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import create_engine, make_url

from tests import sounds
from tests.ceph import free_ports
from tests.faults.history import violations
from tests.hostile import Server, ok
from workers.metric_table import METRICS as METRIC_TABLE

S = 16_000  # one second
LEASE = 4  # seconds


def is_free(port: int) -> bool:
    """Whether nobody has a port of 127.0.0.1."""
    with closing(socket.socket()) as one:
        return one.connect_ex(("127.0.0.1", port)) != 0


#: Where the first of its processes shows its metrics, the others at the ports behind it.
METRICS = next(port for port in free_ports(100) if all(map(is_free, range(port, port + 4))))


@dataclass
class Farm:
    """A farm that runs, and the commands to use it."""

    folder: Path
    where: dict[str, Any]

    def run(self, *arguments: str | Path, code: int = 0) -> str:
        """A command, which ends with that code; returns what it printed."""
        done = command(self.folder, *arguments)
        assert done.returncode == code, done.stderr
        return done.stdout

    def submit(self, *arguments: str | Path) -> list[int]:
        """The ids of what is handed in."""
        return [int(line.split("\t")[0]) for line in self.run("submit", *arguments).splitlines()]

    def show(self, id: int) -> dict[str, Any]:
        """All about a submission."""
        shown: dict[str, Any] = json.loads(self.run("show", str(id), "--json"))
        return shown

    def pids(self, role: str) -> list[int]:
        """The processes of a role, as they are now."""
        state = json.loads((self.folder / "home" / "farm" / "state.json").read_text())
        found: list[int] = state["processes"][role]
        return found

    def processes(self) -> list[psutil.Process]:
        """All of them, its main process first."""
        main = psutil.Process(self.where["pid"])
        return [main, *main.children(recursive=True)]


def ended(processes: list[psutil.Process]) -> None:
    """Waits until all of them have."""
    _, alive = psutil.wait_procs(processes, 30)
    for process in alive:
        process.kill()
    assert not alive, alive


def command(folder: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """A command in the farm's home."""
    done = subprocess.run(
        [sys.executable, "-m", "stenopool", *map(str, arguments)],
        env={
            **os.environ,
            "STENOPOOL_HOME": str(folder / "home"),
            "STENOPOOL_LEASE": str(LEASE),
            "STENOPOOL_FETCH_ALLOW": "127.0.0.1/32",
            "STENOPOOL_EXPORTS": str(folder),
            "STENOPOOL_METRICS": str(METRICS),
            "STENOPOOL_LOG": "json",
        },
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the farm has its home, and recordings of 20 s each lie."""
    folder = tmp_path_factory.mktemp("farm")
    sample = sounds.read(sounds.SAMPLE)
    for at in range(4):
        sounds.write(folder / f"talk{at}.mp3", sample[at * 40 * S :][: 20 * S])
    sounds.write(folder / "silence.wav", np.zeros((1, 5 * S), np.int16))
    (folder / "diary.mp3").write_text("Dear diary")
    return folder


@pytest.fixture(scope="module")
def farm(folder: Path) -> Iterator[Farm]:
    """Two engines; ended by `stenopool down`, after which nothing of it is left."""
    up = command(folder, "up", "--detach", "--json", "--workers", "2")
    assert up.returncode == 0, up.stderr
    where = json.loads(up.stdout)
    farm = Farm(folder, where)
    yield farm
    processes = farm.processes()
    farm.run("down")
    ended(processes)
    assert not (folder / "home" / "farm" / "places.json").exists()


def test_it_says_where_it_is(farm: Farm) -> None:
    """URLs, and processes by role."""
    assert farm.where["database"].startswith("postgresql")
    assert farm.where["broker"].startswith("redis://:")
    assert {role: len(pids) for role, pids in farm.where["processes"].items()} == {
        "scheduler": 1,
        "ingest+merge+publish": 1,
        "api": 1,
        "engine": 2,
    }
    status = json.loads(farm.run("status", "--json"))
    assert {(one["role"], one["state"]) for one in status["workers"]} == {
        ("scheduler", "working"),
        ("ingest+merge+publish", "working"),
        ("api", "working"),
        ("engine", "working"),
    }


def test_the_farm_and_one_machine_say_the_same_though_workers_are_killed(farm: Farm, folder: Path) -> None:
    """The same files, byte for byte, in every format, after kill -9 of an engine and of what ingests and publishes.

    Fetched, and where they were to be sent; there, a manifest names them.
    """
    names = [f"talk{at}.mp3" for at in range(4)]
    formats = ("--format", "txt,srt,vtt,json,tsv,csv,podcast-vtt")
    alone = command(folder, "transcribe", *names, "-o", "alone", *formats)
    assert alone.returncode == 0, alone.stderr

    ids = farm.submit(*names, "--to", "sent", *formats)
    for role in ("ingest+merge+publish", "engine"):
        time.sleep(0.5)
        os.kill(farm.pids(role)[0], signal.SIGKILL)
    farm.run("wait", *map(str, ids))
    farm.run("fetch", *map(str, ids), "-o", "farm", *formats)

    made = {path.name: path.read_bytes() for path in (folder / "farm").iterdir()}
    assert made == {path.name: path.read_bytes() for path in (folder / "alone").iterdir()}
    assert len(made) == 28
    sent = [Path(farm.show(id)["sent_to"]) for id in ids]
    assert sent == [folder / "sent" / str(id) for id in ids]
    for path in sent:
        named = {file["name"] for file in json.loads((path / "manifest.json").read_bytes())["files"]}
        assert {file.name: file.read_bytes() for file in path.iterdir() if file.name != "manifest.json"} == {
            name: made[name] for name in named
        }
        assert len(named) == 7


def test_its_metrics_are_there_and_move(farm: Farm) -> None:
    """Each that is documented, of some process; and what was done while workers were killed is in them."""
    before = seen_by(farm)
    [id] = farm.submit("talk0.mp3", "--force", "--lane", "urgent", "--wait")
    moves = {
        "stenopool_recordings_total{completed,urgent}",
        "stenopool_recording_e2e_seconds_count{urgent}",
        "stenopool_queue_wait_seconds_count{urgent}",
        "stenopool_chunks_total{done}",
        "stenopool_audio_seconds_total",
        "stenopool_busy_seconds_total",
        "stenopool_batch_size_count",
        "stenopool_inference_seconds_total{run}",
        "stenopool_tasks_total{done,ingest}",
        "stenopool_tasks_total{done,publish}",
        "stenopool_sweeper_last_run_timestamp_seconds",
    }
    grown: set[str] = set()
    deadline = time.monotonic() + 30
    while not grown >= moves and time.monotonic() < deadline:  # a scheduler counts events once they have a number
        after = seen_by(farm)
        grown = {name for name, value in after.items() if value > before.get(name, 0.0)}

    assert farm.show(id)["state"] == "completed"
    assert {name.split("{")[0] for name in after} >= {
        f"{metric.name}{'_count' if metric.kind == 'histogram' else ''}"
        for metric in METRIC_TABLE
        # Of this farm's Redis there is none: it may hold any number of bytes.
        if metric.short != "broker_memory_limit_bytes"
    }
    assert moves - grown == set()
    assert after["stenopool_workers{engine,working}"] == 2
    assert after["stenopool_ledger_up"] == after["stenopool_broker_up"] == 1
    assert {name: n for name, n in after.items() if "invariant" in name and n} == {}


def seen_by(farm: Farm) -> dict[str, float]:
    """What its four processes show, the sum of all where several show the same."""
    seen: defaultdict[str, float] = defaultdict(float)
    for port in range(METRICS, METRICS + 4):
        page = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30).read().decode()
        for family in text_string_to_metric_families(page):
            for sample in family.samples:
                labels = ",".join(sorted(sample.labels.values()))
                seen[f"{sample.name}{{{labels}}}" if labels else sample.name] += sample.value
    return seen


def test_silence_and_what_is_no_sound(farm: Farm) -> None:
    """Silence is a result; what is no sound is refused at the desk, and the others are taken."""
    done = command(farm.folder, "submit", "silence.wav", "diary.mp3", "nothing.mp3", "--wait", "--json")

    assert done.returncode == 1
    [silence] = json.loads(done.stdout)
    assert (silence["name"], silence["state"]) == ("silence.wav", "completed_empty")
    lines = done.stderr.splitlines()
    assert lines == ["stenopool: diary.mp3: is text, not audio or video", "stenopool: nothing.mp3: does not exist"]


def test_a_url_is_as_good_as_a_file(farm: Farm, folder: Path) -> None:
    """Fetched by a process of the farm, which is told that it may; what is said of it comes back."""
    server = Server()
    server.answers["/talk0.mp3"] = ok((folder / "talk0.mp3").read_bytes())
    manifest = folder / "talks.jsonl"
    manifest.write_text(json.dumps({"source": server.url("/talk0.mp3"), "show": "Waves"}))

    [id] = farm.submit("--manifest", manifest, "--wait")
    farm.run("fetch", str(id), "-o", "fetched", "--format", "txt")
    server.close()

    shown = farm.show(id)
    assert (shown["state"], shown["metadata"]) == ("completed", {"show": "Waves"})
    assert (folder / "fetched" / "talk0.txt").read_text() == (folder / "farm" / "talk0.txt").read_text()


def test_the_language_is_detected_and_options_travel(farm: Farm) -> None:
    """Without a language given; and in sequential mode."""
    [auto] = farm.submit("talk0.mp3", "--mode", "sequential", "--wait")
    [english] = farm.submit("talk1.mp3", "--language", "en", "--wait")

    assert farm.show(auto)["transcripts"][0]["language"] == "en"
    assert farm.show(english)["state"] == "completed"


def test_a_submission_is_paused_cancelled_and_tried_again(farm: Farm) -> None:
    """By whoever handed it in; what cannot be is said in a line."""
    farm.run("admin", "pause", "--lane", "bulk")  # or it may be done before anybody stops it
    [id] = farm.submit("talk2.mp3", "--force", "--tenant", "ada", "--lane", "bulk")
    farm.run("pause", str(id))
    cancelled = command(farm.folder, "cancel", str(id))
    assert cancelled.returncode == 0, cancelled.stderr
    again = command(farm.folder, "cancel", str(id))
    assert (again.returncode, again.stderr) == (1, f"stenopool: {id} has ended already\n")
    assert farm.show(id)["state"] == "cancelled"

    assert farm.run("retry", str(id)) == f"{id} is done again\n"
    farm.run("resume", str(id))
    farm.run("admin", "resume", "--lane", "bulk")
    farm.run("wait", str(id))
    assert farm.show(id)["state"] == "completed"


def test_its_logs_say_what_is_done_and_no_secret(farm: Farm, folder: Path) -> None:
    """A JSON object a line, with ids; no password, nothing that signs a URL, nothing that was said in a recording."""
    manifest = folder / "signed.jsonl"
    server = Server()
    server.answers["/none.mp3"] = ok(b"<html>no sound</html>")
    manifest.write_text(json.dumps({"source": server.url("/none.mp3?X-Amz-Signature=planted")}))
    [gone] = farm.submit("--manifest", manifest)
    [id] = farm.submit("talk1.mp3", "--force", "--wait")
    command(folder, "wait", str(gone))
    farm.run("fetch", str(id), "-o", "said", "--format", "txt")
    server.close()

    logs = "".join(path.read_text() for path in (folder / "home" / "farm" / "logs").iterdir())
    lines = [json.loads(line) for line in logs.splitlines()]
    of_it = [line for line in lines if line.get("submission") == id]
    assert [line["message"].partition(":")[2].split(",")[0] for line in of_it] == [" planned", " published"]
    assert all(line["role"] == "ingest+merge+publish" and line["worker"] for line in of_it)
    assert [line["level"] for line in lines if line.get("submission") == gone] == ["warning"]
    assert {line["logger"].partition(".")[0] for line in lines} >= {"workers", "scheduler"}
    secrets = [make_url(farm.where[name]).password for name in ("database", "broker")]
    for secret in (*secrets, "planted"):
        assert secret
        assert secret not in logs
    said = [line.strip() for line in (folder / "said" / "talk1.txt").read_text().splitlines()]
    assert len(said) > 2
    assert [line for line in said if line and line in logs] == []


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")  # the client's, for all translations
def test_openais_client_works_against_it(farm: Farm, folder: Path) -> None:
    """In every format that it knows, with times of words, as a stream, into English: what the farm says otherwise."""
    from openai import OpenAI

    short = sounds.write(folder / "short.wav", sounds.read(sounds.SAMPLE)[: 8 * S])
    [id] = farm.submit(short, "--wait")
    farm.run("fetch", str(id), "-o", "short", "--format", "txt,srt,vtt,json")
    whole = json.loads((folder / "short" / "short.json").read_text())

    with OpenAI(base_url=f"{farm.where['url']}/v1", api_key=farm.where["key"], max_retries=0) as client:
        assert [one.id for one in client.models.list()] == ["pocket"]
        create = client.audio.transcriptions.create
        assert create(file=short, model="pocket").text == whole["text"]
        for format, suffix in (("srt", "srt"), ("vtt", "vtt")):
            assert create(file=short, model="pocket", response_format=format) == (  # type: ignore[call-overload]
                (folder / "short" / f"short.{suffix}").read_text()
            )
        assert create(file=short, model="whisper-1", response_format="text") == f"{whole['text']}\n"
        events = list(create(file=short, model="pocket", stream=True))
        told = "".join(one.delta for one in events if one.type == "transcript.text.delta")
        assert (told, events[-1].type) == (whole["text"], "transcript.text.done")

        verbose = create(
            file=short,
            model="pocket",
            response_format="verbose_json",
            timestamp_granularities=["word", "segment"],
        )
        assert (verbose.language, verbose.duration) == ("english", 8.0)
        assert verbose.words
        assert verbose.segments
        assert "".join(one.text for one in verbose.segments).strip() == verbose.text
        assert [one.word for one in verbose.words] == verbose.text.split()
        assert all(0 <= one.start <= one.end <= 8.0 for one in verbose.words)

        english = client.audio.translations.create(file=short, model="pocket", response_format="verbose_json")
        assert (english.language, bool(english.text)) == ("english", True)
        sound = client.get(f"/recordings/{id}/sound", cast_to=bytes, options={"headers": {"Range": "bytes=-8000"}})
        assert sound == sounds.read(short).astype("<i2").tobytes()[-8000:], "it can be listened to afterwards"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_whatever_ends_it_nothing_is_left_behind_and_it_goes_on(
    farm: Farm, folder: Path, number: signal.Signals
) -> None:
    """Ctrl-C, and kill -9 of its main process; started again, it does what was handed in just before."""
    [id] = farm.submit("talk3.mp3", "--force")
    processes = farm.processes()
    assert len(processes) > 5
    processes[0].send_signal(number)
    ended(processes)
    if number == signal.SIGINT:  # a dead one cannot say so
        refused = command(folder, "status")
        assert refused.returncode == 2
        assert refused.stderr.startswith("stenopool: there is no farm: start one on this machine with `stenopool up`")

    farm.where = json.loads(farm.run("up", "--detach", "--json"))
    farm.run("wait", str(id))

    assert farm.show(id)["state"] == "completed"


def test_nothing_is_broken_in_the_end(farm: Farm) -> None:
    """Every promise of the ledger holds after all that."""
    engine = create_engine(farm.where["database"])
    assert violations(engine) == []
    engine.dispose()
