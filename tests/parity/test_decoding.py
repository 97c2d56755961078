"""The engine against what openai/whisper's `decode` and CTranslate2 heard under every option.

`references/make_decoding_references.py` recorded them, on random weights of the shape of `tiny` and on `pocket`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from models.checkpoint import Checkpoint, find_checkpoint
from models.decoding.requests import Decoding, Heard, Request, Stop
from models.engine import Engine
from models.features import log_mel
from models.whisper.weights import load_whisper
from tests import sounds
from tests.references import weights
from tests.references.tokenizer_files import write_tokenizer

REFERENCES = Path(__file__).parents[1] / "references"
RECORDED: dict[str, Any] = json.loads((REFERENCES / "decoding.json").read_text())
WINDOW = 480_000

#: Their options, our names; what both call alike is not listed.
OURS = {"sample_len": "max_new_tokens", "without_timestamps": "timestamps"}


def decoding_of(options: dict[str, Any]) -> Decoding:
    """openai/whisper's `DecodingOptions` as ours."""
    values: dict[str, Any] = {
        OURS.get(name, name): tuple(v) if isinstance(v, list) else v for name, v in options.items()
    }
    if "timestamps" in values:
        values["timestamps"] = not values["timestamps"]
    return Decoding(**values)


@pytest.fixture(scope="module", params=["tiny", "pocket"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Engine]]:
    """Its name, and an engine for it with four slots."""
    name: str = request.param
    if name == "pocket":
        yield name, Engine(find_checkpoint("pocket"), dtype="float32", batch_size=4)
        return
    folder = tmp_path_factory.mktemp("tiny")
    write_tokenizer("multilingual", folder)
    special = RECORDED["special"]["tiny"]
    (folder / "generation_config.json").write_text(
        json.dumps({"suppress_tokens": special["suppressed"], "begin_suppress_tokens": special["suppressed_at_begin"]})
    )
    weights.write_checkpoint("tiny", folder)
    yield name, Engine(Checkpoint("tiny", folder), dtype="float32", batch_size=4)
    (folder / "model.safetensors").unlink()


def sound(name: str, window: int) -> np.ndarray:
    """The window of that model's recording."""
    pcm = weights.sound() if name == "tiny" else sounds.read(sounds.SAMPLE)
    return np.asarray(pcm[window * WINDOW : (window + 1) * WINDOW])


def heard(engine: Engine, requests: dict[Any, Decoding], name: str) -> dict[Any, Heard]:
    """What the engine heard; a key ends in its window."""
    asked = [Request(key=key, pcm=sound(name, int(key[0])), decoding=decoding) for key, decoding in requests.items()]
    return {one.key: one for one in engine.run(asked)}


def test_the_references_are_of_this_model() -> None:
    """A new model needs new references: make_decoding_references.py records them."""
    assert RECORDED["model"] == find_checkpoint("pocket").digest


def test_every_option_gives_what_openai_whisper_gives(model: tuple[str, Engine]) -> None:
    """Token for token, with its scores: greedy and beams, prompts, prefixes, suppress lists, limits, tasks, languages.

    All of them go through the engine at once, so that greedy slots, slots of three and slots of five beams, long and
    short prompts decode beside each other.
    """
    name, engine = model
    cases = {
        (window, case): expected
        for window, of_window in RECORDED["decode"][name].items()
        for case, expected in of_window.items()
    }
    ours = heard(engine, {key: decoding_of(expected["options"]) for key, expected in cases.items()}, name)

    end, begin = engine.vocabulary.special.end_of_text, engine.vocabulary.special.timestamp_begin
    assert len(cases) >= 22
    for key, expected in cases.items():
        one = ours[key]
        assert list(one.tokens) == expected["tokens"], key
        assert one.language == expected["language"], key
        # With an empty list, openai/whisper suppresses not even what steers; ours never writes that, and other tokens
        # have its share of the probability.
        near = 2e-3 if key[1] == "suppress_nothing" else 1e-4
        assert one.avg_logprob == pytest.approx(expected["avg_logprob"], abs=near), key
        assert one.no_speech_prob == pytest.approx(expected["no_speech_prob"], rel=1e-2), key
        if not any(end < token < begin for token in one.tokens):  # which random weights choose, and theirs spells out
            assert one.compression_ratio == pytest.approx(expected["compression_ratio"], abs=1e-6), key


def test_ctranslate2_hears_the_same(model: tuple[str, Engine]) -> None:
    """The third implementation, which is faster-whisper's, agrees as well: greedy and five beams in float32."""
    name, engine = model
    cases = {
        (window, case): expected
        for window, of_window in RECORDED["ctranslate2"][name].items()
        for case, expected in of_window.items()
        if case in ("greedy", "without_timestamps", "beam_5")
    }
    options = {key: {"language": "en", **expected["options"]} for key, expected in cases.items()}
    ours = heard(engine, {key: decoding_of(given) for key, given in options.items()}, name)

    assert {key: list(one.tokens) for key, one in ours.items()} == {
        key: expected["tokens"] for key, expected in cases.items()
    }


def test_language_probabilities(model: tuple[str, Engine]) -> None:
    """Of every window, asked for alone."""
    name, engine = model
    for window, expected in RECORDED["languages"][name].items():
        [ours] = engine.run([Request(key=0, pcm=sound(name, int(window)), decoding=None)])

        assert ours.languages == pytest.approx(expected, abs=1e-5)


def test_every_layer_of_the_encoder(tmp_path: Path) -> None:
    """Each within 1e-5 of its largest value, from the first convolution to the last norm."""
    checkpoint = Checkpoint("tiny", weights.write_checkpoint("tiny", tmp_path))
    encoder = load_whisper(checkpoint.dims, checkpoint.weights, "float32").encoder
    seen = list(encoder.layer_by_layer(log_mel(jnp.asarray(weights.sound())[None], checkpoint.dims.n_mels)))
    with np.load(REFERENCES / "decoding.npz") as arrays:
        expected = [arrays[f"tiny/encoder/{index}"] for index in range(len(seen))]
        assert f"tiny/encoder/{len(seen)}" not in arrays

    assert len(seen) == 7
    for ours, theirs in zip(seen, expected, strict=True):
        difference = np.abs(np.asarray(ours)[0, ::50, ::16] - theirs).max()
        assert difference <= 1e-5 * np.abs(theirs).max()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_teacher_forced_logits(dtype: Any) -> None:
    """float32 within 1e-4; bfloat16 points the same way (cosine above 0.999), int8 nearly; the ladder of precisions."""
    engine = Engine(find_checkpoint("pocket"), dtype=dtype, batch_size=1)
    same = total = 0
    with np.load(REFERENCES / "decoding.npz") as arrays:
        for window in range(2):
            expected, argmax = arrays[f"pocket/logits/{window}"], arrays[f"pocket/logits/{window}/argmax"]
            logits = engine.logits(sound("pocket", window), arrays[f"pocket/logits/{window}/tokens"].tolist())
            ours = logits[:, :: weights.POCKET_VOCAB_STEP]
            same += int((logits.argmax(-1) == argmax).sum())
            total += len(argmax)
            cosines = (ours * expected).sum(-1) / np.linalg.norm(ours, axis=-1) / np.linalg.norm(expected, axis=-1)

            if dtype == "float32":
                assert np.abs(ours - expected).max() <= 1e-4
            assert cosines.mean() > (0.998 if dtype == "int8" else 0.999)
    assert same / total >= {"float32": 1.0, "bfloat16": 0.99, "int8": 0.98}[dtype]


def test_a_text_at_its_limit_says_so(model: tuple[str, Engine]) -> None:
    """Twenty tokens, asked for, are no end."""
    name, engine = model
    [ours] = engine.run([Request(key=0, pcm=sound(name, 0), decoding=Decoding(language="en", max_new_tokens=20))])

    assert (len(ours.tokens), ours.stop) == (20, Stop.LIMIT)
