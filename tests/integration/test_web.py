"""The web page over HTTP: who may see what, what is changed by whom, and that whatever is said in it stays text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import update
from starlette.testclient import TestClient

from stenopool.config import Config
from stenopool.formats import FORMATS
from stenopool.web.site import make_site
from storage.access import Access, Actor
from storage.campaigns import Entry, Plan
from storage.database import database_clock
from storage.session_tables import SessionRow
from storage.sessions import Sessions
from storage.tables import SubmissionRow, SubmissionState
from tests.farms import HandFarm

BY = Actor("ada@host")
EVIL = "<img src=x onerror=alert(1)>"
SPOKEN = "<script>alert(1)</script> budget"

Visit = Callable[..., TestClient]


@pytest.fixture
def visit(named_farm: HandFarm, tmp_path: Path) -> Iterator[Visit]:
    """Who opens the page: with a key of a tenant (None: an operator's), or without any."""
    app = make_site(named_farm.farm, Config(home=tmp_path, cache=tmp_path))
    opened = []

    def client(tenant: str | None = None, *scopes: str, signed_in: bool = True, url: str = "http://farm") -> TestClient:
        client = TestClient(app, base_url=url, follow_redirects=False)
        opened.append(client)
        if signed_in:
            _, secret = Access(named_farm.farm.database).create(
                BY, "phone", tenant=tenant, scopes=scopes or ("read", "submit", "admin")
            )
            assert client.post("/sign-in", data={"key": secret}).status_code == 303
        return client

    yield client
    for one in opened:
        one.close()


def csrf(client: TestClient) -> str:
    """The token of a session, as its pages have it."""
    found = re.search(r'<meta name="csrf" content="(\w+)">', client.get("/").text)
    assert found is not None
    return found[1]


# Signing in


def test_who_has_not_signed_in_is_shown_where(visit: Visit) -> None:
    """And comes back from there, but to nowhere else."""
    client = visit(signed_in=False)

    assert client.get("/recordings?state=open").headers["location"] == "/sign-in?next=/recordings%3Fstate%3Dopen"
    assert client.get("/parts/overview", headers={"X-Part": "1"}).status_code == 401
    assert 'name="next" value="/recordings?state=open"' in client.get("/sign-in?next=/recordings%3Fstate%3Dopen").text
    for elsewhere in ("https://evil.example", "//evil.example", "/\\evil.example"):
        assert 'name="next" value="/"' in client.get("/sign-in", params={"next": elsewhere}).text


def test_a_session_is_a_cookie_that_scripts_and_other_sites_do_not_have(visit: Visit, named_farm: HandFarm) -> None:
    """Behind TLS it is never sent without. Its token is not in the ledger."""
    _, secret = Access(named_farm.farm.database).create(BY, "phone", tenant=None, scopes=["read"])
    plain = visit(signed_in=False).post("/sign-in", data={"key": f" {secret} ", "next": "/search"})
    secure = visit(signed_in=False, url="https://farm").post("/sign-in", data={"key": secret})

    assert plain.headers["location"] == "/search"
    cookie = plain.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert "max-age=43200" in cookie
    assert "secure" not in cookie
    assert "secure" in secure.headers["set-cookie"].lower()
    token = plain.cookies["stenopool_session"]
    with named_farm.farm.database.connect() as connection:
        rows = connection.execute(SessionRow.__table__.select()).all()
    assert token not in str(rows)


def test_a_wrong_key_opens_nothing(visit: Visit) -> None:
    """It is said, and nothing is set."""
    answer = visit(signed_in=False).post("/sign-in", data={"key": "sp_wrong"})

    assert answer.status_code == 401
    assert "unknown, revoked or expired" in answer.text
    assert "set-cookie" not in answer.headers


def test_another_site_signs_nobody_in(visit: Visit, named_farm: HandFarm) -> None:
    """Under a name that is not theirs, they would hand in for somebody else."""
    _, secret = Access(named_farm.farm.database).create(BY, "phone", tenant=None, scopes=["read"])
    client = visit(signed_in=False)

    for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        assert client.post("/sign-in", data={"key": secret}, headers=headers).status_code == 403
    assert client.post("/sign-in", data={"key": secret}, headers={"Origin": "http://farm"}).status_code == 303


def test_a_session_ends_with_its_key(visit: Visit, named_farm: HandFarm) -> None:
    """At once."""
    access = Access(named_farm.farm.database)
    client = visit()
    assert client.get("/").status_code == 200

    access.revoke(BY, access.keys()[0].id)

    assert client.get("/").status_code == 303
    assert client.get("/v1/recordings/1").status_code == 401


def test_a_session_ends_when_it_is_ended_or_too_old(visit: Visit, named_farm: HandFarm) -> None:
    """Also for who has kept the cookie."""
    first, second = visit(), visit()
    token = first.cookies["stenopool_session"]
    out = first.post("/sign-out", data={"csrf": csrf(first)})
    assert out.headers["location"] == "/sign-in"
    first.cookies.set("stenopool_session", token)
    assert first.get("/").status_code == 303

    assert second.get("/").status_code == 200
    with named_farm.farm.database.begin() as connection:
        connection.execute(update(SessionRow).values(expires_at=database_clock() - 1))
    assert second.get("/").status_code == 303


def test_a_link_signs_in_once(visit: Visit, named_farm: HandFarm) -> None:
    """It is of `stenopool up`, and no session itself."""
    key, _ = Access(named_farm.farm.database).create(BY, "up", tenant=None, scopes=["read"])
    link = Sessions(named_farm.farm.database).link(key)
    client, other = visit(signed_in=False), visit(signed_in=False)

    other.cookies.set("stenopool_session", link)
    assert other.get("/").status_code == 303
    assert client.post("/sign-in", data={"link": link}).status_code == 303
    assert client.get("/").status_code == 200
    again = visit(signed_in=False).post("/sign-in", data={"link": link})
    assert again.status_code == 401
    assert "used before" in again.text


def test_what_changes_something_brings_the_sessions_token(visit: Visit, named_farm: HandFarm) -> None:
    """Else another site could have a browser send it."""
    one = named_farm.submit()
    client, other = visit(), visit()

    for token in ("", "0" * 64, csrf(other)):
        answer = client.post(f"/recordings/{one.id}/cancel", data={"csrf": token, "confirmed": "yes"})
        assert answer.status_code == 403
        assert "not the page" in answer.text
    assert client.post("/sign-out", data={}).status_code in (403, 413)
    assert named_farm.now(one).state is SubmissionState.ACCEPTED


def test_a_session_asks_the_api_as_its_key_does(visit: Visit, named_farm: HandFarm) -> None:
    """What changes something needs the token there, too; programs, which send a key, do not."""
    one = named_farm.submit(tenant="ada")
    client = visit("ada")
    pause = f"/v1/recordings/{one.id}/pause"

    assert client.get(f"/v1/recordings/{one.id}").status_code == 200
    refused = client.post(pause)
    assert refused.status_code == 403
    assert "X-CSRF-Token" in refused.json()["detail"]
    assert client.post(pause, headers={"X-CSRF-Token": csrf(client)}).status_code == 200
    assert named_farm.now(one).paused
    _, secret = Access(named_farm.farm.database).create(BY, "program", tenant="ada", scopes=["submit"])
    program = visit(signed_in=False)
    resume = f"/v1/recordings/{one.id}/resume"
    assert program.post(resume, headers={"Authorization": f"Bearer {secret}"}).status_code == 200
    assert not named_farm.now(one).paused


def test_forms_are_small(visit: Visit) -> None:
    """Nobody fills our memory before he has signed in."""
    answer = visit(signed_in=False).post("/sign-in", data={"key": "x" * 100_000})

    assert answer.status_code == 413


# What is seen


def test_whatever_is_said_stays_text(visit: Visit, named_farm: HandFarm) -> None:
    """Names of files and what was heard in them are no markup, on no page."""
    evil = named_farm.submit(name=EVIL, tenant="ada", metadata={EVIL: EVIL})
    named_farm.go(by=SPOKEN)
    failed = named_farm.submit(name=f"{EVIL}.wav", tenant="ada")
    with named_farm.farm.database.begin() as connection:
        failure = {"state": SubmissionState.FAILED, "error": EVIL, "ended_at": database_clock()}
        connection.execute(update(SubmissionRow).where(SubmissionRow.id == failed.id).values(failure))
    client = visit()
    named_farm.farm.campaigns.create(Plan(tenant="ada", name=EVIL, model="pocket", options={}))

    pages = [
        "/",
        "/recordings",
        f"/recordings?name={EVIL}&tenant={EVIL}",
        f"/recordings/{evil.id}",
        f"/recordings/{evil.id}/transcript",
        f"/recordings/{failed.id}",
        "/search?q=alert",
        f"/search?q={EVIL}",
        "/campaigns",
        "/campaigns/1",
    ]
    for path in pages:
        answer = client.get(path)
        assert answer.status_code == 200, path
        assert "<img" not in answer.text, path
        assert "<script>" not in answer.text, path
        assert "&lt;img" in answer.text or "&lt;script" in answer.text, path
    confirm = client.post(f"/recordings/{evil.id}/retry", data={"csrf": csrf(client)})
    assert "<img" not in confirm.text
    assert "&lt;img" in confirm.text


def test_nothing_is_run_but_what_we_serve(visit: Visit, named_farm: HandFarm) -> None:
    """The policy forbids it, and no page needs it."""
    one = named_farm.submit()
    named_farm.go()
    client = visit()

    paths = ["/", f"/recordings/{one.id}", f"/recordings/{one.id}/transcript", "/upload", "/search", "/nowhere"]
    for path in [*paths, "/recordings/99", "/sign-in", "/static/app.js"]:
        answer = client.get(path)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "same-origin"
        if path != "/static/app.js":
            assert answer.headers["cache-control"] == "no-store"
            assert not re.search(r"\sstyle=|\son\w+=|<style|javascript:", answer.text), path
            scripts = re.findall(r"<script([^>]*)>", answer.text)
            assert all('src="/static/' in one or 'type="application/json"' in one for one in scripts), path
            assert not re.search(r'(?:src|href)="(?:https?:)?//', answer.text), path


def test_errors_are_pages_in_the_words_of_the_api(visit: Visit) -> None:
    """For people; programs are told problems still."""
    client = visit()

    page, problem = client.get("/recordings/99"), client.get("/v1/recordings/99")

    assert (page.status_code, problem.status_code) == (404, 404)
    assert page.headers["content-type"].startswith("text/html")
    assert problem.headers["content-type"] == "application/problem+json"
    assert "there is no" in page.text
    assert client.get("/recordings/nought").status_code == 422


def test_a_tenant_sees_what_is_theirs(visit: Visit, named_farm: HandFarm) -> None:
    """Of others they are told that there is nothing."""
    mine, theirs = named_farm.submit(tenant="ada"), named_farm.submit(tenant="bob")
    named_farm.go(by="secret")
    named_farm.farm.campaigns.create(Plan(tenant="bob", name="archive", model="pocket", options={}))
    ada = visit("ada")

    assert ada.get(f"/recordings/{mine.id}/transcript").status_code == 200
    for path in ("", "/transcript"):
        assert ada.get(f"/recordings/{theirs.id}{path}").status_code == 404
    answer = ada.post(f"/recordings/{theirs.id}/retry", data={"csrf": csrf(ada), "confirmed": "yes"})
    assert answer.status_code == 404
    assert theirs.name not in ada.get("/recordings?tenant=bob").text
    assert theirs.name not in ada.get("/search?q=secret0").text
    assert mine.name in ada.get("/search?q=secret0").text
    assert "archive" not in ada.get("/campaigns").text
    assert ada.get("/campaigns/1").status_code == 404
    assert "Workers" not in ada.get("/").text
    assert "Workers" in visit().get("/").text


def test_a_key_allows_on_the_page_what_it_allows(visit: Visit, named_farm: HandFarm) -> None:
    """Who may only read sees no button, and presses none."""
    one = named_farm.submit(tenant="ada")
    reader, other = visit("ada", "read"), visit("ada", "submit")

    assert "Cancel" not in reader.get(f"/recordings/{one.id}").text
    assert reader.get("/upload").status_code == 403
    token = csrf(reader)
    assert reader.post(f"/recordings/{one.id}/cancel", data={"csrf": token, "confirmed": "y"}).status_code == 403
    assert other.get("/").status_code == 403
    assert "lacks the scope read" in other.get("/").text


def test_the_list_is_filtered_and_goes_on(visit: Visit, named_farm: HandFarm) -> None:
    """By all that it says, page after page, without a gap."""
    first = named_farm.submit()
    for _ in range(60):
        named_farm.again(first, name="later.wav")
    with named_farm.farm.database.begin() as connection:
        connection.exec_driver_sql("UPDATE submissions SET name='Monday call.wav' WHERE id=%s", (first.id,))
    client = visit()

    latest = client.get("/recordings?state=open").text
    ids = [int(one) for one in re.findall(r'href="/recordings/(\d+)"', latest)]
    assert ids == list(range(61, 11, -1))
    older = re.search(r'href="(/recordings\?[^"]+)" rel="next"', latest)
    assert older is not None
    rest = client.get(older[1].replace("&amp;", "&")).text
    assert [int(one) for one in re.findall(r'href="/recordings/(\d+)"', rest)] == list(range(11, 0, -1))
    assert 'rel="next"' not in rest
    assert re.findall(r'href="/recordings/(\d+)"', client.get("/recordings?name=MONDAY").text) == ["1"]
    assert "There is none" in client.get("/recordings?lane=urgent").text
    assert "There is none" in client.get("/recordings?state=failed").text


def test_buttons_ask_and_are_written_down(visit: Visit, named_farm: HandFarm) -> None:
    """Without JavaScript, too: the first press asks, the second does it."""
    one = named_farm.submit()
    client = visit()
    token = csrf(client)

    asked = client.post(f"/recordings/{one.id}/pause", data={"csrf": token})
    assert "Nothing more of it is begun" in asked.text
    assert not named_farm.now(one).paused
    done = client.post(f"/recordings/{one.id}/pause", data={"csrf": token, "confirmed": "yes"})
    assert done.headers["location"] == f"/recordings/{one.id}"
    assert named_farm.now(one).paused
    page = client.get(f"/recordings/{one.id}").text
    assert "is paused" in page
    assert "Resume" in page
    client.post(f"/recordings/{one.id}/resume", data={"csrf": token, "confirmed": "yes"})
    client.post(f"/recordings/{one.id}/cancel", data={"csrf": token, "confirmed": "yes"})
    assert named_farm.now(one).state is SubmissionState.CANCELLED
    assert client.post(f"/recordings/{one.id}/cancel", data={"csrf": token, "confirmed": "y"}).status_code == 409
    assert client.post(f"/recordings/{one.id}/explode", data={"csrf": token, "confirmed": "y"}).status_code == 404
    entries = Access(named_farm.farm.database).entries()
    said = [(entry.action, entry.subject) for entry in entries if entry.action.startswith("submission.")]
    assert said == [(f"submission.{name}", f"submission {one.id}") for name in ("cancel", "resume", "pause")]


def test_a_recording_shows_what_becomes_of_each_stretch(visit: Visit, named_farm: HandFarm) -> None:
    """Queued, done, gap, with reasons; while it is made, and after."""
    one = named_farm.submit(seconds=8)
    client = visit()
    assert "not decoded yet" in client.get(f"/recordings/{one.id}").text

    named_farm.ingest()
    queued = client.get(f"/parts/recordings/{one.id}")
    assert "4 queued" in queued.text
    assert "x-last" not in queued.headers
    named_farm.hear(failing=[1])
    named_farm.merge()
    named_farm.publish()
    done = client.get(f"/parts/recordings/{one.id}")
    assert "3 done" in done.text
    assert "1 gap" in done.text
    assert "the device failed" in done.text
    assert done.headers["x-last"] == "1"
    assert re.search(r'<rect class="gap" x="250.0" width="250.0"', done.text)


def test_a_transcript_has_times_gaps_and_files(visit: Visit, named_farm: HandFarm) -> None:
    """Segments are clicked where words have no times. Every format is there to be kept."""
    one = named_farm.submit(seconds=8, name="talk & more.wav")
    named_farm.go(by="word", failing=[1])
    client = visit()

    page = client.get(f"/recordings/{one.id}/transcript").text
    assert re.findall(r'<span data-t="([\d.]+)">(\w+)</span>', page) == [
        ("0.00", "word0"),
        ("4.00", "word2"),
        ("6.00", "word3"),
    ]
    assert re.search(r'<div class="gap" data-at="2.00".*the device failed', page)
    assert page.count('class="seam"') == 1  # between 2 and 3; the gap is between 0 and 2
    assert f"/v1/recordings/{one.id}/sound" in page
    for link in re.findall(r'href="(/v1/[^"]+format=[^"]+)" download', page):
        answer = client.get(link.replace("&amp;", "&"))
        assert answer.status_code == 200, link
        assert answer.headers["content-disposition"].startswith("attachment; filename*=UTF-8''talk-more.")
    assert page.count(" download>") == len(FORMATS)
    assert client.get(f"/recordings/{one.id}/transcript?version=7").status_code == 404


def test_channels_are_read_together_and_each(visit: Visit, named_farm: HandFarm) -> None:
    """With the names of who speaks."""
    one = named_farm.submit(seconds=4, channels=2, split=True, speakers=("Ann", "<Bob>"))
    named_farm.go()
    client = visit()

    together = client.get(f"/recordings/{one.id}/transcript").text
    each = client.get(f"/recordings/{one.id}/transcript?channel=2").text
    assert '<h2 class="speaker">Ann</h2>' in together
    assert '<h2 class="speaker">&lt;Bob&gt;</h2>' in together
    assert '<h2 class="speaker">' not in each
    assert "sound?channel=2" in each
    assert client.get(f"/recordings/{one.id}/transcript?channel=3").status_code == 404


def test_what_is_redacted_is_for_administrators(visit: Visit, named_farm: HandFarm) -> None:
    """On the page, in files and in the search."""
    one = named_farm.submit(tenant="ada", redact="email")
    named_farm.go(by="write to ann@example.org ")
    reader, administrator = visit("ada", "read"), visit("ada")

    for path in (f"/recordings/{one.id}/transcript", f"/v1/recordings/{one.id}/transcript", "/search?q=write"):
        assert "ann@example" not in reader.get(path).text, path
        assert "ann@example" in administrator.get(path).text.replace("<mark>", "").replace("</mark>", ""), path


def test_a_hit_opens_the_player_at_its_second(visit: Visit, named_farm: HandFarm) -> None:
    """And a query that is none is said to be."""
    one = named_farm.submit(seconds=8)
    named_farm.go(by="budget")
    client = visit()

    assert f'href="/recordings/{one.id}/transcript#t=4.0"' in client.get("/search?q=budget2").text
    assert "<mark>budget2</mark>" in client.get("/search?q=budget2").text
    assert "Nothing was found" in client.get("/search?q=nothing").text
    assert 'role="alert"' in client.get('/search?q="').text


def test_a_campaign_is_shown_and_changed(visit: Visit, named_farm: HandFarm) -> None:
    """How far it is, what failed of it, and its buttons."""
    campaigns = named_farm.farm.campaigns
    made = campaigns.create(Plan(tenant="ada", name="archive", model="pocket", options={}))
    campaigns.add(
        made.id, [Entry(key="1" * 64, location="https://host/a.mp3", name="a.mp3", source="https://host/a.mp3")]
    )
    campaigns.listed(made.id)
    campaigns.start(made.id, None)
    client = visit()
    token = csrf(client)

    assert "archive" in client.get("/campaigns").text
    assert "1 queued" in client.get(f"/campaigns/{made.id}").text
    assert client.post(f"/campaigns/{made.id}/pause", data={"csrf": token}).status_code == 200
    assert campaigns.find("ada", "archive").state == "running"
    client.post(f"/campaigns/{made.id}/pause", data={"csrf": token, "confirmed": "yes"})
    assert campaigns.find("ada", "archive").state == "paused"
    assert client.post(f"/campaigns/{made.id}/pause", data={"csrf": token, "confirmed": "y"}).status_code == 409
    assert client.get("/campaigns/99").status_code == 404


def test_the_overview_says_what_waits_and_what_failed(visit: Visit, named_farm: HandFarm) -> None:
    """In seconds of audio as far as they are known, by lane and tenant."""
    named_farm.submit(seconds=90, tenant="ada")
    named_farm.ingest()
    named_farm.submit(tenant="bob")
    failed = named_farm.submit()
    with named_farm.farm.database.begin() as connection:
        failure = {"state": SubmissionState.FAILED, "error": "x.wav: is text", "ended_at": database_clock()}
        named = failure | {"name": "x.wav"}
        connection.execute(update(SubmissionRow).where(SubmissionRow.id == failed.id).values(named))
    client = visit()

    page = client.get("/").text
    assert re.search(r"To be transcribed</dt><dd>2 min</dd><dd class=\"note\">and 1 of unknown length", page)
    assert re.search(r"ada</a></td>\s*<td class=\"n\">1</td>\s*<td class=\"n\">2 min</td>", page)
    assert "is text" in page
    assert "x.wav: is text" not in page
