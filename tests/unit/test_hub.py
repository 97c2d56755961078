"""Downloads from a stand-in of the model hub: once, pinned, resumed, offline, refused."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from threading import Event

import pytest
from safetensors.numpy import load_file, save_file

from models.checkpoint import BUNDLED, find_checkpoint
from models.hub import promised_sha256
from tests.hub import COMMIT, NOWHERE, Hub, environment, find, start_finding

POCKET = BUNDLED["pocket"]
SIZE = (POCKET / "model.safetensors").stat().st_size
NEXT = "89abcdef0123456789abcdef0123456789abcdef"

UNREACHABLE = [
    "HubUnreachable True someone/pocket: not on this machine and the model hub cannot be reached; "
    "connect once, or name a folder that holds the checkpoint"
]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Pocket's files in a folder of their own."""
    return Path(shutil.copytree(POCKET, tmp_path / "copy"))


@pytest.fixture
def hub(copy: Path) -> Hub:
    """A hub that has them."""
    return Hub({COMMIT: copy})


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Where the hub's cache is."""
    return tmp_path / "home"


def weights_asked(hub: Hub) -> list[str | None]:
    """The ranges in which the weights were asked for."""
    return [wanted for file, wanted in hub.asked if file == "model.safetensors"]


def test_a_repository_is_downloaded_once(hub: Hub, copy: Path, home: Path) -> None:
    """A repository's name gives its files, without pickles and doubles; the next time without the hub."""
    (copy / "pytorch_model.bin").write_bytes(b"a pickle")
    (copy / "model.fp32-00001-of-00001.safetensors").write_bytes(b"the same again")
    with hub.serving() as endpoint:
        folder, digest = find(home, endpoint)

    assert Path(folder).is_relative_to(home)
    assert digest == find_checkpoint("pocket").digest
    kept = {file.name for file in POCKET.iterdir() if file.suffix in (".json", ".txt", ".safetensors")}
    assert sorted(file for file, _ in hub.asked) == sorted(kept)
    assert {file.name for file in Path(folder).iterdir()} == kept
    assert find(home, endpoint) == [folder, digest]
    assert find(home, endpoint, HF_HUB_OFFLINE="1") == [folder, digest]


def test_the_cache_is_the_hubs_own(hub: Hub, home: Path) -> None:
    """Another program finds the same files there, by the hub's client alone; large ones lie under their hash."""
    with hub.serving() as endpoint:
        folder, _ = find(home, endpoint)
    weights = Path(folder) / "model.safetensors"

    assert Path(folder) == home / "hub" / "models--someone--pocket" / "snapshots" / COMMIT
    assert (home / "hub" / "models--someone--pocket" / "refs" / "main").read_text() == COMMIT
    assert weights.read_bytes() == (POCKET / "model.safetensors").read_bytes()
    assert promised_sha256(weights) == hub_digest(hub)
    assert promised_sha256(Path(folder) / "config.json") is None
    assert promised_sha256(POCKET / "model.safetensors") is None
    assert not list((home / "hub").rglob("*.incomplete"))


HERE = """
import sys
from models.checkpoint import find_checkpoint
from stenopool.errors import CheckpointError
for name in sys.argv[1:]:
    try:
        print(find_checkpoint(name, fetch=False).folder)
    except CheckpointError as error:
        print(error)
"""


def test_what_is_here_is_found_without_the_hub(hub: Hub, home: Path) -> None:
    """By its branch or commit, where nobody may be asked; what is not is missing, with the command that fetches it."""
    with hub.serving() as endpoint:
        folder, _ = find(home, endpoint)
    names = ["someone/pocket", f"someone/pocket@{COMMIT}", "someone/pocket@v2", "someone/else"]
    done = subprocess.run(
        [sys.executable, "-c", HERE, *names], env=environment(home, NOWHERE), capture_output=True, text=True, check=True
    )

    missing = [f"{name}: is not on this machine; fetch it with: stenopool models fetch {name}" for name in names[2:]]
    assert done.stdout.splitlines() == [folder, folder, *missing]


def hub_digest(hub: Hub) -> str:
    """SHA-256 of the weights, as the hub tells it."""
    return hashlib.sha256((hub.commits[COMMIT] / "model.safetensors").read_bytes()).hexdigest()


def test_shards_are_all_fetched(hub: Hub, copy: Path, home: Path) -> None:
    """Weights in several files come with their index, and load as what they were."""
    tensors = load_file(copy / "model.safetensors")
    (copy / "model.safetensors").unlink()
    names = sorted(tensors)
    shards = {f"model-0000{i + 1}-of-00002.safetensors": names[i::2] for i in range(2)}
    for file, part in shards.items():
        save_file({name: tensors[name] for name in part}, copy / file)
    index = {"weight_map": {name: file for file, part in shards.items() for name in part}}
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    with hub.serving() as endpoint:
        folder, _ = find(home, endpoint)

    assert [file.name for file in find_checkpoint(folder).weights] == list(shards)


def test_a_revision_is_pinned(hub: Hub, copy: Path, home: Path) -> None:
    """A tag or a commit after the @ is what is found, whatever the main branch is; offline, too."""
    moved = Path(shutil.copytree(copy, copy.parent / "moved"))
    (moved / "generation_config.json").write_text("{}")
    hub.commits[NEXT] = moved
    hub.branches |= {"main": NEXT, "v1/first": COMMIT}
    with hub.serving() as endpoint:
        newest, its_digest = find(home, endpoint)
        tagged = find(home, endpoint, "someone/pocket@v1/first")
        pinned = find(home, endpoint, f"someone/pocket@{COMMIT}")
        apart = find(home, endpoint, "someone/pocket", COMMIT)

    assert Path(newest).name == NEXT
    assert tagged == pinned == apart == [str(Path(newest).parent / COMMIT), find_checkpoint("pocket").digest]
    assert its_digest != tagged[1]
    assert len(weights_asked(hub)) == 1  # both commits have the same weights
    assert find(home, NOWHERE, "someone/pocket@v1/first", HF_HUB_OFFLINE="1") == tagged
    assert find(home, NOWHERE, f"someone/pocket@{COMMIT}") == tagged


def test_the_main_branch_moves(hub: Hub, copy: Path, home: Path) -> None:
    """Without a pin, a name is the newest that the hub has, and without the hub the newest that was seen."""
    with hub.serving() as endpoint:
        find(home, endpoint)
        hub.commits[NEXT] = copy
        hub.branches["main"] = NEXT
        moved, _ = find(home, endpoint)

    assert Path(moved).name == NEXT
    assert find(home, NOWHERE)[0] == moved


@pytest.mark.parametrize("revision", ["v2", "f" * 40, "../main", "", "a b"])
def test_an_unknown_revision(hub: Hub, home: Path, revision: str) -> None:
    """A branch, a tag or a commit that is not there is named with the way to name one."""
    with hub.serving() as endpoint:
        said = find(home, endpoint, f"someone/pocket@{revision}")

    assert said == [
        f"CheckpointError False someone/pocket@{revision}: no such revision; "
        "name a branch, a tag or a commit after the @"
    ]


def test_an_unknown_repository(hub: Hub, home: Path) -> None:
    """What the hub does not have is not worth another try."""
    with hub.serving() as endpoint:
        said = find(home, endpoint, "someone/else")

    assert said == [
        "CheckpointError False someone/else: the hub has no such repository, or it needs a token (HF_TOKEN)"
    ]


def test_a_private_repository(hub: Hub, home: Path) -> None:
    """The hub does not tell whether there is one."""
    hub.closed = "RepoNotFound"
    with hub.serving() as endpoint:
        said = find(home, endpoint)

    assert said == [
        "CheckpointError False someone/pocket: the hub has no such repository, or it needs a token (HF_TOKEN)"
    ]


def test_a_wrong_token(hub: Hub, home: Path) -> None:
    """A hub that refuses has been reached."""
    hub.closed = ""
    with hub.serving() as endpoint:
        said = find(home, endpoint, HF_TOKEN="hf_expired")

    assert said == [
        "CheckpointError False someone/pocket: the hub refuses (401 Unauthorized); "
        "set HF_TOKEN to a token that may read it"
    ]


def test_a_gated_repository(hub: Hub, home: Path) -> None:
    """Who has not accepted the terms is told to."""
    hub.gated = True
    with hub.serving() as endpoint:
        said = find(home, endpoint)

    assert said == [
        "CheckpointError False someone/pocket: is gated; accept its terms on the hub, and set HF_TOKEN to your token"
    ]


def test_no_network(home: Path) -> None:
    """Where nothing listens, one clear line that can be tried again."""
    assert find(home, NOWHERE) == UNREACHABLE


def test_offline(hub: Hub, home: Path) -> None:
    """Being told to stay offline is the same, and the hub is not asked."""
    with hub.serving() as endpoint:
        assert find(home, endpoint, HF_HUB_OFFLINE="1") == UNREACHABLE
    assert hub.asked == []


def test_a_broken_connection_is_taken_up(hub: Hub, home: Path) -> None:
    """A download goes on where its connection broke, as often as it breaks."""
    hub.breaks, hub.breaks_after = 2, 5_000_000
    with hub.serving() as endpoint:
        _, digest = find(home, endpoint)

    assert digest == find_checkpoint("pocket").digest
    assert weights_asked(hub) == ["bytes=0-", "bytes=5000000-", "bytes=10000000-"]


def test_a_hub_that_gives_nothing_more(hub: Hub, home: Path) -> None:
    """Connections that break without a byte end in a line that says how far it came."""
    part = home / "hub" / "models--someone--pocket" / "blobs" / f"{hub_digest(hub)}.incomplete"
    part.parent.mkdir(parents=True)
    part.write_bytes((POCKET / "model.safetensors").read_bytes()[:7_000_000])
    hub.breaks = 9
    with hub.serving() as endpoint:
        assert find(home, endpoint) == [
            "HubUnreachable True someone/pocket: model.safetensors: the connection broke at 7 of 13 MB; "
            "the same command goes on from there"
        ]
    assert part.stat().st_size == 7_000_000


def test_a_killed_download_is_taken_up(hub: Hub, home: Path) -> None:
    """kill -9 in the middle of the weights: the next process fetches the rest, and not again what has come."""
    hub.breaks, hub.breaks_after, hub.silent = 1, 8_000_000, Event()
    with hub.serving() as endpoint:
        process = start_finding(home, endpoint)
        part = home / "hub" / "models--someone--pocket" / "blobs" / f"{hub_digest(hub)}.incomplete"
        assert hub.silent.wait(60)
        while not part.exists() or part.stat().st_size < 7 * 2**20:
            assert process.poll() is None
        process.kill()
        process.communicate()
        kept = part.stat().st_size
        _, digest = find(home, endpoint)

    assert digest == find_checkpoint("pocket").digest
    assert weights_asked(hub) == ["bytes=0-", f"bytes={kept}-"]
    assert not part.exists()


def test_a_hub_without_ranges(hub: Hub, home: Path) -> None:
    """Where a server sends all of a file again, it is begun anew, and not written behind what was there."""
    hub.breaks, hub.breaks_after, hub.knows_ranges = 1, 5_000_000, False
    with hub.serving() as endpoint:
        _, digest = find(home, endpoint)

    assert digest == find_checkpoint("pocket").digest
    assert len(weights_asked(hub)) == 2


@pytest.mark.parametrize("there", [1000, SIZE, SIZE + 1])
def test_what_came_damaged_is_not_used(hub: Hub, home: Path, there: int) -> None:
    """A part that is not the file's beginning is found out by its hash, thrown away, and fetched anew."""
    part = home / "hub" / "models--someone--pocket" / "blobs" / f"{hub_digest(hub)}.incomplete"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"x" * there)
    with hub.serving() as endpoint:
        said = find(home, endpoint)
        if there <= SIZE:
            assert said == [
                "CheckpointError False someone/pocket: model.safetensors came damaged; the same command fetches it anew"
            ]
            said = find(home, endpoint)

    assert said[1] == find_checkpoint("pocket").digest


def test_two_at_once_fetch_once(hub: Hub, home: Path) -> None:
    """Two processes that need the same weights share one download."""
    with hub.serving() as endpoint:
        both = [start_finding(home, endpoint) for _ in range(2)]
        said = [process.communicate(timeout=120)[0] for process in both]

    assert said[0] == said[1]
    assert said[0].splitlines()[1] == find_checkpoint("pocket").digest
    assert weights_asked(hub) == ["bytes=0-"]


def test_a_part_is_no_checkpoint(hub: Hub, home: Path) -> None:
    """Offline, a snapshot that lacks a file is not taken for the whole."""
    with hub.serving() as endpoint:
        folder, _ = find(home, endpoint)
    (Path(folder) / "vocab.json").unlink()

    assert find(home, NOWHERE) == [
        "HubUnreachable True someone/pocket: only a part of it is on this machine, and the model hub cannot be "
        "reached; connect, and the same command goes on from there"
    ]


def test_a_cache_that_cannot_be_written(hub: Hub, tmp_path: Path) -> None:
    """A cache on this machine that does not take files is not the hub's fault."""
    (tmp_path / "file").write_text("in the way")
    with hub.serving() as endpoint:
        (said,) = find(tmp_path / "file", endpoint)

    assert said.startswith("CheckpointError False someone/pocket: cannot be kept in the hub's cache ([Errno 20]")
    assert said.endswith("set HF_HOME to another folder")
