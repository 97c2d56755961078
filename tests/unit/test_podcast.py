"""Podcasts: what a feed lists, whatever publishers do to theirs."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from scheduler.podcast import MOST_BYTES, Feed, read_feed
from stenopool.errors import UsageError

URL = "https://example.org/feed.xml"


def rss(*items: str, head: str = "<title>Talks</title>") -> bytes:
    """An RSS feed."""
    spaces = (
        'xmlns:itunes="http://www.itunes.com/dtds/podcast-1.0.dtd" xmlns:atom="http://www.w3.org/2005/Atom" '
        'xmlns:podcast="https://podcastindex.org/namespace/1.0"'
    )
    return f'<?xml version="1.0"?><rss version="2.0" {spaces}><channel>{head}{"".join(items)}</channel></rss>'.encode()


def episode(n: int = 1, *, url: str = "", length: int = 1000, title: str = "", more: str = "") -> str:
    """An entry with something to hear."""
    url = url or f"https://cdn.example.org/{n}.mp3"
    return (
        f"<item><title>{title or f'Episode {n}'}</title><guid>talks-{n}</guid>"
        f"<pubDate>Fri, 0{n} May 2024 10:00:00 GMT</pubDate>"
        f'<enclosure url="{url}" length="{length}" type="audio/mpeg"/>{more}</item>'
    )


def keys(feed: Feed) -> list[str | None]:
    """Of its recordings."""
    return [item.key for item in feed.items]


def test_an_episode_has_what_its_publisher_says() -> None:
    """Where it is, what people call it, and the rest beside it."""
    feed = read_feed(
        rss(
            episode(
                more="<link>https://example.org/1</link><itunes:duration>1:02:03</itunes:duration>"
                '<podcast:transcript url="https://example.org/1.vtt" type="text/vtt" language="en"/>'
                '<podcast:transcript url="/1.srt" type="application/x-subrip" rel="captions"/>'
            )
        ),
        URL,
    )

    [item] = feed.items
    assert (feed.title, feed.silent, feed.following) == ("Talks", 0, None)
    assert item.location == "https://cdn.example.org/1.mp3"
    assert item.name == "2024-05-01 Episode 1.mp3"
    transcripts = json.loads(item.metadata["transcripts"])
    assert {name: value for name, value in item.metadata.items() if name != "transcripts"} == {
        "feed": "Talks",
        "feed_url": URL,
        "title": "Episode 1",
        "guid": "talks-1",
        "published": "2024-05-01T10:00:00+00:00",
        "link": "https://example.org/1",
        "duration": "3723",
    }
    assert transcripts == [
        {"url": "https://example.org/1.vtt", "type": "text/vtt", "language": "en"},
        {"url": "https://example.org/1.srt", "type": "application/x-subrip", "rel": "captions"},
    ]


def test_an_address_that_is_none_is_left_out() -> None:
    """Of a transcript, of sound, of the next page; the rest is listed."""
    other = '<podcast:transcript url="http://[x/1.vtt"/><podcast:transcript url=" 2.vtt "/>'
    head = '<title>Talks</title><atom:link rel="next" href="http://[x/2.xml"/>'

    feed = read_feed(rss(episode(1, url="http://[x/1.mp3"), episode(2, more=other), head=head), URL)

    [item] = feed.items
    assert json.loads(item.metadata["transcripts"]) == [{"url": "https://example.org/2.vtt"}]
    assert (feed.silent, feed.following) == (1, None)


def test_atom_is_a_feed_as_well() -> None:
    """With enclosures that are links, and a next page."""
    feed = read_feed(
        b"""<?xml version="1.0"?><feed xmlns="http://www.w3.org/2005/Atom"><title>Talks</title><id>urn:talks</id>
        <link rel="self" href="https://example.org/feed.xml"/><link rel="next" href="?page=2"/>
        <entry><title>One</title><id>urn:1</id><updated>2024-05-01T10:00:00Z</updated>
        <link rel="enclosure" type="audio/ogg" length="7" href="sounds/one.ogg"/></entry></feed>""",
        URL,
    )

    assert [(item.location, item.name) for item in feed.items] == [
        ("https://example.org/sounds/one.ogg", "2024-05-01 One.ogg")
    ]
    assert feed.following == "https://example.org/feed.xml?page=2"


def test_an_unchanged_enclosure_is_the_same_and_a_changed_one_is_another() -> None:
    """Whatever else changes of an episode; and the feed's own guid goes with it to another address."""
    [key] = keys(read_feed(rss(episode()), URL))

    assert keys(read_feed(rss(episode(title="Renamed", more="<link>https://elsewhere.org</link>")), URL)) == [key]
    assert keys(read_feed(rss(episode(length=1001)), URL)) != [key]
    assert keys(read_feed(rss(episode(url="https://cdn.example.org/1b.mp3")), URL)) != [key]
    assert keys(read_feed(rss(episode()), "https://example.org/another.xml")) != [key]
    head = "<title>Talks</title><podcast:guid>9b024349-ccf0-5f69-a609-6b82873eab3c</podcast:guid>"
    assert keys(read_feed(rss(episode(), head=head), URL)) == keys(read_feed(rss(episode(), head=head), URL + "?moved"))


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("What is &quot;AI&quot;? / Part 2", "2024-05-01 What is AI Part 2.mp3"),
        ("../../etc/passwd", "2024-05-01 .. .. etc passwd.mp3"),
        ("Grüße aus Zürich …", "2024-05-01 Grüße aus Zürich ….mp3"),
        ("two\n lines\t&#8238;", "2024-05-01 two lines.mp3"),
        ("x" * 300, f"2024-05-01 {'x' * 89}.mp3"),
    ],
)
def test_names_are_safe(title: str, name: str) -> None:
    """For people to recognise, and for any system to have as a file."""
    [item] = read_feed(rss(episode(title=title)), URL).items

    assert item.name == name


def test_no_two_are_called_the_same() -> None:
    """Each of those that would be has a part of its key, whatever else is on its page."""
    same = [episode(1, title="Live"), episode(1, title="Live", url="https://cdn.example.org/b.mp3"), episode(2)]
    names = [item.name for item in read_feed(rss(*same), URL).items]

    assert len(set(names)) == 3
    assert names[2] == "2024-05-02 Episode 2.mp3"
    assert all(name.startswith("2024-05-01 Live ") and name.endswith(".mp3") for name in names[:2])


def test_sound_is_taken_before_pictures_and_text_not_at_all() -> None:
    """One recording of each entry; entries without any are counted."""
    both = (
        '<item><guid>1</guid><enclosure url="https://a/1.mp4" type="video/mp4"/>'
        '<enclosure url="https://a/1.m4a?x=1" type="audio/mp4"/></item>'
    )
    untyped = '<item><guid>2</guid><enclosure url="https://a/2" type=""/></item>'
    others = [
        '<item><guid>3</guid><enclosure url="https://a/3.pdf" type="text/pdf"/></item>',
        "<item><guid>4</guid><title>News</title></item>",
        '<item><guid>5</guid><enclosure url="file:///etc/passwd" type="audio/mpeg"/></item>',
    ]

    feed = read_feed(rss(both, untyped, *others), URL)

    assert [item.location for item in feed.items] == ["https://a/1.m4a?x=1", "https://a/2"]
    assert [item.name for item in feed.items] == ["1.m4a", "2"]
    assert feed.silent == 3


def test_broken_xml_is_read_as_far_as_it_can_be() -> None:
    """An ampersand by itself, an end that never came."""
    broken = rss(episode(1, title="Tom & Jerry"), episode(2), episode(3))
    found = read_feed(broken[: -len("</channel></rss>") - 30], URL)

    assert [item.metadata["title"] for item in found.items[:2]] == ["Tom & Jerry", "Episode 2"]


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "is empty"),
        (b"  \n", "is empty"),
        (b"<!DOCTYPE html><html><body>Please log in</body></html>", "is a web page, not a feed"),
        (b"<html><head><title>404</title></head></html>", "is a web page, not a feed"),
        (b'{"version": "https://jsonfeed.org/version/1"}', "is no feed"),
        (b"\x1f\x8bnothing", "is damaged gzip"),
    ],
)
def test_what_is_no_feed_is_refused_in_a_line(raw: bytes, why: str) -> None:
    """It names the address, and the cure."""
    with pytest.raises(UsageError) as error:
        read_feed(raw, URL)

    assert str(error.value).startswith(f"{URL}: {why}")
    assert "\n" not in str(error.value)


def test_gzip_is_undone_within_bounds() -> None:
    """A small file that would fill the memory is refused before it does."""
    assert len(read_feed(gzip.compress(rss(episode())), URL).items) == 1

    with pytest.raises(UsageError, match="has more than 64 MB once it is uncompressed"):
        read_feed(gzip.compress(b" " * (MOST_BYTES + 1), 1), URL)


def test_a_feed_opens_no_file_and_no_address(tmp_path: Path) -> None:
    """Neither where all of it spells one, nor by an entity."""
    secret = tmp_path / "secret.xml"
    secret.write_bytes(rss(episode()))
    with pytest.raises(UsageError, match="is no feed"):
        read_feed(str(secret).encode(), URL)

    entity = f'<?xml version="1.0"?><!DOCTYPE rss [<!ENTITY x SYSTEM "file://{secret}">]>'
    feed = read_feed(entity.encode() + rss(episode(title="a &x; b")).partition(b"?>")[2], URL)
    assert "Episode" not in feed.items[0].metadata["title"]


@pytest.mark.parametrize(
    ("said", "seconds"), [("3723", "3723"), ("62:03", "3723"), ("01:02:03.5", "3723"), ("0", None), ("an hour", None)]
)
def test_durations(said: str, seconds: str | None) -> None:
    """As publishers write them."""
    [item] = read_feed(rss(episode(more=f"<itunes:duration>{said}</itunes:duration>")), URL).items

    assert item.metadata.get("duration") == seconds
