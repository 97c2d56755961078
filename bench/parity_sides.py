"""Both sides of `parity.py`: what the peers computed, and our own models, made when they are first asked for."""

from __future__ import annotations

import json
import sys
import wave
from collections.abc import Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from models.checkpoint import Checkpoint, find_checkpoint
from models.decoding.requests import Decoding, Heard, Request
from models.engine import Engine
from models.features import log_mel
from models.whisper.weights import load_whisper
from stenopool.domain import SAMPLE_RATE, DType
from stenopool.pool import Pool, load_model
from tests.references import weights
from workers.media import Decoder

ROOT = Path(__file__).parents[1]
REFERENCES = ROOT / "tests" / "references"
SAMPLE = ROOT / "samples" / "meeting.mp3"


class Random:
    """One of the random checkpoints, in our modules."""

    def __init__(self, name: str, folder: Path) -> None:
        self.checkpoint = Checkpoint(name, weights.write_checkpoint(name, folder))
        self.model = load_whisper(self.checkpoint.dims, self.checkpoint.weights, jnp.float32)
        self.features = log_mel(jnp.asarray(weights.sound())[None], self.checkpoint.dims.n_mels)

    @cached_property
    def audio(self) -> jax.Array:
        """Encoder states of the sound."""
        return self.model.encoder(self.features)

    @cached_property
    def cross(self) -> Any:
        """Keys and values of the sound."""
        return self.model.decoder.cross_keys_values(self.audio)


class Sides:
    """The peers' files and our models.

    Args:
        peers: the folder that `tests/references/peers.py` wrote into.
        scratch: for the random checkpoints.
    """

    def __init__(self, peers: Path, scratch: Path) -> None:
        self._scratch = scratch
        self._random: dict[str, Random] = {}
        self._engines: dict[DType, Engine] = {}
        self.engine_arrays = np.load(peers / "engine.npz")
        self.decoding_arrays = np.load(peers / "decoding.npz")
        self.decoding: dict[str, Any] = json.loads((peers / "decoding.json").read_text())
        self.sample: dict[str, Any] = json.loads((peers / "sample.json").read_text())

    def random(self, name: str) -> Random:
        """The random checkpoint of that name."""
        if name not in self._random:
            self._random[name] = Random(name, self._scratch / name)
        return self._random[name]

    @cached_property
    def pocket(self) -> Checkpoint:
        """The bundled checkpoint."""
        return find_checkpoint("pocket")

    def engine(self, dtype: DType = "float32") -> Engine:
        """The bundled model in that precision."""
        if dtype not in self._engines:
            self._engines[dtype] = Engine(self.pocket, dtype=dtype, batch_size=8)
        return self._engines[dtype]

    @cached_property
    def pool(self) -> Pool:
        """The bundled model in float32, for whole files."""
        return load_model("pocket", dtype="float32")

    @cached_property
    def sound(self) -> np.ndarray:
        """The bundled sample, int16."""
        with Decoder(SAMPLE) as decoder:
            return np.concatenate([block[0] for block in decoder])

    def window(self, index: int) -> np.ndarray:
        """30 s of it."""
        length = 30 * SAMPLE_RATE
        return self.sound[index * length : (index + 1) * length]

    def hear(self, window: int, decodings: Sequence[Decoding]) -> list[Heard]:
        """A window of the sample, decoded in each of these ways."""
        pcm = self.window(window)
        requests = [Request(key=index, pcm=pcm, decoding=decoding) for index, decoding in enumerate(decodings)]
        return sorted(self.engine().run(requests), key=lambda heard: int(str(heard.key)))

    def write(self, samples: int) -> Path:
        """The beginning of the sample as a file of its own."""
        path = self._scratch / f"{samples}.wav"
        with wave.open(str(path), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(SAMPLE_RATE)
            file.writeframes(self.sound[:samples].astype("<i2").tobytes())
        return path


@cache
def spoken() -> str:
    """What is said in the sample."""
    sys.path.append(str(SAMPLE.parent))
    from script import reference_text

    return str(reference_text(SAMPLE.with_name("script.txt")))
