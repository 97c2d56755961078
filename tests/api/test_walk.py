"""Every route of the description: who has no key, a wrong one, another tenant's, or one that lacks a scope."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import Engine

from stenopool.config import Config
from stenopool.web.site import make_site
from storage.access import Access
from tests.servers import Ledgers
from tests.serving import TESTER, Served, problem, serving
from workers.farm import Farm, Places

#: What a body has to have, by operation, to be one.
BODIES: dict[str, Any] = {
    "hand_in_recording": {"upload": "t-" + "0" * 32},
    "create_campaign": {"name": "talks", "tenant": "ada"},
    "add_webhook": {"url": "https://example.org/hook", "tenant": "ada"},
    "create_key": {"name": "phone", "tenant": "ada"},
    "watch_phrase": {"phrase": "falcon", "tenant": "ada"},
    "replay_webhook": {"after": 0},
    "redact_recording": {"kinds": ["card"]},
    "presign_upload": {"size": 5, "tenant": "ada"},
}
#: What a route needs in its head and its query.
HEADERS = {"Tus-Resumable": "1.0.0", "Upload-Length": "5", "Upload-Offset": "0"}
QUERIES = {"search_transcripts": {"q": "falcon"}}

#: What takes nothing but forms, or is the same for every key.
FORMS = {"create_transcription", "create_translation"}
ALIKE = {"list_models", "show_model"}

#: What is nobody's alone: lists of what is the caller's.
LISTS = {"list_recordings", "list_campaigns", "list_watched", "list_heard", "list_events", "list_webhooks", "list_keys"}
LISTS |= {"show_view", "list_audit", "show_retention", "search_transcripts"}


def _described() -> list[tuple[str, str, str, dict[str, Any]]]:
    nowhere = Farm(Places(database="", broker="", store=""), lease=1)
    paths = make_site(nowhere, Config(home=Path("/nowhere"), cache=Path("/nowhere"))).openapi()["paths"]
    return [
        (operation["operationId"], method, path, operation)
        for path, methods in paths.items()
        for method, operation in methods.items()
        if path.startswith("/v1/")
    ]


ROUTES = _described()
KEYED = [(name, method, path) for name, method, path, operation in ROUTES if "security" in operation]


@pytest.fixture(scope="module")
def walked(module_farm: Farm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """An API at which ada has one of everything."""
    with serving(module_farm, tmp_path_factory.mktemp("home"), api_rate=0) as api:
        made = [
            api.ada.post("/v1/recordings", json={"source": "https://example.org/talk.mp3"}),
            api.ada.post("/v1/campaigns", json={"name": "talks"}),
            api.ada.post("/v1/webhooks", json={"url": "https://example.org/hook"}),
            api.ada.post("/v1/watchlist", json={"phrase": "falcon"}),
            api.ada.post("/v1/keys", json={"name": "lamp"}),
            api.ada.post("/v1/uploads", headers=HEADERS),
        ]
        assert [one.status_code for one in made] == [201] * 6
        ids = [made[0].json()["id"], made[1].json()["campaign"]["id"], made[2].json()["id"], made[3].json()["id"]]
        named = zip(("recordings", "campaigns", "webhooks", "watchlist"), map(str, ids), strict=True)
        vars(api)["ids"] = dict(named) | {
            "uploads": made[-1].headers["location"].rpartition("/")[2],
            "keys": str(made[-2].json()["id"]),
        }
        yield api


@pytest.fixture(scope="module")
def module_farm(tmp_path_factory: pytest.TempPathFactory, module_database: Engine) -> Farm:
    """A farm on that database."""
    from storage.folder import FolderStore

    farm = Farm(Places(database="", broker="redis://127.0.0.1:1/0", store=""), lease=60)
    vars(farm).update(database=module_database, store=FolderStore(tmp_path_factory.mktemp("objects")))
    return farm


@pytest.fixture(scope="module")
def module_database(ledgers: Ledgers) -> Iterator[Engine]:
    """A ledger that the tests of this module share."""
    from storage.database import open_database

    with ledgers.one() as url:
        engine = open_database(url)
        yield engine
        engine.dispose()


def ask(api: Served, client: httpx2.Client, name: str, method: str, path: str) -> httpx2.Response:
    """A request of that route, for what is ada's."""
    ids = {
        "tenant": "ada",
        "name": "pocket",
        "view": "backlog",
        "worker": "w",
        "n": "1",
        "id": vars(api)["ids"].get(path.split("/")[2], ""),
    }
    where = re.sub(r"\{(\w+)\}", lambda found: ids[found[1]], path)
    query = QUERIES.get(name, {}) | ({"tenant": "ada"} if name in LISTS else {})
    if name == "go_on_with_upload":
        kind = {"Content-Type": "application/offset+octet-stream"}
        return client.request(method, where, params=query, headers=HEADERS | kind, content=b"12345")
    body = {"json": BODIES.get(name, {})} if method in ("post", "put", "patch") else {}
    if name == "begin_upload":
        body, query = {}, {"tenant": "ada"}
    return client.request(method, where, params=query, headers=HEADERS, **body)


def test_all_is_described() -> None:
    """Each route has its own name, what it is for, a tag, what it answers; all but what is spoken need a key."""
    names = [name for name, *_ in ROUTES]
    assert len(names) == len(set(names)) > 40
    for name, _, path, operation in ROUTES:
        assert operation["summary"], path
        assert operation["description"], path
        assert operation["tags"], path
        if name in {found for found, *_ in KEYED}:
            unreadable = "400" if operation["tags"] == ["speech"] else "422"  # OpenAI's clients know no 422
            assert operation["responses"].keys() >= {"401", "403", unreadable, "429", "500"}, path
    assert set(names) - {name for name, *_ in KEYED} == {"tell_of_uploads"}


def test_no_route_is_for_everybody(walked: Served) -> None:
    """Without a key, or with none that counts, nothing is told but that."""
    with walked.anybody() as nobody, walked.anybody({"Authorization": "Bearer sp_garbage"}) as stranger:
        for name, method, path in KEYED:
            for client in (nobody, stranger):
                answer = ask(walked, client, name, method, path)
                assert answer.status_code == 401, (name, answer.text)
                assert name in FORMS | ALIKE or answer.headers["www-authenticate"].startswith("Bearer")


def test_what_is_another_tenants_is_not_there(walked: Served) -> None:
    """By no route, though its key has every scope; whoever asks for it by its id is noted."""
    tried = 0
    for name, method, path in KEYED:
        before = len(walked.audit())
        answer = ask(walked, walked.bob, name, method, path)
        if "{id}" in path:
            assert answer.status_code == 404, (name, answer.text)
            assert len(walked.audit()) == before + 1, name
            assert walked.audit()[0].startswith("access.refused "), name
            tried += 1
        elif name == "hand_in_recording":
            assert answer.status_code == 404, (name, answer.text)
        elif name not in FORMS | ALIKE:
            assert answer.status_code == 403, (name, answer.text)
    assert tried > 25
    states = {"recordings": "accepted", "campaigns": "ready", "webhooks": "enabled"}
    for kind, state in states.items():
        assert walked.ada.get(f"/v1/{kind}/{vars(walked)['ids'][kind]}").json()["state"] == state


def test_a_tenants_administrator_makes_its_own_keys_only(walked: Served) -> None:
    """And sees, changes and revokes no others."""
    operators, _ = Access(walked.farm.database).create(TESTER, "root", tenant=None, scopes=["read"])

    made = walked.ada.post("/v1/keys", json={"name": "phone", "scopes": ["read"], "days": 30})
    assert (made.status_code, made.json()["tenant"]) == (201, "ada")
    assert {one["tenant"] for one in walked.ada.get("/v1/keys").json()} == {"ada"}
    assert "secret" not in walked.ada.get("/v1/keys").json()[0]
    problem(walked.ada.delete(f"/v1/keys/{operators.id}"), 404)
    problem(walked.ada.post("/v1/keys", json={"name": "x", "tenant": "bob"}), 403)
    id = made.json()["id"]
    rotated = walked.ada.post(f"/v1/keys/{id}/rotate", params={"hours": 0})
    assert rotated.json()["secret"] != made.json()["secret"]
    with walked.anybody({"Authorization": f"Bearer {rotated.json()['secret']}"}) as phone:
        assert phone.get("/v1/recordings").status_code == 200
        assert walked.ada.delete(f"/v1/keys/{rotated.json()['id']}").status_code == 204
        problem(phone.get("/v1/recordings"), 401)
    everybodys = walked.operator.post("/v1/keys", json={"name": "root"}).json()
    assert everybodys["tenant"] is None
    page = walked.operator.get("/v1/audit", params={"limit": 1}).json()
    assert page["entries"][0]["action"] == "key.create"
    assert walked.operator.get("/v1/audit", params={"cursor": page["cursor"]}).json()["entries"]
    assert walked.operator.get("/v1/workers").json() == []


def test_what_operators_see_and_do(walked: Served) -> None:
    """Views, of which a tenant's administrator sees the tenant's rows; lanes and workers, which are nobody's alone."""
    view = walked.operator.get("/v1/admin/views/submissions", params={"limit": 1}).json()
    assert view["rows"][0].keys() == set(view["columns"])
    assert {row["tenant"] for row in walked.ada.get("/v1/admin/views/submissions").json()["rows"]} == {"ada"}
    assert walked.bob.get("/v1/admin/views/submissions").json()["rows"] == []
    assert "for operators' keys" in problem(walked.ada.get("/v1/admin/views/workers"), 403)
    problem(walked.operator.get("/v1/admin/views/passwords"), 422)
    assert walked.operator.post("/v1/admin/pause", json={"lane": "bulk", "reason": "night"}).json() == {"changed": True}
    assert walked.operator.post("/v1/admin/pause", json={"lane": "bulk"}).json() == {"changed": False}
    [paused] = walked.operator.get("/v1/admin/views/pauses").json()["rows"]
    assert (paused["lane"], paused["reason"]) == ("bulk", "night")
    assert walked.operator.post("/v1/admin/resume", json={"lane": "bulk"}).json() == {"changed": True}
    assert "name a lane or a tenant" in problem(walked.operator.post("/v1/admin/pause", json={}), 422)
    problem(walked.operator.post("/v1/workers/nobody/drain"), 404)
    assert (
        walked.ada.get(f"/v1/recordings/{vars(walked)['ids']['recordings']}/why").json()[0]["reason"] == "no_scheduler"
    )


def test_each_route_needs_its_scope(walked: Served) -> None:
    """A key that has the two others is refused by name. This one goes last: what it may, it does."""
    with (
        walked.client("ada", ["submit", "read"]) as no_admin,
        walked.client("ada", ["read", "admin"]) as no_submit,
        walked.client("ada", ["submit", "admin"]) as no_read,
    ):
        needed: dict[str, int] = {"submit": 0, "read": 0, "admin": 0}
        for name, method, path in KEYED:
            if method == "head":  # that has no body to say it in
                assert ask(walked, no_submit, name, method, path).status_code == 403
                continue
            refused: list[str] = []
            for scope, client in (("submit", no_submit), ("read", no_read), ("admin", no_admin)):
                if method == "get" or not refused:
                    answer = ask(walked, client, name, method, path)
                    if answer.status_code == 403 and "lacks the scope" in answer.text:
                        assert f"lacks the scope {scope}" in answer.text
                        refused.append(scope)
            assert len(refused) == 1, (name, refused)
            needed[refused[0]] += 1
    assert min(needed.values()) > 5
