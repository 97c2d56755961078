"""Passages: what of a transcript is found as one. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from stenopool.domain import SAMPLE_RATE, Segment
from stenopool.masking import Mask, mask_text
from stenopool.wording import words_of
from storage.tables import View

#: Words after which a passage ends, with the segment they are in: a quarter of a minute. Of phrases of three words, 4 %
#: are cut in two by its ends; 22 % where each segment is one (bench/search.json).
WORDS = 40

#: Samples of silence at which it ends sooner: what follows is about something else.
PAUSE = 10 * SAMPLE_RATE

#: Postgres' configurations by language; any other has its words compared as they are.
CONFIGS = {
    "ar": "arabic", "hy": "armenian", "eu": "basque", "ca": "catalan", "da": "danish", "nl": "dutch", "en": "english",
    "fi": "finnish", "fr": "french", "de": "german", "el": "greek", "hi": "hindi", "hu": "hungarian",
    "id": "indonesian", "it": "italian", "lt": "lithuanian", "ne": "nepali", "no": "norwegian", "nn": "norwegian",
    "pt": "portuguese", "ro": "romanian", "ru": "russian", "sr": "serbian", "es": "spanish", "sv": "swedish",
    "ta": "tamil", "tr": "turkish", "yi": "yiddish",
}  # fmt: skip
SIMPLE = "simple"


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """A few segments, as they are searched."""

    language: str
    view: View
    #: Samples.
    start: int
    end: int
    text: str
    #: Character and sample at which each of its segments begins.
    marks: tuple[tuple[int, int], ...]

    @property
    def config(self) -> str:
        """Postgres' text search configuration for its language."""
        return CONFIGS.get(self.language, SIMPLE)

    @property
    def words(self) -> str:
        """As they are compared."""
        return " ".join(spoken.word for spoken in words_of(self.text))


def passages_of(
    segments: Sequence[Segment],
    language: str | None,
    masks: Mapping[int, Sequence[Mask]] | None = None,
    *,
    n_words: int = WORDS,
) -> Iterator[Passage]:
    """The passages of a transcript; where something is redacted, such a one in both forms.

    Args:
        language: of segments that say nothing of theirs.
        masks: what is redacted, by segment; None where nobody looked: then only who may see all finds it.
    """
    for group in _groups(segments, language, n_words):
        first = segments[group[0]]
        common = {"language": first.language or language or "", "start": first.span.start}
        common["end"] = max(segments[at].span.end for at in group)
        full, marks = _joined([(segments[at].span.start, segments[at].text) for at in group])
        if not words_of(full):
            continue
        if masks is None:
            yield Passage(**common, view=View.FULL, text=full, marks=marks)  # type: ignore[arg-type]
            continue
        hidden = [(segments[at].span.start, mask_text(segments[at].text, masks.get(at, ()))) for at in group]
        redacted, redacted_marks = _joined(hidden)
        changed = redacted != full
        yield Passage(**common, view=View.FULL if changed else View.ALL, text=full, marks=marks)  # type: ignore[arg-type]
        if changed:
            yield Passage(**common, view=View.REDACTED, text=redacted, marks=redacted_marks)  # type: ignore[arg-type]


def _groups(segments: Sequence[Segment], language: str | None, n_words: int) -> Iterator[list[int]]:
    group: list[int] = []
    n = 0
    for at, segment in enumerate(segments):
        if group:
            last = segments[at - 1]
            apart = segment.span.start - last.span.end > PAUSE
            if n >= n_words or apart or (segment.language or language) != (last.language or language):
                yield group
                group, n = [], 0
        group.append(at)
        n += len(words_of(segment.text))
    if group:
        yield group


def _joined(texts: Sequence[tuple[int, str]]) -> tuple[str, tuple[tuple[int, int], ...]]:
    """Segments' texts as one line, and where each begins."""
    line, marks = "", []
    for start, text in texts:
        # No database takes a zero byte in a text, nor half a character.
        clean = " ".join(text.replace("\x00", " ").encode("utf-8", "replace").decode().split())
        if not clean:
            continue
        line += " " if line else ""
        marks.append((len(line), start))
        line += clean
    return line, tuple(marks)
