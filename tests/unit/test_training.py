"""Training as a whole: what is learnt, what is kept, what stands still, what is written."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from models.checkpoint import Checkpoint, find_checkpoint
from models.decoding.requests import Decoding, Request
from models.engine import Engine
from models.mesh import make_mesh
from models.tokens import Vocabulary
from models.training import clock
from models.training.batches import Batch, Batches
from models.training.beginning import spaced, write_student
from models.training.export import write_model
from models.training.listening import listen
from models.training.log import plot, read_log
from models.training.losses import Weights
from models.training.state import Setup, State, begin, make_step, read_params
from models.training.trainer import train
from models.verify import verify
from stenopool.errors import EngineError, UsageError
from tests.lessons import Watching, lesson, newborn, training

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def as_jax_is() -> Iterator[None]:
    """What optax computes promotes dtypes and ranks, as JAX does where it is not told otherwise."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@pytest.fixture(scope="module")
def beginner(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return newborn(tmp_path_factory.mktemp("newborn") / "model")


@pytest.fixture(scope="module")
def learnt(beginner: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Watching]:
    """A folder in which the tiny model was trained for two hundred steps, and who watched."""
    folder, watching = tmp_path_factory.mktemp("training"), Watching()
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        train(folder, beginner, lesson(), training(200), watching)
    return folder, watching


def test_two_hundred_steps_from_nothing_teach_three_words(learnt: tuple[Path, Watching]) -> None:
    """The exported model is heard by the engine that everybody uses; before, it said nothing of them."""
    folder, watching = learnt
    heard = {line["step"]: line["wer"] for line in read_log(folder / "log.jsonl") if "wer" in line}

    assert watching.losses[2] < 0.6 * watching.losses[0]
    assert heard[200] < 0.2 < 0.9 < heard[0]


def test_they_teach_when_each_word_is_said(learnt: tuple[Path, Watching]) -> None:
    """To two steps of 20 ms: the timestamps' shared clock is in the exported embedding."""
    engine = Engine(Checkpoint("model", learnt[0] / "model"), batch_size=4)
    special = engine.vocabulary.special
    pairs = lesson().held_out
    requests = [
        Request(key=index, pcm=lesson().read(one.audio, one.span), decoding=Decoding(language="en", max_new_tokens=12))
        for index, one in enumerate(pairs)
    ]
    told = [
        [token - special.timestamp_begin for token in heard.tokens if token >= special.timestamp_begin]
        for heard in engine.run(requests)
    ]

    assert len(told) == len(pairs)
    assert all(len(times) == 4 for times in told)
    np.testing.assert_allclose(np.array(told), [[0, 25, 25, 50]] * len(pairs), atol=2)


def test_without_a_map_the_clock_changes_nothing() -> None:
    """And a map moves the timestamps' vectors alone, by the sinusoids that the encoder has."""
    pocket = find_checkpoint("pocket")
    params = read_params(pocket.dims, pocket.weights)
    width = pocket.dims.d_model
    still = clock.set_by(params | {clock.NAME: clock.still(width)})
    moved = clock.set_by(params | {clock.NAME: np.sqrt(width) * jnp.eye(width)})
    change = np.asarray(moved["decoder.embedding"] - params["decoder.embedding"])

    assert still.keys() == moved.keys() == params.keys()
    np.testing.assert_array_equal(still["decoder.embedding"], params["decoder.embedding"])
    assert not change[:-1501].any()
    np.testing.assert_allclose(change[-1501:-1], params["encoder.positions"], atol=1e-3)


def test_the_exported_model_is_a_whole_checkpoint(learnt: tuple[Path, Watching]) -> None:
    model = Checkpoint("model", learnt[0] / "model")
    tensors = load_file(model.folder / "model.safetensors")

    assert verify(model).problems == ()
    assert {tensor.dtype for tensor in tensors.values()} == {np.dtype(np.float16)}
    assert tensors["model.encoder.conv1.weight"].shape == (32, 80, 3)
    assert not any("ctc" in name for name in tensors)


def test_what_is_exported_is_what_was_read(tmp_path: Path) -> None:
    """Pocket's own weights, through our layout and back, bit for bit under the same names."""
    pocket = find_checkpoint("pocket")
    write_model(tmp_path / "again", read_params(pocket.dims, pocket.weights), pocket)
    ours, theirs = load_file(tmp_path / "again" / "model.safetensors"), load_file(pocket.weights[0])

    assert ours.keys() == theirs.keys()
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)
    assert Vocabulary(Checkpoint("again", tmp_path / "again")).special == Vocabulary(pocket).special


def test_a_training_that_was_killed_goes_on_as_if_it_had_not_been(beginner: Checkpoint, tmp_path: Path) -> None:
    """SIGKILL after step 30, a checkpoint at 20: all losses are those of the undisturbed run, bit for bit."""
    script = (
        "import os, signal, sys; from pathlib import Path\n"
        "from models.checkpoint import Checkpoint; from models.training.trainer import train\n"
        "from tests.lessons import Watching, lesson, training\n"
        "class Killer(Watching):\n"
        "    def stepped(self, step, loss, seconds, /):\n"
        "        if step == 30: os.kill(os.getpid(), signal.SIGKILL)\n"
        "train(Path(sys.argv[2]), Checkpoint('newborn', Path(sys.argv[1])), lesson(), training(50), Killer())\n"
    )
    promotion = {"JAX_NUMPY_DTYPE_PROMOTION": "standard", "JAX_NUMPY_RANK_PROMOTION": "allow"}
    killed = subprocess.run(
        [sys.executable, "-c", script, str(beginner.folder), str(tmp_path / "killed")],
        env=os.environ | promotion | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr

    watching = Watching()
    train(tmp_path / "killed", beginner, lesson(), training(50), watching)
    train(tmp_path / "whole", beginner, lesson(), training(50), Watching())

    assert watching.went_on == 20
    assert _curve(tmp_path / "killed") == _curve(tmp_path / "whole")
    assert _weights(tmp_path / "killed") == _weights(tmp_path / "whole")


def test_a_training_that_is_done_is_not_done_again(learnt: tuple[Path, Watching], beginner: Checkpoint) -> None:
    before, watching = (learnt[0] / "log.jsonl").read_bytes(), Watching()
    outcome = train(learnt[0], beginner, lesson(), training(200), watching)

    assert (watching.went_on, watching.losses) == (200, [])
    assert outcome.before is not None
    assert outcome.after is not None
    assert outcome.after.rate < outcome.before.rate
    assert (learnt[0] / "log.jsonl").read_bytes() == before


def test_only_the_last_checkpoints_are_kept(learnt: tuple[Path, Watching]) -> None:
    steps = sorted(int(path.name) for path in (learnt[0] / "checkpoints").iterdir() if path.name.isdecimal())

    assert steps == [160, 180, 200]


def test_a_folder_goes_on_as_it_was_begun(learnt: tuple[Path, Watching], beginner: Checkpoint) -> None:
    other = training(200)
    other = replace(other, schedule=replace(other.schedule, rate=0.1))

    with pytest.raises(UsageError, match=r"begun with schedule rate 0\.003, now it is 0\.1; give the same, or another"):
        train(learnt[0], beginner, lesson(), other, Watching())


def test_a_training_that_diverges_says_so(beginner: Checkpoint, tmp_path: Path) -> None:
    wild = training(20)
    wild = replace(wild, schedule=replace(wild.schedule, rate=1e30, longest=1e30))

    with pytest.raises(EngineError, match="training diverged"):
        train(tmp_path, beginner, lesson(), wild, Watching())


def test_a_batch_in_parts_is_the_batch_in_one(beginner: Checkpoint) -> None:
    """Gradient accumulation: the parameters after a step are the same, but for the order of sums."""
    whole = training(10)
    parts = replace(whole, feeding=replace(whole.feeding, batch=2, accumulate=4))
    batches = []
    for one in (whole, parts):
        made = iter(Batches(lesson().utterances, lesson().read, Vocabulary(beginner), beginner.dims, one.feeding))
        batches.append(next(made)[0])
        made.close()  # type: ignore[attr-defined]
    after = [_stepped(beginner, batch)["params"] for batch in batches]

    assert batches[0].pcm.shape[:2] == (1, 8)
    assert batches[1].pcm.shape[:2] == (4, 2)
    np.testing.assert_array_equal(batches[0].pcm[0], batches[1].pcm.reshape(8, -1))
    for name, value in after[0].items():
        np.testing.assert_allclose(value, after[1][name], atol=2e-5, err_msg=name)


def test_rematerialised_layers_learn_the_same(beginner: Checkpoint) -> None:
    batch = _batch(beginner)
    kept, again = (_stepped(beginner, batch, rematerialise=value)["params"] for value in (False, True))

    for name, value in kept.items():
        np.testing.assert_allclose(value, again[name], atol=2e-5, err_msg=name)


def test_a_frozen_encoder_does_not_change(beginner: Checkpoint, tmp_path: Path) -> None:
    frozen = replace(training(5), frozen_encoder=True)
    train(tmp_path, beginner, replace(lesson(), held_out=()), frozen, Watching())
    before, after = load_file(beginner.weights[0]), load_file(tmp_path / "model" / "model.safetensors")

    for name, value in before.items():
        assert np.array_equal(value, after[name]) == name.startswith("model.encoder."), name


def test_the_encoders_positions_stand_still(beginner: Checkpoint, learnt: tuple[Path, Watching]) -> None:
    name = "model.encoder.embed_positions.weight"

    assert np.array_equal(load_file(beginner.weights[0])[name], load_file(learnt[0] / "model/model.safetensors")[name])


@pytest.mark.parametrize(
    ("n", "of", "layers"),
    [
        (1, 4, [0]),
        (2, 2, [0, 1]),
        (2, 32, [0, 31]),
        (4, 32, [0, 10, 21, 31]),
        (3, 5, [0, 2, 4]),
        (5, 5, [0, 1, 2, 3, 4]),
    ],
)
def test_layers_are_copied_as_far_apart_as_can_be(n: int, of: int, layers: list[int]) -> None:
    assert spaced(n, of) == layers


@pytest.mark.parametrize("n", [0, 5])
def test_a_student_has_no_more_layers_than_its_teacher(n: int) -> None:
    with pytest.raises(UsageError, match=f"{n} decoder layers of a teacher with 4; choose from 1 to 4"):
        spaced(n, 4)


def test_a_student_of_one_layer_learns_its_teachers_opinion(learnt: tuple[Path, Watching], tmp_path: Path) -> None:
    """Pocket's first decoder layer with pocket's encoder; a step of it brings the two closer."""
    teacher = find_checkpoint("pocket")
    student = write_student(tmp_path / "student", teacher, 1)
    ours, theirs = load_file(student.weights[0]), load_file(teacher.weights[0])

    assert student.dims == replace(teacher.dims, n_text_layer=1)
    assert student.generation["alignment_heads"] == [[0, 0], [0, 1]]
    assert all(np.array_equal(value, theirs[name]) for name, value in ours.items())

    taught = Checkpoint("learnt", learnt[0] / "model")
    watching = Watching()
    distilling = replace(training(20), weights=Weights(teacher=0.8), frozen_encoder=True)
    start = write_student(tmp_path / "start", taught, 1)
    train(tmp_path / "run", start, replace(lesson(), held_out=()), distilling, watching, teacher=taught)
    lines = [line for line in read_log(tmp_path / "run" / "log.jsonl") if "total" in line]

    # One layer of one: it is its own teacher, and its opinion is that of the teacher.
    assert lines[0].get("teacher", 0.0) < 0.05


def test_a_mesh_of_more_devices_than_windows_is_refused(beginner: Checkpoint, tmp_path: Path) -> None:
    odd = training(10, mesh="2x1")
    odd = replace(odd, feeding=replace(odd.feeding, batch=3))

    with pytest.raises(UsageError, match=r"needs 2 devices|cannot be split over 2 devices"):
        train(tmp_path, beginner, lesson(), odd, Watching())


def test_what_is_held_out_is_heard_by_the_engine(learnt: tuple[Path, Watching]) -> None:
    heard = listen(learnt[0] / "model", lesson().held_out, lesson().read)

    assert heard.errors.reference == 10
    assert heard.examples[0] == ("low low", "low low")


def test_the_picture_has_both_curves(learnt: tuple[Path, Watching]) -> None:
    picture = plot(read_log(learnt[0] / "log.jsonl"), "three words <1>")

    assert picture.count("<polyline") == 2
    assert "three words &lt;1&gt;" in picture
    assert (learnt[0] / "loss.svg").read_text().startswith("<svg")


def test_a_line_that_a_crash_cut_off_is_forgotten(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text('{"step": 10, "text": 1.5}\n{"step": 20, "te')

    assert read_log(tmp_path / "log.jsonl") == [{"step": 10, "text": 1.5}]


def _setup(checkpoint: Checkpoint, *, rematerialise: bool = False) -> Setup:
    return Setup(
        dims=checkpoint.dims,
        teacher=None,
        schedule=training(10).schedule,
        weights=Weights(place=0.4, smoothing=0.02),
        dtype="float32",
        frozen_encoder=False,
        rematerialise=rematerialise,
        mesh=make_mesh(None),
    )


def _stepped(checkpoint: Checkpoint, batch: Batch, *, rematerialise: bool = False) -> State:
    setup = _setup(checkpoint, rematerialise=rematerialise)
    state, fixed = begin(read_params(checkpoint.dims, checkpoint.weights), setup, symbols=0, seed=0)
    return make_step(setup, state)(state, fixed, {}, batch)[0]


def _batch(checkpoint: Checkpoint) -> Batch:
    made = iter(
        Batches(lesson().utterances, lesson().read, Vocabulary(checkpoint), checkpoint.dims, training(1).feeding)
    )
    batch, _ = next(made)
    made.close()  # type: ignore[attr-defined]
    return batch


def _curve(folder: Path) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def _weights(folder: Path) -> bytes:
    return (folder / "model" / "model.safetensors").read_bytes()
