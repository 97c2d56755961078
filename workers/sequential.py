"""Sequential mode: a chunk of any length, heard window by window, each beginning where the text before it ended.

The algorithm is openai/whisper's (`transcribe.py`); `scheduler/seek.py` and `scheduler/hallucination.py` hold its
rules. It is a state without I/O: who drives it decodes one window after the other, and as many chunks of other
recordings beside it as there are slots.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from models.alignment.words import timed_words
from models.decoding.requests import Decoding, Heard
from models.decoding.segments import TimedTokens
from models.tokens import TIMESTAMP_STEP, Vocabulary
from scheduler.seek import FRAME, by_words, keep, last_end
from scheduler.suspicion import suspicion
from stenopool.domain import SAMPLE_RATE, Chunk, ChunkResult, Options, Segment, Skip, Span
from workers.decoding import decoding_of, hotwords, initial_prompt
from workers.transcribe import guards, is_silence


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """What a chunk of a sequential transcript tells the next one."""

    #: Text before it, timestamps among it, as much as a prompt holds.
    tokens: tuple[int, ...]
    #: Sample of the recording at which the last word ended; 0 if there was none.
    last_speech: int = 0


def carried_of_record(record: Mapping[str, Any]) -> Carried:
    """What the ledger kept of it."""
    return Carried(tokens=tuple(record["tokens"]), last_speech=record["last_speech"])


@dataclass(frozen=True, slots=True)
class _Draft:
    """A segment as it comes out of its window: its times may lie beyond the chunk, its text may be empty."""

    segment: Segment
    tokens: tuple[int, ...]


class Passage:
    """A chunk on its way through its windows.

    Args:
        chunk: of a sequential transcript.
        carried: from the chunk before it; None for a recording's first.
        options: of the recording, resolved.
        vocabulary: of the checkpoint.
        language: in which; None to detect it in each window.
        room: tokens of previous text that a prompt holds: `n_text_ctx // 2 - 1`.
    """

    def __init__(
        self,
        chunk: Chunk,
        carried: Carried | None,
        *,
        options: Options,
        vocabulary: Vocabulary,
        language: str | None,
        room: int,
    ) -> None:
        self._chunk = chunk
        self._options = options
        self._vocabulary = vocabulary
        self._language = language
        self._room = room
        self._carried = carried or Carried(tokens=initial_prompt(options, vocabulary)[-room:])
        self._at = chunk.span.start
        self._segments: list[Segment] = []
        #: What became of sound that gave no text, until a segment follows that can say it.
        self._notes: list[str] = []
        #: Windows without speech that touch, and the lowest probability of <|nospeech|> among them.
        self._silence: tuple[Span, float] | None = None
        self._heard_in: str | None = None
        self._quiet: list[Skip] = []

    @property
    def position(self) -> int:
        """Sample of the recording up to which all is heard."""
        return min(self._at, self._chunk.span.end)

    @property
    def carried(self) -> Carried:
        """What the next chunk is told."""
        return self._carried

    @property
    def window(self) -> Chunk | None:
        """The stretch to hear next, and the speech in it; None once the chunk is through."""
        span, speech = self._chunk.span, self._chunk.speech
        if span.end - self._at < FRAME:
            return None
        window = Span(self._at, min(self._at + self._length, span.end))
        if speech is not None:
            speech = tuple(both for run in speech if (both := run.intersection(window)))
        return Chunk(index=self._chunk.index, span=window, speech=speech)

    def decoding(self) -> Decoding:
        """How to decode that window."""
        window = self.window
        assert window is not None
        # Words to expect stay; of what was said before there is as much as they leave room for, the last of it.
        expected = hotwords(self._options, self._vocabulary)[: self._room]
        said = self._carried.tokens
        said = said[max(0, len(said) + len(expected) - self._room) :]
        decoding = decoding_of(self._options, window, self._vocabulary, self._language)
        return replace(decoding, prompt=expected + said, seek=True)

    def skip(self) -> None:
        """Move on: the window holds no sound."""
        window = self.window
        assert window is not None
        self._no_speech(window.span, 1.0)
        self._at = window.span.end

    def hear(self, heard: Heard) -> None:
        """Keep the text of the window, and move on."""
        window = self.window
        assert window is not None
        span = window.span
        self._heard_in = self._heard_in or heard.language
        if is_silence(heard, self._options):
            self._no_speech(span, heard.no_speech_prob)
            self._at = span.end
            return
        kept = keep(heard.tokens, self._vocabulary.special.timestamp_begin, TIMESTAMP_STEP, len(span))
        drafts = [self._draft(heard, piece, tokens) for piece, tokens in kept.pieces]
        seek = span.start + kept.seek
        dropped: list[_Draft] = []
        if self._options.word_timestamps:
            drafts = self._timed(drafts, heard)
            course = by_words(
                [draft.segment for draft in drafts],
                None if kept.ended else seek,
                heard=span,
                window_end=span.start + self._length,
                end=self._chunk.span.end,
                threshold=self._threshold,
                last_speech=self._carried.last_speech,
            )
            if course.skipped:
                self._note(f"skipped {course.skipped / SAMPLE_RATE:.1f} s before improbable words", span.start)
                self._move(course.seek)
                return
            dropped = drafts[course.kept : course.kept + course.dropped]
            drafts, seek = drafts[: course.kept], course.seek
            if drafts:
                last_speech = last_end([draft.segment for draft in drafts])
                self._carried = replace(self._carried, last_speech=last_speech)
        self._keep(drafts, heard)
        for draft in dropped:
            text, start = draft.segment.text.strip(), draft.segment.span.start
            self._note(f'dropped "{text}", improbable words in silence,', start)
        self._move(seek)

    def result(self) -> ChunkResult:
        """The chunk's text, once it is through."""
        self._no_speech(None)
        language = self._language or self._heard_in or ""
        chunk, quiet = self._chunk, tuple(self._quiet)
        result = ChunkResult(index=chunk.index, span=chunk.span, language=language, segments=(), quiet=quiet)
        if not self._segments:
            return replace(result, skipped="; ".join(self._notes) or None)
        *segments, last = self._segments
        after = tuple(f"after this: {note}" for note in self._notes)
        return replace(result, segments=(*segments, replace(last, guards=last.guards + after)))

    @property
    def _length(self) -> int:
        return round(self._options.chunk_length * SAMPLE_RATE)

    @property
    def _threshold(self) -> int | None:
        """Samples of silence that surround what was never said; None if nobody asks."""
        seconds = self._options.hallucination_silence_threshold
        return None if seconds is None else round(seconds * SAMPLE_RATE)

    def _move(self, seek: int) -> None:
        """The next window begins at the frame nearest to that sample; at the chunk's end, it may be off the grid."""
        span, before = self._chunk.span, self._at
        self._at = seek if seek >= span.end else span.start + round((seek - span.start) / FRAME) * FRAME
        if self._at <= before:
            # The timestamp rules forbid a last pair at the window's very beginning, from which openai/whisper would
            # hear the same window for ever. Were there one, the window would be over.
            self._at = min(before + self._length, span.end)

    def _draft(self, heard: Heard, piece: Span, tokens: tuple[int, ...]) -> _Draft:
        segment = Segment(
            span=Span(self._at + piece.start, self._at + piece.end),
            text=self._vocabulary.text(tokens),
            chunk=self._chunk.index,
            avg_logprob=heard.avg_logprob,
            compression_ratio=heard.compression_ratio,
            no_speech_prob=heard.no_speech_prob,
            temperature=heard.temperature,
            language=heard.language if self._options.multilingual else None,
            guards=tuple(guards(heard)),
        )
        return _Draft(segment, tokens)

    def _timed(self, drafts: Sequence[_Draft], heard: Heard) -> list[_Draft]:
        """The drafts with their words, and the times that those give them."""
        if heard.times is None:  # no text
            return list(drafts)
        end, start = self._vocabulary.special.end_of_text, self._at
        pieces = [
            TimedTokens(
                Span(draft.segment.span.start - start, draft.segment.span.end - start),
                tuple(token for token in draft.tokens if token < end),
            )
            for draft in drafts
        ]
        options, language = self._options, heard.language or ""
        timed, _ = timed_words(
            heard.times,
            pieces,
            lambda tokens: self._vocabulary.split_to_words(tokens, language),
            begin=start,
            last_speech=self._carried.last_speech,
            prepended=options.prepend_punctuations,
            appended=options.append_punctuations,
        )
        return [
            replace(draft, segment=replace(draft.segment, span=one.span, words=one.words))
            for draft, one in zip(drafts, timed, strict=True)
        ]

    # What is kept

    def _keep(self, drafts: Sequence[_Draft], heard: Heard) -> None:
        said = self._carried.tokens
        for draft in drafts:
            segment = draft.segment
            if len(segment.span) and segment.text.strip():
                self._segments.append(self._finished(segment))
                said += draft.tokens
        options = self._options
        unsure = options.prompt_reset_on_temperature
        if not options.condition_on_previous_text or (unsure is not None and heard.temperature > unsure):
            said = ()
        self._carried = replace(self._carried, tokens=said[-self._room :])

    def _finished(self, segment: Segment) -> Segment:
        """The segment inside its chunk, judged, with what happened since the one before."""
        self._no_speech(None)
        before = tuple(f"before this: {note}" for note in self._notes)
        self._notes.clear()
        room = self._chunk.span
        words = tuple(replace(word, span=_within(word.span, room)) for word in segment.words)
        segment = replace(segment, span=_within(segment.span, room), words=words, guards=segment.guards + before)
        return replace(segment, suspicion=suspicion(segment, self._chunk.speech))

    def _note(self, what: str, at: int) -> None:
        self._no_speech(None)
        self._notes.append(f"{what} at {at / SAMPLE_RATE:.2f} s")

    def _no_speech(self, span: Span | None, probability: float = 0.0) -> None:
        """One more window without speech; None ends their row."""
        before = self._silence
        if before and span and before[0].end == span.start:
            self._silence = Span(before[0].start, span.end), min(before[1], probability)
            return
        self._silence = (span, probability) if span else None
        if before:
            silence, least = before
            start, end = silence.start / SAMPLE_RATE, silence.end / SAMPLE_RATE
            self._notes.append(f"no speech from {start:.2f} s to {end:.2f} s (probability {least:.2f})")
            self._quiet.append(Skip(silence, f"no speech (probability {least:.2f})"))


def _within(span: Span, room: Span) -> Span:
    start = min(max(span.start, room.start), room.end)
    return Span(start, max(min(span.end, room.end), start))
