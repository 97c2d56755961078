"""Slots against static batches on lengths as speech has them: python bench/slots.py [--chunks N] [--rounds R].

64 slots, texts of 100 ± 32 tokens and one of a hundred in a loop up to its limit. A static batch runs until its longest
text ends; a slot takes the next chunk as soon as it is free. How much time that saves depends on the decoder's share of
all the work: on a GPU two thirds for large-v3, a fifth for large-v3-turbo. The model here is as narrow as `pocket`, and
random, with one layer in the encoder and eight in the decoder, whose steps have some 60 % of the time; `--layers 4,2`
is pocket's own shape. Engine and programs are the same in both ways; only what is submitted when differs.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from circumstances import circumstances
from gpu import RandomEngine, requests, run, settled, speech_lengths

from models.checkpoint import BUNDLED, Checkpoint
from models.device import use_compile_cache
from models.sizes import Sizes
from stenopool.config import Config

SLOTS = 64


def shaped(layers: tuple[int, int], folder: Path) -> Checkpoint:
    """Pocket's tokenizer and sizes, with so many layers in encoder and decoder; there are no weights."""
    shutil.copytree(BUNDLED["pocket"], folder, ignore=shutil.ignore_patterns("*.safetensors"))
    config = json.loads((folder / "config.json").read_text())
    config |= dict(zip(("encoder_layers", "decoder_layers"), layers, strict=True))
    (folder / "config.json").write_text(json.dumps(config))
    return Checkpoint("random", folder)


def measure(layers: tuple[int, int], n: int, rounds: int) -> dict[str, Any]:
    """Both ways in turn; medians, and the range of the ratios."""
    with tempfile.TemporaryDirectory() as scratch, settled(wished=lambda *_: Sizes(1, SLOTS)):
        engine = RandomEngine(shaped(layers, Path(scratch) / "model"), dtype="int8")
    asked = requests(engine, n, speech_lengths(n))
    run(engine, requests(engine, SLOTS, [8] * SLOTS))  # compiled
    pairs = []
    for _ in range(rounds):
        pairs.append({"slots": run(engine, asked), "static": run(engine, asked, static=True)})
        print(json.dumps(pairs[-1]), flush=True)
    found: dict[str, Any] = {
        f"{way}_way": {key: median(pair[way][key] for pair in pairs) for key in pairs[0][way]}
        for way in ("slots", "static")
    }
    ratios = [pair["slots"]["times_real_time"] / pair["static"]["times_real_time"] for pair in pairs]
    return found | {"ratio": median(ratios), "ratios": sorted(ratios)}


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chunks", type=int, default=1536)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--layers", default="1,8", help="of encoder and decoder")
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "slots.json")
    arguments = parser.parse_args()
    encoder, decoder = map(int, arguments.layers.split(","))
    use_compile_cache(Config.from_env().cache / "xla")
    results = {
        **circumstances("jax"),
        "layers": [encoder, decoder],
        "slots": SLOTS,
        "chunks": arguments.chunks,
        **measure((encoder, decoder), arguments.chunks, arguments.rounds),
    }
    occupancies = results["slots_way"]["occupancy"], results["static_way"]["occupancy"]
    print(f"{results['ratio']:.2f} x static; occupancy {occupancies[0]:.1%}, static {occupancies[1]:.1%}")
    arguments.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
