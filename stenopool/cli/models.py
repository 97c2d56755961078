"""`stenopool models`: which checkpoints are here, what they are and need, how to get one, whether it is whole."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import zip_longest
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Literal

import click

from stenopool.config import Config
from stenopool.errors import CheckpointError, UsageError

if TYPE_CHECKING:
    from models.checkpoint import Checkpoint
    from models.describe import Description, Listed

_WIDTH = 100  # columns, as of the help
_HARD_SPACE = "\xa0"  # where a line must not break

_NAME = click.argument("name", metavar="NAME")
_AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(no_args_is_help=True)
def models() -> None:
    """List, describe, download and check Whisper checkpoints.

    NAME is pocket (bundled), a folder, or a Hugging Face repository; NAME@REVISION pins a branch, a tag or a commit.

    \b
    Examples:
      stenopool models list
      stenopool models fetch openai/whisper-large-v3-turbo
      stenopool models info openai/whisper-tiny@main
    """


@models.command("list")
@_AS_JSON
def list_(as_json: bool) -> None:
    """List the Whisper checkpoints on this machine."""
    from models.describe import list_checkpoints
    from models.memory import n_parameters

    listed = list_checkpoints()
    if as_json:
        rows = [asdict(one) | {"n_parameters": one.dims and n_parameters(one.dims)} for one in listed]
        click.echo(json.dumps(rows, indent=2, default=str))
        return
    head = ("NAME", "REVISION", "ENCODER", "DECODER", "WIDTH", "MELS", "PARAMETERS", "LANGUAGES", "SIZE")
    for line in table([head, *(_row(one) for one in listed)]):
        click.echo(line)
    for one in listed:
        if one.problem:
            click.echo(f"stenopool: {one.problem}", err=True)


def _row(one: Listed) -> tuple[str, ...]:
    from models.memory import n_parameters

    revision = one.revision[:12] if one.revision else "bundled"
    if one.dims is None:
        return (one.name, revision, "?", "?", "?", "?", "?", "?", size(one.size))
    dims = one.dims
    sizes = (dims.n_audio_layer, dims.n_text_layer, dims.d_model, dims.n_mels)
    languages = "?" if one.n_languages is None else "English" if one.n_languages == 1 else str(one.n_languages)
    return (one.name, revision, *map(str, sizes), _millions(n_parameters(dims)), languages, size(one.size))


@models.command()
@_NAME
@_AS_JSON
def info(name: str, as_json: bool) -> None:
    """Describe a checkpoint: sizes, languages, files, memory.

    Its weights are hashed and not loaded. A slot holds a chunk while it is decoded; its text is counted at the whole
    context.
    """
    from models.checkpoint import find_checkpoint
    from models.describe import describe

    description = describe(find_checkpoint(name))
    if as_json:
        click.echo(json.dumps(asdict(description), indent=2, default=str))
        return
    for line in _described(description):
        click.echo(line)


def _described(one: Description) -> Iterator[str]:
    dims, special = one.dims, one.special
    yield from paragraphs(
        [
            ("name", one.name),
            ("folder", str(one.folder)),
            ("revision", one.revision or "none: the folder is what it is"),
            ("digest", one.digest),
            ("encoder", f"{dims.n_audio_layer} layers of {dims.n_audio_head} heads, {dims.n_mels} mels"),
            ("decoder", f"{dims.n_text_layer} layers of {dims.n_text_head} heads, {dims.n_vocab} tokens"),
            ("width", str(dims.d_model)),
            (
                "context",
                f"{dims.n_audio_ctx} positions of sound ({dims.window / 16_000:g} s), {dims.n_text_ctx} of text",
            ),
            ("parameters", _millions(one.n_parameters)),
            ("on disk", ", ".join(f"{dtype} {_millions(n)}" for dtype, n in one.stored.items())),
            ("files", _listing(f"{name} {size(n)}" for name, n in one.files.items())),
            (
                "languages",
                f"{len(one.languages)}: " + _listing(f"{code} {name}" for code, name in one.languages.items()),
            ),
            ("alignment", _alignment(one)),
            (
                "tokens",
                f"end {special.end_of_text}, start {special.start_of_transcript}, no speech {special.no_speech}, "
                f"no timestamps {special.no_timestamps}, <|0.00|> {special.timestamp_begin}, "
                f"{len(special.suppressed)} suppressed",
            ),
        ]
    )
    yield ""
    needs = one.memory.values()
    yield from table(
        [
            ("memory", *one.memory),
            ("parameters", *(size(need.parameters) for need in needs)),
            ("a slot", *(size(need.slot()) for need in needs)),
            ("  its sound", *(size(need.audio) for need in needs)),
            ("  its text, each beam", *(size(need.hypothesis) for need in needs)),
            ("the encoder, each chunk", *(size(need.encoder_row) for need in needs)),
        ]
    )


def _listing(items: Iterable[str]) -> str:
    """Items, none of which is broken at the end of a line."""
    return ", ".join(item.replace(" ", _HARD_SPACE) for item in items)


def _alignment(one: Description) -> str:
    heads = " ".join(f"{layer}.{head}" for layer, head in one.alignment_heads)
    source = "named by the checkpoint" if one.alignment_given else "the decoder's upper half"
    return f"{len(one.alignment_heads)} heads, {source}: {heads}"


@models.command()
@_NAME
@click.option("--revision", help="A branch, a tag or a commit; as NAME@REVISION.")
def fetch(name: str, revision: str | None) -> None:
    """Download a checkpoint and print where it lies.

    Only what is missing is downloaded: a download that broke off goes on where it ended. HF_HUB_OFFLINE=1 forbids the
    network, HF_TOKEN opens gated repositories, HF_HOME moves the cache.
    """
    from models.checkpoint import find_checkpoint

    checkpoint = find_checkpoint(name, revision)
    n_bytes = sum(file.stat().st_size for file in checkpoint.weights)
    at = f" at {checkpoint.revision}" if checkpoint.revision else ""
    click.echo(f"{checkpoint.name}{at}: {size(n_bytes)} of weights", err=True)
    click.echo(checkpoint.folder)


@models.command()
@_NAME
@click.option("--dtype", type=click.Choice(["bfloat16", "int8"]), help="Compare this precision with float32.")
@click.option(
    "--audio", type=click.Path(path_type=Path), help="On this recording, not on a minute of synthetic speech."
)
@click.option("-l", "--language", help="Of the recording.  [default: en]")
def verify(name: str, dtype: Literal["bfloat16", "int8"] | None, audio: Path | None, language: str | None) -> None:
    """Check whether a checkpoint is whole, and what a precision costs.

    Reads the configs, the tokenizer, every tensor's name, shape, precision and values, and, of what the hub keeps by
    its hash, the hash. All that is wrong is printed, a line each. With --dtype, the model then hears a recording in
    float32 and in that precision.
    """
    if dtype is None and (audio or language):
        raise UsageError(
            f"{'--audio' if audio else '--language'}: nothing is to be heard; name a precision with --dtype"
        )

    from models.checkpoint import find_checkpoint
    from models.verify import verify

    checkpoint = find_checkpoint(name)
    found = verify(checkpoint)
    for problem in found.problems:
        click.echo(problem)
    if found.problems:
        count = len(found.problems)
        raise CheckpointError(f"{name}: {count} {'problem' if count == 1 else 'problems'}; do not transcribe with it")
    click.echo(f"{found.n_tensors} tensors, {' and '.join(found.dtypes)}: all fit, all finite")
    if found.hashed:
        click.echo(f"SHA-256 as the hub has it: {', '.join(found.hashed)}")
    click.echo(f"digest {found.digest}")
    if dtype is not None:
        for line in _compared(checkpoint, dtype, audio, language or "en"):
            click.echo(line)


def _compared(
    checkpoint: Checkpoint, dtype: Literal["bfloat16", "int8"], audio: Path | None, language: str
) -> Iterator[str]:
    """What a precision costs, in lines."""
    from models.accuracy import word_error_rate
    from models.device import use_compile_cache
    from models.fidelity import fidelity
    from models.tokens import Vocabulary
    from workers.windows import CLIP, windows

    use_compile_cache(Config.from_env().cache / "xla")
    vocabulary = Vocabulary(checkpoint)
    pcm = windows(audio or CLIP, checkpoint.dims.window)
    one = fidelity(checkpoint, dtype, pcm, vocabulary.language_code(language))
    exact, other = (" ".join(map(vocabulary.text, texts)) for texts in (one.exact, one.other))
    of = f"{audio}" if audio else "a minute of synthetic speech"
    yield f"{dtype} against float32 on {of}, {one.n_tokens} tokens:"
    yield f"  the same token likeliest at {one.agreement:.2%} of them, logits' cosine {one.cosine:.5f}"
    yield f"  decoded on its own, {word_error_rate(exact, other):.2%} of the words differ"


def table(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """Rows in columns, two spaces apart."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def paragraphs(rows: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Terms, each with a text beside it that is broken into lines."""
    indent = 2 + max(len(term) for term, _ in rows)
    for term, text in rows:
        lines = wrap(text, _WIDTH - indent, break_long_words=False, break_on_hyphens=False)
        for lead, line in zip_longest([term], lines, fillvalue=""):
            yield f"{lead:{indent}}{line}".replace(_HARD_SPACE, " ")


def size(n_bytes: int) -> str:
    """Bytes as people read them: 13.4 MB, 3.09 GB."""
    number, unit = (n_bytes / 1e9, "GB") if n_bytes >= 1e9 else (n_bytes / 1e6, "MB")
    if n_bytes < 1e6:
        number, unit = n_bytes / 1e3, "kB"
    return f"{number:.3g} {unit}" if number < 1000 else f"{number:.0f} {unit}"


def _millions(number: int) -> str:
    return f"{number / 1e6:.1f} M"
