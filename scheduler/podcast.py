"""Podcasts: a feed's page, RSS or Atom, becomes the recordings that it lists; pure.

An episode is known by its feed, its GUID and its enclosure (address and length): a changed enclosure is another
recording, and an unchanged one is the same, wherever the feed has moved to and whatever else has changed of it.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import unicodedata
import zlib
from calendar import timegm
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit
from xml.etree import ElementTree as ET

from scheduler.items import Item
from stenopool.errors import UsageError

#: Bytes that a page of a feed may have, also once it is uncompressed.
MOST_BYTES = 64 << 20
#: Characters of a name, without its suffix.
LONGEST_NAME = 100

_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,5}")
#: Suffixes by type, where an address has none.
_SUFFIXES = {"audio/mpeg": ".mp3", "audio/mp4": ".m4a", "audio/x-m4a": ".m4a", "audio/ogg": ".ogg", "video/mp4": ".mp4"}


@dataclass(frozen=True, slots=True)
class Feed:
    """A page of a feed."""

    title: str
    items: tuple[Item, ...]
    #: Entries without anything to hear.
    silent: int
    #: URL of the next page; None where there is none.
    following: str | None


def read_feed(raw: bytes, url: str, *, base: str | None = None) -> Feed:
    """The recordings of a page of a feed, in its order. Broken XML is read as far as it can be.

    Args:
        raw: as it was fetched; gzip is undone.
        url: as it is known, which is the feed's identity where it has no `podcast:guid` and no Atom id.
        base: where it was found, for relative addresses.

    Raises:
        UsageError: it is no feed.
    """
    import feedparser  # with its HTML parser and encodings, a fifth of a second

    raw = _uncompressed(raw, url)
    if not raw.strip():
        raise UsageError(f"{url}: is empty; name the address of an RSS or Atom feed")
    # In a file: bytes that spell a path of this machine would be opened. Without its address: GUIDs would get it, too.
    headers = {"content-type": "application/xml"}
    found = feedparser.parse(io.BytesIO(raw), response_headers=headers, sanitize_html=False)
    if not found.version and not found.entries:
        start = raw[:1000].lstrip().lower()
        is_page = start.startswith((b"<!doctype html", b"<html"))
        what = "is a web page, not a feed" if is_page else "is no feed"
        raise UsageError(f"{url}: {what}; name the address of its RSS or Atom feed")
    identity = found.feed.get("podcast_guid") or (found.feed.get("id") if found.version.startswith("atom") else "")
    about = {"feed": _line(found.feed.get("title", "")), "feed_url": url}
    links = _transcript_links(raw)
    items = []
    for place, entry in enumerate(found.entries):
        enclosure = _enclosure(entry, base or url)
        if enclosure is not None:
            given = links[place] if len(links) == len(found.entries) else _transcript_link(entry)
            found_at = [(link, _joined(base or url, link.get("url", "").strip())) for link in given]
            transcripts = [link | {"url": href} for link, href in found_at if href]
            items.append(_item(entry, enclosure, identity or url, about, transcripts))
    following = next((link.get("href") for link in found.feed.get("links", ()) if link.get("rel") == "next"), None)
    return Feed(
        title=about["feed"],
        items=tuple(_distinct(items)),
        silent=len(found.entries) - len(items),
        following=_joined(base or url, following or ""),
    )


def _uncompressed(raw: bytes, url: str) -> bytes:
    if not raw.startswith(b"\x1f\x8b"):
        return raw
    reader = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        plain = reader.decompress(raw, MOST_BYTES)
    except zlib.error as error:
        raise UsageError(f"{url}: is damaged gzip ({error}); fetch it again later") from None
    if reader.unconsumed_tail:
        raise UsageError(f"{url}: has more than {MOST_BYTES >> 20} MB once it is uncompressed; name another feed")
    return plain


def _enclosure(entry: Any, base: str) -> dict[str, str] | None:
    """What is to be heard of an entry: sound before pictures, else what is called like either."""
    found = [one for one in entry.get("enclosures", ()) if one.get("href")]
    kinds = [str(one.get("type", "")).partition("/")[0].lower() for one in found]
    for kind in ("audio", "video"):
        if kind in kinds:
            found = [found[kinds.index(kind)]]
            break
    else:
        # Publishers leave the type out, or call everything a stream of bytes.
        found = [one for one, kind in zip(found, kinds, strict=True) if kind in ("", "application", "binary")]
    if not found:
        return None
    chosen = found[0]
    href = _joined(base, chosen["href"].strip())
    if href is None or urlsplit(href).scheme not in ("http", "https"):
        return None
    return {"url": href, "type": str(chosen.get("type", "")), "length": str(chosen.get("length", "")).strip()}


def _joined(base: str, href: str) -> str | None:
    """An address of a feed in full; None where there is none, or it is no URL."""
    try:
        return urljoin(base, href) if href else None
    except ValueError:
        return None


def _item(
    entry: Any, enclosure: Mapping[str, str], feed: str, about: Mapping[str, str], transcripts: list[dict[str, str]]
) -> Item:
    guid = _line(entry.get("id", "")) or enclosure["url"]
    published = entry.get("published_parsed") or entry.get("updated_parsed")
    at = datetime.fromtimestamp(timegm(published), UTC) if published else None
    seconds = _seconds(str(entry.get("itunes_duration", "")))
    title = _line(entry.get("title", "")) or guid
    metadata = {
        **about,
        "title": title,
        "guid": guid,
        "published": at.isoformat() if at else "",
        "link": entry.get("link", ""),
        "duration": "" if seconds is None else str(seconds),
        "transcripts": json.dumps(transcripts, sort_keys=True) if transcripts else "",
    }
    parts = json.dumps([feed, guid, enclosure["url"], enclosure["length"]])
    return Item(
        location=enclosure["url"],
        name=_name(f"{at:%Y-%m-%d} {title}" if at else title) + _suffix(enclosure),
        key=hashlib.sha256(parts.encode()).hexdigest(),
        metadata={name: value for name, value in metadata.items() if value},
    )


def _name(title: str) -> str:
    """A title as the name of a file that every system takes.

    In:  2024-05-03 What is "AI"? / Part 2
    Out: 2024-05-03 What is AI Part 2
    """
    plain = "".join(" " if one in '/\\:*?"<>|' or unicodedata.category(one)[0] == "C" else one for one in title)
    return " ".join(plain.split())[:LONGEST_NAME].strip(" .") or "episode"


def _suffix(enclosure: Mapping[str, str]) -> str:
    suffix = PurePosixPath(unquote(urlsplit(enclosure["url"]).path)).suffix.lower()
    return suffix if _SUFFIX.fullmatch(suffix) else _SUFFIXES.get(enclosure["type"].lower(), "")


def _distinct(items: list[Item]) -> Iterator[Item]:
    """The items; where several have a name, each has a part of its key in it."""
    counts = Counter(item.name.lower() for item in items)
    for item in items:
        if counts[item.name.lower()] == 1:
            yield item
            continue
        path = PurePosixPath(item.name)
        name = f"{path.stem} {(item.key or '')[:8]}{path.suffix}"
        yield Item(location=item.location, name=name, key=item.key, metadata=item.metadata)


def _seconds(duration: str) -> int | None:
    """In: "1:02:03", "3723", "62:03". Out: 3723; None for what is no time."""
    parts = duration.strip().split(":")
    if not 1 <= len(parts) <= 3 or not all(re.fullmatch(r"\d{1,6}(\.\d*)?", part) for part in parts):
        return None
    seconds = 0
    for part in parts:
        seconds = seconds * 60 + int(float(part))
    return seconds or None


def _transcript_links(raw: bytes) -> list[list[dict[str, str]]]:
    """The publisher's own transcripts of each entry, in order; none where the XML is broken.

    feedparser keeps the last one only of elements that it does not know.
    """
    if b"transcript" not in raw or b"<!ENTITY" in raw:
        return []
    try:
        root = ET.fromstring(raw)
    except (ET.ParseError, ValueError, LookupError):
        return []
    entries = [one for one in root.iter() if one.tag.rpartition("}")[2] in ("item", "entry")]
    return [[dict(one.attrib) for one in entry if _is_transcript(one.tag)] for entry in entries]


def _is_transcript(tag: str) -> bool:
    namespace, _, name = tag.rpartition("}")
    return name == "transcript" and "podcast" in namespace.lower()


def _transcript_link(entry: Any) -> list[dict[str, str]]:
    found = entry.get("podcast_transcript")
    return [{name: str(value) for name, value in found.items()}] if isinstance(found, dict) else []


def _line(text: str) -> str:
    return " ".join(text.split())
