"""The transcripts of a source's channels as one: who speaks when, and what became of each channel."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from stenopool.domain import Channel, Coverage, CoverageKind, CoveragePiece, Span, Transcript
from stenopool.errors import UsageError

LONGEST_NAME = 40  # characters: with it, a line of subtitles still has room

#: What a stretch is in which channels differ: the first of these that one of them is.
_FIRST = (CoverageKind.FAILED, CoverageKind.TRANSCRIBED, CoverageKind.SKIPPED, CoverageKind.SILENCE)


def check_speakers(names: Sequence[str]) -> tuple[str, ...]:
    """Names for channels, the first one's first.

    Raises:
        UsageError: one is empty, too long, no line, or there twice.
    """
    for number, name in enumerate(names, start=1):
        if not name.strip() or not name.isprintable():
            raise UsageError(f"the name of speaker {number} is {name!r}; give each channel's speaker a name in letters")
        if len(name) > LONGEST_NAME:
            raise UsageError(f"{name}: a speaker's name has {LONGEST_NAME} characters at most, this one {len(name)}")
        if name in names[: number - 1]:
            raise UsageError(f"{name}: two speakers cannot have the same name; tell them apart")
    return tuple(names)


def handed_out(transcripts: Sequence[Transcript], speakers: Sequence[str] = ()) -> list[Transcript]:
    """What is handed out of a source: its transcript; where channels were split, all of them joined, and each."""
    split = [transcript for transcript in transcripts if transcript.channel is not None]
    return [join_channels(split, speakers), *split] if split else list(transcripts)


def join_channels(transcripts: Sequence[Transcript], speakers: Sequence[str] = ()) -> Transcript:
    """One transcript of all that was said in any channel, in the order in which it was begun.

    Every segment is there once and says who speaks, also where several do at the same time. The coverage is a gap where
    any channel has one, and silence where all are silent; that of each channel is kept beside it.

    Args:
        transcripts: of one source, one per channel.
        speakers: who is heard in the first channel, the second, ...; "Channel 3" where there is no name for it.
    """
    ordered = sorted(transcripts, key=lambda one: one.channel or 0)
    channels = [_channel(one, speakers) for one in ordered]
    segments = [
        replace(segment, speaker=channel.speaker)
        for one, channel in zip(ordered, channels, strict=True)
        for segment in one.segments
    ]
    most = max(ordered, key=_spoken)
    return Transcript(
        source=ordered[0].source,
        recording=hashlib.sha256("".join(one.recording for one in ordered).encode()).hexdigest(),
        duration=max(one.duration for one in ordered),
        language=most.language,
        language_probability=most.language_probability,
        segments=tuple(sorted(segments, key=lambda segment: segment.span.start)),
        coverage=Coverage(tuple(_evened(_joined(channels)))),
        provenance=ordered[0].provenance,
        ended_early=next((one.ended_early for one in ordered if one.ended_early), None),
        damaged=max(one.damaged for one in ordered),
        channels=tuple(channels),
    )


def _channel(transcript: Transcript, speakers: Sequence[str]) -> Channel:
    number = transcript.channel or 1
    return Channel(
        channel=number,
        speaker=speakers[number - 1] if number <= len(speakers) else f"Channel {number}",
        recording=transcript.recording,
        language=transcript.language,
        language_probability=transcript.language_probability,
        coverage=transcript.coverage,
        ended_early=transcript.ended_early,
        damaged=transcript.damaged,
    )


def _spoken(transcript: Transcript) -> tuple[bool, int]:
    """By what the language of all is chosen: that of the channel in which most is said."""
    return transcript.language is not None, sum(len(segment.span) for segment in transcript.segments)


def _joined(channels: Sequence[Channel]) -> Iterator[CoveragePiece]:
    """What became of each stretch in which no channel changes."""
    ends = sorted({piece.span.end for channel in channels for piece in channel.coverage} | {0})
    rest = [list(reversed(channel.coverage.pieces)) for channel in channels]
    for start, end in pairwise(ends):
        there = []
        for channel, pieces in zip(channels, rest, strict=True):
            while pieces and pieces[-1].span.end <= start:
                pieces.pop()
            if pieces:  # else this channel has ended
                there.append((channel, pieces[-1]))
        kind = next(kind for kind in _FIRST if any(piece.kind is kind for _, piece in there))
        alike = [(channel, piece) for channel, piece in there if piece.kind is kind]
        scores = [piece.score for _, piece in alike if piece.score is not None]
        reasons = [f"{channel.speaker}: {piece.reason}" for channel, piece in alike if piece.reason]
        yield CoveragePiece(
            span=Span(start, end),
            kind=kind,
            score=max(scores) if scores else None,
            reason="; ".join(reasons) or None,
        )


def _evened(pieces: Iterator[CoveragePiece]) -> Iterator[CoveragePiece]:
    """Neighbours that say the same are one."""
    last: CoveragePiece | None = None
    for piece in pieces:
        if last is not None and replace(piece, span=last.span) == last:
            last = replace(last, span=Span(last.span.start, piece.span.end))
            continue
        if last is not None:
            yield last
        last = piece
    if last is not None:
        yield last


def check_channels(speakers: tuple[str, ...], channels: int, path: Path) -> None:
    """Raises UsageError where there are more names than a file has channels."""
    if len(speakers) > channels:
        raise UsageError(f"{path}: has {channels} channels, and --speakers names {len(speakers)}")
