"""The words that every layer shares: frozen values, no I/O.

Time is counted in samples at 16 kHz, as integers, half-open: `Span(0, 16_000)` is the first second. Seconds appear
only where people or subtitle files read them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Literal, get_args

SAMPLE_RATE = 16_000  # samples per second; the clock of the whole farm

Task = Literal["transcribe", "translate"]

#: How a recording longer than the model's window is transcribed: in chunks that know nothing of each other, or window
#: by window, each going on where the last one's text ended.
Mode = Literal["chunked", "sequential"]

#: The language of a recording whose chunks each have their own; ISO 639-2.
MULTIPLE = "mul"

#: Signs that belong to the word after them, and to the one before.
PREPENDED = "\"'“¿([{-"
APPENDED = "\"'.。,，!！?？:：”)]}、"

#: What a model computes in; `auto` is what suits the device.
DType = Literal["auto", "float32", "bfloat16", "int8"]
DTYPES: tuple[DType, ...] = get_args(DType)

#: Files that may be decoded at once: more than any disk or device keeps up with.
MOST_DECODERS = 64


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A half-open range of samples `[start, end)` at 16 kHz."""

    start: int
    end: int

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.end:
            raise ValueError(f"a span needs 0 <= start <= end, got [{self.start}, {self.end})")

    def __len__(self) -> int:
        return self.end - self.start

    @property
    def seconds(self) -> float:
        """Its length in seconds."""
        return len(self) / SAMPLE_RATE

    def intersection(self, other: Span) -> Span | None:
        """The samples in both, or None where they share none."""
        start, end = max(self.start, other.start), min(self.end, other.end)
        return Span(start, end) if start < end else None


@dataclass(frozen=True, slots=True)
class Word:
    """One word with its time; `text` keeps its leading space, so that words joined give the segment's text."""

    span: Span
    text: str
    probability: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A stretch of text with its time in the recording, and how sure the model was of it."""

    span: Span
    text: str
    #: Index of the chunk that the text came from.
    chunk: int
    #: Mean log-probability of the chunk's tokens, under the rules they were chosen by.
    avg_logprob: float
    #: Length of the chunk's text over its zlib-compressed length; loops compress well (> 2.4 is suspect).
    compression_ratio: float
    #: Probability of <|nospeech|> where the transcript would start.
    no_speech_prob: float
    temperature: float = 0.0
    words: tuple[Word, ...] = ()
    #: Where it is detected for every chunk.
    language: str | None = None
    #: What guards did to the text, in words: a loop that was cut, a limit that was reached.
    guards: tuple[str, ...] = ()
    #: How likely it is, 0 to 1, that this was never said.
    suspicion: float = 0.0
    #: Who says it, where that is known: channels that were joined have one each.
    speaker: str | None = None


class CoverageKind(StrEnum):
    """What became of a stretch of the recording."""

    TRANSCRIBED = "transcribed"
    SILENCE = "silence"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True, kw_only=True)
class CoveragePiece:
    """One stretch of the recording and what became of it."""

    span: Span
    kind: CoverageKind
    #: For silence: the highest speech probability that voice activity detection saw in it.
    score: float | None = None
    #: For what failed or was skipped: why.
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Coverage:
    """A partition of the recording's duration: every sample lies in exactly one piece."""

    pieces: tuple[CoveragePiece, ...]

    def __post_init__(self) -> None:
        at = 0
        for piece in self.pieces:
            if piece.span.start != at:
                raise ValueError(f"coverage has a hole or an overlap at sample {at}: next piece is {piece.span}")
            at = piece.span.end

    def __iter__(self) -> Iterator[CoveragePiece]:
        return iter(self.pieces)

    @property
    def duration(self) -> int:
        """Samples covered: the whole recording."""
        return self.pieces[-1].span.end if self.pieces else 0

    def samples(self, kind: CoverageKind) -> int:
        """How many samples are of that kind."""
        return sum(len(piece.span) for piece in self.pieces if piece.kind is kind)

    @property
    def gaps(self) -> tuple[CoveragePiece, ...]:
        """The stretches that could not be transcribed."""
        return tuple(piece for piece in self.pieces if piece.kind is CoverageKind.FAILED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Everything besides the model that can change a transcript's text; each field is part of the work's digest.

    Names and defaults are those of openai/whisper and faster-whisper where these have them.
    """

    #: A language code of the checkpoint ("en"), or "auto" to detect it from the recording.
    language: str = "auto"
    #: Codes that detection may choose from; empty for all that the checkpoint knows.
    languages: tuple[str, ...] = ()
    #: Detect the language of every chunk, for recordings that change it.
    multilingual: bool = False
    task: Task = "transcribe"
    mode: Mode = "chunked"
    #: Longest chunk in seconds, at most the model's window.
    chunk_length: float = 30.0
    #: Seconds that two chunks share where speech had to be cut without a pause; None for 3. Nothing is shared in
    #: sequential mode.
    overlap: float | None = None
    #: Leave silence out, found by voice activity detection; without it, chunks tile the whole recording.
    vad: bool = True

    #: Hypotheses that a beam search keeps at temperature 0; 1 is greedy.
    beam_size: int = 1
    #: A beam search ends when this many times `beam_size` hypotheses have ended.
    patience: float = 1.0
    #: Samples at temperatures above 0, of which the likeliest is taken.
    best_of: int = 5
    #: Alpha of the ranking of hypotheses (Wu et al. 2016); None divides by the length.
    length_penalty: float | None = None
    #: Tried in turn until the text is good enough by the thresholds below.
    temperature: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    #: A text that compresses better is repetition.
    compression_ratio_threshold: float | None = 2.4
    #: A text whose tokens are, on average, less likely is a guess ...
    log_prob_threshold: float | None = -1.0
    #: ... or silence, if <|nospeech|> is likelier than this as well.
    no_speech_threshold: float | None = 0.6

    #: What may have been said before: names and spellings, as a text. In sequential mode for the first window only.
    initial_prompt: str | None = None
    #: Words to expect, in every chunk or window.
    hotwords: str | None = None
    #: What the text of every chunk or window begins with.
    prefix: str | None = None
    #: Tell each window what was heard before; None does so in sequential mode, and cannot in chunked.
    condition_on_previous_text: bool | None = None
    #: Not where that was heard above this temperature; None for 0.5.
    prompt_reset_on_temperature: float | None = None

    #: Timed text; without, each chunk is one segment.
    without_timestamps: bool = False
    #: Latest first timestamp of a chunk in seconds; None for any.
    max_initial_timestamp: float | None = 1.0
    #: Ids of tokens that are never sampled, -1 for the checkpoint's own list; None for that list alone.
    suppress_tokens: tuple[int, ...] | None = None
    #: Whether a text may not begin with a space or its end.
    suppress_blank: bool = True
    #: Tokens at which a chunk's text ends at the latest; None for half of the model's context.
    max_new_tokens: int | None = None

    #: Tell the time of every word.
    word_timestamps: bool = False
    #: Marks that belong to the word after them ...
    prepend_punctuations: str = PREPENDED
    #: ... and to the word before them.
    append_punctuations: str = APPENDED

    #: Stop a text that goes in circles.
    loop_guard: bool = True
    #: Tokens a second of speech, at which a text is cut off; None for no such limit.
    max_tokens_per_second: float | None = 25.0
    #: Text in which nothing but silence this long surrounds improbable words is dropped; needs `word_timestamps`.
    hallucination_silence_threshold: float | None = None

    def digest(self) -> str:
        """A short name for this set of options; equal options have equal ones."""
        values = {name: _plain(value) for name, value in asdict(self).items()}
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def _plain(value: object) -> object:
    """30 and 30.0, 0.0 and -0.0 are equal; as text they are not."""
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    return value + 0.0 if isinstance(value, int | float) and not isinstance(value, bool) else value


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """The unit of work: a span of at most one model window, whose neighbours overlap where speech was cut.

    In sequential mode speech is not cut: a chunk reaches from silence to silence, and is heard window by window.
    """

    index: int
    span: Span
    #: Where in it voice activity detection heard speech; None where it was not asked.
    speech: tuple[Span, ...] | None = None


@dataclass(frozen=True, slots=True)
class Skip:
    """A stretch of a chunk that gave no text on purpose, and why."""

    span: Span
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkResult:
    """What the engine heard in one chunk; times are in the recording, not in the chunk."""

    index: int
    span: Span
    language: str
    segments: tuple[Segment, ...]
    #: Set where the chunk gave no text on purpose: it becomes coverage `skipped`.
    skipped: str | None = None
    #: Stretches inside it that gave no text on purpose, in order: windows without speech, in sequential mode.
    quiet: tuple[Skip, ...] = ()
    #: Set where the chunk could not be decoded: it becomes coverage `failed`, a gap.
    failed: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Where a transcript comes from: enough to make it again."""

    model: str
    model_digest: str
    #: Digest of the model that drafted for it, where one did.
    assistant_digest: str | None = None
    dtype: str
    options: Options
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """One channel of a transcript in which all channels of a source are joined."""

    #: Which one of the source, from 1.
    channel: int
    #: Who is heard in it; the segments are theirs that have this name.
    speaker: str
    #: SHA-256 of its decoded samples: each channel is a recording of its own.
    recording: str
    language: str | None
    language_probability: float | None
    coverage: Coverage
    ended_early: str | None = None
    damaged: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Transcript:
    """A version of a recording's text."""

    #: The name the recording was given under, for people.
    source: str
    #: SHA-256 of the decoded samples: what the recording is.
    recording: str
    #: Samples at 16 kHz.
    duration: int
    #: None where nothing was spoken and none was given.
    language: str | None
    #: How sure the detection was; None where the language was given.
    language_probability: float | None
    segments: tuple[Segment, ...]
    coverage: Coverage
    provenance: Provenance
    #: Why the source ended before its own end, None where it was whole.
    ended_early: str | None = None
    #: Packets of the source that did not decode; silence of their length stands in their place.
    damaged: int = 0
    #: Which channel of the source this is, from 1; None where channels were mixed, or are joined.
    channel: int | None = None
    #: Where the transcripts of channels are joined in one: what is known of each.
    channels: tuple[Channel, ...] = ()

    @property
    def text(self) -> str:
        """The whole text: the segments joined."""
        return join_text(segment.text for segment in self.segments)

    # The writers are pure functions of a transcript that know nothing of files. They are imported where they are
    # called, because they are written in terms of this module.
    def to_txt(self) -> str:
        """Plain text, a line per segment."""
        from stenopool.formats import render

        return render(self, "txt")

    def to_srt(self) -> str:
        """SubRip subtitles."""
        from stenopool.formats import render

        return render(self, "srt")

    def to_vtt(self) -> str:
        """WebVTT subtitles."""
        from stenopool.formats import render

        return render(self, "vtt")

    def to_tsv(self) -> str:
        """Tab-separated start, end (milliseconds) and text."""
        from stenopool.formats import render

        return render(self, "tsv")

    def to_json(self) -> str:
        """The published JSON schema, whole."""
        from stenopool.formats import render

        return render(self, "json")


def join_text(texts: Iterable[str]) -> str:
    """Segments' texts as one: pieces bring their own leading spaces, as the tokenizer made them."""
    return "".join(texts).strip()
