"""Upload: files are dropped on the page, and become recordings."""

from __future__ import annotations

import base64
from pathlib import Path

from playwright.sync_api import Page, Route, expect

from tests.browsing import Open, Site

EVIL = "<img src=x onerror='window.evil=1'>.wav"

DROP = """([target, files]) => {
    const moved = new DataTransfer();
    for (const [name, content] of files) {
        const bytes = Uint8Array.from(atob(content), (one) => one.charCodeAt(0));
        moved.items.add(new File([bytes], name, { type: 'audio/wav', lastModified: 1 }));
    }
    const at = document.querySelector(target);
    for (const type of ['dragenter', 'dragover', 'drop']) {
        at.dispatchEvent(new DragEvent(type, { dataTransfer: moved, bubbles: true, cancelable: true }));
    }
}"""


def drop(page: Page, *files: tuple[str, Path]) -> None:
    """Files from outside, by the names that they shall have, dropped on the page."""
    content = [[name, base64.b64encode(path.read_bytes()).decode()] for name, path in files]
    page.evaluate(DROP, ["#drop", content])


def test_a_dropped_file_becomes_a_transcript(visit: Open, site: Site) -> None:
    """One watches it become one, whatever it is called; what is given with it is what it is transcribed with."""
    page = visit()
    path = site.folder / site.cut("dropped.wav", 120, 140)
    page.get_by_role("link", name="Upload", exact=True).click()
    page.get_by_label("Lane").select_option("urgent")
    page.get_by_label("Language").fill("en")
    page.get_by_label("Words to expect").fill("Oscar")

    drop(page, (EVIL, path))

    page.wait_for_url("**/recordings/*")
    expect(page.get_by_role("heading", level=1)).to_have_text(EVIL)
    expect(page.locator(".heading .state")).to_have_text("completed", timeout=120_000)
    one = site.farm.desk.submission(int(page.url.rpartition("/")[2]))
    assert (one.name, one.lane.name, one.options["language"], one.options["hotwords"]) == (
        EVIL,
        "URGENT",
        "en",
        "Oscar",
    )
    page.get_by_role("link", name="Read and listen").click()
    expect(page.locator("#text [data-t]").nth(3)).to_be_visible()
    assert page.locator("article.timed").count() == 1
    page.goto(f"{site.url}/recordings")
    expect(page.get_by_role("link", name=EVIL)).to_be_visible()
    assert page.evaluate("window.evil") is None


def test_several_files_are_sent_one_after_the_other(visit: Open, site: Site, expected: list[str]) -> None:
    """What is no recording is told so; the others go on."""
    expected.append("422")
    page = visit()
    page.goto(f"{site.url}/upload")
    text = site.folder / "notes.wav"
    text.write_text("no sound at all\n" * 10)

    first, second = (site.folder / site.cut(f"part{n}.wav", 140 + n, 144 + n) for n in (1, 2))
    drop(page, ("part1.wav", first), ("notes.wav", text), ("part2.wav", second))

    expect(page.locator("#sent li")).to_have_count(3)
    for name in ("part1.wav", "part2.wav"):
        expect(page.locator("#sent").get_by_role("link", name=name)).to_be_visible(timeout=60_000)
    expect(page.locator("#sent .problem")).to_contain_text("notes.wav")


def test_an_upload_goes_on_where_it_broke_off(visit: Open, site: Site, expected: list[str]) -> None:
    """After a broken connection, and after the page was left: what came is not sent again."""
    expected.append("ERR_FAILED")
    page = visit()
    page.goto(f"{site.url}/upload")
    path = site.folder / site.cut("long upload.wav", 150, 158)
    size = path.stat().st_size
    page.route("**/upload.js", smaller_pieces)
    page.reload()
    sent: list[int] = []

    def patch(route: Route) -> None:
        offset = int(route.request.headers["upload-offset"])
        if offset and offset not in sent and len(sent) < 2:
            sent.append(offset)
            route.abort()
        else:
            sent.append(offset)
            route.continue_()

    page.route(
        "**/v1/uploads/t-*", lambda route: patch(route) if route.request.method == "PATCH" else route.continue_()
    )

    page.get_by_label("Drop recordings here").set_input_files(path)

    page.wait_for_url("**/recordings/*", timeout=60_000)
    one = site.farm.desk.submission(int(page.url.rpartition("/")[2]))
    assert one.name == "long upload.wav"
    piece = 100_000
    assert sent == [0, piece, *range(piece, size, piece)]  # the second piece twice: the first time it broke off


def smaller_pieces(route: Route) -> None:
    """The script as it is, but for the size of its pieces."""
    answer = route.fetch()
    route.fulfill(response=answer, body=answer.text().replace("8 << 20", "100_000"))
