"""Ingest on the farm: what it does with files as people have them, and with machines as they are."""

from __future__ import annotations

import itertools
import os
import resource
import select
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np
import psutil
import pytest
from click.testing import CliRunner

from stenopool.cli import cli
from stenopool.config import Limits
from stenopool.domain import Options, Span
from stenopool.errors import MediaUnreadable
from stenopool.servers import Postgres
from storage.database import make_or_migrate
from storage.desk import Order, Submission
from storage.tables import SubmissionState
from storage.waiting import ATTEMPTS
from tests import sounds
from tests.processes import children, remember
from tests.servers import fresh_database
from tests.unit.test_limits import wav
from tests.unit.test_media import REFUSED, cut
from workers.farm import Farm, Places
from workers.ingest import digest_file, read_pcm
from workers.stages import PAUSES, Stages

INGESTED, FAILED, ACCEPTED = SubmissionState.TRANSCRIBING, SubmissionState.FAILED, SubmissionState.ACCEPTED

_seeds = itertools.count(1)


class Bench:
    """A farm's ledger and objects, on which files are handed in and ingested one by one."""

    def __init__(self, places: Places) -> None:
        self.places = places
        self.farm = Farm(places, lease=60)

    def hand_in(self, path: Path, name: str | None = None) -> Submission:
        """As the desk does, without its look at the file."""
        digest = digest_file(path)
        self.farm.store.upload(path, f"sources/{digest}")
        return self.farm.desk.accept(
            Order(
                tenant="ada",
                name=name or path.name,
                source=f"sources/{digest}",
                file_sha256=digest,
                model="pocket",
                options=asdict(Options(language="en", vad=False)),
            )
        )

    def ingest(self, stages: Stages, path: Path, name: str | None = None) -> Submission:
        """Hand a file in, and have it ingested; how it stands then."""
        submission = self.hand_in(path, name)
        stages.ingest(submission.id)
        return self.farm.desk.submission(submission.id)


@pytest.fixture(scope="module")
def bench(postgres_server: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A farm that all tests here share; its broker is not asked for anything."""
    with fresh_database(postgres_server) as url:
        make_or_migrate(url)
        store = tmp_path_factory.mktemp("store")
        bench = Bench(Places(database=url, broker="redis://127.0.0.1:1/0", store=str(store)))
        yield bench
        assert list((store / "unfinished").iterdir()) == []
        bench.farm.close()


@pytest.fixture(scope="module")
def stages(bench: Bench) -> Iterator[Stages]:
    """A worker's, with the limits that are set where nothing is."""
    stages = Stages(bench.farm, "ingester")
    yield stages
    stages.close()


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder for temporary files, in which nothing stays; what runs before a test is nothing of it."""
    remember()
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


@pytest.fixture
def talk(tmp_path: Path) -> Path:
    """A good recording of five seconds that no other test has."""
    return sounds.write(tmp_path / "talk.wav", sounds.noise(5, seed=next(_seeds)))


@contextmanager
def befalls(what: Callable[[psutil.Process], None]) -> Iterator[None]:
    """This befalls every decoder that has opened its file, once."""
    stop, seen = threading.Event(), set()

    def watch() -> None:
        while not stop.wait(0.005):
            for child in children():
                try:
                    if child not in seen and any("/source." in file.path for file in child.open_files()):
                        seen.add(child)
                        what(child)
                except psutil.Error:  # it has just ended
                    continue

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@pytest.fixture
def long(tmp_path: Path) -> Path:
    """A file that takes seconds to decode, as tests go: an hour of silence."""
    return sounds.write(tmp_path / "long.flac", np.zeros((1, 3600 * 8000), np.int16), rate=8000)


# Bad media


@pytest.mark.parametrize(
    ("name", "make", "line"),
    [(name, make, line) for name, make, kind, line in REFUSED if kind is MediaUnreadable],
    ids=[name for name, _, kind, _ in REFUSED if kind is MediaUnreadable],
)
def test_what_is_no_recording_fails_for_good(
    bench: Bench, stages: Stages, tmp_path: Path, name: str, make: Callable[[Path], object], line: str
) -> None:
    """Every kind that the docs list, with the line that they list, about the name that it was handed in by."""
    make(tmp_path / name)
    started = time.monotonic()
    submission = bench.ingest(stages, tmp_path / name)

    assert (submission.state, submission.error) == (FAILED, f"{name}: {line}")
    assert time.monotonic() - started < 30


def test_what_can_be_heard_is_ingested(bench: Bench, stages: Stages, tmp_path: Path) -> None:
    """Cut off, under another's name, or with floats that are no numbers: as far as it goes, and never invented."""
    noise = sounds.noise(4)
    short = cut(sounds.write(tmp_path / "short.flac", noise), 0.5)
    lying = sounds.write(tmp_path / "lying.wav", noise).rename(tmp_path / "lying.mp3")
    floats = np.where(np.arange(16_000) % 2, np.nan, 0.25).astype(np.float32)
    broken = sounds.write(tmp_path / "floats.wav", floats, encoder="pcm_f32le")

    states = [bench.ingest(stages, path) for path in (short, lying, broken)]

    assert [(one.state, one.error) for one in states] == [(INGESTED, None)] * 3
    [source] = bench.farm.ledger.sources(states[0].file_sha256 or "", split=False)
    assert source.ended_early is not None
    assert states[1].duration == 4 * 16_000
    [source] = bench.farm.ledger.sources(states[2].file_sha256 or "", split=False)
    pcm = read_pcm(bench.farm.store, source.recording, source.duration, Span(0, source.duration))
    assert set(pcm.tolist()) == {0, 8192}


def test_a_playlist_leads_nowhere(bench: Bench, stages: Stages, tmp_path: Path) -> None:
    """Neither a file nor an address that it names is opened, whatever it is called."""
    pipe = tmp_path / "secret.ts"
    os.mkfifo(pipe)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}/secret.ts"
        for name, text in {
            "live.m3u8": f"#EXTM3U\n#EXTINF:9,\n{pipe}\n#EXTINF:9,\n{address}\n",
            "live.mp3": f"\n#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile://{pipe}\n",
            "parts.wav": f"ffconcat version 1.0\nfile {pipe}\nfile {address}\n",
            "parts.txt": f"# a concat script\nfile '{pipe}'\n",
        }.items():
            (tmp_path / name).write_text(text)
            assert bench.ingest(stages, tmp_path / name).state == FAILED
        assert select.select([server], [], [], 0) == ([], [], []), "nobody called"
    with pytest.raises(OSError, match="No such device or address"):  # nobody reads it
        os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)


def test_a_thousand_channels(bench: Bench, stages: Stages, tmp_path: Path) -> None:
    """The limit and its setting are named; and people are told so."""
    path = tmp_path / "wall.wav"
    path.write_bytes(wav(channels=1000, rate=16_000, bits=16, data=bytes(2000 * 1600)))
    submission = bench.ingest(stages, path)

    line = "wall.wav: has 1000 channels, and 64 at most are taken; raise STENOPOOL_MAX_CHANNELS"
    assert (submission.state, submission.error) == (FAILED, line)
    shown = CliRunner(env=bench.places.environment()).invoke(cli, ["show", str(submission.id)])
    assert f"error       {line}\n" in shown.output


def test_a_name_is_only_a_name(bench: Bench, stages: Stages, tmp_path: Path, talk: Path) -> None:
    """Wherever it seems to lead, however long it is: what is handed in is told by it and kept elsewhere."""
    bad = tmp_path / "bad"
    bad.write_bytes(b"")
    for name in ("../../bad.wav", "..", "/", "x" * 300 + ".wav", "a.b c/d"):
        assert bench.ingest(stages, bad, name).error == f"{name}: is empty (0 bytes)"
    assert bench.ingest(stages, bad, "a\nb.wav").error == r"'a\nb.wav': is empty (0 bytes)"
    assert bench.ingest(stages, talk, "x" * 300).state == INGESTED


# Limits


@pytest.mark.parametrize(
    ("limits", "line"),
    [
        (Limits(size=1e5), "has 0.000160078 GB, and 0.0001 at most are taken; raise STENOPOOL_MAX_GB"),
        (Limits(seconds=3.6), "lasts longer than the 0.001 hours that are taken; cut it, or raise STENOPOOL_MAX_HOURS"),
    ],
)
def test_what_is_beyond_a_limit_fails_at_once(bench: Bench, talk: Path, limits: Limits, line: str) -> None:
    """With the line that names it."""
    stages = Stages(bench.farm, "ingester", limits)
    submission = bench.ingest(stages, talk)
    stages.close()

    assert (submission.state, submission.error) == (FAILED, f"talk.wav: {line}")


def test_a_decoder_that_hangs_is_ended(bench: Bench, long: Path, talk: Path) -> None:
    """The file fails with its reason; the worker goes on with others, meanwhile and afterwards."""
    stages = Stages(bench.farm, "ingester", Limits(stall=5.0))
    with befalls(lambda child: child.suspend()):
        submission = bench.ingest(stages, long)

    assert submission.state == FAILED
    assert submission.error is not None
    assert submission.error.startswith("long.flac: its decoder fell 5 s behind real time, and was ended; raise STENO")
    assert children() == []
    assert bench.ingest(stages, talk).state == INGESTED
    stages.close()


def test_a_file_that_crashes_the_codec_fails_alone(bench: Bench, long: Path, talk: Path) -> None:
    """However early: also what looks at the first frames is a decoder, not the worker."""
    stages = Stages(bench.farm, "ingester")
    with befalls(lambda child: child.send_signal(signal.SIGSEGV)):
        submission = bench.ingest(stages, long)

    line = "long.flac: the decoder died on it (segmentation fault), 2 times"
    assert (submission.state, submission.error) == (FAILED, line)
    assert bench.ingest(stages, talk).state == INGESTED
    stages.close()


# Room


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """No file of this process and of those that it starts can be larger, as on a disk that is full from there on."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def not_before(bench: Bench, submission: Submission) -> bool:
    """Whether workers are told of it only later."""
    return submission.id not in bench.farm.desk.ingests(submission.lane, 1000, 0)


def test_a_disk_without_room_is_waited_for_a_few_times(bench: Bench, scratch: Path, talk: Path) -> None:
    """For the file itself: it is tried again later, and in the end it fails with the folder's name."""
    stages = Stages(bench.farm, "ingester")
    submission = bench.hand_in(talk)
    seen = []
    for _ in range(ATTEMPTS):
        with files_up_to(100_000):
            stages.ingest(submission.id)
        submission = bench.farm.desk.submission(submission.id)
        seen.append(submission.state)
        assert not_before(bench, submission)
    stages.close()

    line = f"talk.wav: there is no room for it in {scratch}; make some, or set TMPDIR to another folder"
    assert seen == [ACCEPTED, ACCEPTED, FAILED]
    assert submission.error == f"{line} (3 times)"
    assert len(PAUSES) == ATTEMPTS - 1


def test_a_store_without_room_is_waited_for(bench: Bench, tmp_path: Path) -> None:
    """For the samples: nothing of them stays, and once there is room all is well, without a word of it."""
    noise = sounds.noise(60, seed=7)
    path = sounds.write(tmp_path / "small.mp3", noise, bit_rate=32_000)
    submission = bench.hand_in(path)
    stages = Stages(bench.farm, "ingester")
    with files_up_to(1_000_000):  # the samples have 1.9 MB, the file a quarter of one
        stages.ingest(submission.id)
    stages.close()

    postponed = bench.farm.desk.submission(submission.id)
    assert (postponed.state, postponed.attempt) == (ACCEPTED, 1)
    assert postponed.error is not None
    assert postponed.error.startswith(f"{bench.places.store}: cannot be written to (File too large); make room")
    assert list(Path(bench.places.store, "unfinished").iterdir()) == []

    stages = Stages(bench.farm, "ingester")
    stages.ingest(submission.id)
    stages.close()
    ingested = bench.farm.desk.submission(submission.id)
    assert (ingested.state, ingested.error, ingested.attempt) == (INGESTED, None, 0)


def test_no_folder_for_temporary_files(bench: Bench, talk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is waited for, too; a line says which setting names another."""
    monkeypatch.setattr(tempfile, "tempdir", str(talk))  # a file
    stages = Stages(bench.farm, "ingester")
    submission = bench.ingest(stages, talk)
    stages.close()

    line = "talk.wav: a folder for temporary files cannot be made (Not a directory); make room, or set TMPDIR elsewhere"
    assert (submission.state, submission.error) == (ACCEPTED, line)
