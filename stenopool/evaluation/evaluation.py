"""The figures of one recording, and of all together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from models.accuracy import Comparison, Errors, NormalForm, compare
from stenopool.domain import SAMPLE_RATE, Coverage, CoverageKind
from stenopool.evaluation.cases import Case, form_of
from stenopool.evaluation.texts import Text


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What is measured. The figures of several recordings add up."""

    words: Errors
    characters: Errors
    #: Stretches of five words that a hypothesis has again.
    repeated: int
    #: Samples of each kind; None where no transcript of ours says what became of the recording.
    coverage: dict[CoverageKind, int] | None

    @property
    def duration(self) -> int | None:
        """Samples, of those recordings whose coverage is known."""
        return None if self.coverage is None else sum(self.coverage.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """One recording's hypothesis against its reference."""

    case: Case
    hypothesis: Text
    language: str | None
    form: NormalForm
    comparison: Comparison
    figures: Figures


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How long it took to transcribe what had no transcript, from loading the model to the last word; in seconds."""

    model: str
    dtype: str
    #: Samples transcribed in that time; recordings that were already known are not among them.
    samples: int
    wall: float
    #: Decoding and voice activity, beside the model.
    prepare: float
    compile: float
    device: float

    @property
    def real_time_factor(self) -> float:
        """Seconds per second of sound."""
        return self.wall * SAMPLE_RATE / self.samples


def evaluate(case: Case, hypothesis: Text, normaliser: str = "auto") -> Evaluation:
    """Compare a hypothesis with the reference of its case.

    Raises:
        UsageError: the language has to be known, and is not.
    """
    language, form = form_of(case, hypothesis, normaliser)
    comparison = compare(case.reference.text, hypothesis.text, form)
    figures = Figures(
        words=comparison.words,
        characters=comparison.characters,
        repeated=comparison.repeated,
        coverage=_samples(hypothesis.transcript.coverage) if hypothesis.transcript else None,
    )
    return Evaluation(
        case=case, hypothesis=hypothesis, language=language, form=form, comparison=comparison, figures=figures
    )


def total(evaluations: Sequence[Evaluation]) -> Figures:
    """All figures together: every word counts the same, in whichever recording it stands."""
    each = [evaluation.figures for evaluation in evaluations]
    known = [figures.coverage for figures in each if figures.coverage is not None]
    return Figures(
        words=sum((figures.words for figures in each), Errors()),
        characters=sum((figures.characters for figures in each), Errors()),
        repeated=sum(figures.repeated for figures in each),
        coverage={kind: sum(one[kind] for one in known) for kind in CoverageKind} if known else None,
    )


def _samples(coverage: Coverage) -> dict[CoverageKind, int]:
    return {kind: coverage.samples(kind) for kind in CoverageKind}
