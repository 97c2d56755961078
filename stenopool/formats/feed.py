"""A podcast's feed with its transcripts: `podcast:transcript` tags in the episodes that have some.

The feed is read by expat, which says where in it each episode ends, and the tags are put in there: every other byte
stays as it was. https://github.com/Podcastindex-org/podcast-namespace/blob/main/docs/tags/transcript.md
"""

from __future__ import annotations

import codecs
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from urllib.parse import quote, unquote, urlsplit
from xml.parsers import expat
from xml.sax.saxutils import quoteattr

from stenopool.domain import MULTIPLE
from stenopool.errors import UsageError
from stenopool.formats import format_of

NAMESPACE = "https://podcastindex.org/namespace/1.0"
#: As feeds of the first years declare it.
_OLDER = "https://github.com/Podcastindex-org/podcast-namespace/blob/main/docs/1.0.md"

#: What players know, the one that most of them prefer first; the second is taken where there is no first.
OFFERED = (("podcast-vtt", "vtt"), ("podcast-srt",), ("podcast-json",), ("podcast-html",), ("txt",))
#: With times: closed captions.
_CAPTIONS = frozenset({"podcast-vtt", "vtt", "podcast-srt", "podcast-json"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """The transcripts of one episode."""

    #: Which one: its GUID, the URL of its enclosure, or the name of that one's file, with its ending or without.
    names: tuple[str, ...]
    #: Format and place of each file, below the base URL: {"podcast-vtt": "7/talk.podcast.vtt"}.
    files: Mapping[str, str]
    #: Code of what is spoken; None where the feed's own language is to be taken.
    language: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """A feed with transcripts."""

    feed: bytes
    #: Tags that it had not before.
    added: int
    #: Episodes of the feed, and those for which there was an offer.
    episodes: int
    matched: int
    #: Offers for which it has no episode, or several.
    unmatched: tuple[Offer, ...]


def with_transcripts(feed: bytes, offers: Sequence[Offer], base_url: str) -> Exported:
    """The feed with a tag for each file that is offered for one of its episodes, as far as it has no tag for that URL.

    Args:
        feed: RSS, as it was fetched.
        offers: what there is; an offer is for the episode with one of its names as GUID, else as enclosure.
        base_url: below which the files are to be had.

    Raises:
        UsageError: it is no feed, or one that is not safe to read; the base URL is none.
    """
    base = urlsplit(base_url)
    if base.scheme not in ("http", "https") or not base.netloc or base.query or base.fragment:
        raise UsageError(f"{base_url}: files are offered below an address such as https://example.com/transcripts/")
    text, encoding = _decoded(feed)
    found = _Reader().read(text)
    matches = _matched(found.episodes, offers)
    prefix = _free_prefix(found.bound)
    insertions: list[tuple[int, str]] = []
    needed, added = False, 0
    for index, offer in sorted(matches.items()):
        episode = found.episodes[index]
        new = [tag for url, tag in _tags(offer, base_url) if url not in episode.transcripts]
        if new:
            needed |= episode.prefix is None
            lines = "".join(f"{episode.separator}<{episode.prefix or prefix}:{tag}/>" for tag in new)
            insertions.append((episode.end, lines))
            added += len(new)
    if needed:
        insertions.append((found.root, f' xmlns:{prefix}="{NAMESPACE}"'))
    taken = {id(offer) for offer in matches.values()}
    return Exported(
        feed=_spliced(text, insertions).decode().encode(encoding) if insertions else feed,
        added=added,
        episodes=len(found.episodes),
        matched=len(matches),
        unmatched=tuple(offer for offer in offers if id(offer) not in taken),
    )


def _tags(offer: Offer, base_url: str) -> Iterator[tuple[str, str]]:
    """URL and tag, without its brackets and prefix, of each file that players know."""
    for formats in OFFERED:
        name = next((one for one in formats if one in offer.files), None)
        if name is None:
            continue
        url = f"{quote(base_url.rstrip('/'), safe=':/?#[]@!$&()*+,;=%~')}/{quote(offer.files[name])}"
        attributes = {"url": url, "type": format_of(name).media_type}
        if offer.language and offer.language != MULTIPLE:
            attributes["language"] = offer.language
        if name in _CAPTIONS:
            attributes["rel"] = "captions"
        yield url, "transcript " + " ".join(f"{key}={quoteattr(value)}" for key, value in attributes.items())


# Which episode


@dataclass(slots=True)
class _Episode:
    """An item of the feed; places are in bytes of it."""

    #: What stands between its parts: line end and indentation, or nothing.
    separator: str = ""
    #: Behind its last part.
    end: int = 0
    guid: str = ""
    enclosures: list[str] = field(default_factory=list)
    #: URLs of its transcripts.
    transcripts: set[str] = field(default_factory=set)
    #: Of the namespace, where it is declared.
    prefix: str | None = None

    @property
    def names(self) -> list[tuple[str, ...]]:
        """What it may be called, the surest first."""
        files = [PurePosixPath(unquote(urlsplit(url).path)) for url in self.enclosures]
        return [
            (self.guid,) if self.guid else (),
            tuple(self.enclosures),
            tuple(file.name for file in files),
            tuple(file.stem for file in files),
        ]


def _matched(episodes: Sequence[_Episode], offers: Sequence[Offer]) -> dict[int, Offer]:
    """By episode, what is offered for it; a name that several episodes have is none's."""
    matches: dict[int, Offer] = {}
    left = list(offers)
    for surest in range(4):
        names: dict[str, int] = {}
        counts: Counter[str] = Counter()
        for index, episode in enumerate(episodes):
            for name in set(episode.names[surest]):
                counts[name] += 1
                names[name] = index
        rest = []
        for offer in left:
            index = next((names[name] for name in offer.names if counts[name] == 1), -1)
            if index >= 0 and index not in matches:
                matches[index] = offer
            else:
                rest.append(offer)
        left = rest
    return matches


# Reading


@dataclass(slots=True)
class _Found:
    """What a feed has; places are in bytes of it."""

    episodes: list[_Episode] = field(default_factory=list)
    #: Behind the name of its first tag.
    root: int = 0
    #: Prefixes that it gives, and to which namespaces.
    bound: dict[str, set[str]] = field(default_factory=dict)


class _Reader:
    """Reads a feed in UTF-8 once."""

    def __init__(self) -> None:
        self._found = _Found()
        self._path: list[str] = []
        self._scopes: list[dict[str, str]] = [{}]
        self._episode: _Episode | None = None
        self._guid: list[str] | None = None
        self._feed = b""
        self._parser = expat.ParserCreate("utf-8")
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._characters
        self._parser.EntityDeclHandler = _refuse_entities

    def read(self, feed: bytes) -> _Found:
        """What is in it. Raises UsageError where it is no feed."""
        self._feed = feed
        try:
            self._parser.Parse(feed, True)
        except expat.ExpatError as error:
            what = expat.ErrorString(error.code)
            raise UsageError(f"is no well-formed XML: {what} in line {error.lineno}, column {error.offset}") from error
        return self._found

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        at = self._parser.CurrentByteIndex
        declared = {
            key.removeprefix("xmlns").removeprefix(":"): value
            for key, value in attributes.items()
            if key == "xmlns" or key.startswith("xmlns:")
        }
        for prefix, namespace in declared.items():
            self._found.bound.setdefault(prefix, set()).add(namespace)
        self._scopes.append({**self._scopes[-1], **declared} if declared else self._scopes[-1])
        if not self._path:
            if name != "rss":
                raise UsageError(f"is no RSS feed: it begins with <{name}>, not with <rss>")
            self._found.root = at + len(b"<rss")
        self._path.append(name)
        if self._path == ["rss", "channel", "item"]:
            self._episode = _Episode(prefix=self._prefix())
        elif self._episode is not None and len(self._path) == 4:
            self._part(name, attributes, at)

    def _part(self, name: str, attributes: dict[str, str], at: int) -> None:
        """A part of an episode begins."""
        assert self._episode is not None
        if not self._episode.end:
            self._episode.separator = self._space_before(at).decode()
            self._episode.end = at
        prefix, _, local = name.rpartition(":")
        if name == "guid":
            self._guid = []
        elif name == "enclosure" and attributes.get("url"):
            self._episode.enclosures.append(attributes["url"].strip())
        elif local == "transcript" and self._scopes[-1].get(prefix) in (NAMESPACE, _OLDER):
            self._episode.transcripts.add(attributes.get("url", "").strip())

    def _end(self, name: str) -> None:
        at = self._parser.CurrentByteIndex
        if self._episode is not None and len(self._path) == 3:
            if self._episode.end:
                self._episode.end = at - len(self._space_before(at))
            self._found.episodes.append(self._episode)
            self._episode = None
        elif self._guid is not None and name == "guid":
            if self._episode is not None:
                self._episode.guid = "".join(self._guid).strip()
            self._guid = None
        self._path.pop()
        self._scopes.pop()

    def _characters(self, text: str) -> None:
        if self._guid is not None:
            self._guid.append(text)

    def _space_before(self, at: int) -> bytes:
        """The white space in front of a place, as far as anybody writes any."""
        before = self._feed[max(0, at - 1000) : at]
        return before[len(before.rstrip(b" \t\r\n")) :]

    def _prefix(self) -> str | None:
        """Of the namespace, here; the present one before the older one."""
        scope = self._scopes[-1]
        known = {uri: prefix for prefix, uri in scope.items() if prefix}
        return known.get(NAMESPACE) or known.get(_OLDER)


def _refuse_entities(name: str, *_: object) -> None:
    raise UsageError(f"declares the entity {name}: feeds have none, and such text may grow without end; take it out")


def _free_prefix(bound: Mapping[str, set[str]]) -> str:
    """The usual one, or one that the feed gives to nothing else."""
    names = ("podcast", *(f"podcast{n}" for n in range(1, 10_000)))
    return next(name for name in names if bound.get(name, set()) <= {NAMESPACE})


# Bytes

_DECLARED = re.compile(rb"""\A<\?xml[^>]*?\bencoding\s*=\s*["']([A-Za-z0-9._-]+)["']""")


def _decoded(feed: bytes) -> tuple[bytes, str]:
    """The feed in UTF-8, and what it was in; raises UsageError where it is not what it says."""
    encoding = "utf-8"
    if feed.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16-le" if feed.startswith(codecs.BOM_UTF16_LE) else "utf-16-be"
    elif declared := _DECLARED.match(feed):
        encoding = declared[1].decode()
    try:
        text = feed.decode(encoding)
        same = text.encode(encoding) == feed
    except (LookupError, UnicodeError) as error:
        raise UsageError(f"is not in {encoding}, as it says") from error
    if not same:
        raise UsageError(f"cannot be kept letter by letter in {encoding}; save it as UTF-8")
    return text.encode(), encoding


def _spliced(text: bytes, insertions: Sequence[tuple[int, str]]) -> bytes:
    """The bytes with something put in at places of them."""
    pieces, at = [], 0
    for place, new in sorted(insertions):
        pieces += [text[at:place], new.encode()]
        at = place
    return b"".join([*pieces, text[at:]])
