"""A sound file as windows of the model's length, for trying a model on; recordings go through `workers.ingest`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from workers.media import Decoder

#: A minute of the bundled sample: two synthetic voices, in English.
CLIP = Path(__file__).parents[1] / "models" / "clip" / "speech.ogg"


def windows(path: Path, length: int) -> list[np.ndarray]:
    """int16 [at most `length` samples] each, one after the other, channels mixed.

    Raises:
        MediaError: the file is no sound.
    """
    with Decoder(path, split=False) as decoder:
        pcm = np.concatenate([block[0] for block in decoder])
    return [pcm[start : start + length] for start in range(0, len(pcm), length)]
