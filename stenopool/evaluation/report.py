"""The figures as JSON, for scripts; docs/accuracy-measures.md describes the document."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from models.accuracy import Errors
from stenopool.domain import SAMPLE_RATE
from stenopool.evaluation.evaluation import Evaluation, Figures, Timing, total

SCHEMA = "stenopool/evaluation"
VERSION = 1

#: File names that are no UTF-8 reach Python as these; JSON can spell them, UTF-8 cannot.
_SURROGATES = re.compile("[\ud800-\udfff]")


def to_json(evaluations: Sequence[Evaluation], timing: Timing | None, failed: Mapping[str, str]) -> str:
    """The document: strict JSON, keys always in the same order.

    Args:
        evaluations: the recordings that could be compared.
        timing: of what was transcribed for it.
        failed: recordings that could not be, with the reason.
    """
    document = {
        "schema": SCHEMA,
        "version": VERSION,
        "recordings": [_recording(evaluation) for evaluation in evaluations],
        "failed": [{"name": name, "reason": reason} for name, reason in failed.items()],
        "total": _figures(total(evaluations)),
        "run": None if timing is None else _run(timing),
    }
    text = json.dumps(document, ensure_ascii=False, allow_nan=False, indent=2)
    return _SURROGATES.sub(lambda match: f"\\u{ord(match[0]):04x}", text) + "\n"


def _recording(evaluation: Evaluation) -> dict[str, Any]:
    transcript = evaluation.hypothesis.transcript
    return {
        "name": evaluation.case.name,
        "reference": evaluation.case.reference.name,
        "hypothesis": evaluation.hypothesis.name,
        "audio": None if evaluation.case.audio is None else str(evaluation.case.audio),
        "model": None if transcript is None else transcript.provenance.model,
        "language": evaluation.language,
        "normalizer": evaluation.form.normaliser,
        "words_are_letters": evaluation.form.letters,
        **_figures(evaluation.figures),
    }


def _figures(figures: Figures) -> dict[str, Any]:
    coverage = figures.coverage
    return {
        "wer": figures.words.rate,
        "cer": figures.characters.rate,
        "words": _errors(figures.words),
        "characters": _errors(figures.characters),
        "repeated_5grams": figures.repeated,
        "seconds": None if coverage is None else {str(kind): _seconds(samples) for kind, samples in coverage.items()},
    }


def _errors(errors: Errors) -> dict[str, int]:
    return {
        "reference": errors.reference,
        "hypothesis": errors.hypothesis,
        "hits": errors.hits,
        "substitutions": errors.substitutions,
        "deletions": errors.deletions,
        "insertions": errors.insertions,
    }


def _run(timing: Timing) -> dict[str, Any]:
    return {
        "model": timing.model,
        "dtype": timing.dtype,
        "audio_seconds": _seconds(timing.samples),
        "wall_seconds": round(timing.wall, 3),
        "prepare_seconds": round(timing.prepare, 3),
        "compile_seconds": round(timing.compile, 3),
        "model_seconds": round(timing.device, 3),
        "real_time_factor": round(timing.real_time_factor, 6),
    }


def _seconds(samples: int) -> float:
    return round(samples / SAMPLE_RATE, 3)
