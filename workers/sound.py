"""Sound: what was handed in, to be listened to, made of its samples in the object store as it is asked for.

Where the samples are gone and the file is there, that is given instead. Who may not hear all of it hears silence where
something is redacted, and where nobody knows yet what was said.
"""

from __future__ import annotations

import hashlib
import mimetypes
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from scheduler.redaction import join_spans, muted
from stenopool.domain import Span
from stenopool.errors import SoundGone, SoundNotYet, UsageError
from stenopool.masking import Mask
from storage.desk import Submission
from storage.keys import is_source_key, pcm_key
from storage.ledger import Source
from storage.objects import ObjectStore
from storage.records import read_document
from storage.redactions import Redactions
from storage.tables import GONE
from workers.farm import Farm
from workers.ingest import has_pcm
from workers.source import shown
from workers.wav import BYTES_PER_SAMPLE, wav_header

#: Bytes that are in memory at a time.
PIECE = 1 << 18


@dataclass(frozen=True, slots=True, kw_only=True)
class Sound:
    """A file that can be read anywhere; it need not be one."""

    #: As which a browser saves it.
    name: str
    media_type: str
    #: Bytes.
    size: int
    #: Other bytes have another one.
    tag: str
    #: Bytes `[start, end)`. Raises SoundGone where they were removed meanwhile.
    read: Callable[[int, int], bytes]

    def pieces(self, start: int, end: int) -> Iterator[bytes]:
        """The same bytes, a piece at a time."""
        for at in range(start, end, PIECE):
            yield self.read(at, min(end, at + PIECE))


def sound_of(
    farm: Farm, submission: Submission, *, channel: int | None = None, span: Span | None = None, full: bool
) -> Sound:
    """The sound of a submission.

    Args:
        channel: from 1, where they were split; None for all of them: two are left and right, more are mixed.
        span: in samples; None for all of it.
        full: whoever listens may hear what is redacted.

    Raises:
        SoundGone: neither samples nor file are there.
        SoundNotYet: it is not decoded yet; or it is to be redacted, and nobody knows where yet.
        UsageError: there is no such channel, or the span begins behind the end.
    """
    sources = sources_of(farm, submission, channel)
    silent = {} if full else silent_spans(farm, submission)
    if sources and all(has_pcm(farm.store, source.recording, source.duration) for source in sources):
        return _of_samples(farm.store, submission, sources, span, silent)
    unseen = submission.redact is not None and not full  # besides the samples, a file may have pictures, and tags
    if silent or unseen or (channel, span) != (None, None):
        raise gone(submission)
    return _of_file(farm.store, submission)


def sources_of(farm: Farm, submission: Submission, channel: int | None) -> list[Source]:
    """The recordings that a submission was decoded to, or the one of a channel; empty where it was not yet.

    Raises:
        UsageError: there is no such channel.
    """
    sha256 = submission.file_sha256
    known = farm.ledger.sources(sha256, split=submission.split) if sha256 else []
    if channel is None or not known:
        return known
    if not (found := [source for source in known if source.channel == channel]):
        there = f"1 to {len(known)}" if submission.split else "none of its own: they were mixed"
        raise UsageError(f"{submission.id} has no channel {channel}; there are {there}")
    return found


def silent_spans(farm: Farm, submission: Submission) -> dict[int, tuple[Span, ...]]:
    """What is not for everybody, by channel; a channel of which all may be heard has no entry.

    Raises:
        SoundNotYet: something is to be redacted, and nobody knows where yet.
    """
    versions: dict[int, list[tuple[int, tuple[Mask, ...]]]] = {}
    for at, transcript, masks in Redactions(farm.database).of_submission(submission.id):
        versions.setdefault(at, []).append((transcript, masks))
    channels = {at for at, _ in submission.transcripts}
    if submission.redact is not None and (not channels or channels - versions.keys()):
        raise SoundNotYet(
            f"the sound of {submission.id} is to be redacted, and where is known once it is transcribed; try later"
        )
    spans = {
        at: join_spans(
            span
            for number, (transcript, masks) in enumerate(reversed(these))
            # What the newest could not transcribe, nobody has looked through.
            for span in _silent(farm, transcript, masks, gaps=number == 0 and submission.redact is not None)
        )
        for at, these in versions.items()
    }
    return {at: tuple(found) for at, found in spans.items() if found}


@lru_cache(maxsize=64)  # a player asks for a range every few seconds, and a long document takes a while to read
def _silent(farm: Farm, transcript: int, masks: tuple[Mask, ...], *, gaps: bool) -> tuple[Span, ...]:
    work = farm.ledger.work(transcript)
    segments, coverage = read_document(work.document or {"segments": [], "coverage": []})
    unheard = [piece.span for piece in coverage.gaps] if gaps else []
    return (*muted(segments, masks, work.duration), *unheard)


def _of_samples(
    store: ObjectStore,
    submission: Submission,
    sources: Sequence[Source],
    span: Span | None,
    silent: dict[int, tuple[Span, ...]],
) -> Sound:
    whole = Span(0, sources[0].duration)
    part = whole if span is None else whole.intersection(span)
    if part is None:
        if span is not None and len(whole):
            raise UsageError(f"{submission.id} ends at {whole.seconds:.3f} s; ask for a part before that")
        part = Span(0, 0)
    tracks = [_Track(store, submission, source, silent.get(source.channel, ())) for source in sources]
    channels = 2 if len(tracks) == 2 else 1
    header = wav_header(len(part), channels)
    frame = channels * BYTES_PER_SAMPLE

    def read(start: int, end: int) -> bytes:
        at, until = max(0, start - len(header)), max(0, end - len(header))
        first, last = at // frame, -(-until // frame)
        frames = _frames(tracks, Span(part.start + first, part.start + last)) if first < last else b""
        return header[start:end] + frames[at - first * frame : until - first * frame]

    of = hashlib.sha256(repr([(one.recording, one.channel) for one in sources]).encode())
    of.update(repr((part, sorted(silent.items()))).encode())
    stem = submission.name.rpartition(".")[0] or submission.name
    return Sound(
        name=f"{stem}.wav",
        media_type="audio/wav",
        size=len(header) + len(part) * frame,
        tag=of.hexdigest()[:32],
        read=read,
    )


class _Track:
    """The samples of one recording, silent where they are to be."""

    def __init__(self, store: ObjectStore, submission: Submission, source: Source, silent: tuple[Span, ...]) -> None:
        self._store = store
        self._submission = submission
        self._key = pcm_key(source.recording)
        self._silent = silent
        self._starts = [span.start for span in silent]

    def samples(self, span: Span) -> np.ndarray:
        try:
            raw = self._store.read(self._key, span.start * BYTES_PER_SAMPLE, span.end * BYTES_PER_SAMPLE)
        except KeyError:
            raise gone(self._submission) from None
        samples = np.frombuffer(raw, "<i2")
        for one in self._silent[max(0, bisect_right(self._starts, span.start) - 1) :]:
            if one.start >= span.end:
                break
            if common := one.intersection(span):
                samples = samples if samples.flags.writeable else samples.copy()
                samples[common.start - span.start : common.end - span.start] = 0
        return samples


def _frames(tracks: Sequence[_Track], span: Span) -> bytes:
    rows = [track.samples(span) for track in tracks]
    if len(rows) == 1:
        return bytes(rows[0].data)
    together: np.ndarray = np.stack(rows, axis=1)
    if len(rows) > 2:
        together = together.mean(axis=1).astype("<i2")
    return together.tobytes()


def _of_file(store: ObjectStore, submission: Submission) -> Sound:
    """The file that was handed in, as it is."""
    key = submission.source
    size = store.size(key) if is_source_key(key) else None
    if size is None:
        raise gone(submission, "its samples and its file are") if is_source_key(key) else gone(submission)
    guessed, packed = mimetypes.guess_type(submission.name)
    # Nothing else: a browser would show it.
    plays = guessed is not None and guessed.startswith(("audio/", "video/")) and packed is None

    def read(start: int, end: int) -> bytes:
        try:
            return store.read(key, start, end)
        except KeyError:
            raise gone(submission, "its samples and its file are") from None

    return Sound(
        name=submission.name,
        media_type=guessed if plays and guessed else "application/octet-stream",
        size=size,
        tag=(submission.file_sha256 or key)[:32],
        read=read,
    )


def gone(submission: Submission, what: str = "its samples are") -> SoundGone | SoundNotYet:
    """The error where a submission's sound is not there: not any more, or not yet."""
    name = shown(submission.name)
    if submission.state in GONE:
        return SoundGone(f"{name}: is deleted")
    if not submission.ended and submission.duration is None:
        return SoundNotYet(f"{name}: is not decoded yet; try later")
    return SoundGone(
        f"{name}: {what} not kept any more; to keep those of other recordings for longer: "
        f"stenopool retention set --tenant {submission.tenant} --pcm 30d"
    )
