"""Sources that lie elsewhere, from the submission to the transcript: fetched by ingest, and by nobody else."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from storage.desk import Submission
from storage.keys import pcm_key
from storage.s3 import S3Store
from storage.tables import SubmissionRow, SubmissionState
from storage.waiting import ATTEMPTS
from tests import sounds
from tests.farms import HandFarm
from tests.hostile import ALLOWED, HERE, Server, cut_at, moved, ok, says
from tests.servers import BUCKET
from workers.elsewhere import Elsewhere
from workers.fetch import Bounds, Fetcher
from workers.ingest import Stopped
from workers.stages import PAUSES, Stages

ACCEPTED, FAILED = SubmissionState.ACCEPTED, SubmissionState.FAILED
WEEK = 7 * 86_400.0

FETCHER = Fetcher(Bounds(size=1e7, seconds=60.0, silence=20.0, pace=1), ALLOWED, lambda *_: [HERE])


class Abroad:
    """A farm by hand, a server that is not its own, and a recording of six seconds that is there."""

    def __init__(self, farm: HandFarm, server: Server, folder: Path) -> None:
        self.farm = farm
        self.server = server
        self.path = sounds.write(folder / "talk.wav", sounds.noise(6))
        server.answers["/talk.wav"] = ok(self.path.read_bytes())
        farm.stages.close()
        farm.stages = Stages(farm.farm, "ingester", fetcher=FETCHER)

    def submit(self, source: str | None = None, **other: Any) -> Submission:
        """Something elsewhere, or the recording."""
        source = self.server.url("/talk.wav") if source is None else source
        return self.farm.order(self.path, **{"source": source, "file_sha256": None, **other})

    def ingest(self, source: str | None = None) -> Submission:
        """The same, ingested; how it stands then."""
        submission = self.submit(source)
        self.farm.stages.ingest(submission.id)
        return self.farm.now(submission)

    def again(self, submission: Submission) -> Submission:
        """It is waited for until it is to be tried again, and it is."""
        with self.farm.farm.database.begin() as connection:
            connection.execute(update(SubmissionRow).values(not_before=None))
        self.farm.stages.ingest(submission.id)
        return self.farm.now(submission)

    def waits(self, submission: Submission) -> float:
        """Seconds from when it was handed in until it is tried again."""
        with self.farm.farm.database.connect() as connection:
            row = connection.execute(SubmissionRow.__table__.select()).mappings().one()
        return float(row["not_before"]) - submission.created_at


@pytest.fixture
def abroad(hand_farm: HandFarm, tmp_path: Path) -> Iterator[Abroad]:
    """On both databases."""
    server = Server()
    yield Abroad(hand_farm, server, tmp_path)
    server.close()


def test_a_url_is_fetched_by_ingest(abroad: Abroad) -> None:
    """Whoever hands it in asks nobody; its bytes are known afterwards, and are not kept."""
    submission = abroad.submit(metadata={"show": "Waves"})
    assert (submission.file_sha256, abroad.server.asked) == (None, [])

    abroad.farm.go()

    done = abroad.farm.now(submission)
    assert (done.state, done.error, done.metadata) == (SubmissionState.COMPLETED, None, {"show": "Waves"})
    assert abroad.farm.texts(done) == ["first0 first1 first2"]
    assert done.file_sha256 is not None
    assert len(abroad.server.asked) == 1
    assert abroad.farm.keys("sources") == abroad.farm.keys("pcm") == []


def test_the_same_recording_from_elsewhere_is_the_same_work(abroad: Abroad) -> None:
    """By another URL, or from this machine: what it is, its samples say."""
    abroad.server.answers["/other"] = moved("/talk.wav")
    abroad.submit()
    other = abroad.submit(abroad.server.url("/other"))
    here = abroad.farm.order(abroad.path)

    assert abroad.farm.go() == [0, 1, 2]
    assert {abroad.farm.now(one).transcripts for one in (other, here)} == {((0, 1),)}


def test_a_download_that_breaks_off_is_gone_on_with(abroad: Abroad, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within the same attempt."""
    monkeypatch.setattr("tests.hostile.SOUND", abroad.path.read_bytes())
    abroad.server.answers["/talk.wav"] = cut_at(30_000)

    assert abroad.ingest().state == SubmissionState.TRANSCRIBING
    assert len(abroad.server.asked) == 2


def test_what_is_not_there_fails_at_once(abroad: Abroad) -> None:
    """With the URL, but without what may be a secret in it."""
    abroad.server.answers["/gone.mp3"] = says("HTTP/1.1 404 Not Found\r\nContent-Length: 0")

    submission = abroad.ingest(abroad.server.url("/gone.mp3?token=secret"))

    assert (submission.state, submission.error) == (FAILED, f"{abroad.server.url('/gone.mp3')}: status 404")


def test_what_fails_elsewhere_is_tried_a_few_times(abroad: Abroad) -> None:
    """After a minute, after ten; then it has failed."""
    abroad.server.answers["/talk.wav"] = says("HTTP/1.1 500 Oh\r\nContent-Length: 0")
    submission = abroad.ingest()
    assert (submission.state, submission.attempt) == (ACCEPTED, 1)
    assert PAUSES[0] <= abroad.waits(submission) < PAUSES[0] + 20
    assert abroad.again(submission).state == ACCEPTED

    failed = abroad.again(submission)

    assert (failed.state, failed.attempt) == (FAILED, ATTEMPTS)
    assert failed.error == f"{abroad.server.url('/talk.wav')}: status 500 ({ATTEMPTS} times)"


def test_a_host_that_asks_for_time_has_it(abroad: Abroad) -> None:
    """As long as it says, however often; others of it wait without asking."""
    answer = says("HTTP/1.1 429 Too Many\r\nRetry-After: 600\r\nContent-Length: 0")
    abroad.server.answers["/talk.wav"] = answer
    submission = abroad.ingest()

    assert (submission.state, submission.attempt) == (ACCEPTED, 0)
    assert 600 <= abroad.waits(submission) < 680
    other = abroad.again(submission)
    assert (other.state, other.error) == (ACCEPTED, "127.0.0.1 asked to be left alone for a while")
    assert len(abroad.server.asked) == 1


@pytest.mark.parametrize(
    "source", ["/etc/hostname", "file:///etc/hostname", "file:/etc/hostname", "../x", "pcm/ab", "-"]
)
def test_a_path_is_no_source(abroad: Abroad, source: str) -> None:
    """A worker opens none of its own machine's files, whoever wrote the row."""
    submission = abroad.submit()
    with abroad.farm.farm.database.begin() as connection:
        connection.execute(update(SubmissionRow).values(source=source))
    abroad.farm.stages.ingest(submission.id)

    failed = abroad.farm.now(submission)
    assert failed.state == FAILED
    assert failed.error is not None
    assert "is no place that workers look in" in failed.error or "only http and https are fetched" in failed.error


@pytest.mark.parametrize(
    "text",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{url}\n#EXTINF:9,\nfile:///etc/hostname\n",
        "[playlist]\nFile1={url}\nNumberOfEntries=1\n",
        '<?xml version="1.0"?>\n<playlist version="1"><trackList><location>{url}</location></trackList></playlist>',
        "ffconcat version 1.0\nfile {url}\n",
    ],
    ids=["m3u8", "pls", "xspf", "concat"],
)
def test_a_playlist_leads_nowhere(abroad: Abroad, text: str) -> None:
    """It is refused with its reason, and what it names is not asked for, neither by us nor by FFmpeg."""
    abroad.server.answers["/live"] = ok(text.format(url=abroad.server.url("/talk.wav")).encode())

    failed = abroad.ingest(abroad.server.url("/live"))

    why = "is a playlist that points to other files; name those files instead"
    assert (failed.state, failed.error) == (FAILED, f"{abroad.server.url('/live')}: {why}")
    assert len(abroad.server.asked) == 1


def test_the_public_internet_is_all_that_is_asked_by_default(abroad: Abroad) -> None:
    """Whoever hands something in reaches nothing of the workers' network through them."""
    stages = Stages(abroad.farm.farm, "ingester")
    submission = abroad.submit()
    stages.ingest(submission.id)
    stages.close()

    error = abroad.farm.now(submission).error or ""
    assert "is 127.0.0.1, which is not on the public internet" in error
    assert abroad.server.asked == []


def test_gaps_are_tried_again_without_asking_again(abroad: Abroad) -> None:
    """The same bytes may not be had twice: the samples are kept instead, as long as a file would be."""
    submission = abroad.submit()
    abroad.farm.go(failing=[1])
    done = abroad.farm.now(submission)
    assert done.state == SubmissionState.COMPLETED_WITH_GAPS
    [pcm] = abroad.farm.keys("pcm")
    assert abroad.farm.collect(keep=WEEK) == []

    abroad.server.answers["/talk.wav"] = says("HTTP/1.1 410 Gone\r\nContent-Length: 0")
    assert abroad.farm.farm.desk.retry(submission.id)
    assert abroad.farm.collect() == []
    assert abroad.farm.go("second") == [1]

    assert abroad.farm.now(submission).state == SubmissionState.COMPLETED
    assert abroad.farm.texts(submission) == ["first0 second1 first2"]
    assert len(abroad.server.asked) == 1
    assert pcm not in abroad.farm.keys("pcm")


def test_samples_for_gaps_are_not_kept_for_ever(abroad: Abroad) -> None:
    """They go with the time in which it can be retried; then it is fetched again."""
    submission = abroad.submit()
    abroad.farm.go(failing=[1])
    recording = abroad.farm.keys("pcm")[0].rpartition("/")[2]
    assert [one.which for one in abroad.farm.collect(keep=0.0)] == [pcm_key(recording)]

    assert abroad.farm.farm.desk.retry(submission.id)
    assert abroad.farm.go("second") == [1]
    assert len(abroad.server.asked) == 2


def test_an_object_of_s3_is_fetched_by_a_signed_url(abroad: Abroad, s3: S3Store, s3_server: tuple[str, int]) -> None:
    """By the same fetcher; the row has no secret in it, and neither has what goes wrong."""
    host, port = s3_server
    s3.upload(abroad.path, "talk.wav")
    where = f"s3://{BUCKET}/{s3._prefix}"
    endpoint = f"?endpoint=http://{host}:{port}"

    assert abroad.ingest(f"{where}talk.wav{endpoint}").state == SubmissionState.TRANSCRIBING
    failed = abroad.ingest(f"{where}gone.wav{endpoint}")

    assert failed.state == FAILED
    assert failed.error == (
        f"{where}gone.wav: status 404; see that it is there, that ingest workers may read it, and which region it is in"
    )


def test_a_worker_that_ends_ends_its_download(tmp_path: Path, server_with_sound: str) -> None:
    """As soon as something comes."""
    stop = threading.Event()
    stop.set()

    with pytest.raises(Stopped):
        Elsewhere(FETCHER).fetch(server_with_sound, tmp_path / "x", stop)


@pytest.fixture
def server_with_sound() -> Iterator[str]:
    """A URL."""
    server = Server()
    server.answers["/x"] = ok()
    yield server.url("/x")
    server.close()
