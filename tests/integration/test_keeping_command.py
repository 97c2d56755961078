"""`stenopool delete`, `hold`, `release`, `retention`: as people ask for it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stenopool.cli.actor import actor
from stenopool.cli.keeping import period_of
from stenopool.errors import UsageError
from storage.access import Access
from tests.farms import HandFarm, command


def test_deleted_with_a_receipt(named_farm: HandFarm, tmp_path: Path) -> None:
    """It is said, written down, and seen ever after; the text is gone."""
    submission = named_farm.submit()
    named_farm.go()
    id, file = str(submission.id), tmp_path / "receipts" / "7.json"

    done = command("delete", id, "--reason", "the speaker asked", "--receipt", str(file))

    assert (done.exit_code, done.output) == (0, f"{id} is deleted: 8 rows, 6 objects\n")
    [receipt] = json.loads(file.read_text())
    assert (receipt["submission"], receipt["state"], receipt["reason"]) == (1, "deleted", "the speaker asked")
    assert receipt["by"].count("@") == 1
    assert f"deleted-{id}" in command("status").output
    shown = command("show", id).output
    assert "state       deleted" in shown
    assert f"deleted     for {receipt['by']}: the speaker asked" in shown
    assert json.loads(command("show", id, "--json").output)["deletion"] == receipt
    gone = command("fetch", id, "-o", str(tmp_path / "out"))
    assert (gone.exit_code, gone.stderr) == (1, f"stenopool: {id} deleted-{id}: deleted\n")
    assert command("wait", id).exit_code == 1
    assert command("retry", id).exit_code == 1
    assert json.loads(command("delete", id, "--json").output) == [receipt], "once more changes nothing"


def test_a_held_one_is_refused_and_the_others_go(named_farm: HandFarm) -> None:
    """Exit code 1; after its release it goes, too."""
    held, other = named_farm.submit(), named_farm.submit()
    named_farm.go()
    assert command("hold", str(held.id), "--reason", "case 12").output == f"{held.id} is held\n"
    assert "case 12" in command("show", str(held.id)).output

    done = command("delete", str(held.id), str(other.id), "99")

    assert done.exit_code == 1
    assert done.stderr == (
        f"stenopool: {held.id} is held (case 12) and is not deleted; if it may be: stenopool release {held.id}\n"
        "stenopool: there is no submission 99; `stenopool status` lists them\n"
    )
    assert done.stdout.startswith(f"{other.id} is deleted: ")
    assert command("hold", str(other.id)).exit_code == 1
    assert command("release", str(held.id)).output == f"{held.id} is released\n"
    assert command("release", str(held.id)).stderr == f"stenopool: {held.id} is not held\n"
    assert command("delete", str(held.id)).exit_code == 0


def test_periods_are_set_and_shown(named_farm: HandFarm) -> None:
    """What is not named stays; as people write them, and as programs read them."""
    assert command("retention", "show").output == "nothing is set\n"
    command("retention", "set", "--tenant", "ada", "--source", "7d", "--pcm", "0")
    said = command("retention", "set", "--tenant", "ada", "--chunks", "36h", "--transcript", "forever")

    assert [line.split() for line in said.output.splitlines()] == [
        ["TENANT", "SOURCE", "PCM", "CHUNKS", "TRANSCRIPT"],
        ["ada", "7d", "0", "36h", "forever"],
    ]
    assert command("retention", "show").output == said.output
    command("retention", "set", "--tenant", "ada", "--transcript", "default")
    [shown] = json.loads(command("retention", "show", "--tenant", "ada", "--json").output)
    assert shown == {"tenant": "ada", "source": 604_800.0, "pcm": 0.0, "chunks": 129_600.0, "transcript": None}
    nothing = command("retention", "set", "--tenant", "ada")
    assert str(nothing.exception).startswith("nothing is to be set; name one of --source, --pcm")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30d", 2_592_000.0), ("12h", 43_200.0), ("90m", 5400.0), ("45s", 45.0), ("1.5d", 129_600.0), ("0", 0.0)],
)
def test_a_period(text: str, seconds: float) -> None:
    """A number and its unit."""
    assert period_of(text, "source") == seconds


@pytest.mark.parametrize("text", ["", "7", "-1d", "d", "7 d", "1e3s", "999999d", "soon"])
def test_what_is_no_period(text: str) -> None:
    """Nobody guesses its unit."""
    with pytest.raises(UsageError, match=f"^--source {text}"):
        period_of(text, "source")


def test_what_changes_a_submission_is_in_the_audit_log(named_farm: HandFarm) -> None:
    """With who did it; what did nothing is not."""
    done, waiting = named_farm.submit(), named_farm.submit()
    for name in ("pause", "resume", "cancel", "cancel", "retry"):
        command(name, str(waiting.id))
    command("hold", str(done.id), "--reason", "case 12")
    command("release", str(done.id))
    command("retention", "set", "--tenant", "ada", "--pcm", "30d")
    command("delete", str(done.id), "--reason", "asked for")

    entries = Access(named_farm.farm.database).entries()[::-1]

    assert [(one.action, one.subject) for one in entries] == [
        *((f"submission.{name}", f"submission {waiting.id}") for name in ("pause", "resume", "cancel", "retry")),
        ("submission.hold", f"submission {done.id}"),
        ("submission.release", f"submission {done.id}"),
        ("retention.set", "tenant ada"),
        ("submission.delete", f"submission {done.id}"),
    ]
    assert {one.who for one in entries} == {actor().who}
    assert entries[-1].after == {"reason": "asked for"}
