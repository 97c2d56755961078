"""Whether an engine hears at all, before it takes work."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from models.checkpoint import BUNDLED
from models.decoding.requests import Decoding, Request
from stenopool.errors import EngineError
from workers.media import Decoder

if TYPE_CHECKING:
    from models.engine import Engine


def self_test(engine: Engine) -> float:
    """Decode the bundled clip of speech; returns how many times real time that was.

    Raises:
        EngineError: the device failed, or what it computes are no numbers.
    """
    with Decoder(BUNDLED["pocket"].parent / "clip" / "speech.ogg") as decoder:
        pcm = np.concatenate([block[0] for block in decoder])[: engine.dims.window]
    decoding = Decoding(language="en" if engine.vocabulary.special.languages else None)
    started = time.perf_counter()
    [heard] = engine.run([Request(key=None, pcm=pcm, decoding=decoding)])
    if not np.isfinite(heard.avg_logprob):
        raise EngineError(f"{engine.checkpoint.name}: the device computes no numbers; take it out of use")
    return float(len(pcm) / 16_000 / (time.perf_counter() - started))
