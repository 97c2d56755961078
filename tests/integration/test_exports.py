"""Transcripts where their owner wants them: whole, named by a manifest that comes last, whoever is killed meanwhile."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner, Result

from stenopool.cli import cli
from stenopool.cli.feed import read_offers
from stenopool.errors import StoreError, UsageError
from stenopool.formats import FORMATS
from storage.desk import Submission
from storage.s3 import S3Store
from storage.stores import open_store
from storage.tables import SubmissionState
from tests import podcasts
from tests.farms import HandFarm
from tests.proxy import Proxy
from tests.servers import BUCKET
from tests.transcripts import SCHEMA
from workers.export import MANIFEST, destination_of, export, folder_of, open_place, stem_of
from workers.ingest import Stopped
from workers.publish import write_atomically
from workers.shown import transcripts_of
from workers.stages import Stages

ON_SQLITE = pytest.mark.parametrize("any_database", ["sqlite"], indirect=True)


@pytest.fixture
def shared(hand_farm: HandFarm, tmp_path: Path) -> Path:
    """A folder that the farm may export to."""
    folder = tmp_path / "shared"
    folder.mkdir()
    hand_farm.stages = Stages(hand_farm.farm, "publisher", exports=[str(folder)])
    return folder


def manifest(folder: Path) -> dict[str, Any]:
    """What is said of what is there, which is so."""
    document: dict[str, Any] = json.loads((folder / MANIFEST).read_bytes())
    for file in document["files"]:
        content = (folder / file["name"]).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (file["bytes"], file["sha256"])
    assert {path.name for path in folder.iterdir()} == {MANIFEST, *(file["name"] for file in document["files"])}
    return document


def contents(folder: Path) -> dict[str, bytes]:
    """All files of a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_transcripts_are_sent_to_a_folder(hand_farm: HandFarm, shared: Path) -> None:
    """In the formats that were asked for, in a folder of the submission's own; the ledger knows where."""
    one = hand_farm.submit(destination=str(shared), formats=("txt", "podcast-vtt"), idempotency_key="guid-1")
    hand_farm.go()

    done = hand_farm.now(one)
    assert (done.state, done.error) == (SubmissionState.COMPLETED, None)
    assert (done.destination, done.formats, folder_of(done)) == (str(shared), one.formats, str(shared / str(one.id)))
    document = manifest(shared / str(one.id))
    assert {key: document[key] for key in ("submission", "name", "key", "language", "gaps")} == {
        "submission": one.id,
        "name": "talk1.wav",
        "key": "guid-1",
        "language": "en",
        "gaps": 0.0,
    }
    assert [(file["name"], file["type"]) for file in document["files"]] == [
        ("talk1.txt", "text/plain"),
        ("talk1.podcast.vtt", "text/vtt"),
    ]
    assert (shared / str(one.id) / "talk1.txt").read_text() == "first0\nfirst1\nfirst2\n"
    [offer] = read_offers(shared)
    assert offer.names == ("guid-1", "talk1.wav", "talk1"), "what a feed's episode may be known by"
    assert offer.files == {"txt": f"{one.id}/talk1.txt", "podcast-vtt": f"{one.id}/talk1.podcast.vtt"}


@ON_SQLITE
def test_channels_are_sent_together_and_each(hand_farm: HandFarm, shared: Path) -> None:
    """One transcript that says who speaks, and one of each; a name for the first, a number for the second."""
    one = hand_farm.submit(
        channels=2, split=True, speakers=("Ada",), destination=str(shared), formats=("txt", "json", "podcast-srt")
    )
    hand_farm.go()

    folder = shared / str(one.id)
    document = manifest(folder)
    assert [(file["name"], file["channel"]) for file in document["files"] if file["format"] == "txt"] == [
        ("talk1.txt", None),
        ("talk1.channel1.txt", 1),
        ("talk1.channel2.txt", 2),
    ]
    assert (folder / "talk1.txt").read_text().splitlines()[:2] == ["Ada: first0", "Channel 2: first0"]
    podcasts.check_srt((folder / "talk1.podcast.srt").read_text())
    for name in ("talk1.json", "talk1.channel1.json"):
        jsonschema.Draft202012Validator(SCHEMA).validate(json.loads((folder / name).read_bytes()))


@ON_SQLITE
def test_a_retry_of_gaps_is_sent_again(hand_farm: HandFarm, shared: Path) -> None:
    """The manifest says how much is missing; and every format of what has gaps is a valid file."""
    one = hand_farm.submit(destination=str(shared), formats=FORMATS)
    hand_farm.go(failing={1})
    folder = shared / str(one.id)
    assert manifest(folder)["gaps"] == 2.0
    document = json.loads((folder / "talk1.json").read_bytes())
    jsonschema.Draft202012Validator(SCHEMA).validate(document)
    assert [piece["kind"] for piece in document["coverage"]] == ["transcribed", "failed", "transcribed"]
    podcasts.check_json((folder / "talk1.podcast.json").read_text())
    podcasts.check_chapters((folder / "talk1.chapters.json").read_text())

    assert hand_farm.farm.desk.retry(one.id)
    hand_farm.go("again")

    assert manifest(folder)["gaps"] == 0.0
    assert (folder / "talk1.txt").read_text() == "first0\nagain1\nfirst2\n"


class Killed(BaseException):
    """Nothing that anybody catches."""


@ON_SQLITE
def test_a_publisher_that_is_killed_anywhere(
    hand_farm: HandFarm, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before any of its files, or in the middle of one: there is no manifest; the next one leaves the same bytes."""
    one = hand_farm.submit(destination=str(shared), formats=("txt", "srt"))
    folder = shared / str(one.id)
    hand_farm.ingest()
    hand_farm.hear()
    hand_farm.merge()
    for survived in range(3):
        written = 0

        def until(path: Path, content: bytes, survived: int = survived) -> None:
            nonlocal written
            if written == survived:
                path.with_name(f".stenopool-{survived}").write_bytes(content[:3])
                raise Killed
            written += 1
            write_atomically(path, content)

        with monkeypatch.context() as patch:
            patch.setattr("workers.export.write_atomically", until)
            with pytest.raises(Killed):
                hand_farm.publish()
        assert not (folder / MANIFEST).exists()
        hand_farm.farm.desk.postponed(hand_farm.now(one), "killed", -1)

    hand_farm.publish()
    assert hand_farm.now(one).state == SubmissionState.COMPLETED
    manifest(folder)
    there = contents(folder)
    export(hand_farm.now(one), transcripts(hand_farm, one), place(hand_farm, one, shared), threading.Event())
    assert contents(folder) == there


def transcripts(farm: HandFarm, one: Submission) -> Any:
    """What is shown of it."""
    return transcripts_of(farm.farm, farm.now(one))


def place(farm: HandFarm, one: Submission, shared: Path) -> Any:
    """Where it is sent."""
    return open_place(farm.now(one), store="", roots=[str(shared)])


@ON_SQLITE
def test_who_lost_his_claim_writes_nothing_more(hand_farm: HandFarm, shared: Path) -> None:
    """Least of all a manifest."""
    one = hand_farm.submit(destination=str(shared), formats=("txt",))
    hand_farm.go()
    folder = shared / str(one.id)
    (folder / MANIFEST).unlink()
    stop = threading.Event()
    stop.set()

    with pytest.raises(Stopped):
        export(hand_farm.now(one), transcripts(hand_farm, one), place(hand_farm, one, shared), stop)
    assert not (folder / MANIFEST).exists()


@ON_SQLITE
def test_a_folder_that_refuses(hand_farm: HandFarm, shared: Path) -> None:
    """It is waited for; the ledger says why; mended, it goes on."""
    one = hand_farm.submit(destination=str(shared), formats=("txt",))
    (shared / str(one.id)).write_text("a file where a folder should be")
    hand_farm.go()

    waiting = hand_farm.now(one)
    assert waiting.state == SubmissionState.PUBLISHING
    assert waiting.error is not None
    assert waiting.error.startswith(
        f"cannot be sent to where it is wanted: {shared / str(one.id)}: cannot be written to"
    )
    assert "\n" not in waiting.error
    assert hand_farm.farm.desk.publishes(100, -1) == [], "not before a minute"

    (shared / str(one.id)).unlink()
    again = hand_farm.farm.desk.claim("publisher", one.id, SubmissionState.PUBLISHING)
    assert again is not None
    hand_farm.farm.desk.postponed(again, "mended", -1)
    hand_farm.publish()
    manifest(shared / str(one.id))


@ON_SQLITE
def test_an_operator_who_changes_his_mind(hand_farm: HandFarm, shared: Path) -> None:
    """What is not allowed any more is refused where it is written, with the setting; so is a link out of the folder."""
    one = hand_farm.submit(destination=str(shared / "out"), formats=("txt",))
    (shared / "out").symlink_to(shared.parent)

    hand_farm.go()

    assert "STENOPOOL_EXPORTS" in str(hand_farm.now(one).error)
    assert not (shared.parent / str(one.id)).exists()
    with pytest.raises(StoreError, match="STENOPOOL_EXPORTS"):
        open_place(hand_farm.now(one), store="", roots=[])


@ON_SQLITE
def test_transcripts_are_sent_to_a_bucket(
    hand_farm: HandFarm, s3_server: tuple[str, int], s3: S3Store, tmp_path: Path
) -> None:
    """Under the caller's prefix, as what they are, the manifest last."""
    endpoint = f"endpoint=http://{s3_server[0]}:{s3_server[1]}&region=us-east-1"
    hand_farm.stages = Stages(hand_farm.farm, "publisher", exports=[f"s3://{BUCKET}?{endpoint}"])
    below = f"s3://{BUCKET}/{s3._prefix.rstrip('/')}/out?{endpoint}"
    one = hand_farm.submit(destination=below, formats=("txt", "podcast-vtt"))
    hand_farm.go()

    done = hand_farm.now(one)
    assert (done.state, done.error) == (SubmissionState.COMPLETED, None)
    found = open_store(str(folder_of(done)))
    assert [there.key for there in found.list()] == [MANIFEST, "talk1.podcast.vtt", "talk1.txt"]
    document = json.loads(found.read(MANIFEST, 0, 10**6))
    for file in document["files"]:
        content = found.read(file["name"], 0, 10**6)
        assert hashlib.sha256(content).hexdigest() == file["sha256"]
    assert isinstance(found, S3Store)
    head = found._bucket.client.head_object(**found._object("talk1.podcast.vtt"))
    assert head["ContentType"] == "text/vtt"


@ON_SQLITE
def test_a_bucket_that_does_not_answer(hand_farm: HandFarm, s3: S3Store, proxy: Proxy) -> None:
    """It is postponed, without any of the times that a stage may be begun; then it goes on."""
    root = f"s3://{BUCKET}?endpoint=http://127.0.0.1:{proxy.port}&region=us-east-1"
    hand_farm.stages = Stages(hand_farm.farm, "publisher", exports=[root])
    one = hand_farm.submit(destination=root.replace("?", f"/{s3._prefix.rstrip('/')}?"), formats=("txt",))
    proxy.refuse()
    hand_farm.go()

    waiting = hand_farm.now(one)
    assert (waiting.state, waiting.attempt) == (SubmissionState.PUBLISHING, 0)
    assert "cannot be sent to where it is wanted" in str(waiting.error)
    proxy.accept()
    again = hand_farm.farm.desk.claim("publisher", one.id, SubmissionState.PUBLISHING)
    assert again is not None
    hand_farm.farm.desk.postponed(again, "it answers", -1)
    hand_farm.publish()
    assert hand_farm.now(one).state == SubmissionState.COMPLETED


# The commands


@pytest.fixture
def run(hand_farm: HandFarm, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Result]:
    """A command, with this farm."""
    monkeypatch.setattr("workers.farm.Farm.find", lambda _: hand_farm.farm)
    monkeypatch.setenv("STENOPOOL_EXPORTS", str(tmp_path / "shared"))
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(cli, [*map(str, arguments)])


@ON_SQLITE
def test_who_speaks_can_be_said_later(hand_farm: HandFarm, run: Callable[..., Result], tmp_path: Path) -> None:
    """When transcripts are fetched, of channels that were split; of mixed ones nobody can."""
    split, mixed = hand_farm.submit(channels=2, split=True, speakers=("Ada", "Bob")), hand_farm.submit()
    hand_farm.go()

    fetched = run("fetch", split.id, "-o", "out", "-f", "txt", "--speakers", "Ada,Grace")
    plain = run("fetch", split.id, "-o", "plain", "-f", "txt")
    refused = run("fetch", mixed.id, "--speakers", "Ada")

    assert (fetched.exit_code, plain.exit_code, refused.exit_code) == (0, 0, 1)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "talk1.txt",
        "talk1.channel1.txt",
        "talk1.channel2.txt",
    }
    assert (tmp_path / "out" / "talk1.txt").read_text().splitlines()[:2] == ["Ada: first0", "Grace: first0"]
    assert (tmp_path / "plain" / "talk1.txt").read_text().splitlines()[1] == "Bob: first0"
    assert "its channels are mixed" in refused.output


@ON_SQLITE
def test_where_it_is_sent_is_said_when_it_is_handed_in(hand_farm: HandFarm, run: Callable[..., Result]) -> None:
    """And shown; a place that is not allowed is refused before anything is."""
    talk = hand_farm.submit().name
    taken = run("submit", talk, "--to", "shared/out", "--format", "podcast-vtt,txt")
    shown = run("show", 2)
    elsewhere = run("submit", talk, "--to", "/srv")
    nowhere = run("submit", talk, "--format", "txt")

    assert taken.output == f"2\t{talk}\n"
    assert f"sent_to     {Path('shared/out/2').resolve()}\nformats     podcast-vtt, txt\n" in shown.output
    assert "STENOPOOL_EXPORTS" in str(elsewhere.exception)
    assert "--format is what --to sends" in str(nowhere.exception)
    assert len(hand_farm.farm.desk.submissions()) == 2


# Which places


OWN = "s3://pool/farm?endpoint=https://s3.example.com"


@pytest.mark.parametrize(
    ("given", "full"),
    [
        ("s3://mine/out/", "s3://mine/out?endpoint=https://s3.example.com"),
        ("s3://mine", "s3://mine?endpoint=https://s3.example.com"),
        ("s3://pool/other", "s3://pool/other?endpoint=https://s3.example.com"),
        (
            "s3://partner/a/b?endpoint=https://s3.example.org",
            "s3://partner/a/b?endpoint=https://s3.example.org",
        ),
    ],
)
def test_places_that_are_taken(given: str, full: str) -> None:
    """On the farm's own server any bucket that its account may write to; on others those that are named."""
    roots = ["s3://partner/a?endpoint=https://s3.example.org"]

    assert destination_of(given, store=OWN, roots=roots) == full
    assert destination_of(full, store=OWN, roots=roots) == full


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("s3://pool/farm", "there are the farm's own objects"),
        ("s3://pool/farm/transcripts", "there are the farm's own objects"),
        ("s3://pool", "there are the farm's own objects"),
        ("s3://mine?endpoint=http://169.254.169.254", "STENOPOOL_EXPORTS"),
        ("s3://partner/b?endpoint=https://s3.example.org", "STENOPOOL_EXPORTS"),
        ("s3://mine/a b", "a prefix is a path of plain names"),
        ("https://example.com/upload", "transcripts go to a folder, or to s3://bucket/prefix"),
        ("/srv/elsewhere", "this farm writes to folders nowhere"),
    ],
)
def test_places_that_are_refused(given: str, said: str) -> None:
    """One line with the cure; nobody has the farm call a server that its operator did not name."""
    with pytest.raises(UsageError) as caught:
        destination_of(given, store=OWN, roots=["s3://partner/a?endpoint=https://s3.example.org"])

    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_folders_that_are_refused(tmp_path: Path) -> None:
    """Outside of the operator's, or where the farm's own objects are."""
    root, own = tmp_path / "shared", tmp_path / "shared" / "farm"
    assert destination_of(f"{root}/out/", store=str(own), roots=[str(root)]) == str(root / "out")
    for given, said in {
        f"{root}/../else": "STENOPOOL_EXPORTS",
        f"{own}/transcripts": "there are the farm's own objects",
        str(root): "there are the farm's own objects",
    }.items():
        with pytest.raises(UsageError, match=said):
            destination_of(given, store=str(own), roots=[str(root)])


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("talk.mp3", "talk"),
        ("a/b/My talk (1).final.mp3", "My-talk-1-.final"),
        ("\u00c9pisode 1.mp3", "\u00c9pisode-1"),
        ("...", "transcript"),
        ("\u8a9e" * 100, "\u8a9e" * 60),
    ],
)
def test_files_have_names_that_any_store_takes(name: str, stem: str) -> None:
    """What people call it, as far as that goes."""
    assert stem_of(name) == stem


@ON_SQLITE
def test_what_was_never_asked_for(hand_farm: HandFarm, shared: Path) -> None:
    """Nothing is sent, and nothing is said of it."""
    one = hand_farm.submit()
    hand_farm.go()

    assert folder_of(hand_farm.now(one)) is None
    assert hand_farm.now(one).formats == ()
    assert list(shared.iterdir()) == []
