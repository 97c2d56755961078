"""`stenopool train`, `distill` and `finetune`, as they are typed."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import pytest
from click.testing import CliRunner, Result

from stenopool.cli import cli
from stenopool.errors import UsageError
from tests.lessons import TONES, newborn, tone


@pytest.fixture(autouse=True)
def as_jax_is() -> Iterator[None]:
    """What optax computes promotes dtypes and ranks, as JAX does where it is not told otherwise."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Decoded sound is this test's own; compiled programs are everybody's."""
    monkeypatch.setattr("models.device.use_compile_cache", lambda folder: None)
    monkeypatch.setenv("STENOPOOL_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def words(home: Path) -> Path:
    """A manifest of recordings of one word each."""
    import wave

    lines = []
    for number in range(12):
        word = list(TONES)[number % 3]
        with wave.open(str(home / f"{number}.wav"), "wb") as file:
            file.setparams((1, 2, 16_000, 0, "NONE", ""))
            file.writeframes(tone(word, loudness=0.1 + number / 20).tobytes())
        lines.append(json.dumps({"audio": f"{number}.wav", "text": word}))
    (home / "words.jsonl").write_text("\n".join(lines))
    return home / "words.jsonl"


def test_a_checkpoint_is_taught_its_words(words: Path, home: Path) -> None:
    """Held-out error rates before and after are printed, and where the model lies."""
    model = newborn(home / "newborn")
    done = _run(
        "finetune", "--model", model.folder, "--data", words, "--steps", 60, "--rate", 3e-3, "--warmup", 5,
        "--no-augment", "-o", home / "taught",
    )  # fmt: skip

    assert done.exit_code == 0, done.output
    assert done.stdout == f"held-out WER 100.0% before, 0.0% after\n{home / 'taught' / 'model'}\n"
    assert "12 held out" not in done.stderr
    assert "11 utterances, 0.00 h; 1 held out" in done.stderr
    assert (home / "taught" / "loss.svg").exists()

    student = _run(
        "distill", "--teacher", home / "taught" / "model", "--decoder-layers", 1, "--data", words, "--steps", 2,
        "-o", home / "student",
    )  # fmt: skip
    assert student.exit_code == 0, student.output
    assert np.isclose(json.loads((home / "student" / "log.jsonl").read_text().splitlines()[0])["wer"], 0.0)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["train", "speck"], "either --data MANIFEST or --make-data DIR"),
        (["finetune", "--model", "pocket", "--data", "none.jsonl"], "none.jsonl: does not exist"),
        (["distill", "--teacher", "pocket", "--data", "words.jsonl", "--decoder-layers", "9"], "9 decoder layers of a"),
        (
            ["distill", "--teacher", "pocket", "--data", "words.jsonl", "--pseudo-labels", "labels"],
            "labels has no transcript of 0.wav; make it: stenopool transcribe",
        ),
    ],
)
def test_what_is_wrong_is_one_line(
    words: Path, home: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], problem: str
) -> None:
    monkeypatch.chdir(home)
    done = _run(*arguments, "-o", "out")

    assert isinstance(done.exception, UsageError)
    assert problem in str(done.exception)


def test_without_the_packages_the_command_to_install_them_is_named(
    words: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optax", None)
    done = _run("finetune", "--model", "pocket", "--data", words, "-o", home / "out")

    assert isinstance(done.exception, UsageError)
    assert str(done.exception) == "training needs optax, which is not installed: pip install optax orbax-checkpoint"


def _run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(one) for one in arguments])
