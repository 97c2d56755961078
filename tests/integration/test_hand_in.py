"""Handing in: what people name becomes submissions, each once, and what is wrong is told before anything is done."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from shutil import copyfile
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import func, select

from scheduler.items import Item
from stenopool.cli import cli
from stenopool.domain import Options
from stenopool.errors import KeyTaken, MediaUnreadable, UsageError
from storage.desk import Submission
from storage.s3 import S3Store
from storage.tables import ChunkRow, Lane, SubmissionRow, SubmissionState, TranscriptRow
from tests import sounds
from tests.farms import HandFarm
from tests.feeds import Publisher, fetcher
from tests.servers import BUCKET
from workers.expand import expand
from workers.farm import Farm, Places
from workers.hand_in import Terms, hand_in
from workers.watch import Watch
from workers.watch_feed import FeedWatch

TERMS = Terms(
    tenant="ada",
    model="pocket",
    options=Options(language="en", vad=False, chunk_length=2, overlap=0, hotwords="Zoë"),
    split=False,
    again=False,
    lane="bulk",
    priority=2,
    deadline=None,
)


@pytest.fixture
def talk(tmp_path: Path) -> Path:
    """A recording of four seconds."""
    return sounds.write(tmp_path / "talk.wav", sounds.noise(4))


def item(location: Path | str, **other: Any) -> Item:
    """A source, called as it is written."""
    return Item(location=str(location), name=Path(location).name, **other)


# One by one


def test_a_file_is_uploaded_and_what_is_elsewhere_is_not_asked_for(hand_farm: HandFarm, talk: Path) -> None:
    """Neither the URL nor the object is there, and nobody looks."""
    own = {"options": {"language": "de", "hotwords": "Ada"}, "lane": "urgent", "metadata": {"show": "Waves"}}
    here = hand_in(hand_farm.farm, item(talk, **own), TERMS)
    url = hand_in(hand_farm.farm, item("https://nobody.invalid/talk.mp3?t=1"), TERMS)
    s3 = hand_in(hand_farm.farm, item("s3://nobody/talk.mp3"), TERMS)

    assert hand_farm.keys() == [here.source]
    assert here.file_sha256 == here.source.removeprefix("sources/")
    assert (here.lane, here.priority, here.metadata) == (Lane.URGENT, 2, {"show": "Waves"})
    assert (here.options["language"], here.options["hotwords"]) == ("de", "Zoë, Ada")
    assert [(one.source, one.file_sha256, one.lane) for one in (url, s3)] == [
        ("https://nobody.invalid/talk.mp3?t=1", None, Lane.BULK),
        ("s3://nobody/talk.mp3", None, Lane.BULK),
    ]


@pytest.mark.parametrize(
    ("location", "line"),
    [
        ("https://ada:secret@host/talk.mp3", "https://host/talk.mp3: a URL with a password in it is not fetched"),
        ("https:///talk.mp3", "https:///talk.mp3: is no URL"),
        ("s3://bucket/talks/", "s3://bucket/talks/: is a prefix; name one object"),
        ("https://host/" + "a" * 2000, f"https://host/{'a' * 47}…: has 2013 letters, and a URL may have 2000"),
        ("gopher://host/talk.mp3", "gopher://host/talk.mp3: only http, https and s3 are fetched"),
    ],
)
def test_what_can_never_be_fetched_is_not_handed_in(hand_farm: HandFarm, location: str, line: str) -> None:
    """It is told at once."""
    with pytest.raises(Exception, match=f"^{line}$"):
        hand_in(hand_farm.farm, item(location), TERMS)
    assert hand_farm.farm.desk.submissions() == []


def test_a_key_that_is_used_for_something_else(hand_farm: HandFarm, talk: Path) -> None:
    """Both are named, and how they differ; the same once more is the first, whatever it is called now."""
    first = hand_in(hand_farm.farm, item("https://host/a.mp3", key="k"), TERMS)

    assert (
        hand_in(hand_farm.farm, replace(item("https://host/a.mp3", key="k"), name="b", lane="urgent"), TERMS) == first
    )
    with pytest.raises(KeyTaken) as caught:
        hand_in(hand_farm.farm, item(talk, key="k", options={"language": "de"}), TERMS)
    assert str(caught.value) == (
        f"talk.wav: its key 'k' is that of submission {first.id}, a.mp3, which has another source and another options; "
        "give it another key"
    )


# At the same moment


def simultaneously(n: int, work: Callable[[int], Any]) -> list[Any]:
    """All of it, by threads that begin together."""
    together = threading.Barrier(n)

    def begin(at: int) -> Any:
        together.wait()
        return work(at)

    with ThreadPoolExecutor(n) as threads:
        return list(threads.map(begin, range(n)))


@pytest.fixture
def postgres_farm(ledger_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HandFarm]:
    """On Postgres, where others are at work in the midst of a transaction."""
    from storage.database import open_database
    from storage.folder import FolderStore

    database = open_database(ledger_url)
    farm = HandFarm(database, FolderStore(tmp_path / "objects"), tmp_path, monkeypatch)
    yield farm
    farm.stages.close()
    database.dispose()


def rows(farm: HandFarm, table: Any) -> int:
    """How many there are."""
    with farm.farm.database.connect() as connection:
        return int(connection.scalar(select(func.count()).select_from(table)) or 0)


def test_a_hundred_with_one_key_are_one_submission(postgres_farm: HandFarm, talk: Path) -> None:
    """Handed in at the same moment by as many threads."""
    found: list[Submission] = simultaneously(100, lambda _: hand_in(postgres_farm.farm, item(talk, key="k"), TERMS))

    assert len({one.id for one in found}) == rows(postgres_farm, SubmissionRow) == 1
    assert postgres_farm.keys() == [found[0].source]


def all_ingested(farm: HandFarm, n: int) -> None:
    """Eight workers ingest what they are told of, again and again, until so many are transcribed."""
    while farm.farm.desk.counts().get((Lane.BULK, SubmissionState.TRANSCRIBING), 0) < n:
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(farm.stages.ingest, farm.farm.desk.ingests(Lane.BULK, 100, -1)))
        time.sleep(0.02)


def test_a_hundred_of_the_same_are_one_run(postgres_farm: HandFarm, talk: Path) -> None:
    """Without a key they are submissions of their own; of eight workers one decodes, and it is transcribed once."""
    found: list[Submission] = simultaneously(100, lambda _: hand_in(postgres_farm.farm, item(talk), TERMS))
    ids = [one.id for one in found]
    all_ingested(postgres_farm, 100)

    assert postgres_farm.decoders.files == 1
    assert postgres_farm.hear() == [0, 1]
    assert (rows(postgres_farm, TranscriptRow), rows(postgres_farm, ChunkRow), len(set(ids))) == (1, 2, 100)
    assert {one.transcripts for one in postgres_farm.farm.desk.submissions(limit=200)} == {((0, 1),)}


def test_two_a_millisecond_apart_are_one_run(postgres_farm: HandFarm, talk: Path) -> None:
    """Each is ingested as soon as it is there, but what the first one decodes the second one does not."""

    def later(at: int) -> Submission:
        time.sleep(at / 1000)
        submission = hand_in(postgres_farm.farm, item(talk), TERMS)
        postgres_farm.stages.ingest(submission.id)
        return submission

    first, second = simultaneously(2, later)
    all_ingested(postgres_farm, 2)

    assert first.id != second.id
    assert postgres_farm.now(first).transcripts == postgres_farm.now(second).transcripts
    assert (postgres_farm.decoders.files, rows(postgres_farm, TranscriptRow)) == (1, 1)


def test_what_is_other_work_does_not_wait(postgres_farm: HandFarm, talk: Path) -> None:
    """The same file with other options, by force, or of another tenant is begun beside the first; it waits no longer
    than the first one lives.
    """
    desk = postgres_farm.farm.desk
    others = [
        replace(TERMS, options=replace(TERMS.options, language="de")),
        replace(TERMS, again=True),
        replace(TERMS, tenant="bob"),
        TERMS,
    ]
    first, *ids = [hand_in(postgres_farm.farm, item(talk), terms).id for terms in (TERMS, *others)]

    def begun(id: int) -> bool:
        return desk.claim("w", id, SubmissionState.INGESTING, apart=True) is not None

    assert begun(first)
    assert [begun(id) for id in ids] == [True, True, True, False]
    postgres_farm.expire()
    assert begun(ids[-1])


# Folders, patterns, prefixes


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A folder with recordings, by their names, and other files."""
    for name in ("b.mp3", "a.WAV", "2024/c.flac", "2024/notes.txt", ".hidden.mp3", ".git/d.mp3", "2024/e.mp3.part"):
        path = tmp_path / "archive" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return tmp_path / "archive"


def test_a_folder_is_the_recordings_in_it(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In order, called as a shell would call them; a pattern is those that fit, and folders that do."""
    monkeypatch.chdir(archive.parent)

    assert [one.name for one in expand("archive")] == ["archive/2024/c.flac", "archive/a.WAV", "archive/b.mp3"]
    assert [one.location for one in expand("archive/*")] == [one.location for one in expand("archive")]
    assert [one.name for one in expand("archive/**/*.flac")] == ["archive/2024/c.flac"]
    assert [one.name for one in expand("archive/gone.mp3")] == ["archive/gone.mp3"], "whoever opens it says so"
    for nothing in ("archive/.git/../2024/*.txt", "archive/*.ogg"):
        with pytest.raises(UsageError, match="nothing in it is named as audio or video"):
            list(expand(nothing))


def test_a_prefix_is_the_recordings_below_it(s3: S3Store, s3_server: tuple[str, int], talk: Path) -> None:
    """Listed as it is gone through; names of any text, sizes above zero."""
    host, port = s3_server
    where, query = f"s3://{BUCKET}/{s3._prefix}", f"?endpoint=http://{host}:{port}"
    put = s3._bucket.client.put_object
    for name, body in (("2024/b c.mp3", b"x"), ("2024/a+1.wav", b"x"), ("2024/empty.mp3", b""), ("2024/n.txt", b"x")):
        put(Bucket=BUCKET, Key=f"{s3._prefix}{name}", Body=body)

    found = list(expand(f"{where}2024/{query}"))

    assert [one.name for one in found] == [f"{s3._prefix}2024/a+1.wav", f"{s3._prefix}2024/b c.mp3"]
    assert found[1].location == f"{where}2024/b%20c.mp3{query}"
    with pytest.raises(UsageError, match="nothing in it is named as audio"):
        list(expand(f"{where}2023/{query}"))


# Watching


class Watched:
    """A folder that is watched by the second."""

    def __init__(self, farm: HandFarm, folder: Path) -> None:
        self.farm = farm
        self.folder = folder
        self.now = 0.0
        folder.mkdir()
        self.begin()

    def begin(self, **other: Any) -> None:
        """As a process does that has just been started."""
        terms = replace(TERMS, **other)
        self.watch = Watch(self.farm.farm, str(self.folder), terms, settle=5.0, clock=lambda: self.now)

    def after(self, seconds: float) -> list[str]:
        """What was taken so many seconds later: the names of the files."""
        self.now += seconds
        return [Path(one.name).name for one in self.watch.look() if isinstance(one.outcome, Submission)]


@pytest.fixture
def watched(hand_farm: HandFarm, tmp_path: Path) -> Watched:
    """On both databases."""
    return Watched(hand_farm, tmp_path / "inbox")


def test_what_is_new_and_whole_is_handed_in_once(watched: Watched, talk: Path) -> None:
    """A file that grows waits; another name for the same sound is nothing new, and neither is another process."""
    sound = talk.read_bytes()
    path = watched.folder / "a.wav"
    path.write_bytes(sound[:1000])
    assert watched.after(0) == []
    path.write_bytes(sound)
    assert watched.after(5) == []
    assert watched.after(4) == []
    assert watched.after(1) == ["a.wav"]
    copyfile(path, watched.folder / "b.wav")
    assert watched.after(10) + watched.after(10) == []

    watched.begin()
    path.touch()
    assert watched.after(0) + watched.after(10) == []
    assert len(watched.farm.farm.desk.submissions()) == 1
    watched.begin(model="other")
    assert watched.after(0) + watched.after(10) == ["a.wav"]


def test_what_is_no_recording_is_told_once(watched: Watched, talk: Path) -> None:
    """Until it is another file; what else is there goes on."""
    (watched.folder / "a.mp3").write_text("Dear diary")
    copyfile(talk, watched.folder / "b.wav")
    list(watched.watch.look())
    watched.now += 5

    first, second = watched.watch.look()

    assert isinstance(first.outcome, MediaUnreadable)
    assert isinstance(second.outcome, Submission)
    assert list(watched.watch.look()) == []
    copyfile(talk, watched.folder / "a.mp3")
    sounds.write(watched.folder / "a.mp3", sounds.noise(2, seed=9))
    assert watched.after(0) + watched.after(5) == ["a.mp3"]


def test_a_watch_that_is_killed_goes_on(watched: Watched) -> None:
    """In the midst of its work: what it had handed in is known to the next one."""
    for seed in range(3):
        sounds.write(watched.folder / f"{seed}.wav", sounds.noise(1, seed=seed))
    list(watched.watch.look())
    watched.now += 5
    next(watched.watch.look())

    watched.begin()

    assert watched.after(0) + watched.after(5) == ["1.wav", "2.wav"]


def test_a_prefix_is_watched_by_its_etags(hand_farm: HandFarm, s3: S3Store, s3_server: tuple[str, int]) -> None:
    """What is put anew under the same key is new; nothing is downloaded."""
    host, port = s3_server
    place = f"s3://{BUCKET}/{s3._prefix}inbox/?endpoint=http://{host}:{port}"

    def look() -> int:
        return len(list(Watch(hand_farm.farm, place, TERMS, settle=5.0).look()))

    s3._bucket.client.put_object(Bucket=BUCKET, Key=f"{s3._prefix}inbox/a.mp3", Body=b"one")
    assert [look(), look()] == [1, 0]
    s3._bucket.client.put_object(Bucket=BUCKET, Key=f"{s3._prefix}inbox/a.mp3", Body=b"two")
    assert [look(), look()] == [1, 0]
    assert {one.file_sha256 for one in hand_farm.farm.desk.submissions()} == {None}


def test_what_cannot_be_watched(hand_farm: HandFarm, talk: Path) -> None:
    """One file, or nothing."""
    for place in (str(talk), "gone", "https://host/a.mp3", "s3://bucket/a.mp3"):
        with pytest.raises(UsageError, match=r"is no folder that is there, and no s3://bucket/prefix/$"):
            Watch(hand_farm.farm, place, TERMS, settle=0.0)


def test_a_feed_is_watched(hand_farm: HandFarm) -> None:
    """What is new in it is handed in once, by whoever watches; a page that has not changed is not sent again."""
    with Publisher() as publisher:
        for name in ("/a", "/b", "/c"):
            publisher.files[name] = (name.encode(), "audio/mpeg")
        url = publisher.publish(["/a", "/b", "/c"], per_page=2)

        def watch() -> FeedWatch:
            return FeedWatch(hand_farm.farm, url, TERMS, fetcher())

        def names(watch: FeedWatch) -> list[str]:
            return [taken.name for taken in watch.look()]

        first = watch()
        killed = first.look()
        assert next(killed).name == "Episode a.mp3"
        del killed
        assert names(first) == ["Episode b.mp3", "Episode c.mp3"]
        publisher.sent.clear()
        assert names(first) == []
        assert not publisher.sent
        assert names(watch()) == []

        publisher.files["/d"] = (b"d", "audio/mpeg")
        publisher.publish(["/d", "/a", "/b", "/c"], per_page=2)
        assert names(first) == ["Episode d.mp3"]

    submissions = hand_farm.farm.desk.submissions()
    assert sorted(one.source for one in submissions) == [publisher.url(f"/{name}") for name in "abcd"]
    assert {one.metadata["guid"] for one in submissions} == {f"/{name}" for name in "abcd"}


# The commands


class Desk:
    """The commands, on a farm without processes."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self.farm = Farm(places, lease=60)

    def run(self, *arguments: str | Path, stdin: bytes | None = None, code: int = 0) -> Result:
        """A command, which ends with that code."""
        stop = threading.Event()
        runner = CliRunner(env=self._places.environment())
        result = runner.invoke(cli, [*map(str, arguments)], input=stdin, obj=stop, standalone_mode=False)
        found = result.exception or result.return_value or 0
        if isinstance(found, UsageError):
            result.stderr_bytes = (result.stderr_bytes or b"") + f"stenopool: {found}".encode()
            found = 2
        assert found == code, result.output
        return result


@pytest.fixture
def desk(ledger_url: str, tmp_path: Path) -> Iterator[Desk]:
    """Its broker is not asked for anything."""
    desk = Desk(Places(database=ledger_url, broker="redis://127.0.0.1:1/0", store=str(tmp_path / "store")))
    yield desk
    desk.farm.close()


def test_submit_takes_all_kinds(desk: Desk, tmp_path: Path, talk: Path) -> None:
    """Files, folders, URLs, a list on standard input; how many a folder has is told."""
    folder = tmp_path / "talks"
    folder.mkdir()
    for seed in range(2):
        sounds.write(folder / f"{seed}.wav", sounds.noise(1, seed=seed))
    done = desk.run("submit", talk, folder, "https://host/x/My%20talk.mp3", "--lane", "bulk")

    names = [line.split("\t")[1] for line in done.stdout.splitlines()]
    assert names == [str(talk), f"{folder}/0.wav", f"{folder}/1.wav", "My talk.mp3"]
    assert done.stderr == f"{folder}: 2 recordings\n"

    listed = desk.run("submit", "--stdin-list", "--json", stdin=f"{talk}\n\ns3://bucket/a.mp3\n".encode())
    found = [(one["name"], one["lane"]) for one in json.loads(listed.stdout)]
    assert found == [(str(talk), "normal"), ("a.mp3", "normal")]
    piped = desk.run("submit", "-", stdin=talk.read_bytes())
    assert piped.stdout.endswith("\tstdin\n")


def test_submit_goes_on_past_what_is_wrong(desk: Desk, tmp_path: Path, talk: Path) -> None:
    """A line for each; and nothing of it is a traceback."""
    done = desk.run("submit", "ftp://host/a.mp3", tmp_path / "gone.mp3", talk, "http://u:secret@h/a.mp3", code=1)

    assert done.stderr.splitlines() == [
        "stenopool: ftp://host/a.mp3: only http, https and s3 are fetched",
        f"stenopool: {tmp_path}/gone.mp3: does not exist",
        "stenopool: http://h/a.mp3: a URL with a password in it is not fetched",
    ]
    assert len(done.stdout.splitlines()) == 1
    assert "nothing is named" in desk.run("submit", "--lane", "bulk", code=2).stderr
    assert "--key is for one recording" in desk.run("submit", talk, tmp_path, "--key", "k", code=2).stderr


def test_a_manifest_is_checked_before_anything_is_handed_in(desk: Desk, tmp_path: Path, talk: Path) -> None:
    """Every line that is wrong is told with its number; once they are mended, all of it is taken."""
    manifest = tmp_path / "talks.csv"
    good = "source,language,key,show\ntalk.wav,en,k1,Waves\nhttps://host/a.mp3,,k2,\n"
    manifest.write_text(good + "gone.wav,,,\ns3://bucket/talks/,,,\nhttp://u:p@h/,,,\n")

    done = desk.run("submit", "--manifest", manifest, code=2)

    assert done.stderr.splitlines() == [
        f"stenopool: {manifest} line 4: {tmp_path}/gone.wav: does not exist",
        f"stenopool: {manifest} line 5: s3://bucket/talks/: is a prefix; name one object",
        f"stenopool: {manifest} line 6: http://h/: a URL with a password in it is not fetched",
        f"stenopool: {manifest}: 3 lines cannot be handed in, and nothing was; mend {manifest} first",
    ]
    assert desk.farm.desk.submissions() == []

    manifest.write_text(good)
    first = json.loads(desk.run("submit", "--manifest", manifest, "--json").stdout)
    assert [one["metadata"] for one in first] == [{"show": "Waves"}, {}]
    again = json.loads(desk.run("submit", "--manifest", manifest, "--json").stdout)
    assert [one["id"] for one in again] == [one["id"] for one in first]
    shown = desk.run("show", str(first[0]["id"]))
    assert "metadata    show: Waves\n" in shown.stdout


def test_watch_once_hands_in_what_is_there(desk: Desk, tmp_path: Path, talk: Path) -> None:
    """Once, however often; also as JSON."""
    folder = tmp_path / "inbox"
    folder.mkdir()
    copyfile(talk, folder / "a.wav")
    os.utime(folder / "a.wav", (0, 0))

    once = desk.run("watch", folder, "--once", "--settle", "0.01", "--json")
    again = desk.run("watch", folder, "--once", "--settle", "0.01")

    assert json.loads(once.stdout)["name"] == f"{folder}/a.wav"
    assert again.output == ""
    assert "is no folder that is there" in desk.run("watch", talk, "--once", code=2).stderr
