"""`stenopool webhook`: who is told, as people and programs ask for it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from standardwebhooks import Webhook

from stenopool.cli import webhook
from storage.outbox import Outbox
from storage.webhooks import Webhooks
from tests.farms import HandFarm, command
from tests.receiver import Receiver, status
from workers.post import Post
from workers.webhooks import Courier


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Takes all."""
    with Receiver() as receiver:
        yield receiver


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine may be asked."""
    monkeypatch.setattr(webhook, "_post", lambda: Post(lambda _: True))


def test_from_the_first_to_the_last(named_farm: HandFarm, receiver: Receiver) -> None:
    """Added, listed, told, told again, given another secret, removed; the secret is shown once."""
    url = "https://hook.example/in"
    added = command("webhook", "add", url, "--tenant", "ada", "--states", "completed,failed", "--json")
    endpoint = json.loads(added.stdout)
    assert endpoint["secret"].startswith("whsec_")
    assert endpoint["types"] == [
        *("submission.completed", "submission.completed_with_gaps", "submission.completed_empty"),
        "submission.failed",
    ]
    number = str(endpoint["id"])
    listed = command("webhook", "list").output
    assert f"{number}   ada     enabled  0" in listed
    assert url in listed

    named_farm.submit()
    named_farm.go()
    database = named_farm.farm.database
    Outbox(database).number()
    webhooks = Webhooks(database)
    webhooks.spread()
    Courier(database, lambda *given: Post(lambda _: True)(receiver.url, *given[1:])).deliver(endpoint["id"])
    [request] = receiver.requests
    Webhook(endpoint["secret"]).verify(request.body, request.headers)

    [sent] = json.loads(command("webhook", "deliveries", "--json").output)
    assert (sent["type"], sent["state"], sent["status"]) == ("submission.completed", "delivered", 204)
    assert "submission.completed" in command("webhook", "deliveries", "--webhook", number).output
    assert command("webhook", "deliveries", "--failed").output == "nothing failed\n"
    assert command("webhook", "replay", number, "--after", "0").output == "1 events are sent again\n"
    assert json.loads(command("webhook", "list", "--tenant", "ada", "--json").output)[0]["waiting"] == 1

    rotated = json.loads(command("webhook", "rotate", number, "--json").output)["secret"]
    everything = "".join(
        command("webhook", *arguments).output
        for arguments in (("list",), ("list", "--json"), ("deliveries",), ("deliveries", "--json"))
    )
    assert endpoint["secret"] not in everything
    assert rotated not in everything
    assert command("webhook", "remove", number).output == f"{number} is removed\n"
    assert command("webhook", "list").output == "there are no webhooks\n"
    gone = command("webhook", "rotate", number)
    assert str(gone.exception) == f"there is no webhook {number}; `stenopool webhook list` has them all"


def test_a_paused_one_goes_on_once_it_takes_a_test(named_farm: HandFarm, receiver: Receiver, here: None) -> None:
    """Not before; the list says why it is paused, and what to do."""
    webhooks = Webhooks(named_farm.farm.database)
    endpoint, secret = webhooks.add("ada", receiver.url)
    number = str(endpoint.id)
    receiver.answer = lambda _, handler: status(handler, 410)
    named_farm.submit()
    Outbox(named_farm.farm.database).number()
    webhooks.spread()
    Courier(named_farm.farm.database, Post(lambda _: True)).deliver(endpoint.id)

    listed = command("webhook", "list").output
    assert "disabled" in listed
    assert f"it answered 410; when it is mended: stenopool webhook test {number}" in listed
    failed = command("webhook", "test", number)
    assert (failed.exit_code, failed.stderr) == (1, f"stenopool: {number} did not take it: it answered 410\n")
    assert webhooks.endpoint(endpoint.id).state == "disabled"

    receiver.answer = lambda _, handler: status(handler, 200)
    assert command("webhook", "test", number).output == f"{number} took it: 200; it goes on\n"
    request = receiver.requests[-1]
    Webhook(secret).verify(request.body, request.headers)
    assert request.event == {**request.event, "type": "webhook.test", "position": 0, "tenant": "ada", "data": {}}
    again = json.loads(command("webhook", "test", number, "--json").output)
    assert again == {"id": endpoint.id, "taken": True, "status": 200, "error": None, "resumed": False}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["http://127.0.0.1/"], "http://127.0.0.1/: 127.0.0.1 is not on the public internet, and is never posted to"),
        (["http://[::1]/"], "http://[::1]/: ::1 is not on the public internet, and is never posted to"),
        (["ftp://hook.example/"], "'ftp://hook.example/' is no URL that can be posted to: https://host/path"),
        (["https://hook.example/", "--states", "finished"], "finished: there is no such state; there are accepted, "),
        (["https://hook.example/", "--states", " , "], "--states names none; leave it out for all"),
    ],
)
def test_what_cannot_be_told(arguments: list[str], words: str) -> None:
    """Said before any farm is looked for."""
    refused = command("webhook", "add", *arguments)

    assert str(refused.exception).startswith(words)
