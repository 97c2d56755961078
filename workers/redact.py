"""Redact: what is left of a transcript for those who may not see all, the map that leads back, the sound without it."""

from __future__ import annotations

import tempfile
import threading
import uuid
import wave
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scheduler.redacted import redacted
from scheduler.redaction import Rules, find_masks, muted
from stenopool.config import Limits
from stenopool.domain import SAMPLE_RATE, Span, Transcript
from stenopool.errors import MediaMissing, MediaUnreadable, UsageError
from stenopool.masking import Mask
from storage.folder import FolderStore
from storage.keys import is_source_key
from storage.objects import ObjectStore
from storage.redactions import Redactions
from workers.ingest import BYTES_PER_SAMPLE, SamplesGone, has_pcm, ingest, read_pcm

#: Samples that are written at once.
BLOCK = 60 * SAMPLE_RATE


@dataclass(frozen=True, slots=True, kw_only=True)
class Redacted:
    """A transcript without what is not for everybody."""

    transcript: Transcript
    #: What was taken out: of the original's segments.
    masks: tuple[Mask, ...]


def redact(redactions: Redactions, id: int, transcript: Transcript, rules: Rules) -> Redacted:
    """Redact a transcript, whose id is given; the ledger keeps what, and search goes by it.

    What was redacted of it before, by whatever rules, is redacted here as well.
    """
    masks = redactions.keep(id, find_masks(transcript.segments, rules))
    return Redacted(transcript=redacted(transcript, masks, rules), masks=tuple(masks))


def write_muted(path: Path, store: ObjectStore, transcript: Transcript, masks: Sequence[Mask]) -> None:
    """Write a recording as WAV, 16 kHz mono, with silence where something was redacted: sample for sample.

    Raises:
        SamplesGone: they are not in the object store.
        UsageError: the file cannot be written.
    """
    duration = transcript.duration
    spans = muted(transcript.segments, masks, duration)
    if not has_pcm(store, transcript.recording, duration):
        raise SamplesGone(transcript.recording)
    temporary = path.with_name(f".stenopool-{uuid.uuid4().hex}")
    try:
        with wave.open(str(temporary), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(BYTES_PER_SAMPLE)
            file.setframerate(SAMPLE_RATE)
            for start in range(0, duration, BLOCK):
                block = Span(start, min(duration, start + BLOCK))
                samples = read_pcm(store, transcript.recording, duration, block).copy()
                for span in spans:
                    if common := span.intersection(block):
                        samples[common.start - start : common.end - start] = 0
                file.writeframes(samples.tobytes())
        temporary.replace(path)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written ({error.strerror}); choose another folder with -o") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_muted_from(
    path: Path,
    farm_store: ObjectStore,
    transcript: Transcript,
    masks: Sequence[Mask],
    *,
    kept_as: str,
    source: Path | None,
    limits: Limits,
) -> None:
    """The same, whether the object store still has the samples, or only the file, or neither and `source` is that file.

    Args:
        kept_as: key of the file, which need not be there; or where it was fetched from.

    Raises:
        MediaMissing: the sound is nowhere any more.
        MediaUnreadable: `source` is another recording.
    """
    try:
        write_muted(path, farm_store, transcript, masks)
    except SamplesGone:
        with tempfile.TemporaryDirectory(prefix="stenopool-") as folder:
            file = source
            if file is None:
                file = Path(folder) / "source"
                if not _downloaded(farm_store, kept_as, file):
                    raise MediaMissing(
                        f"{transcript.source}: its sound is not in the object store any more; "
                        "name the file with --source"
                    ) from None
            here = FolderStore(Path(folder) / "objects")
            ingest(
                file,
                here,
                split=transcript.channel is not None,
                vad=False,
                stop=threading.Event(),
                limits=limits,
            )
            try:
                write_muted(path, here, transcript, masks)
            except SamplesGone:
                raise MediaUnreadable(
                    f"{file}: is not what {transcript.source} was transcribed from; name that file with --source"
                ) from None


def _downloaded(store: ObjectStore, kept_as: str, file: Path) -> bool:
    """Whether the farm had the file; what was fetched from elsewhere it does not keep."""
    if not is_source_key(kept_as):
        return False
    try:
        store.download(kept_as, file)
    except KeyError:
        return False
    return True
