"""`stenopool train`, `distill` and `finetune`: checkpoints that are made, made smaller, or taught something new."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from stenopool.cli.learning import Learning
from stenopool.config import Config
from stenopool.errors import UsageError

if TYPE_CHECKING:
    from models.checkpoint import Checkpoint
    from models.training.batches import Feeding
    from models.training.losses import Weights
    from workers.training.manifest import Entry

_Command = TypeVar("_Command", bound=Callable[..., Any])

PATH = click.Path(path_type=Path)
_COUNT = click.IntRange(min=1)

#: Of the recordings, where none are named to be held out.
_HELD_OUT_SHARE, _MOST_HELD_OUT = 0.02, 200


@dataclass(frozen=True, slots=True, kw_only=True)
class _Common:
    """The options that all three have; the names are theirs."""

    output: Path
    held_out: Path | None
    steps: int
    batch_size: int
    accumulate: int
    rate: float
    warmup: int
    optimiser: Any
    dtype: Any
    mesh: str | None
    rematerialise: bool
    augment: bool
    seed: int
    keep_every: int
    keep: int
    hear_every: int
    quiet: bool


def _common(
    *, steps: int, batch: int, rate: float, warmup: int, optimiser: str = "adamw"
) -> Callable[[_Command], _Command]:
    """All of them, with this command's defaults; `_taken` reads them."""
    options = (
        click.option("-o", "--output", type=PATH, required=True, help="Folder of this training; goes on where it was."),
        click.option("--held-out", type=PATH, metavar="MANIFEST", help="Only listened to.  [default: 1 in 50]"),
        click.option("--steps", type=_COUNT, default=steps, show_default=True, help="Of the optimiser, in all."),
        click.option("--batch-size", type=_COUNT, default=batch, show_default=True, help="Windows of 30 s at a time."),
        click.option("--accumulate", type=_COUNT, default=1, show_default=True, help="Such batches in a step."),
        click.option("--rate", type=click.FloatRange(min=0, min_open=True), default=rate, show_default=True,
                     help="Learning rate, at its highest."),
        click.option("--warmup", type=_COUNT, default=warmup, show_default=True, help="Steps until it is that high."),
        click.option("--optimiser", type=click.Choice(["adamw", "muon"]), default=optimiser, show_default=True,
                     help="muon takes AdamW's rates and fewer steps; each takes longer."),
        click.option("--dtype", type=click.Choice(["auto", "float32", "bfloat16"]), default="auto", show_default=True,
                     help="Of products; what is learnt is float32 always."),
        click.option("--mesh", metavar="DATAxMODEL", help="Devices, such as 2x4: windows over 2, model over 4."),
        click.option("--rematerialise", is_flag=True, help="Less memory, a third more time."),
        click.option("--augment/--no-augment", default=True, show_default=True,
                     help="Vary speed, pitch, noise and room, and mask features."),
        click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of all chance."),
        click.option("--keep-every", type=_COUNT, default=200, show_default=True, help="Steps between checkpoints."),
        click.option("--keep", type=_COUNT, default=3, show_default=True, help="Checkpoints that are kept."),
        click.option("--hear-every", type=_COUNT, default=500, show_default=True,
                     help="Steps between hearings of what is held out."),
        click.option("-q", "--quiet", is_flag=True, help="Show no progress."),
    )  # fmt: skip

    def decorate(command: _Command) -> _Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def _taken(arguments: dict[str, Any]) -> _Common:
    return _Common(**arguments)


@click.command(no_args_is_help=True)
@click.argument("size", type=click.Choice(["pocket", "speck"]))
@click.option("--data", type=PATH, metavar="MANIFEST", help="Recordings and what is said in them: jsonl.")
@click.option("--make-data", type=PATH, metavar="DIR", help="Have espeak-ng and flite speak, into this folder.")
@click.option("--sentences", type=_COUNT, default=20_000, show_default=True, help="That they speak.")
@click.option("--from", "begin_with", metavar="MODEL", help="Go on from this checkpoint, not from nothing.")
@click.option("--vocabulary", type=click.IntRange(256, 50_000), default=1000, show_default=True, help="Byte pairs.")
@_common(steps=20_000, batch=4, rate=9e-4, warmup=200, optimiser="muon")
def train(
    size: str, data: Path | None, make_data: Path | None, sentences: int, begin_with: str | None, vocabulary: int,
    **arguments: Any,
) -> None:  # fmt: skip
    """Train a small model from nothing.

    pocket has 7 M parameters, speck 0.1 M, to see that everything works. The model lies in OUTPUT/model at any time;
    killed, the same command goes on from its last checkpoint.

    \b
    Examples:
      stenopool train speck --make-data speech/ --sentences 200 --steps 300 -o speck/
      stenopool train pocket --data talks.jsonl -o pocket/
    """
    common = _taken(arguments)
    if (data is None) == (make_data is None):
        raise UsageError("name what to learn from: either --data MANIFEST or --make-data DIR")
    _check_packages()
    from models.checkpoint import Checkpoint, find_checkpoint
    from models.training.batches import Feeding
    from models.training.beginning import SIZES, write_newborn
    from models.training.losses import Weights
    from workers.training.manifest import read_manifest

    with Learning(enabled=not common.quiet) as learning:
        held = common.held_out
        if make_data is not None:
            data, made = _made(make_data, sentences, common.seed, learning)
            held = held or made
        assert data is not None
        entries = read_manifest(data)
        start = common.output / "start"
        if begin_with is not None:
            source = find_checkpoint(begin_with)
        elif start.is_dir():
            source = Checkpoint(size, start)
        else:
            texts = [entry.text or "" for entry in entries]
            source = write_newborn(start, SIZES[size], texts, n_pairs=vocabulary, seed=common.seed)
        feeding = Feeding(
            batch=common.batch_size,
            lengths=((6.0, 0.4), (15.0, 0.35), (30.0, 0.25)),
            timestamps=0.8,
            confusion=0.1,
            previous=0.1,
        )
        spelt = any(entry.phonemes for entry in entries)
        weights = Weights(smoothing=0.02, blur=2.0, phonemes=0.4 if spelt else 0.0, place=1.0)
        _run(common, source, entries, held, feeding, weights, learning, clock=True)


@click.command(no_args_is_help=True)
@click.option("-m", "--model", required=True, help="Folder or Hugging Face repository.")
@click.option("--data", type=PATH, metavar="MANIFEST", required=True, help="Recordings and their texts: jsonl.")
@click.option("--freeze-encoder", is_flag=True, help="The decoder alone learns: a vocabulary, not a voice.")
@_common(steps=1000, batch=8, rate=1e-5, warmup=50)
def finetune(model: str, data: Path, freeze_encoder: bool, **arguments: Any) -> None:
    """Teach a checkpoint a voice or a vocabulary.

    The held-out recordings are heard before and after; both word error rates are printed.

    \b
    Example:
      stenopool finetune --model openai/whisper-small --data clinic.jsonl -o clinic/
    """
    common = _taken(arguments)
    _check_packages()
    from models.checkpoint import find_checkpoint
    from models.training.batches import Feeding
    from models.training.losses import Weights
    from workers.training.manifest import read_manifest

    with Learning(enabled=not common.quiet) as learning:
        _run(
            common, find_checkpoint(model), read_manifest(data), common.held_out, Feeding(batch=common.batch_size),
            Weights(), learning, frozen_encoder=freeze_encoder,
        )  # fmt: skip


@click.command(no_args_is_help=True)
@click.option("--teacher", required=True, help="Folder or Hugging Face repository.")
@click.option("--decoder-layers", type=_COUNT, default=2, show_default=True, help="That the student has.")
@click.option(
    "--data", type=PATH, metavar="MANIFEST", required=True, help="Recordings, and references if known: jsonl."
)
@click.option("--pseudo-labels", type=PATH, metavar="FOLDER", help="The teacher's transcripts of them, as JSON.")
@click.option("--max-wer", type=click.FloatRange(min=0), default=0.1, show_default=True,
              help="Of a transcript against its reference; others are left out.")  # fmt: skip
@click.option("--max-suspicion", type=click.FloatRange(0, 1), default=0.5, show_default=True,
              help="Of a segment without reference; others are left out.")  # fmt: skip
@_common(steps=10_000, batch=8, rate=1e-4, warmup=500)
def distill(
    teacher: str, decoder_layers: int, data: Path, pseudo_labels: Path | None, max_wer: float, max_suspicion: float,
    **arguments: Any,
) -> None:  # fmt: skip
    """Make a model with fewer decoder layers that hears as its teacher does.

    As Distil-Whisper: the encoder is the teacher's and stays, layers are copied as far apart as can be, and the student
    learns the teacher's opinion of every token beside its text.

    \b
    Example:
      stenopool transcribe talks/*.mp3 --model openai/whisper-small -o labels/ --format json
      stenopool distill --teacher openai/whisper-small --data talks.jsonl --pseudo-labels labels/ -o small/
    """
    common = _taken(arguments)
    _check_packages()
    from models.checkpoint import Checkpoint, find_checkpoint
    from models.training.batches import Feeding
    from models.training.beginning import write_student
    from models.training.losses import Weights
    from workers.training.labels import Filter, labelled
    from workers.training.manifest import read_manifest

    with Learning(enabled=not common.quiet) as learning:
        entries: Sequence[Entry] = read_manifest(data)
        if pseudo_labels is not None:
            found = labelled(entries, pseudo_labels, Filter(max_wer=max_wer, max_suspicion=max_suspicion))
            learning.say(
                f"{len(found.entries)} of {len(entries)} recordings are labelled: {found.n_wrong} transcripts are too "
                f"far from their references, {found.n_suspicious} segments are too suspicious"
            )
            entries = found.entries
            if not entries:
                raise UsageError(f"{pseudo_labels}: no label is good enough; raise --max-wer or --max-suspicion")
        taught = find_checkpoint(teacher)
        start = common.output / "start"
        source = Checkpoint(teacher, start) if start.is_dir() else write_student(start, taught, decoder_layers)
        if source.dims.n_text_layer != decoder_layers:
            raise UsageError(
                f"{common.output}: its student has {source.dims.n_text_layer} decoder layers, not {decoder_layers}; "
                "name another --output"
            )
        weights = Weights(text=1.0, teacher=0.8, temperature=2.0)
        feeding = Feeding(batch=common.batch_size, timestamps=0.2)
        _run(
            common, source, entries, common.held_out, feeding, weights, learning, frozen_encoder=True, teacher=taught,
            linear=True,
        )  # fmt: skip


def _check_packages() -> None:
    """Only those who train need them."""
    try:
        import optax  # noqa: F401
        import orbax.checkpoint  # noqa: F401
    except ModuleNotFoundError as error:
        raise UsageError(
            f"training needs {error.name}, which is not installed: pip install optax orbax-checkpoint"
        ) from error


def _made(folder: Path, n: int, seed: int, learning: Learning) -> tuple[Path, Path]:
    """The manifests of speech that was made."""
    from workers.training.speech import held_out, make_speech

    learning.begin("speaking", n + held_out(n))
    made = make_speech(folder, n, seed=seed, spoken=learning.advance)
    learning.say(f"{folder}: {n} sentences by {' and '.join(made.programs)}")
    return made.manifest, made.held_out


def _run(
    common: _Common, source: Checkpoint, entries: Sequence[Entry], held_out: Path | None, feeding: Feeding,
    weights: Weights, learning: Learning, *, frozen_encoder: bool = False, teacher: Checkpoint | None = None,
    linear: bool = False, clock: bool = False,
) -> None:  # fmt: skip
    """Decode, train, and say what became of it."""
    from dataclasses import replace

    from models.device import resolve_dtype, use_compile_cache
    from models.tokens import Vocabulary
    from models.training.augment import Augmentation
    from models.training.state import Schedule
    from models.training.trainer import Lesson, Training, train
    from workers.training.manifest import read_manifest, utterances_of
    from workers.training.sounds import Sounds

    config = Config.from_env()
    use_compile_cache(config.cache / "xla")
    if held_out is not None:
        apart: Sequence[Entry] = read_manifest(held_out)[:_MOST_HELD_OUT]
    else:
        entries, apart = _split(entries)
    sounds = Sounds(config.cache / "sounds")
    learning.begin("reading", len({entry.audio for entry in (*entries, *apart)}))
    sounds.decode((entry.audio for entry in (*entries, *apart)), learning.advance, threads=os.cpu_count() or 1)
    languages = list(Vocabulary(source).special.languages) or ["en"]
    lesson = Lesson(
        utterances=utterances_of(entries, sounds, source.dims.window, languages),
        held_out=utterances_of(apart, sounds, source.dims.window, languages),
        read=sounds.read,
    )
    hours = sum(one.span.seconds for one in lesson.utterances) / 3600
    learning.say(f"{len(lesson.utterances)} utterances, {hours:.2f} h; {len(lesson.held_out)} held out")
    varied = Augmentation(speeds=(0.9, 1.0, 1.1), pitch=0.2, noise=0.3, reverberation=0.2, masking=0.3)
    training = Training(
        schedule=Schedule(
            steps=common.steps, rate=common.rate, warmup=common.warmup, linear=linear, optimiser=common.optimiser
        ),
        feeding=replace(
            feeding,
            seed=common.seed,
            accumulate=common.accumulate,
            augmentation=varied if common.augment else Augmentation(),
        ),
        weights=weights,
        dtype=resolve_dtype(common.dtype),
        frozen_encoder=frozen_encoder,
        rematerialise=common.rematerialise,
        clock=clock,
        mesh=common.mesh,
        keep_every=common.keep_every,
        keep=common.keep,
        hear_every=common.hear_every,
    )
    learning.begin("training", common.steps)
    outcome = train(common.output, source, lesson, training, learning, teacher=teacher)
    if outcome.before and outcome.after:
        click.echo(f"held-out WER {outcome.before.rate:.1%} before, {outcome.after.rate:.1%} after")
    click.echo(outcome.model)


def _split(entries: Sequence[Entry]) -> tuple[list[Entry], list[Entry]]:
    """What to learn from, and what to listen to: chosen by the recordings' names, so that it stays the same."""

    def place(entry: Entry) -> int:
        return int.from_bytes(hashlib.sha256(entry.audio.name.encode()).digest()[:8], "big")

    n = min(_MOST_HELD_OUT, max(1, round(_HELD_OUT_SHARE * len(entries))))
    if len(entries) < 2:
        raise UsageError("one recording is too few: it would have to be held out; name others with --held-out")
    apart = {id(entry) for entry in sorted(entries, key=place)[:n]}
    return [one for one in entries if id(one) not in apart], [one for one in entries if id(one) in apart]


COMMANDS = (train, distill, finetune)
