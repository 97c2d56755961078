"""The other pages, as somebody uses them."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browsing import Open, Site, until

#: Text that is too faint: WCAG's contrast of it and what is behind it is less than 4.5.
FAINT = """() => {
    const channels = (colour) => (colour.match(/[\\d.]+/g) ?? []).map(Number);
    const light = ([r, g, b]) => {
        const linear = [r, g, b].map((c) => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
    };
    const behind = (element) => {
        for (let at = element; at; at = at.parentElement) {
            const colour = channels(getComputedStyle(at).backgroundColor);
            if (colour.length === 3 || colour[3] === 1) return colour;
        }
        return [255, 255, 255];
    };
    const faint = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const element = walker.currentNode.parentElement;
        if (!walker.currentNode.data.trim() || !element.checkVisibility()) continue;
        if (element.closest('script, title, option')) continue;
        const style = getComputedStyle(element);
        const ink = light(channels(element instanceof SVGElement ? style.fill : style.color));
        const paper = light(behind(element));
        const contrast = (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
        if (contrast < 4.5) faint.push(`${walker.currentNode.data.trim().slice(0, 40)}: ${contrast.toFixed(2)}`);
    }
    return faint;
}"""


def test_the_link_of_up_signs_in_once(visit: Open, site: Site, expected: list[str]) -> None:
    """What it has is in no request's address, and does not stay in the browser's."""
    expected.append("401")
    page = visit(signed_in=False)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))

    page.goto(site.where["link"])
    page.wait_for_url(f"{site.url}/")

    expect(page.get_by_role("link", name="Overview")).to_have_attribute("aria-current", "page")
    token = site.where["link"].partition("#link=")[2]
    assert len(token) > 40
    assert not [url for url in asked if token in url.partition("#")[0]]
    assert token not in (site.folder / "home" / "farm" / "logs" / "api.log").read_text()
    page.get_by_role("button", name="Sign out").click()
    page.goto(site.where["link"])
    expect(page.get_by_role("alert")).to_contain_text("used before")


def test_who_comes_from_another_site_is_signed_in_still(visit: Open, site: Site, meeting: int) -> None:
    """The cookie is not sent with the first request; the page where one ends asks once more."""
    page = visit()
    elsewhere = site.url.replace("127.0.0.1", "localhost")
    page.goto(f"{elsewhere}/sign-in")
    target = f"{site.url}/recordings/{meeting}"
    page.evaluate(f"location.href = '{target}'")

    page.wait_for_url(target)
    expect(page.get_by_role("heading", level=1)).to_have_text("meeting.wav")


def test_a_recording_is_watched_and_cancelled(visit: Open, site: Site) -> None:
    """Its strip moves by itself; nothing is cancelled unless one says so twice."""
    page = visit()
    with site.without_engine():
        id = site.submit(site.cut("call.wav", 60, 100))
        page.goto(f"{site.url}/recordings/{id}")
        expect(page.locator(".strip rect").first).to_be_visible(timeout=60_000)
        page.get_by_role("button", name="Cancel").click()
        dialog = page.get_by_role("dialog")
        expect(dialog).to_contain_text("Cancel “call.wav”?")
        dialog.get_by_role("button", name="Leave it").click()
        assert not site.farm.desk.submission(id).ended

        page.get_by_role("button", name="Cancel").click()
        dialog.get_by_role("button", name="Cancel").click()

        expect(page.locator(".heading .state")).to_have_text("cancelled")
        assert site.farm.desk.submission(id).state == "cancelled"
    page.get_by_role("button", name="Retry").click()
    page.get_by_role("dialog").get_by_role("button", name="Retry").click()
    expect(page.locator(".heading .state")).to_have_text("completed", timeout=120_000)
    page.get_by_role("link", name="Read and listen").click()
    expect(page.locator("#text p").first).to_be_visible()


def test_the_overview_lives_while_it_is_seen(visit: Open, site: Site) -> None:
    """What is handed in appears by itself. A page that nobody sees asks for nothing."""
    page = visit()
    with site.without_engine():
        id = site.submit(site.cut("live.wav", 100, 110), "--lane", "urgent")
        expect(page.locator(f"a[href='/recordings/{id}']")).to_be_visible(timeout=60_000)
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.evaluate("""() => {
            Object.defineProperty(document, 'hidden', { value: true, configurable: true });
            document.dispatchEvent(new Event('visibilitychange'));
        }""")
        page.wait_for_timeout(500)
        asked.clear()
        page.wait_for_timeout(5000)
        assert asked == []
        with page.expect_request("**/parts/overview"):
            page.evaluate("""() => {
                Object.defineProperty(document, 'hidden', { value: false, configurable: true });
                document.dispatchEvent(new Event('visibilitychange'));
            }""")
        site.farm.desk.cancel(id)


@pytest.mark.parametrize("colours", ["light", "dark"])
@pytest.mark.parametrize("size", [(360, 720), (1200, 800)], ids=["phone", "desk"])
def test_every_page_is_readable(visit: Open, site: Site, meeting: int, colours: Any, size: tuple[int, int]) -> None:
    """On a phone as at a desk, in light and in dark: nothing sticks out, and no text is faint."""
    page = visit(viewport={"width": size[0], "height": size[1]}, color_scheme=colours)

    for path in paths(meeting):
        page.goto(f"{site.url}{path}")
        page.wait_for_load_state("networkidle" if "transcript" in path else "load")
        assert page.evaluate("document.documentElement.scrollWidth") <= size[0], path
        assert page.evaluate(FAINT) == [], path
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (max(map(int, re.findall(r"\d+", ground))) < 64) == (colours == "dark")


def paths(meeting: int) -> list[str]:
    """One of each page."""
    transcript = f"/recordings/{meeting}/transcript"
    return ["/", "/recordings", f"/recordings/{meeting}", transcript, "/search?q=meeting", "/campaigns", "/upload"]


def test_all_is_reached_by_keys(visit: Open, site: Site, meeting: int) -> None:
    """In the order in which it is read; the first key leads past what is on every page."""
    page = visit()
    page.goto(f"{site.url}/recordings/{meeting}/transcript")
    page.wait_for_load_state("networkidle")
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    reached = []
    for _ in range(11):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.textContent.trim()"))
    assert reached[0] == "Download"
    assert reached[1:] == ["About it", "wave", "play", "rate", "follow", "words", "before", "next", *reached[-2:]]
    assert all(re.fullmatch(r"\d+:\d\d", one) for one in reached[-2:])
    page.keyboard.press("Enter")
    at = page.evaluate("parseFloat(location.hash.slice(3))")
    until(page, f"Math.abs(document.getElementById('sound').currentTime - {at}) < 0.2")
    unnamed = page.evaluate("""() => [...document.querySelectorAll('button, a, input:not([type=hidden]), select')]
        .filter((one) => !(one.ariaLabel || one.textContent.trim() || one.labels?.length))
        .map((one) => one.outerHTML)""")
    assert unnamed == []


def test_lists_and_texts_need_no_javascript(visit: Open, site: Site, meeting: int) -> None:
    """Nor do buttons: a page asks."""
    page = visit(java_script_enabled=False)
    page.get_by_role("link", name="Recordings").click()
    page.get_by_role("link", name="meeting.wav").first.click()
    expect(page.locator("#text p").first).to_be_visible()
    expect(page.locator("#player")).to_be_hidden()
    other = site.submit(site.cut("quiet.wav", 110, 116), "--wait")
    with site.without_engine():
        again = site.submit(site.cut("quiet.wav", 110, 116), "--force")
        page.goto(f"{site.url}/recordings/{again}")
        page.get_by_role("button", name="Cancel").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Cancel “quiet.wav”?")
        page.get_by_role("button", name="Cancel").click()
        expect(page.locator(".heading .state")).to_have_text("cancelled")
    assert site.farm.desk.submission(other).published


def test_a_session_that_ended_leads_to_where_one_signs_in(visit: Open, site: Site, expected: list[str]) -> None:
    """Also in the middle of a page that asks by itself."""
    expected.append("401")
    page = visit()
    page.context.clear_cookies()

    page.wait_for_url(re.compile("/sign-in"))
    sign_in_again(page, site)
    page.wait_for_url(f"{site.url}/")


def sign_in_again(page: Page, site: Site) -> None:
    """As `tests.browsing.sign_in` does it, on this page."""
    page.get_by_label("Key").fill(site.key)
    page.get_by_role("button", name="Sign in").click()
