"""Waveform: the least and the greatest sample of each stretch of a recording, for whoever draws it.

The format is that of BBC's audiowaveform (version 2, 8 bits). It is made of the samples in one pass with flat memory,
kept beside them in the object store in fine stretches, and given in whole multiples of these.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from stenopool.domain import SAMPLE_RATE, Span
from storage.desk import Submission
from storage.keys import pcm_key, waveform_key
from storage.ledger import Source
from storage.objects import ObjectStore
from workers.farm import Farm
from workers.ingest import has_pcm
from workers.sound import gone, silent_spans, sources_of
from workers.wav import BYTES_PER_SAMPLE

#: Samples of the fine stretches: of recordings up to an hour, and of longer ones. An hour takes 720 kB, a day 1.7 MB.
FINE, COARSE = SAMPLE_RATE // 100, SAMPLE_RATE // 10
LONG = 3600 * SAMPLE_RATE
#: Stretches that may be asked for.
MOST = 10_000
#: Samples that are in memory at a time, about: 4 MB.
_BLOCK = 1 << 21


def waveform_of(
    farm: Farm, submission: Submission, *, channel: int | None = None, points: int = 1000, full: bool, sound: float
) -> dict[str, Any]:
    """A submission's waveform, as audiowaveform's JSON has it.

    Args:
        channel: from 1, where they were split; None for all of them in one.
        points: stretches at most.
        full: whoever looks may hear what is redacted; for others there is silence.
        sound: seconds that samples are kept to be listened to.

    Raises:
        SoundGone: the samples are not there.
        SoundNotYet: it is not decoded yet; or it is to be redacted, and nobody knows where yet.
        UsageError: there is no such channel.
    """
    sources = sources_of(farm, submission, channel)
    silent = {} if full else silent_spans(farm, submission)
    if not sources:
        raise gone(submission)
    duration = sources[0].duration
    fine = FINE if duration <= LONG else COARSE
    rows = [
        _without(_fine(farm, submission, source, fine, sound), silent.get(source.channel, ()), fine)
        for source in sources
    ]
    together = np.stack([np.min([row[0] for row in rows], axis=0), np.max([row[1] for row in rows], axis=0)])
    each = max(1, -(-together.shape[1] // points))
    found = _joined(together, each)
    return {
        "version": 2,
        "channels": 1,
        "sample_rate": SAMPLE_RATE,
        "samples_per_pixel": fine * each,
        "bits": 8,
        "length": found.shape[1],
        "data": found.T.reshape(-1).tolist(),
    }


def _fine(farm: Farm, submission: Submission, source: Source, fine: int, sound: float) -> np.ndarray:
    """int8 [2, stretches]: kept ones, or new ones that are kept from then on."""
    store, key = farm.store, waveform_key(source.recording)
    n = -(-source.duration // fine)
    try:
        kept = np.frombuffer(store.read(key, 0, 2 * n), np.int8)
        if len(kept) == 2 * n:
            return kept.reshape(2, n)
    except KeyError:
        pass
    if not has_pcm(store, source.recording, source.duration):
        raise gone(submission)
    try:
        made = extremes(store, source.recording, source.duration, fine)
    except KeyError:  # just now
        raise gone(submission) from None
    farm.ledger.while_needed(source.recording, partial(store.put, key, made.tobytes()), sound=sound)
    return made


def extremes(store: ObjectStore, recording: str, duration: int, fine: int) -> np.ndarray:
    """Of the samples of a recording: int8 [2, stretches], the least and the greatest in each. Raises KeyError."""
    blocks = []
    block = _BLOCK // fine * fine
    for start in range(0, duration, block):
        end = min(duration, start + block)
        raw = store.read(pcm_key(recording), start * BYTES_PER_SAMPLE, end * BYTES_PER_SAMPLE)
        # The upper byte, as audiowaveform has it.
        blocks.append(_joined(np.stack([np.frombuffer(raw, "<i2") >> 8] * 2).astype(np.int8), fine))
    return np.concatenate(blocks, axis=1) if blocks else np.zeros((2, 0), np.int8)


def _joined(rows: np.ndarray, each: int) -> np.ndarray:
    """So many columns as one: the least of the first row, the greatest of the second.

    In:  [[0, -3, -1], [4, 5, 9]], 2
    Out: [[-3, -1], [5, 9]]
    """
    n = rows.shape[1]
    if not n:
        return rows
    starts = np.arange(0, n, each)
    return np.stack([np.minimum.reduceat(rows[0], starts), np.maximum.reduceat(rows[1], starts)])


def _without(rows: np.ndarray, silent: Sequence[Span], fine: int) -> np.ndarray:
    """Silence in every stretch of which a sample is not for everybody."""
    if silent:
        rows = rows.copy()
        for span in silent:
            rows[:, span.start // fine : -(-span.end // fine)] = 0
    return rows
