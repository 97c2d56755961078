"""One farm and one browser for all tests of the page; each has a context of its own, in which nothing may go wrong."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect

from tests import browsing
from tests.browsing import Open, Site

# A slow machine fails no test: what is expected comes sooner or later.
expect.set_options(timeout=60_000)


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A farm with the bundled model."""
    with browsing.site(tmp_path_factory.mktemp("farm")) as found:
        yield found


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium."""
    with browsing.browser() as found:
        yield found


@pytest.fixture(scope="session")
def meeting(site: Site) -> int:
    """The id of forty seconds of the bundled meeting, transcribed with times of words."""
    return site.submit(site.cut("meeting.wav", 0, 40), "--word-timestamps", "--wait")


@pytest.fixture
def expected() -> list[str]:
    """What a test expects the browser to complain of, in parts of the words it has for that."""
    return []


@pytest.fixture
def visit(site: Site, browser: Browser, expected: list[str]) -> Iterator[Open]:
    """Pages on which somebody has signed in, each in a context of its own with such settings.

    Whatever the browser complains of in the end fails the test: errors of scripts, and what the policy forbids.
    """
    contexts = []
    complaints: list[str] = []

    def hear(message: ConsoleMessage) -> None:
        if message.type == "error" and not any(part in message.text for part in expected):
            complaints.append(message.text)

    def open(*, signed_in: bool = True, **settings: Any) -> Page:
        context = browser.new_context(**settings)
        contexts.append(context)
        context.on("console", hear)
        context.on("weberror", lambda error: complaints.append(str(error.error)))
        return browsing.sign_in(context, site) if signed_in else context.new_page()

    yield open
    for context in contexts:
        context.close()
    assert complaints == []
