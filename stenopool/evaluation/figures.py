"""The figures as people read them: the columns that the table on the terminal and the page have in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from models.accuracy import NormalForm
from stenopool.domain import SAMPLE_RATE, CoverageKind
from stenopool.evaluation.evaluation import Figures, Timing

NOTHING = "–"


@dataclass(frozen=True, slots=True)
class Column:
    """One figure."""

    head: str
    #: What the head stands for.
    meaning: str
    show: Callable[[Figures], str]
    #: Whether it says anything, given all figures together.
    wanted: Callable[[Figures], bool] = lambda _: True


def percent(rate: float | None) -> str:
    """A rate as people read it."""
    return NOTHING if rate is None else f"{rate:.1%}"


def duration(samples: int | None) -> str:
    """How long, with a decimal where that says more than the minutes do: 9.5 s, 4:37, 1:02:03."""
    if samples is None:
        return NOTHING
    if samples < 60 * SAMPLE_RATE:
        return f"{samples / SAMPLE_RATE:.1f} s"
    return clock(samples)


def clock(samples: int) -> str:
    """A time in a recording: 0:09, 4:37, 1:02:03."""
    minutes, seconds = divmod(samples // SAMPLE_RATE, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def _coverage(kind: CoverageKind) -> Column:
    def show(figures: Figures) -> str:
        return duration(None if figures.coverage is None else figures.coverage[kind])

    def wanted(figures: Figures) -> bool:
        # What is seldom there takes no place on a narrow screen where it is not.
        usual = kind in (CoverageKind.TRANSCRIBED, CoverageKind.SILENCE)
        return figures.coverage is not None and (usual or figures.coverage[kind] > 0)

    return Column(kind.value, f"of it {kind.value}", show, wanted)


_COLUMNS = (
    Column("WER", "word error rate", lambda figures: percent(figures.words.rate)),
    Column("CER", "character error rate", lambda figures: percent(figures.characters.rate)),
    Column("words", "words of the reference", lambda figures: str(figures.words.reference)),
    Column("sub", "words substituted", lambda figures: str(figures.words.substitutions)),
    Column("del", "words deleted", lambda figures: str(figures.words.deletions)),
    Column("ins", "words inserted", lambda figures: str(figures.words.insertions)),
    Column("rep", "stretches of five words heard again", lambda figures: str(figures.repeated)),
    Column(
        "length",
        "length of the recording",
        lambda figures: duration(figures.duration),
        lambda figures: figures.duration is not None,
    ),
    *map(_coverage, CoverageKind),
)


def columns(figures: Figures) -> tuple[Column, ...]:
    """The columns that say something; `figures` are those of all recordings together."""
    return tuple(column for column in _COLUMNS if column.wanted(figures))


def describe_form(form: NormalForm) -> str:
    """How words are made comparable."""
    names = {
        "english": "Whisper's normal form for English",
        "basic": "Whisper's basic normal form",
        "none": "as written",
    }
    return names[form.normaliser] + (", letter by letter" if form.letters else "")


def describe_run(timing: Timing) -> str:
    """How fast the transcribing was."""
    return (
        f"real-time factor {timing.real_time_factor:.3f}: {duration(timing.samples)} of sound in {timing.wall:.1f} s"
        f" ({timing.compile:.1f} s compiling) with {timing.model} in {timing.dtype}"
    )
