"""A whole farm and a browser before it: `stenopool up` and Chromium, as people use the page."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests import sounds
from tests.chromium import FLAGS, chromium
from workers.farm import Farm, Places

S = 16_000  # one second

Open = Callable[..., Page]


@dataclass
class Site:
    """A farm that runs."""

    folder: Path
    where: dict[str, Any]

    @property
    def url(self) -> str:
        """Of its page."""
        return str(self.where["url"])

    @property
    def key(self) -> str:
        """An operator's."""
        return str(self.where["key"])

    @cached_property
    def farm(self) -> Farm:
        """Its ledger and objects."""
        return Farm(Places(**{name: self.where[name] for name in ("database", "broker", "store")}), lease=60)

    def run(self, *arguments: str | Path) -> str:
        """What a command prints, which succeeds."""
        done = command(self.folder, *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def submit(self, *arguments: str | Path) -> int:
        """The id of what is handed in."""
        return int(self.run("submit", *arguments).split("\t")[0])

    @contextmanager
    def without_engine(self) -> Iterator[None]:
        """Nothing is heard meanwhile."""
        pids = json.loads((self.folder / "home" / "farm" / "state.json").read_text())["processes"]["engine"]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)

    def cut(self, name: str, start: float, end: float) -> Path:
        """A piece of the bundled meeting, in seconds, as WAV; commands find it by its name."""
        samples = sounds.read(sounds.SAMPLE)[round(start * S) : round(end * S)]
        return sounds.write(self.folder / name, samples).relative_to(self.folder)


def command(folder: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """A command of a farm in a folder."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("STENOPOOL_")}
    cache = os.environ.get("STENOPOOL_CACHE")
    given = {"STENOPOOL_HOME": str(folder / "home")} | ({"STENOPOOL_CACHE": cache} if cache else {})
    return subprocess.run(
        [sys.executable, "-m", "stenopool", *map(str, arguments)],
        env=environment | given,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


@contextmanager
def site(folder: Path) -> Iterator[Site]:
    """`stenopool up`, until the end."""
    begun = command(folder, "up", "--detach", "--port", "0", "--json")
    assert begun.returncode == 0, begun.stderr
    found = Site(folder, json.loads(begun.stdout))
    try:
        yield found
    finally:
        if "farm" in vars(found):
            found.farm.close()
        command(folder, "down")


@contextmanager
def browser() -> Iterator[Browser]:
    """Chromium, without a screen."""
    program, environment = chromium()
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(
            executable_path=str(program), args=list(FLAGS), env={**os.environ, **environment}, chromium_sandbox=False
        )
        try:
            yield found
        finally:
            found.close()


def sign_in(context: BrowserContext, site: Site) -> Page:
    """A page on which somebody has signed in with the key."""
    page = context.new_page()
    page.goto(f"{site.url}/sign-in")
    page.get_by_label("Key").fill(site.key)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"{site.url}/")
    return page


def until(page: Page, expression: str) -> None:
    """Wait until it is true on the page. Playwright's own way needs what the policy forbids."""
    deadline = time.monotonic() + 60
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, expression
        page.wait_for_timeout(50)
