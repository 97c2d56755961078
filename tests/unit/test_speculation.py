"""Speculative decoding: whatever an assistant drafts, the text is the model's own; only the rounds are fewer."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from random import Random

import jax
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

import stenopool
from models.checkpoint import BUNDLED, Checkpoint, find_checkpoint
from models.decoding.requests import Decoding, Heard, Request
from models.engine import DRAFTED, Engine
from models.memory import n_parameters
from models.whisper.modules import Whisper
from stenopool.config import Config
from stenopool.errors import CheckpointError, UsageError
from tests import sounds
from tests.hearing import RATE, sample

ENGLISH = Decoding(language="en")


def make_assistant(folder: Path, *, own_encoder: bool = False) -> Checkpoint:
    """Pocket without its decoder's last layer, as a folder; `own_encoder` makes it hear somewhat differently."""
    shutil.copytree(BUNDLED["pocket"], folder)
    config = json.loads((folder / "config.json").read_text())
    last = config["decoder_layers"] - 1
    (folder / "config.json").write_text(json.dumps(config | {"decoder_layers": last}))
    tensors = load_file(folder / "model.safetensors")
    kept = {name: value for name, value in tensors.items() if f"decoder.layers.{last}." not in name}
    assert len(kept) < len(tensors)
    if own_encoder:
        noise = np.random.default_rng(0)
        for name, value in kept.items():
            if "encoder.layers" in name and value.ndim == 2:
                kept[name] = (value * (1 + 0.05 * noise.standard_normal(value.shape))).astype(value.dtype)
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    return Checkpoint("assistant", folder)


@pytest.fixture(scope="module")
def assistant(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """One that hears as pocket does."""
    return make_assistant(tmp_path_factory.mktemp("assistant") / "pocket-1")


@pytest.fixture(scope="module")
def assisted(assistant: Checkpoint) -> Engine:
    """Pocket with its assistant, in three slots."""
    return Engine(find_checkpoint("pocket"), dtype="float32", batch_size=3, assistant=assistant)


def windows() -> list[np.ndarray]:
    """The whole sample, in windows; the last is short."""
    pcm = sample()
    return [pcm[start : start + 30 * RATE] for start in range(0, len(pcm), 30 * RATE)]


@pytest.fixture(scope="module")
def requests(busy_engine: Engine) -> list[Request]:
    """Every window of the sample, and the first ones once more under other options."""
    begin = busy_engine.vocabulary.special.timestamp_begin
    said = busy_engine.vocabulary.encode(" Before we begin, please close the door.")
    others = [
        ENGLISH,
        replace(ENGLISH, timestamps=False),
        replace(ENGLISH, prompt=said),
        replace(ENGLISH, prefix=(begin, *said[:3]), prefix_is_text=True),
        replace(ENGLISH, max_new_tokens=7),
        replace(ENGLISH, word_timestamps=True),
        replace(ENGLISH, loop_guard=True),
        replace(ENGLISH, language=None),
        replace(ENGLISH, temperature=(0.0, 0.6, 0.0), best_of=3, compression_ratio_threshold=0.1),
    ]
    chunks = windows()
    asked = [Request(key=("plain", at), pcm=pcm, decoding=ENGLISH) for at, pcm in enumerate(chunks)]
    asked += [Request(key=("other", at), pcm=chunks[at % 2], decoding=one) for at, one in enumerate(others)]
    asked.append(Request(key="question", pcm=chunks[0], decoding=None))
    return Random(3).sample(asked, len(asked))


def assert_same(ours: dict[object, Heard], theirs: dict[object, Heard]) -> None:
    """The same tokens, reasons and times; scores within 1e-5."""
    assert ours.keys() == theirs.keys()
    for key, one in ours.items():
        other = theirs[key]
        assert one.tokens == other.tokens, key
        assert (one.stop, one.language, one.temperature) == (other.stop, other.language, other.temperature)
        assert one.avg_logprob == pytest.approx(other.avg_logprob, abs=1e-5), key
        assert one.no_speech_prob == pytest.approx(other.no_speech_prob, abs=1e-5)
        assert one.rejected == other.rejected
        assert (one.times and one.times.starts) == (other.times and other.times.starts)


@pytest.fixture(scope="module")
def plain(busy_engine: Engine, requests: list[Request]) -> dict[object, Heard]:
    """What the model hears alone."""
    return {heard.key: heard for heard in busy_engine.run(requests)}


def test_the_text_is_the_models_own(assisted: Engine, requests: list[Request], plain: dict[object, Heard]) -> None:
    """Every window of the sample, with times and without, after a prompt, from a prefix, at a limit in the middle of a
    round, in a detected language, from one temperature to another and back: exactly as without an assistant.
    """
    drafted = {heard.key: heard for heard in assisted.run(reversed(requests))}

    assert_same(drafted, plain)
    assert len(plain[("other", 4)].tokens) == 7
    assert len(plain[("other", 8)].rejected) == 2


def models_of(engine: Engine) -> tuple[Whisper, Whisper]:
    """The model and its assistant, as they lie on the device."""
    whisper, draft = nnx.merge(engine._setup.graph, engine.params)
    return whisper, draft


def test_an_encoder_that_both_have_is_there_once(assisted: Engine, assistant: Checkpoint) -> None:
    """Its parameters, and its work: of the assistant there is only the decoder besides."""
    whisper, draft = models_of(assisted)

    assert draft.encoder is whisper.encoder
    n_held = sum(leaf.size for leaf in jax.tree.leaves(assisted.params))
    encoder = sum(leaf.size for leaf in jax.tree.leaves(nnx.state(whisper.encoder)))
    assert n_held == n_parameters(assisted.dims) + n_parameters(assistant.dims) - encoder


def test_an_assistant_may_have_ears_of_its_own(tmp_path: Path, plain: dict[object, Heard]) -> None:
    """An encoder with other weights is kept, and the text is the model's all the same."""
    helper = make_assistant(tmp_path / "other", own_encoder=True)
    engine = Engine(find_checkpoint("pocket"), dtype="float32", batch_size=2, assistant=helper)
    asked = [Request(key=("plain", at), pcm=pcm, decoding=ENGLISH) for at, pcm in enumerate(windows()[:3])]

    heard = {one.key: one for one in engine.run(asked)}

    whisper, draft = models_of(engine)
    assert draft.encoder is not whisper.encoder
    assert_same(heard, {key: plain[key] for key in heard})


def rounds(engine: Engine, pcm: np.ndarray) -> tuple[int, Heard]:
    """How many rounds a chunk takes, and what was heard in it."""
    before = engine.active_steps
    [heard] = engine.run([Request(key=0, pcm=pcm, decoding=ENGLISH)])
    return engine.active_steps - before, heard


def test_a_draft_that_is_right_saves_rounds(assisted: Engine) -> None:
    """The model as its own assistant drafts what it would write: a round adds all that was drafted, and a token."""
    pocket = find_checkpoint("pocket")
    itself = Engine(pocket, dtype="float32", batch_size=3, assistant=pocket)

    n, heard = rounds(itself, windows()[0])
    n_small, same = rounds(assisted, windows()[0])

    assert n == -(-(len(heard.tokens) + 1) // (DRAFTED + 1))
    assert n < n_small < len(heard.tokens) + 1
    assert same.tokens == heard.tokens


def test_another_vocabulary_is_refused(assistant: Checkpoint, tmp_path: Path) -> None:
    """By both names, before its weights are read."""
    folder = Path(shutil.copytree(assistant.folder, tmp_path / "other", ignore=shutil.ignore_patterns("*.safetensors")))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": 51865}))

    with pytest.raises(
        CheckpointError,
        match=r"^other: its vocabulary of 51865 tokens is not that of pocket \(2608\); name an assistant that was made",
    ):
        Engine(find_checkpoint("pocket"), dtype="float32", batch_size=1, assistant=Checkpoint("other", folder))


def test_a_transcript_names_its_assistant(assisted: Engine, assistant: Checkpoint, tmp_path: Path) -> None:
    """And is the one that the model makes alone; beams and samples are refused, because nothing is drafted for them."""
    clip = sounds.write(tmp_path / "clip.wav", sample()[: 12 * RATE])
    pool = stenopool.Pool(Config.from_env(), assisted, "float32", None)

    transcript = pool.transcribe(clip, language="en", temperature=0)

    assert transcript.provenance.assistant_digest == assistant.digest
    assert transcript.text
    for options in ({"beam_size": 2}, {"temperature": 0.5}):
        with pytest.raises(UsageError, match=r"^assistant needs a beam_size of 1 and a temperature of 0"):
            pool.transcribe(clip, language="en", **options)
