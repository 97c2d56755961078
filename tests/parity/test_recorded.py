"""Our engine against what the reference implementations computed; `references/make_references.py` recorded it."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from models.checkpoint import Checkpoint
from models.decoding.fallback import Hypothesis, best
from models.decoding.reports import outcome
from models.decoding.requests import Decoding, Prompt, Request
from models.decoding.slots import Shape
from models.decoding.steps import Search
from models.features import log_mel
from models.group import Group, Job, Setup
from models.mesh import make_mesh
from models.pace import suited_pace
from models.tokens import SpecialTokens
from models.whisper.attention import suited
from models.whisper.modules import Whisper
from models.whisper.weights import load_whisper

REFERENCES = Path(__file__).parents[1] / "references"
SHAPES = ("tiny", "large_v3", "distil")


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"references_{name}", REFERENCES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


weights = _load("weights")


@dataclass(frozen=True)
class Case:
    """One shape: the model with the reference's weights, and what the reference computed."""

    name: str
    model: Whisper
    checkpoint: Checkpoint
    expected: dict[str, np.ndarray]
    features: jax.Array


@pytest.fixture(scope="module", params=SHAPES)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    """The random checkpoint, written in Hugging Face's layout and read back through our table."""
    name: str = request.param
    folder = weights.write_checkpoint(name, tmp_path_factory.mktemp(name))
    checkpoint = Checkpoint(name, folder)
    model = load_whisper(checkpoint.dims, checkpoint.weights, jnp.float32)
    with np.load(REFERENCES / "engine.npz") as recorded:
        expected = {key.partition("/")[2]: recorded[key] for key in recorded.files if key.startswith(f"{name}/")}
    features = log_mel(jnp.asarray(weights.sound())[None], checkpoint.dims.n_mels)
    yield Case(name, model, checkpoint, expected, features)
    (folder / "model.safetensors").unlink()


def _largest(a: Any, b: Any) -> float:
    return float(np.max(np.abs(np.asarray(a) - np.asarray(b))))


def test_log_mel_is_the_reference_definition(case: Case) -> None:
    """Features of 80 and of 128 bins are within 1e-5 of openai/whisper's."""
    ours = np.asarray(case.features)[0].T[:, weights.MEL_FRAMES]

    assert case.expected["mel"].shape == ours.shape
    assert _largest(ours, case.expected["mel"]) <= 1e-5


def test_encoder_and_logits_are_those_of_transformers(case: Case) -> None:
    """Encoder states and teacher-forced logits are within 1e-4 in float32."""
    audio = case.model.encoder(case.features)
    logits = case.model.decoder(jnp.asarray([weights.FORCED]), case.model.decoder.cross_keys_values(audio))[0]

    assert _largest(audio[0, ::50, ::16], case.expected["encoder"]) <= 1e-4
    assert _largest(logits[:, :: weights.VOCAB_STEP], case.expected["logits"]) <= 1e-4
    assert np.argmax(logits, axis=-1).tolist() == case.expected["logits_argmax"].tolist()


def test_plain_greedy_tokens_are_those_of_transformers(case: Case) -> None:
    """Token by token through the cache, the likeliest token is always the reference's."""
    decoder = case.model.decoder
    cross = decoder.cross_keys_values(case.model.encoder(case.features))
    d_head = case.checkpoint.dims.d_model // case.checkpoint.dims.n_text_head
    empty = jnp.zeros((1, case.checkpoint.dims.n_text_head, 32, d_head))
    past: Any = tuple((empty, empty) for _ in cross)
    step = jax.jit(lambda *a: decoder.extend(*a))
    tokens = list(weights.FORCED[:3])
    for position in range(3 + weights.PLAIN_STEPS - 1):
        here = jnp.asarray([[position]])
        seen = jnp.arange(32)[None, None] <= position
        states, past = step(jnp.asarray([[tokens[position]]]), here, here, seen, past, cross)
        if position + 1 == len(tokens):
            tokens.append(int(jnp.argmax(decoder.logits(states)[0, 0])))

    assert tokens[3:] == case.expected["plain"].tolist()


def _special(expected: dict[str, np.ndarray]) -> SpecialTokens:
    eot, sot, no_speech, no_timestamps, begin, transcribe, translate, space = expected["special"].tolist()
    return SpecialTokens(
        end_of_text=eot,
        start_of_transcript=sot,
        start_of_previous=no_speech - 1,
        no_speech=no_speech,
        no_timestamps=no_timestamps,
        timestamp_begin=begin,
        languages={str(token): token for token in expected["language_tokens"].tolist()},
        tasks={"transcribe": transcribe, "translate": translate},
        suppressed=tuple(expected["suppressed"].tolist()),
        steering=(),
        suppressed_at_begin=(space, eot),
    )


def _decode(case: Case, decoding: Decoding) -> tuple[Hypothesis, float, np.ndarray]:
    """The sound in one of three slots, decoded to the end; the answer, <|nospeech|> and the languages."""
    special = _special(case.expected)
    graph, params = nnx.split((case.model, None))
    dims = case.checkpoint.dims
    setup = Setup(
        graph=graph,
        params=params,
        dims=dims,
        draft_dims=None,
        special=special,
        ways=suited("cpu", jnp.float32, 1),
        int8=False,
        heads=((0, 0),),
        encoder_batch=1,
        mesh=make_mesh(None),
        pace=suited_pace("cpu"),
        compiled=lambda _: None,
    )
    group = Group(setup, Search.GREEDY, Shape(n_slots=3, width=1, room=4, length=4 + dims.n_text_ctx // 2))
    prompt = (special.start_of_transcript, special.start_of_transcript + 1, special.tasks["transcribe"])
    job = Job(Request(key=0, pcm=weights.sound(), decoding=decoding), "en")
    group.fill([(1, job, Prompt(prompt, 0))])
    finished: list[int] = []
    while not finished:
        group.advance()
        found = group.finished()
        assert found
        finished, report = found
    out = outcome(report, 1, beams=False, end_of_text=special.end_of_text)
    return best(out.texts, decoding.length_penalty), out.no_speech, out.languages


def test_tokens_under_the_rules_are_those_of_openai_whisper(case: Case) -> None:
    """Timestamp rules, suppress lists, scores and language probabilities equal openai/whisper's `decode`."""
    answer, no_speech, languages = _decode(case, Decoding(language="en", max_new_tokens=48))

    assert list(answer.tokens) == case.expected["ruled"].tolist()
    assert answer.avg_logprob == pytest.approx(float(case.expected["avg_logprob"]), abs=1e-4)
    assert no_speech == pytest.approx(float(case.expected["no_speech_prob"]), rel=1e-3)
    assert _largest(languages, case.expected["languages"]) <= 1e-5
