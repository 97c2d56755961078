"""Makes `models/silero/silero_vad_v6.onnx` from faster-whisper's file of that name, and records what that one says.

    OTHER/bin/python tests/references/make_vad_model.py

The weights and what they compute stay the same; how differs. Silero's convolutions have one to four places to be at in
a frame, so that each is a small product per frame, at a fifth of a core's speed. Here a convolution is a product over
all frames for each place and tap; taps that only ever meet padding are left out. The spectrum takes a quarter of its
products: from both ends a window and its cosines are the same, its sines but for their sign, so that `models/vad.py`
gives each window folded in the middle, sums for the cosines and differences for the sines; and where even and odd
samples are kept apart, a frequency has the products of the one that is as far from the other end. A core hears five
times as fast.

Needs an environment of its own with faster-whisper, onnx and onnxruntime. The probabilities that the file had before
for the first half minute of the bundled sample go to `vad.npz`, beside this file.
"""

from __future__ import annotations

import sys
from hashlib import sha256
from pathlib import Path

import faster_whisper
import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper
from recordings import RATE, ROOT, as_float, decode

sys.path.insert(0, str(ROOT))
from models.vad import SpeechDetector  # needs nothing that this environment lacks

SOURCE = Path(faster_whisper.__file__).parent / "assets" / "silero_vad_v6.onnx"
SHA256 = "4cbf549b8326f60f80f2536d9eefeb450a9abe83365a098031c89719f1be17d2"
TARGET = ROOT / "models" / "silero" / "silero_vad_v6.onnx"
RECORDED = Path(__file__).with_name("vad.npz")
SECONDS = 30

FRAME, CONTEXT = 512, 64  # samples
PLACES = 4  # windows per frame
HALF, QUARTER = 128, 64  # of the 256 samples of a window
SCALE = 2.0**-15  # the samples come as they are, in int16's range


class Graph:
    """Nodes and weights, added one after the other."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def weight(self, name: str, values: np.ndarray | list[int]) -> str:
        """Add weights, or whole numbers that say how."""
        array = np.ascontiguousarray(values, np.int64 if isinstance(values, list) else np.float32)
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def node(self, kind: str, name: str, *inputs: str, **attributes: int | str) -> str:
        """Add a node whose output has its name."""
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def layer(self, name: str, sources: list[str], weight: np.ndarray, bias: str, taps: list[int]) -> str:
        """One place of a convolution: products of its neighbours with the taps of [out, in, tap], and a rectifier."""
        total = bias
        for source, tap in zip(sources, taps, strict=True):
            matrix = f"{bias}.{tap}"
            if all(one.name != matrix for one in self.weights):
                self.weight(matrix, weight[:, :, tap].T)
            total = self.node("Gemm", f"{name}.{tap}", source, matrix, total)
        return self.node("Relu", name, total)


def spectrum(graph: Graph, basis: np.ndarray) -> list[str]:
    """Nodes for what is in each window, [frame, frequency]: 0 ... 64 in order, then 128 down to 64 again."""
    cosines, sines = basis[: HALF + 1, 1 : HALF + 1].T, basis[HALF + 1 :, 1 : HALF + 1].T
    parts: dict[str, str] = {}
    # From sample 1 on, as the window begins with 0. The one in the middle is folded upon itself, and counts twice.
    for name, part, first, sign in (
        ("sums.odd", cosines, 0, -1),
        ("sums.even", cosines, 1, 1),
        ("differences.odd", sines, 0, 1),
        ("differences.even", sines, 1, -1),
    ):
        mean = (part[:, : QUARTER + 1] + sign * part[:, HALF : QUARTER - 1 : -1])[first::2] / 2
        if first:
            mean[-1] /= 2
        parts[name] = graph.node("MatMul", f"{name}.product", name, graph.weight(f"{name}.weight", mean * SCALE))
    powers = []
    for end, combined in (("low", "Add"), ("high", "Sub")):
        squares = []
        for half in ("sums", "differences"):
            total = graph.node(combined, f"{end}.{half}", parts[f"{half}.even"], parts[f"{half}.odd"])
            squares.append(graph.node("Mul", f"{total}.power", total, total))
        powers.append(graph.node("Add", f"{end}.power", *squares))
    heard = graph.node("Sqrt", "spectrum", graph.node("Concat", "power", *powers, axis=2))
    windows = [f"window{place}" for place in range(PLACES)]
    graph.nodes.append(helper.make_node("Split", [heard], [f"{one}.apart" for one in windows], num_outputs=PLACES))
    first_axis = graph.weight("first", [0])
    return [graph.node("Squeeze", one, f"{one}.apart", first_axis) for one in windows]


def arranged(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same model with products over all frames in place of convolutions; its recurrent part is left as it is."""
    weights = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
    layers = [weights[f"encoder.conv_layers.{i}.weight"] for i in range(4)]
    graph = Graph()
    windows = spectrum(graph, weights["encoder.feature_extractor.forward_basis_buffer"][:, 0])
    biases = [graph.weight(f"bias{i}", weights[f"encoder.conv_layers.{i}.bias"]) for i in range(4)]

    # As the spectrum has its frequencies; the one in the middle is there twice, and counts once.
    high = layers[0][:, HALF : QUARTER - 1 : -1].copy()
    high[:, -1] = 0
    layers[0] = np.concatenate([layers[0][:, : QUARTER + 1], high], axis=1)
    heard = []
    for place in range(PLACES):
        near = range(max(place - 1, 0), min(place + 2, PLACES))
        taps = [other - place + 1 for other in near]
        heard.append(graph.layer(f"layer0.{place}", [windows[other] for other in near], layers[0], biases[0], taps))
    pair = [
        graph.layer("layer1.0", heard[:2], layers[1], biases[1], [1, 2]),
        graph.layer("layer1.1", heard[1:], layers[1], biases[1], [0, 1, 2]),
    ]
    # Two places: the first tap of the one place that follows meets padding, and of the last layer both outer ones.
    last = graph.layer("layer2", pair, layers[2], biases[2], [1, 2])
    last = graph.layer("layer3", [last], layers[3], biases[3], [1])
    sequence = graph.node("Unsqueeze", "sequence", last, graph.weight("second", [1]))

    recurrent = [node.op_type for node in model.graph.node].index("LSTM")
    rest = list(model.graph.node)[recurrent:]
    rest[0].input[0] = sequence
    needed = {name for node in rest for name in node.input}
    kept = [one for one in model.graph.initializer if one.name in needed]
    halves = [
        helper.make_tensor_value_info(f"{half}.{kind}", onnx.TensorProto.FLOAT, [PLACES, "frames", QUARTER])
        for half in ("sums", "differences")
        for kind in ("odd", "even")
    ]
    states = [one for one in model.graph.input if one.name in needed]
    made = helper.make_graph(
        graph.nodes + rest, "silero_vad_v6", halves + states, model.graph.output, graph.weights + kept
    )
    return helper.make_model(made, opset_imports=model.opset_import, ir_version=model.ir_version)


def before_arranging(pcm: np.ndarray) -> np.ndarray:
    """What Silero's own file says of each whole frame."""
    frames = as_float(pcm[: len(pcm) // FRAME * FRAME]).reshape(-1, FRAME)
    before = np.concatenate([np.zeros((1, CONTEXT), np.float32), frames[:-1, -CONTEXT:]])
    state = np.zeros((1, 1, 128), np.float32)
    session = onnxruntime.InferenceSession(SOURCE, providers=["CPUExecutionProvider"])
    given = {"input": np.concatenate([before, frames], axis=1), "h": state, "c": state}
    return session.run(None, given)[0].reshape(-1)


def main() -> None:
    """Arrange, compare, record."""
    if sha256(SOURCE.read_bytes()).hexdigest() != SHA256:
        raise SystemExit(f"{SOURCE}: not the file this was written for")
    model = arranged(onnx.load(SOURCE))
    onnx.checker.check_model(model)
    onnx.save(model, TARGET)
    pcm = decode()[: SECONDS * RATE // FRAME * FRAME]
    detector = SpeechDetector()
    detector.feed(pcm)
    before, after = before_arranging(pcm), detector.finish().probabilities
    np.savez_compressed(RECORDED, probabilities=before)
    print(f"{TARGET}: differs by {np.abs(before - after).max():.1e} at most in {len(before)} frames")


if __name__ == "__main__":
    main()
