"""The engine in the shapes of published models, random weights: how fast, where the time goes, how near to the floor.

    python bench/gpu.py [--seconds 450] [--json FILE]               # on a GPU; what there is no time for is left out
    python bench/gpu.py --models tiny --sizes 2x8 --chunks 16       # on a CPU, to see that it runs

The work is windows of int16 sound in the host's memory to token ids in the host's memory: first 100 tokens for every
chunk, then lengths as speech has them. Peaks are measured in the same run: the floor of a chunk is its products at the
measured speed of large ones, plus its share of what every step has to read at the measured speed of memory. Where torch
and transformers are installed, their Whisper does the same work beside ours. Variants of the best size are int8, the
encoder's attention without cuDNN, and the kernel that reads the audio's keys and values once ("streamed", in bfloat16
and int8): no engine uses that one before it has been seen to be faster here.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import models.engine
from models.checkpoint import Checkpoint
from models.decoding.requests import Decoding, Request
from models.device import use_compile_cache
from models.engine import Engine
from models.features import log_mel
from models.pace import Pace
from models.sizes import Sizes
from models.whisper.attention import attend_at_once, suited
from models.whisper.modules import Whisper
from models.whisper.streamed import read_streamed
from stenopool.config import Config
from stenopool.domain import DType
from stenopool.errors import EngineError
from tests.references import weights
from tests.references.tokenizer_files import write_tokenizer

SECONDS, RATE = 30, 16_000
N_TOKENS = 100
#: Tokenizer, width, heads, encoder and decoder layers, mels.
SHAPES = {
    "large-v3-turbo": ("large-v3", 1280, 20, 32, 4, 128),
    "distil-large-v3": ("large-v3", 1280, 20, 32, 2, 128),
    "large-v3": ("large-v3", 1280, 20, 32, 32, 128),
    "small": ("multilingual", 768, 12, 12, 12, 80),
    "tiny": ("multilingual", 384, 6, 4, 4, 80),
}
#: Rows of the encoder by slots of the decoder.
SIZES = "8x128,16x256,32x256"


class RandomEngine(Engine):
    """The engine with random weights, made on the device."""

    def _read(self, checkpoint: Checkpoint, *, encoder: jnp.dtype, decoder: jnp.dtype) -> Whisper:
        def build() -> Whisper:
            whisper = Whisper(checkpoint.dims, dtype=encoder, rngs=nnx.Rngs(0))
            if decoder != encoder:
                whisper.decoder = Whisper(checkpoint.dims, dtype=decoder, rngs=nnx.Rngs(0)).decoder
            return whisper

        graph = nnx.graphdef(nnx.eval_shape(build))
        whisper: Whisper = nnx.merge(graph, jax.jit(lambda: nnx.state(build()))())
        return whisper


@contextmanager
def settled(**choices: Any) -> Iterator[None]:
    """Engines made meanwhile take these functions for what suits them: `wished`, `suited`, `suited_pace`."""
    before = {name: getattr(models.engine, name) for name in choices}
    try:
        for name, choice in choices.items():
            setattr(models.engine, name, choice)
        yield
    finally:
        for name, choice in before.items():
            setattr(models.engine, name, choice)


def checkpoint(name: str, folder: Path) -> Checkpoint:
    """Sizes and tokenizer; there are no weights."""
    kind, d, heads, encoder, decoder, mels = SHAPES[name]
    vocab = write_tokenizer(kind, folder)
    shape = {"d": d, "heads": heads, "encoder": encoder, "decoder": decoder, "mels": mels, "vocab": vocab}
    weights.CONFIGS[name] = shape
    (folder / "config.json").write_text(json.dumps(weights.hf_config(name)))
    return Checkpoint(name, folder)


def seconds(work: Callable[[], Any], n: int = 3) -> float:
    """The median of n times, after once."""
    jax.block_until_ready(work())
    times = []
    for _ in range(n):
        started = time.perf_counter()
        jax.block_until_ready(work())
        times.append(time.perf_counter() - started)
    return sorted(times)[n // 2]


def peaks() -> dict[str, float]:
    """What the device does at best: bfloat16 products in TFLOP/s, reading in GB/s."""
    n = 8192 if jax.default_backend() == "gpu" else 1024
    a = jnp.ones((n, n), jnp.bfloat16)
    product = jax.jit(lambda a: jnp.dot(a, a, preferred_element_type=jnp.float32).astype(a.dtype))
    x = jnp.ones((n * n * 8,), jnp.float32)
    total = jax.jit(jnp.sum)
    return {
        "tflops": 2 * n**3 / seconds(lambda: product(a), 9) / 1e12,
        "gb_per_second": x.nbytes / seconds(lambda: total(x), 9) / 1e9,
    }


def floor(engine: Engine, peak: dict[str, float], n_tokens: float) -> float:
    """Milliseconds of a chunk at the peaks: the encoder's products, and what is read for its tokens."""
    dims, width = engine.dims, 1 if engine.dtype == "int8" else 2
    d, t = dims.d_model, dims.n_audio_ctx
    layers = dims.n_audio_layer * (8 * d * d + 4 * d * dims.n_audio_ffn) * t + dims.n_audio_layer * 4 * t * t * d
    flops = layers + 2 * t * 2 * 3 * d * (dims.n_mels * 2 + d) + dims.n_text_layer * 4 * d * d * t
    read = (dims.n_text_layer * (6 * d * d + 2 * d * dims.n_text_ffn) + dims.n_vocab * d) * width / engine.n_slots
    read += dims.n_text_layer * 2 * t * d * width
    return flops / peak["tflops"] / 1e9 + n_tokens * read / peak["gb_per_second"] / 1e6


def requests(engine: Engine, n: int, lengths: Sequence[int]) -> list[Request]:
    """Windows of noise, each with its number of tokens: random weights never end a text."""
    rng = np.random.default_rng(0)
    sounds = [rng.integers(-3000, 3000, SECONDS * RATE, dtype=np.int16) for _ in range(min(n, 32))]
    end = engine.vocabulary.special.end_of_text
    decoding = Decoding(language="en", timestamps=False, suppress_tokens=(end,))
    return [
        Request(key=at, pcm=sounds[at % len(sounds)], decoding=replace(decoding, max_new_tokens=lengths[at]))
        for at in range(n)
    ]


def speech_lengths(n: int) -> list[int]:
    """Tokens of chunks of speech: 100 ± 32, and one of a hundred in a loop up to the limit."""
    rng = np.random.default_rng(1)
    lengths = np.clip(rng.normal(100, 32, n), 8, 224).astype(int)
    lengths[rng.random(n) < 0.01] = 224
    return [int(one) for one in lengths]


def run(engine: Engine, asked: list[Request], *, static: bool = False) -> dict[str, float]:
    """All requests through the engine: in slots as they fall free, or batch after batch as if there were none."""
    engine.slot_steps = engine.active_steps = 0
    n = engine.n_slots if static else len(asked)
    started = time.perf_counter()
    for at in range(0, len(asked), n):
        for _ in engine.run(asked[at : at + n]):
            pass
    took = time.perf_counter() - started
    return {
        "times_real_time": len(asked) * SECONDS / took,
        "ms_per_chunk": 1000 * took / len(asked),
        "occupancy": engine.active_steps / engine.slot_steps,
    }


def split(engine: Engine, rows: int) -> dict[str, float]:
    """Milliseconds of a chunk on the device, part by part: features, encoder, keys and values, 100 steps."""
    graph, params = engine._setup.graph, engine.params
    pcm = jnp.zeros((rows, SECONDS * RATE), jnp.int16)
    mel = jax.jit(lambda pcm: log_mel(pcm, engine.dims.n_mels))
    encode = jax.jit(lambda params, mel: nnx.merge(graph, params)[0].encoder(mel))
    keys = jax.jit(lambda params, audio: nnx.merge(graph, params)[0].decoder.cross_keys_values(audio))
    features = mel(pcm)
    audio = encode(params, features)
    engine.submit(requests(engine, engine.n_slots, [224] * engine.n_slots))
    [group] = [one for one in engine._groups.values() if one.jobs]

    def block() -> Any:
        group.advance()
        return group.state.position

    step = seconds(block, 5) / engine.pace.block
    engine.drop()
    return {
        "mel": 1000 * seconds(lambda: mel(pcm)) / rows,
        "encoder": 1000 * seconds(lambda: encode(params, features)) / rows,
        "keys_values": 1000 * seconds(lambda: keys(params, audio)) / rows,
        "steps": 1000 * step * N_TOKENS / engine.n_slots,
    }


def torch_peer(name: str, n: int) -> dict[str, float] | None:
    """transformers' Whisper in torch, bfloat16, sdpa, batches of 64; features are given to it."""
    if not (find_spec("torch") and find_spec("transformers")):
        return None
    torch: Any = import_module("torch")
    transformers: Any = import_module("transformers")

    device = "cuda" if torch.cuda.is_available() else "cpu"
    config = transformers.WhisperConfig(**weights.hf_config(name), attn_implementation="sdpa")
    model = transformers.WhisperForConditionalGeneration(config).to(device, torch.bfloat16).eval()
    batch = min(64, n)
    features = torch.zeros((batch, SHAPES[name][5], 3000), dtype=torch.bfloat16, device=device)
    prompt = torch.full((batch, 4), 50258, device=device)

    def work() -> None:
        with torch.no_grad():
            model.generate(features, decoder_input_ids=prompt, max_new_tokens=N_TOKENS, min_new_tokens=N_TOKENS)
        if device == "cuda":
            torch.cuda.synchronize()

    work()
    started = time.perf_counter()
    work()
    took = time.perf_counter() - started
    return {"times_real_time": batch * SECONDS / took, "ms_per_chunk": 1000 * took / batch}


def measure(name: str, sizes: list[tuple[int, int]], n: int, peak: dict[str, float], late: Callable[[], bool]) -> Any:
    """One model: sizes, then at the best of them the split and the variants."""
    found: dict[str, Any] = {"sizes": {}}
    with tempfile.TemporaryDirectory() as scratch:
        model = checkpoint(name, Path(scratch))

        def make(rows: int, slots: int, dtype: DType = "bfloat16", **choices: Any) -> Engine:
            with settled(wished=lambda *_: Sizes(rows, slots), **choices):
                engine = RandomEngine(model, dtype=dtype)
            list(engine.run(requests(engine, slots, [20] * slots)))  # compiled
            return engine

        def figures(engine: Engine, lengths: list[int], *, static: bool = False) -> dict[str, float]:
            return run(engine, requests(engine, n, lengths), static=static)

        for rows, slots in sizes:
            if late():
                break
            engine = make(rows, slots)
            found["sizes"][f"{rows}x{slots}"] = figures(engine, [N_TOKENS] * n)
            print(name, f"{rows}x{slots}", found["sizes"][f"{rows}x{slots}"], flush=True)
        best = max(found["sizes"], key=lambda size: found["sizes"][size]["times_real_time"])
        rows, slots = map(int, best.split("x"))
        engine = make(rows, slots)
        found["best"] = best
        found["compile_seconds"] = engine.compile_seconds
        found["floor_ms"] = floor(engine, peak, N_TOKENS)
        found["split_ms"] = split(engine, rows)
        found["split_ms"]["host_and_gaps"] = found["sizes"][best]["ms_per_chunk"] - sum(found["split_ms"].values())
        lengths = speech_lengths(n)
        found["speech"] = {"slots": figures(engine, lengths), "static": figures(engine, lengths, static=True)}
        if stats := jax.devices()[0].memory_stats():
            found["peak_memory_gb"] = stats["peak_bytes_in_use"] / 1e9
        del engine
        variants: list[tuple[str, DType, dict[str, Any]]] = [
            ("int8", "int8", {}),
            ("the device waits for the host", "bfloat16", {"suited_pace": lambda _: Pace(8, 0, until_idle=False)}),
            ("blocks of 16 steps", "bfloat16", {"suited_pace": lambda _: Pace(16, 1, until_idle=False)}),
        ]
        if jax.default_backend() == "gpu":
            usual = suited("gpu", jnp.bfloat16, 1)
            streamed = {"suited": lambda *_: replace(usual, read=read_streamed)}
            variants += [
                ("attention at once", "bfloat16", {"suited": lambda *_: replace(usual, attend=attend_at_once)}),
                ("streamed", "bfloat16", streamed),
                ("int8 streamed", "int8", streamed),
            ]
        for title, dtype, choices in variants:
            if not late():
                try:
                    found[title] = figures(make(rows, slots, dtype, **choices), [N_TOKENS] * n)
                except EngineError as error:  # a kernel that the device refuses costs only its own figures
                    found[title] = {"failed": str(error)}
        if not late():
            found["torch"] = torch_peer(name, n)
    return found


def main() -> None:
    """Measure until the time is up; print and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="large-v3-turbo,distil-large-v3,large-v3")
    parser.add_argument(
        "--sizes", default=SIZES, help="rows of the encoder x slots of the decoder, separated by commas"
    )
    parser.add_argument("--chunks", type=int, default=1024)
    parser.add_argument("--seconds", type=float, default=450, help="begin nothing new after so many")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    use_compile_cache(Config.from_env().cache / "xla")
    started = time.monotonic()
    sizes = [(int(rows), int(slots)) for rows, slots in (size.split("x") for size in arguments.sizes.split(","))]
    results: dict[str, Any] = {
        "date": datetime.now(UTC).date().isoformat(),
        "device": jax.devices()[0].device_kind,
        "versions": {name: version(name) for name in ("stenopool", "jax", "jaxlib")},
        "peaks": peaks(),
        "chunks": arguments.chunks,
        "models": {},
    }
    for name in arguments.models.split(","):

        def late() -> bool:
            return bool(time.monotonic() - started > arguments.seconds)

        if not late():
            results["models"][name] = measure(name, sizes, arguments.chunks, results["peaks"], late)
            print(json.dumps({name: results["models"][name]}, indent=1), flush=True)
            if arguments.json:
                arguments.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
