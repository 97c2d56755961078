"""The alignment as one HTML file that needs nothing else: its style and its script are in it, and the sound beside it.

Words are aligned in normal form: `del` was said and not heard, `ins` heard and not said, a pair of both in `.sub` is
one word for another. `data-t` is a time in seconds, from which the sound is played.
"""

from __future__ import annotations

import base64
import hashlib
import mimetypes
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from urllib.parse import quote

from models.accuracy import EditKind
from stenopool.domain import SAMPLE_RATE, Coverage
from stenopool.evaluation.evaluation import Evaluation, Figures, Timing, total
from stenopool.evaluation.figures import clock, columns, describe_form, describe_run, duration, percent
from stenopool.evaluation.rows import Row, Token, lay_out
from stenopool.formats.text import writable
from stenopool.version import __version__

_LEGEND = """\
<p>A word that was <del>not heard</del>, one that <ins>nobody said</ins>,
<span class="sub"><del>said</del> <ins>heard</ins></span> one for another.</p>"""


@dataclass(frozen=True, slots=True)
class Sound:
    """Where a page finds the sound of a recording."""

    #: A relative URL, or a data URL.
    url: str

    @classmethod
    def beside(cls, audio: Path, folder: Path) -> Sound:
        """By its path from the page's folder: both can be moved together."""
        relative = os.path.relpath(audio.resolve(), folder.resolve())
        return cls(quote(os.fsencode(relative)))

    @classmethod
    def inside(cls, audio: Path) -> Sound:
        """In the page itself, a third larger than the file.

        Raises:
            OSError: it cannot be read.
        """
        kind = mimetypes.guess_type(audio.name)[0] or "audio/mpeg"  # browsers look at the content
        return cls(f"data:{kind};base64,{base64.b64encode(audio.read_bytes()).decode()}")


def to_html(
    evaluations: Sequence[Evaluation], timing: Timing | None, failed: Mapping[str, str], sounds: Mapping[int, Sound]
) -> str:
    """The page.

    Args:
        evaluations: the recordings that could be compared.
        timing: of what was transcribed for it.
        failed: recordings that could not be, with the reason.
        sounds: of recordings that can be played, by their index.
    """
    style, script = _asset("page.css"), _asset("page.js")
    # No request to anybody, and no script but ours, even if a text found its way around the escaping.
    trusted = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{trusted}'; media-src 'self' file: data:"
    )
    parts = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(_title(evaluations))}</title>\n<style>\n{style}</style>\n</head>\n<body>",
        f"<h1>{escape(_title(evaluations))}</h1>",
        _summary(evaluations),
        *(f"<p>{escape(describe_run(run))}</p>" for run in [timing] if run),
        *(f"<p><strong>{escape(name)}</strong> {escape(reason)}</p>" for name, reason in failed.items()),
        _LEGEND,
        *(_section(index, one, sounds.get(index), len(evaluations) == 1) for index, one in enumerate(evaluations)),
        f'<p class="soft">Stenopool {escape(__version__)}. Error rates are errors per word, or character, of the',
        "reference. Words are shown in the form in which they are compared.</p>",
        f"<script>{script}</script>\n</body>\n</html>",
    ]
    return writable("\n".join(parts) + "\n")


def _asset(name: str) -> str:
    return files("stenopool.evaluation").joinpath(name).read_text(encoding="utf-8")


def _title(evaluations: Sequence[Evaluation]) -> str:
    what = evaluations[0].case.name if len(evaluations) == 1 else f"{len(evaluations)} recordings"
    return f"{what}: {percent(total(evaluations).words.rate)} word error rate"


def _summary(evaluations: Sequence[Evaluation]) -> str:
    together = total(evaluations)
    shown = columns(together)
    head = "".join(f'<th><abbr title="{escape(column.meaning)}">{escape(column.head)}</abbr></th>' for column in shown)

    def cells(first: str, figures: Figures) -> str:
        values = "".join(f"<td>{escape(column.show(figures))}</td>" for column in shown)
        return f"<tr><td>{first}</td>{values}</tr>"

    rows = "\n".join(
        cells(f'<a href="#r{index}">{escape(one.case.name)}</a>', one.figures) for index, one in enumerate(evaluations)
    )
    foot = f"<tfoot>{cells(f'all {len(evaluations)}', together)}</tfoot>" if len(evaluations) > 1 else ""
    return (
        f'<div class="wide"><table>\n<thead><tr><th>recording</th>{head}</tr></thead>\n'
        f"<tbody>\n{rows}\n</tbody>{foot}</table></div>"
    )


def _section(index: int, evaluation: Evaluation, sound: Sound | None, alone: bool) -> str:
    transcript = evaluation.hypothesis.transcript
    facts = [f"compared: {describe_form(evaluation.form)}"]
    if evaluation.language:
        facts.append(f"language {evaluation.language}")
    if transcript is not None:
        facts.append(f"heard by {transcript.provenance.model} in {transcript.provenance.dtype}")
    player = (
        f'<audio controls preload="none" src="{escape(sound.url)}"></audio>'
        if sound
        else '<span class="soft">no sound to play</span>'
    )
    rows = lay_out(evaluation.comparison, evaluation.hypothesis, evaluation.form)
    space = "" if evaluation.form.letters else " "
    # For the fonts, which draw one and the same ideograph in the Chinese or the Japanese way.
    language = f' lang="{escape(evaluation.language)}"' if evaluation.language else ""
    return "\n".join(
        [
            f'<details id="r{index}"{" open" if alone else ""}{" class=heard" if sound else ""}>',
            f"<summary>{escape(evaluation.case.name)} · {percent(evaluation.figures.words.rate)}</summary>",
            f'<p class="soft">{escape(", ".join(facts))}</p>',
            *([] if transcript is None else [_coverage(transcript.coverage)]),
            f'<div class="bar">{player}',
            '<button type="button" class="step" data-step="-1">‹ error</button>',
            '<button type="button" class="step" data-step="1">error ›</button>',
            '<label><input type="checkbox" class="only"> errors only</label>',
            '<label><input type="checkbox" class="show-written"> as written</label></div>',
            f"<div{language}>",
            *(_row(row, space) for row in rows),
            "</div>\n</details>",
        ]
    )


def _coverage(coverage: Coverage) -> str:
    """What became of the recording, to scale; and its gaps in words."""
    pieces = "".join(
        f'<span class="{piece.kind}" style="flex:{len(piece.span)}" data-t="{_seconds(piece.span.start)}"'
        f' title="{clock(piece.span.start)} {piece.kind}, {duration(len(piece.span))}"></span>'
        for piece in coverage
    )
    gaps = "".join(
        f"<p>Gap at {clock(gap.span.start)}, {duration(len(gap.span))}: {escape(gap.reason or '')}</p>"
        for gap in coverage.gaps
    )
    return f'<div class="cover" role="img" aria-label="what became of the recording">{pieces}</div>{gaps}'


def _row(row: Row, space: str) -> str:
    runs = groupby(row.tokens, key=lambda token: token.kind)
    text = space.join(space.join(_run(kind, list(tokens), space)) for kind, tokens in runs)
    timed = "" if row.start is None else f' data-t="{_seconds(row.start)}"'
    at = "<span></span>" if row.start is None else f'<button type="button" class="at">{clock(row.start)}</button>'
    return (
        f'<div class="row{" right" if row.right else ""}"{timed}>{at}'
        f'<span>{text}</span><span class="written">{escape(row.text)}</span></div>'
    )


def _run(kind: EditKind, tokens: list[Token], space: str) -> Iterator[str]:
    """Words of one kind, one after the other; those with a time of their own can be clicked."""
    if kind is EditKind.EQUAL:
        yield from (_timed(token, escape(token.hypothesis or "")) for token in tokens)
    elif kind is EditKind.DELETE:
        yield f"<del>{escape(space.join(token.reference or '' for token in tokens))}</del>"
    elif kind is EditKind.INSERT:
        yield f"<ins>{space.join(_timed(token, escape(token.hypothesis or '')) for token in tokens)}</ins>"
    else:
        for token in tokens:
            said, heard = escape(token.reference or ""), escape(token.hypothesis or "")
            yield f'<span class="sub"{_time(token)}><del>{said}</del> <ins>{heard}</ins></span>'


def _timed(token: Token, text: str) -> str:
    return text if token.start is None else f"<span{_time(token)}>{text}</span>"


def _time(token: Token) -> str:
    return "" if token.start is None else f' data-t="{_seconds(token.start)}"'


def _seconds(samples: int) -> str:
    return f"{samples / SAMPLE_RATE:.3f}"
