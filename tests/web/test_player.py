"""Text beside sound, as somebody reads and listens."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect

from tests.browsing import Open, Site, until

#: What is heard just now, in seconds.
NOW = "document.getElementById('sound').currentTime"


def ready(page: Page, site: Site, id: int, rest: str = "") -> None:
    """Open a transcript, and wait until its sound can be played."""
    page.goto(f"{site.url}/recordings/{id}/transcript{rest}")
    until(page, "document.getElementById('sound').readyState >= 1")


def test_a_word_that_is_clicked_is_heard(visit: Open, site: Site, meeting: int) -> None:
    """The sound goes on from there, and what is heard is marked, word after word."""
    page = visit()
    ready(page, site, meeting)
    word = page.locator("#text [data-t]").nth(12)
    at = float(word.get_attribute("data-t") or "")

    word.click()

    until(page, f"{NOW} >= {at}")
    assert at <= page.evaluate(NOW) < at + 20
    expect(page.get_by_role("button", name="Pause")).to_be_visible()
    expect(page.locator("#text .now")).to_have_count(1)
    until(page, f"document.querySelector('#text .now').dataset.t > {at}")
    page.keyboard.press("Space")
    expect(page.get_by_role("button", name="Play")).to_be_visible()
    marked = float(page.locator("#text .now").get_attribute("data-t") or "")
    assert marked <= page.evaluate(NOW) + 0.05


def test_keys_play_and_seek(visit: Open, site: Site, meeting: int) -> None:
    """Space, arrows; where something is typed they are letters."""
    page = visit()
    ready(page, site, meeting, "#t=20")
    until(page, f"{NOW} >= 19.9")

    page.keyboard.press("ArrowLeft")
    until(page, f"Math.abs({NOW} - 15) < 0.2")
    page.keyboard.press("ArrowRight")
    until(page, f"Math.abs({NOW} - 20) < 0.2")
    page.keyboard.press("/")
    page.keyboard.type("the n p")
    expect(page.get_by_label("Search in this transcript")).to_have_value("the n p")
    assert page.evaluate("document.getElementById('sound').paused")
    page.keyboard.press("Escape")
    page.keyboard.press("Space")
    until(page, "!document.getElementById('sound').paused")


def test_the_waveform_is_drawn_and_seeks(visit: Open, site: Site, meeting: int) -> None:
    """By pointer and by keys, which are told to who does not see it."""
    page = visit()
    ready(page, site, meeting)
    wave = page.get_by_role("slider", name="Position")
    drawn = """() => {
        const canvas = document.querySelector('#wave canvas');
        const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
        let n = 0;
        for (let i = 3; i < pixels.length; i += 4) n += pixels[i] > 0;
        return n / (pixels.length / 4);
    }"""
    until(page, f"({drawn})() > 0.1")
    box = wave.bounding_box()
    assert box is not None

    wave.click(position={"x": box["width"] / 2, "y": box["height"] / 2})

    until(page, f"Math.abs({NOW} - 20) < 0.5")
    expect(wave).to_have_attribute("aria-valuenow", re.compile("19|20"))
    wave.press("Home")
    until(page, f"{NOW} === 0")
    expect(wave).to_have_attribute("aria-valuetext", "0:00")


def test_hits_within_are_counted_and_gone_through(visit: Open, site: Site, meeting: int) -> None:
    """Marked in the text; n and p go from one to the next, and the sound with them."""
    page = visit()
    ready(page, site, meeting)
    text = page.locator("#text").inner_text().lower()
    page.get_by_label("Search in this transcript").fill("the")
    n = len(re.findall("the", re.sub(r"\s+", " ", text)))
    assert n > 2
    expect(page.locator("#count")).to_have_text(f"{n} hits")

    page.keyboard.press("Enter")
    expect(page.locator("#count")).to_have_text(f"1 of {n}")
    first = float(page.locator("#text .here").first.get_attribute("data-t") or "")
    until(page, f"Math.abs({NOW} - {first}) < 0.2")
    page.keyboard.press("Escape")
    page.keyboard.press("n")
    expect(page.locator("#count")).to_have_text(f"2 of {n}")
    page.keyboard.press("p")
    page.keyboard.press("p")
    expect(page.locator("#count")).to_have_text(f"{n} of {n}")
    last = float(page.locator("#text .here").first.get_attribute("data-t") or "")
    until(page, f"Math.abs({NOW} - {last}) < 0.2")
    page.get_by_label("Search in this transcript").fill("zebra")
    expect(page.locator("#count")).to_have_text("0 hits")
    expect(page.locator("#text .hit")).to_have_count(0)


def test_a_hit_in_the_archive_opens_the_player_there(visit: Open, site: Site, meeting: int) -> None:
    """From any page, at its second."""
    page = visit()
    page.get_by_label("Search all transcripts").fill("meeting")
    page.keyboard.press("Enter")
    link = page.locator(f".hits a[href^='/recordings/{meeting}/transcript#t=']").first
    expect(page.locator(".hits mark").first).to_be_visible()
    at = float((link.get_attribute("href") or "").partition("#t=")[2])

    link.click()

    page.wait_for_url("**/transcript#t=*")
    until(page, "document.getElementById('sound').readyState >= 1")
    until(page, f"Math.abs({NOW} - {at}) < 0.2")
    expect(page.locator("#text .now")).to_be_in_viewport()


def test_files_are_downloaded(visit: Open, site: Site, meeting: int) -> None:
    """In every format, under the recording's name."""
    page = visit()
    ready(page, site, meeting)
    page.get_by_text("Download").click()
    with page.expect_download() as download:
        page.get_by_role("link", name="srt", exact=True).click()

    assert download.value.suggested_filename == "meeting.srt"
    assert "-->" in download.value.path().read_text()


def test_where_there_is_no_sound_the_page_says_why(visit: Open, site: Site, expected: list[str]) -> None:
    """The text is there still."""
    expected.append("410")
    page = visit()
    id = site.submit(site.cut("gone.wav", 40, 52), "--wait")
    one = site.farm.desk.submission(id)
    recordings = {source.recording for source in site.farm.ledger.sources(one.file_sha256 or "", split=False)}
    for found in list(site.farm.store.list("")):
        if any(recording in found.key for recording in recordings) or found.key == one.source:
            site.farm.store.delete(found.key)

    page.goto(f"{site.url}/recordings/{id}/transcript")

    expect(page.locator("#silent")).to_contain_text("gone.wav")
    expect(page.locator("#play")).to_be_disabled()
    expect(page.locator("#text p")).not_to_have_count(0)


def test_three_hours_stay_fluid(visit: Open, site: Site, expected: list[str]) -> None:
    """Thirty thousand words are there; what is not seen is not laid out, and every second is found at once."""
    expected.append("410")  # it has no sound
    id = site.submit(site.cut("long.wav", 52, 60), "--word-timestamps", "--wait")
    make_long(site, id, hours=3, words=30_000)
    page = visit()
    page.goto(f"{site.url}/recordings/{id}/transcript#t=9000", wait_until="domcontentloaded")

    expect(page.locator("#text .now")).to_be_in_viewport()
    assert page.locator("#text [data-t]").count() == 30_000
    assert page.locator("#text .now").get_attribute("data-t") == "9000.00"
    laid_out = """() => [...document.querySelectorAll('#text p > span:first-of-type')]
        .filter((one) => one.checkVisibility({ contentVisibilityAuto: true })).length"""
    assert 0 < page.evaluate(laid_out) < 200 < page.locator("#text p").count()
    page.get_by_label("Search in this transcript").fill("word77")
    expect(page.locator("#count")).to_have_text("111 hits")  # word77, word770 to word779, word7700 to word7799
    page.keyboard.press("Enter")
    expect(page.locator("#text .here").first).to_be_in_viewport()


def make_long(site: Site, id: int, *, hours: int, words: int) -> None:
    """Have a transcript say so many words, evenly, in paragraphs of twenty."""
    from sqlalchemy import update

    from storage.keys import pcm_key
    from storage.tables import RecordingRow, TranscriptRow

    [(_, transcript)] = site.farm.desk.submission(id).transcripts
    work = site.farm.ledger.work(transcript)
    assert work.document is not None
    duration = hours * 3600 * 16_000
    step = duration // words
    template = next(one for one in work.document["segments"] if one["words"])
    word = template["words"][0]
    segments = [
        template
        | {
            "span": {"start": first * step, "end": (first + 20) * step},
            "text": "".join(f" word{i}" for i in range(first, first + 20)),
            "words": [
                word | {"span": {"start": i * step, "end": (i + 1) * step}, "text": f" word{i}"}
                for i in range(first, first + 20)
            ],
        }
        for first in range(0, words, 20)
    ]
    coverage = [{"span": {"start": 0, "end": duration}, "kind": "transcribed", "score": None, "reason": None}]
    document = work.document | {"segments": segments, "coverage": coverage}
    with site.farm.database.begin() as connection:
        connection.execute(update(TranscriptRow).where(TranscriptRow.id == transcript).values(document=document))
        connection.execute(update(RecordingRow).where(RecordingRow.id == work.recording).values(duration=duration))
    for key in (pcm_key(work.recording), site.farm.desk.submission(id).source):  # of eight seconds, not of three hours
        site.farm.store.delete(key)
