"""Take the pictures of the page anew, of a farm that is started for them: python -m docs.make_pictures

They are of the bundled meeting, in the Chromium of `make test-web`.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, Page

from tests.browsing import Site, browser, sign_in, site
from tests.sounds import SAMPLE

FOLDER = Path(__file__).parent / "images"


def main() -> int:
    """Take them all."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as home, site(Path(home)) as farm, browser() as chromium:
        (farm.folder / "meeting.mp3").write_bytes(SAMPLE.read_bytes())
        meeting = farm.submit("meeting.mp3", "--word-timestamps", "--wait")
        for name, start in (("monday call.wav", 30), ("interview.wav", 90), ("lecture.wav", 150)):
            farm.submit(
                farm.cut(name, start, start + 70), "--lane", "urgent" if start == 30 else "bulk", "--tenant", "ada"
            )
        page = opened(chromium, farm)
        page.wait_for_selector("progress, td .state.transcribing", timeout=60_000)
        page.wait_for_timeout(2500)
        page.screenshot(path=FOLDER / "overview.png")
        page = opened(chromium, farm)
        transcript(page, farm, meeting)
        page.screenshot(path=FOLDER / "transcript.png")
        page = opened(chromium, farm, width=390, height=700, colours="dark")
        transcript(page, farm, meeting)
        page.screenshot(path=FOLDER / "phone.png")
    for path in sorted(FOLDER.glob("*.png")):
        sys.stdout.write(f"{path.stat().st_size / 1000:.0f} kB  {path.name}\n")
    return 0


def opened(
    chromium: Browser, farm: Site, *, width: int = 1100, height: int = 720, colours: Literal["light", "dark"] = "light"
) -> Page:
    """The first page, in a window of that size."""
    return sign_in(chromium.new_context(viewport={"width": width, "height": height}, color_scheme=colours), farm)


def transcript(page: Page, farm: Site, id: int) -> None:
    """The player, at a word, with its waveform."""
    with page.expect_response("**/waveform*"):
        page.goto(f"{farm.url}/recordings/{id}/transcript#t=75.4")
    page.get_by_label("Search in this transcript").fill("kitchen")
    page.wait_for_timeout(1500)


if __name__ == "__main__":
    sys.exit(main())
