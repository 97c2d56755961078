"""What is to be handed in, as whoever lists it says: a file, an object, a URL, with how it is to be done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One recording to be handed in."""

    #: A path of this machine, s3://bucket/key, or an http(s) URL.
    location: str
    #: What people call it, and its outputs are named after.
    name: str
    #: Of the options that change the text (stenopool.options), those that are its own: language, vocabulary.
    options: Mapping[str, object] = field(default_factory=dict)
    #: None: as whoever hands it in has it for all.
    lane: str | None = None
    #: A second one with the same key is the first; None where it has no identity but its bytes.
    key: str | None = None
    #: What else its list says of it; kept with it, and given back with the transcript.
    metadata: Mapping[str, str] = field(default_factory=dict)
