"""Search, watch-lists and redaction on the command line."""

from __future__ import annotations

import json
import threading
import wave
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import Engine

from models.engine import Engine as Model
from scheduler.redaction import read_rules
from stenopool.cli import cli
from stenopool.config import Config
from stenopool.domain import Options
from storage.database import make_or_migrate, open_database
from storage.folder import FolderStore
from storage.search import Search, Wanted
from tests import sounds
from tests.farms import HandFarm, S
from tests.integration.test_search import Archive
from workers.local import Driver
from workers.prepare import SourceFile

CARD = "4111 1111 1111 1111"


def run(*arguments: str) -> Result:
    """A command."""
    return CliRunner().invoke(cli, arguments, obj=threading.Event())


def refused(*arguments: str) -> str:
    """Why a command does nothing."""
    return str(run(*arguments).exception)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of a machine without a farm."""
    for name in ("DATABASE", "BROKER", "STORE"):
        monkeypatch.delenv(f"STENOPOOL_{name}", raising=False)
    monkeypatch.setenv("STENOPOOL_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def machine(home: Path) -> Iterator[Engine]:
    """Its ledger."""
    database = open_database(home / "ledger.sqlite")
    yield database
    database.dispose()


def test_search_on_one_machine(machine: Engine) -> None:
    """A line a hit, with file and time; page by page; as JSON; a refusal in a line."""
    archive = Archive(machine)
    for n in range(3):
        archive.add(*["something else"] * 800, f"the budget of {n}")

    found = run("search", "budget", "-n", "2")
    assert found.stdout.splitlines() == [
        "talk3.mp3\t1:06:40\tthe budget of 2",
        "talk2.mp3\t1:06:40\tthe budget of 1",
    ] or all("\t1:06:40\t... " in line and "the budget of" in line for line in found.stdout.splitlines())
    cursor = found.stderr.split()[-1]
    rest = run("search", "budget", "-n", "2", "--cursor", cursor)
    assert [line.split("\t")[0] for line in (found.stdout + rest.stdout).splitlines()] == [
        "talk3.mp3",
        "talk2.mp3",
        "talk1.mp3",
    ]
    page = json.loads(run("search", "budget", "--json", "-n", "1").output)
    [hit] = page["hits"]
    assert (hit["name"], hit["at"], page["cursor"] is None) == ("talk3.mp3", 4000.0, False)
    assert [hit["text"][start:end] for start, end in hit["found"]] == ["budget"]
    assert run("search", "budget", "--to", "2001-01-01").stderr == "nothing was found\n"
    assert run("search", "--reindex").output == "3 transcripts were looked through\n"
    assert "a phrase begins with" in refused("search", '"budget')
    assert "there is no query" in refused("search", "--json")
    assert refused("search", "--reindex", "x") == "--reindex takes no query"


def test_where_there_is_no_ledger(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line says how to begin; half a farm is an error of its own."""
    assert "nothing was transcribed here, and there is no farm" in refused("search", "budget")
    assert not (home / "ledger.sqlite").exists()
    monkeypatch.setenv("STENOPOOL_BROKER", "redis://127.0.0.1:1/0")
    assert refused("search", "budget").startswith("STENOPOOL_DATABASE is not set")


def test_watchlists_on_one_machine(machine: Engine) -> None:
    """Added, listed, heard, removed."""
    archive = Archive(machine)
    archive.add("Project", "Falcon is over.")
    assert run("watchlist", "list").stderr == "nothing is watched\n"
    assert run("watchlist", "add", "project falcon", "--backfill").output == "1\tproject falcon\theard 1 times\n"
    assert run("watchlist", "add", "merger").output == "2\tmerger\n"

    assert run("watchlist", "list").output == "1\t\tproject falcon\n2\t\tmerger\n"
    assert run("watchlist", "hits").output == "project falcon\ttalk1.mp3\t0:00:00\tProject Falcon is over.\n"
    [hit] = json.loads(run("watchlist", "hits", "--json").output)
    assert (hit["name"], hit["start"], hit["end"]) == ("talk1.mp3", 0.0, 10.0)
    assert run("watchlist", "remove", "1").output == "1 is watched no more\n"
    assert "there is no watched phrase 1" in refused("watchlist", "remove", "1")
    assert "a phrase has from 1 to 20 words" in refused("watchlist", "add", "...")


@pytest.fixture
def farm(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HandFarm:
    """One that commands find."""
    make_or_migrate(database_url)
    for name, value in (("DATABASE", database_url), ("BROKER", "redis://127.0.0.1:1/0"), ("STORE", f"{tmp_path}/o")):
        monkeypatch.setenv(f"STENOPOOL_{name}", value)
    return HandFarm(open_database(database_url), FolderStore(tmp_path / "o"), tmp_path, monkeypatch)


def test_redacting_what_is_done(farm: HandFarm, tmp_path: Path) -> None:
    """Files, the map and the sound; the farm has the sound no more, whoever names the file has it."""
    one = farm.submit(4)
    farm.go(by=f"Kowalski {CARD} ")
    names = tmp_path / "names.txt"
    names.write_text("kowalski\n\n")
    out = str(tmp_path / "out")

    done = run("redact", str(one.id), "--patterns", "card", "--list", str(names), "-o", out, "-f", "txt,json", "--map")
    assert (done.exit_code, done.output) == (
        0,
        f"talk1.wav: 4 redacted: {out}/talk1.redacted.txt {out}/talk1.redacted.json {out}/talk1.redacted.map.json\n",
    )
    assert (tmp_path / "out" / "talk1.redacted.txt").read_text() == "[NAME] [CARD] 0\n[NAME] [CARD] 1\n"
    assert "4111" not in (tmp_path / "out" / "talk1.redacted.json").read_text()
    assert [hit.text for hit in Search(farm.farm.database).find(Wanted(query="name", redacted=True)).hits]

    farm.collect()  # the file goes, too
    gone = run("redact", str(one.id), "-o", out, "-f", "txt", "--mute-audio")
    assert gone.exit_code == 1
    assert "its sound is not in the object store any more; name the file with --source" in gone.stderr
    done = run("redact", str(one.id), "-o", out, "--mute-audio", "--source", str(tmp_path / "talk1.wav"))
    assert done.exit_code == 0
    with wave.open(f"{out}/talk1.redacted.wav") as file:
        assert not any(file.readframes(file.getnframes())), "segments without times of words are silent as a whole"
        assert file.getnframes() == 4 * S

    assert "passport: nothing that can be redacted" in refused("redact", "1", "--patterns", "passport")
    assert "cannot be read" in refused("redact", "1", "--list", str(tmp_path / "none"))
    assert "--source is the file of one" in refused("redact", "1", "--source", "x")
    farm.farm.close()


def test_redacting_on_one_machine(home: Path, pool_engine: Model) -> None:
    """What is transcribed is redacted beside it, and search on this machine goes by it."""
    path = sounds.write(home / "clip.wav", sounds.read(sounds.SAMPLE)[None, : 8 * S])
    config = Config(home=home, cache=Config.from_env().cache)
    options = Options(language="en", chunk_length=8)

    def outcome(term: str) -> tuple[str, str]:
        rules = read_rules("", [term])
        engine = pool_engine
        with Driver(config, engine.checkpoint, options, dtype="float32", engine=engine, rules=rules) as driver:
            [found] = driver.run([SourceFile(path, "clip.wav")])
        [transcript], [without] = found.transcripts, found.redacted
        return transcript.text, without.text

    text, _ = outcome("nobody says this")
    word = max(text.split(), key=len).strip(".,")
    full, without = outcome(word)

    assert full == text
    assert (word in without, "[NAME]" in without) == (False, True)
    database = open_database(home / "ledger.sqlite")
    search = Search(database)
    [hit] = search.find(Wanted(query=word)).hits
    assert hit.name == "clip.wav"
    assert search.find(Wanted(query=word, redacted=True)).hits == ()
    database.dispose()
