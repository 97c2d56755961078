"""A podcast's feed with its transcripts: tags where they belong, and every other byte as it was."""

from __future__ import annotations

import json
import re
from pathlib import Path

import feedparser
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from stenopool.cli import cli
from stenopool.errors import UsageError
from stenopool.formats import KEPT, format_of, render
from stenopool.formats.feed import NAMESPACE, Offer, with_transcripts
from tests import podcasts
from tests.transcripts import segment, transcript

BASE = "https://cdn.example.com/shows/one/"

FEED = """<?xml version="1.0" encoding="UTF-8"?>
<?xml-stylesheet href="/feed.xsl"?>
<!-- made by hand -->
<rss version='2.0'
     xmlns:itunes="http://www.itunes.com/dtds/podcast-1.0.dtd">
  <channel>
    <title>Caf\u00e9 &amp; <![CDATA[<b>talk</b>]]></title>
    <item>
      <title>One</title>
      <guid isPermaLink="false"> ep-1 </guid>
      <enclosure url="https://media.example.com/a/one.mp3?x=1&amp;y=2" length="1" type="audio/mpeg"/>
    </item>
    <item><title>Two</title><enclosure url="https://media.example.com/b/two.mp3" length="1" type="audio/mpeg"/></item>
    <item>
\t<title>Three</title>\r
\t<guid><![CDATA[https://example.com/3?a=1&b=2]]></guid>\r
\t<description>no &lt;/item&gt; in <![CDATA[ </item> ]]></description><!-- </item> -->\r
    </item >
  </channel>
</rss>
<!-- end -->
"""


def offer(*names: str, language: str | None = "en", **files: str) -> Offer:
    """Transcripts; formats with _ for -."""
    return Offer(
        names=names, files={format.replace("_", "-"): name for format, name in files.items()}, language=language
    )


def tagged(feed: str | bytes, *offers: Offer) -> str:
    """The feed with them."""
    found = with_transcripts(feed.encode() if isinstance(feed, str) else feed, offers, BASE)
    return found.feed.decode()


def test_tags_are_put_where_their_episode_ends() -> None:
    """In its own layout; the namespace is declared once; all else stays."""
    new = tagged(
        FEED,
        offer("ep-1", podcast_vtt="7/one.podcast.vtt", podcast_srt="7/one.podcast.srt", json="7/one.json"),
        offer("https://media.example.com/b/two.mp3", language=None, txt="8/zw\u00f6lf 2.txt"),
    )

    vtt = "https://cdn.example.com/shows/one/7/one.podcast.vtt"
    first = f'<podcast:transcript url="{vtt}" type="text/vtt" language="en" rel="captions"/>'
    assert f'type="audio/mpeg"/>\n      {first}\n      <podcast:transcript ' in new
    second = '<podcast:transcript url="https://cdn.example.com/shows/one/8/zw%C3%B6lf%202.txt" type="text/plain"/>'
    assert f'type="audio/mpeg"/>{second}</item>' in new
    assert new.count("xmlns:podcast=") == 1
    kept = re.sub(r'\s*<podcast:transcript [^>]*/>| xmlns:podcast="[^"]*"', "", new)
    assert kept == FEED
    tags = podcasts.check_feed(new.encode())
    assert [tag["type"] for tag in tags["ep-1"]] == ["text/vtt", "application/x-subrip"]


def test_done_twice_it_changes_nothing() -> None:
    """And a file more is a tag more."""
    once = tagged(FEED, offer("ep-1", podcast_vtt="one.vtt"))

    assert tagged(once, offer("ep-1", podcast_vtt="one.vtt")) == once
    more = tagged(once, offer("ep-1", podcast_vtt="one.vtt", podcast_html="one.html"))
    assert more.count("<podcast:transcript ") == 2
    assert more.count("xmlns:podcast=") == 1


def test_nothing_to_add_leaves_every_byte() -> None:
    """Also those that XML does not mean."""
    found = with_transcripts(FEED.encode(), [offer("ep-9", txt="9.txt")], BASE)

    assert (found.feed, found.added, found.matched, found.episodes) == (FEED.encode(), 0, 0, 3)
    assert [one.names for one in found.unmatched] == [("ep-9",)]


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("ep-1", "One"),
        ("https://media.example.com/a/one.mp3?x=1&y=2", "One"),
        ("one.mp3", "One"),
        ("two", "Two"),
        ("https://example.com/3?a=1&b=2", "Three"),
    ],
)
def test_an_episode_has_several_names(name: str, title: str) -> None:
    """Its GUID, its enclosure, the file of that one."""
    new = tagged(FEED, offer(name, txt="a.txt"))

    [entry] = [entry for entry in feedparser.parse(new).entries if "podcast_transcript" in entry]
    assert entry.title == title


def test_a_name_of_several_episodes_is_nobodys() -> None:
    """Hosts that call every file media.mp3 need GUIDs; the GUID goes before the file of another one."""
    items = "".join(
        f'<item><guid>{guid}</guid><enclosure url="https://e.com/{n}/media.mp3"/></item>'
        for n, guid in enumerate(["g1", "g2", "media"])
    )
    feed = f'<rss version="2.0"><channel>{items}</channel></rss>'
    found = with_transcripts(feed.encode(), [offer("media.mp3", txt="a.txt"), offer("media", txt="b.txt")], BASE)

    assert [one.names for one in found.unmatched] == [("media.mp3",)]
    assert found.feed.decode().index("b.txt") > found.feed.decode().index("<guid>media</guid>")


def test_the_publishers_own_stay() -> None:
    """Whatever prefix he has for the namespace is ours as well; of both addresses that it had."""
    for uri in ("https://podcastindex.org/namespace/1.0", podcasts_older()):
        feed = (
            f'<rss version="2.0" xmlns:pc="{uri}"><channel><item><guid>a</guid>'
            '<pc:transcript url="https://own.example.com/a.vtt" type="text/vtt"/></item></channel></rss>'
        )
        new = tagged(feed, offer("a", podcast_vtt="a.vtt"))

        assert new.count("<pc:transcript ") == 2
        assert "xmlns:podcast" not in new
        assert new.replace(re.findall(r"<pc:transcript [^>]*/>", new)[1], "") == feed


def test_a_namespace_that_is_declared_where_it_is_used() -> None:
    """The usual prefix is declared once more for the others, as it means the same."""
    feed = (
        '<rss version="2.0"><channel><item><guid>a</guid>'
        f'<podcast:transcript xmlns:podcast="{NAMESPACE}" url="https://own.example.com/a.vtt" type="text/vtt"/></item>'
        "<item><guid>b</guid></item></channel></rss>"
    )

    new = tagged(feed, offer("a", txt="a.txt"), offer("b", txt="b.txt"))

    assert {guid: len(tags) for guid, tags in podcasts.check_feed(new.encode()).items()} == {"a": 2, "b": 1}
    assert f'<rss xmlns:podcast="{NAMESPACE}"' in new


def podcasts_older() -> str:
    """The address of the first years."""
    return "https://github.com/Podcastindex-org/podcast-namespace/blob/main/docs/1.0.md"


def test_a_prefix_that_means_something_else() -> None:
    """Another is taken."""
    feed = '<rss xmlns:podcast="https://example.com/other"><channel><item><guid>a</guid></item></channel></rss>'

    new = tagged(feed, offer("a", txt="a.txt"))

    assert 'xmlns:podcast1="https://podcastindex.org/namespace/1.0"' in new
    assert "<podcast1:transcript " in new


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "iso-8859-1", "windows-1252", "shift_jis"])
def test_feeds_stay_in_their_encoding(encoding: str) -> None:
    """Byte by byte, but for what is added."""
    name = {"utf-8-sig": "UTF-8"}.get(encoding, encoding)
    letters = "\u3042" if encoding == "shift_jis" else "caf\u00e9"
    item = f"<item><title>{letters}</title><guid>a</guid>\n</item>"
    feed = f'<?xml version="1.0" encoding="{name}"?>\n<rss><channel>{item}</channel></rss>'

    new = with_transcripts(feed.encode(encoding), [offer("a", txt="a.txt")], BASE).feed

    added = '<podcast:transcript url="https://cdn.example.com/shows/one/a.txt" type="text/plain" language="en"/>'
    shown = new.decode(encoding)
    assert added in shown
    assert shown.replace(added, "").replace(' xmlns:podcast="https://podcastindex.org/namespace/1.0"', "") == feed
    assert with_transcripts(new, [offer("a", txt="a.txt")], BASE).feed == new


BOMB = (
    '<!DOCTYPE rss [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]><rss><channel><title>&b;</title></channel></rss>'
)
OUTSIDE = '<!DOCTYPE rss [<!ENTITY a SYSTEM "file:///etc/passwd">]><rss><channel><title>&a;</title></channel></rss>'


@pytest.mark.parametrize(
    ("feed", "said"),
    [
        (BOMB, "declares the entity a: feeds have none"),
        (OUTSIDE, "declares the entity a: feeds have none"),
        ("<rss><channel></rss>", "is no well-formed XML: mismatched tag in line 1, column 16"),
        ("", "is no well-formed XML: no element found"),
        ("{}", "is no well-formed XML"),
        ("<html></html>", "is no RSS feed: it begins with <html>, not with <rss>"),
        ('<?xml version="1.0" encoding="klingon"?><rss/>', "is not in klingon, as it says"),
    ],
)
def test_what_is_no_feed(feed: str, said: str) -> None:
    """One line; no entity is ever followed."""
    with pytest.raises(UsageError) as caught:
        with_transcripts(feed.encode(), [], BASE)

    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("base", ["out/", "ftp://example.com", "https://", "https://example.com/?a=1"])
def test_a_base_url_that_is_none(base: str) -> None:
    """One line that shows one."""
    with pytest.raises(UsageError, match=r"such as https://example\.com/transcripts/"):
        with_transcripts(FEED.encode(), [], base)


@given(st.text(), st.text(min_size=1), st.sampled_from(["\n      ", "", "\r\n\t"]))
def test_any_title_and_any_file(title: str, name: str, space: str) -> None:
    """Whatever letters: what is added is well formed, and taken away again nothing is left of it."""
    plain = re.sub(r"[^\t\n\x20-\ud7ff\ue000-\ufffd]|&|<|>|\]\]>", "", title)
    feed = f"<rss><channel><item>{space}<title>{plain}</title>{space}<guid>a</guid></item></channel></rss>"
    safe = name.encode(errors="ignore").decode() or "a"

    new = tagged(feed, offer("a", txt=safe, podcast_vtt="b.vtt"))

    assert re.sub(r'\s*<podcast:transcript [^>]*/>| xmlns:podcast="[^"]*"', "", new) == feed
    assert tagged(new, offer("a", txt=safe, podcast_vtt="b.vtt")) == new
    assert not feedparser.parse(new.encode()).bozo


# The command


def test_what_is_empty_is_not_offered(tmp_path: Path) -> None:
    """No player opens a subtitle file without a byte; those that say that nothing was said are offered."""
    out = tmp_path / "out"
    out.mkdir()
    for format in ("podcast-srt", "podcast-vtt", "podcast-json", "txt"):
        (out / f"one.{format_of(format).ending}").write_text(render(transcript(), format))
    (tmp_path / "show.xml").write_text(FEED)

    assert feed_export(tmp_path, "out").exit_code == 0
    tags = podcasts.check_feed((tmp_path / "new.xml").read_bytes())["ep-1"]
    assert [tag["type"] for tag in tags] == ["text/vtt", "application/json"]


def test_a_folder_of_transcripts(tmp_path: Path) -> None:
    """Named as the episodes' files; what players do not know, and files of single channels, are left out."""
    spoken = transcript(segment(0, 1, " Hallo."), language="de")
    out = tmp_path / "out"
    out.mkdir()
    for format in (*KEPT, "podcast-srt"):
        ending = format.replace("-", ".")
        (out / f"one.{ending}").write_text(render(spoken, format))
    (out / "one.channel1.txt").write_text("Hallo.\n")
    (tmp_path / "show.xml").write_text(FEED)

    done = feed_export(tmp_path, "out")

    assert done.exit_code == 0, done.output
    tags = podcasts.check_feed((tmp_path / "new.xml").read_bytes())["ep-1"]
    assert [(tag["url"].rpartition("/")[2], tag["type"], tag["language"], tag.get("rel")) for tag in tags] == [
        ("one.vtt", "text/vtt", "de", "captions"),
        ("one.podcast.srt", "application/x-subrip", "de", "captions"),
        ("one.txt", "text/plain", "de", None),
    ]
    assert "3 tags added; 1 of 3 episodes have transcripts of ours" in done.output
    assert "one.channel1: no episode of the feed is it for certain" in done.output


def test_a_list_of_transcripts(tmp_path: Path) -> None:
    """By GUID or enclosure; as JSON, what came of it."""
    (tmp_path / "show.xml").write_text(FEED)
    (tmp_path / "list.json").write_text(
        json.dumps(
            [
                {"guid": "ep-1", "language": "en", "files": ["1/a.podcast.vtt", "1/a.txt"]},
                {"enclosure": "https://media.example.com/b/two.mp3", "files": ["2/b.podcast.json"]},
                {"guid": "ep-9", "files": ["9/c.txt"]},
            ]
        )
    )

    done = feed_export(tmp_path, "list.json", "--json")

    assert json.loads(done.output) == {"episodes": 3, "matched": 2, "added": 3, "unmatched": ["ep-9"]}
    assert '/2/b.podcast.json" type="application/json" rel="captions"/></item>' in (tmp_path / "new.xml").read_text()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[", "is no JSON"),
        ("{}", "is no list of transcripts"),
        ('[{"files": []}]', 'number 1 needs a "guid" or an "enclosure"'),
        ('[{"guid": "a", "files": ["a.docx"]}]', "number 1: a.docx has none of the endings of our formats"),
        ("[]", "there are no transcripts"),
    ],
)
def test_a_list_that_is_none(tmp_path: Path, content: str, said: str) -> None:
    """One line."""
    (tmp_path / "show.xml").write_text(FEED)
    (tmp_path / "list.json").write_text(content)

    done = feed_export(tmp_path, "list.json")

    assert isinstance(done.exception, UsageError)
    assert said in str(done.exception)


def feed_export(folder: Path, source: str, *more: str) -> Result:
    """Run the command on show.xml."""
    paths = ["--transcripts", str(folder / source), "-o", str(folder / "new.xml")]
    return CliRunner().invoke(cli, ["feed", "export", str(folder / "show.xml"), *paths, "--base-url", BASE, *more])
