"""Makes `models/silero/silero_vad_v6.onnx` from faster-whisper's file of that name, and records what that one says.

    OTHER/bin/python tests/references/make_vad_model.py

The weights and what they compute stay the same; how differs. Silero's convolutions have one to four places to be at in
a frame, so that each is a small product per frame, at a fifth of a core's speed. Here the samples or features that a
convolution sees at one place lie in a row, and it is one product over all frames; taps that only ever meet padding are
left out. A core hears 3.4 times as fast.

Needs an environment of its own with faster-whisper, onnx and onnxruntime. The probabilities that the file had before
for the first half minute of the bundled sample go to `vad.npz`, beside this file.
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import faster_whisper
import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper
from recordings import RATE, ROOT, as_float, decode

SOURCE = Path(faster_whisper.__file__).parent / "assets" / "silero_vad_v6.onnx"
SHA256 = "4cbf549b8326f60f80f2536d9eefeb450a9abe83365a098031c89719f1be17d2"
TARGET = ROOT / "models" / "silero" / "silero_vad_v6.onnx"
RECORDED = Path(__file__).with_name("vad.npz")
SECONDS = 30

FRAME, CONTEXT = 512, 64  # samples
HOP = 128  # samples; a window of the spectrum is two of them
PLACES = 4  # windows per frame


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

    def pad(self, name: str, source: str, before: int, after: int) -> str:
        """Places of zeros before and after [frame, place, feature]."""
        return self.node("Pad", name, source, self.weight(f"{name}.pads", [0, before, 0, 0, after, 0]))

    def neighbours(self, name: str, source: str, n: int, *, places: int, stride: int = 1) -> str:
        """`n` places beside each other in one row: [frame, place, feature] to [frame, places, n * feature]."""
        parts = []
        for first in range(n):
            bounds = {"first": first, "end": first + (places - 1) * stride + 1, "axis": 1, "stride": stride}
            given = [self.weight(f"{name}.{first}.{key}", [value]) for key, value in bounds.items()]
            parts.append(self.node("Slice", f"{name}.{first}", source, *given))
        return self.node("Concat", name, *parts, axis=2)

    def layer(self, name: str, source: str, weight: np.ndarray, bias: np.ndarray, taps: list[int]) -> str:
        """A convolution over rows of neighbours, with the given taps of its [out, in, tap]; and a rectifier."""
        matrix = np.concatenate([weight[:, :, tap].T for tap in taps])
        product = self.node("MatMul", f"{name}.product", source, self.weight(f"{name}.weight", matrix))
        total = self.node("Add", f"{name}.sum", product, self.weight(f"{name}.bias", bias))
        return self.node("Relu", name, total)


def arranged(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same model with products over all frames in place of convolutions; its recurrent part is left as it is."""
    weights = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
    basis = weights["encoder.feature_extractor.forward_basis_buffer"][:, 0]  # [cosines and sines, sample]
    layers = [(weights[f"encoder.conv_layers.{i}.weight"], weights[f"encoder.conv_layers.{i}.bias"]) for i in range(4)]
    graph = Graph()

    padded = graph.node("Pad", "padded", "input", graph.weight("padded.pads", [0, 0, 0, CONTEXT]), mode="reflect")
    hops = graph.node("Reshape", "hops", padded, graph.weight("hops.shape", [-1, PLACES + 1, HOP]))
    windows = graph.neighbours("windows", hops, 2, places=PLACES)
    half = len(basis) // 2
    powers = []
    for name, part in (("cosines", basis[:half]), ("sines", basis[half:])):
        product = graph.node("MatMul", name, windows, graph.weight(f"{name}.weight", part.T))
        powers.append(graph.node("Mul", f"{name}.power", product, product))
    spectrum = graph.node("Sqrt", "spectrum", graph.node("Add", "power", *powers))

    rows = graph.neighbours("rows0", graph.pad("padded0", spectrum, 1, 1), 3, places=4)
    heard = graph.layer("layer0", rows, *layers[0], taps=[0, 1, 2])
    rows = graph.neighbours("rows1", graph.pad("padded1", heard, 1, 0), 3, places=2, stride=2)
    heard = graph.layer("layer1", rows, *layers[1], taps=[0, 1, 2])
    # Two places: the first tap of the one place that follows meets padding, and of the last layer both outer ones.
    pair = graph.node("Reshape", "rows2", heard, graph.weight("rows2.shape", [-1, 1, 2 * layers[2][0].shape[1]]))
    heard = graph.layer("layer2", pair, *layers[2], taps=[1, 2])
    heard = graph.layer("layer3", heard, *layers[3], taps=[1])

    recurrent = [node.op_type for node in model.graph.node].index("LSTM")
    rest = list(model.graph.node)[recurrent:]
    rest[0].input[0] = heard
    needed = {name for node in rest for name in node.input}
    kept = [one for one in model.graph.initializer if one.name in needed]
    made = helper.make_graph(
        graph.nodes + rest, "silero_vad_v6", model.graph.input, model.graph.output, graph.weights + kept
    )
    return helper.make_model(made, opset_imports=model.opset_import, ir_version=model.ir_version)


def probabilities(path: Path, pcm: np.ndarray) -> np.ndarray:
    """What a file of the model says of each whole frame."""
    frames = as_float(pcm[: len(pcm) // FRAME * FRAME]).reshape(-1, FRAME)
    before = np.concatenate([np.zeros((1, CONTEXT), np.float32), frames[:-1, -CONTEXT:]])
    state = np.zeros((1, 1, 128), np.float32)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    given = {"input": np.concatenate([before, frames], axis=1), "h": state, "c": state}
    return session.run(None, given)[0].reshape(-1)


def main() -> None:
    """Arrange, compare, record."""
    if sha256(SOURCE.read_bytes()).hexdigest() != SHA256:
        raise SystemExit(f"{SOURCE}: not the file this was written for")
    model = arranged(onnx.load(SOURCE))
    onnx.checker.check_model(model)
    onnx.save(model, TARGET)
    pcm = decode()[: SECONDS * RATE]
    before, after = probabilities(SOURCE, pcm), probabilities(TARGET, pcm)
    np.savez_compressed(RECORDED, probabilities=before)
    print(f"{TARGET}: differs by {np.abs(before - after).max():.1e} at most in {len(before)} frames")


if __name__ == "__main__":
    main()
