"""The publisher's own transcripts: which ones an episode's `podcast:transcript` tags name; pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

#: Transcripts of an episode: languages times formats, and room to spare. What a feed names beyond is left alone.
MOST = 20
#: Characters of a URL, of a media type, and of a language or rel.
LONGEST, LONGEST_TYPE, LONGEST_WORD = 2000, 100, 40

_TYPE = re.compile(r"[a-z0-9][\w.+-]*/[a-z0-9][\w.+-]*", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A transcript as its publisher names it."""

    url: str
    #: In lower case and without parameters; None where none is said.
    media_type: str | None
    language: str | None
    rel: str | None


def links_of(metadata: Mapping[str, str]) -> list[Link]:
    """The transcripts that a recording's metadata names, as `scheduler/podcast.py` keeps them, each URL once.

    Anybody may have written that: what is no such list names none.
    """
    try:
        said = json.loads(metadata.get("transcripts", ""))
    except (ValueError, RecursionError):
        return []
    found: dict[str, Link] = {}
    for one in said if isinstance(said, list) else ():
        if isinstance(one, dict) and (url := _word(one.get("url"), LONGEST)):
            link = Link(
                url=url,
                media_type=media_type_of(one.get("type")),
                language=_word(one.get("language"), LONGEST_WORD),
                rel=_word(one.get("rel"), LONGEST_WORD),
            )
            found.setdefault(url, link)
    return list(found.values())[:MOST]


def media_type_of(said: object) -> str | None:
    """In: "Text/VTT; charset=utf-8". Out: "text/vtt"; None for what is no media type."""
    plain = said.partition(";")[0].strip().lower() if isinstance(said, str) else ""
    return plain if len(plain) <= LONGEST_TYPE and _TYPE.fullmatch(plain) else None


def _word(said: object, longest: int) -> str | None:
    """A text of one line that is not too long, else None."""
    plain = said.strip() if isinstance(said, str) else ""
    return plain if plain and len(plain) <= longest and plain.isprintable() else None
