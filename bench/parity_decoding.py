"""Lines of `parity.py`'s table: what is decoded, when it was said, and how much of it is right.

A new line: another `yield` here, or another generator of them in `ROWS`.
"""

from __future__ import annotations

import string
from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np
from parity_rows import Row, Wanted, near, same
from parity_sides import SAMPLE, Sides, spoken

from models.accuracy import word_error_rate
from models.alignment.dtw import warp
from models.decoding.requests import Decoding, Heard
from models.tokens import Vocabulary
from stenopool.domain import SAMPLE_RATE, Span, Transcript

#: Windows of the sample that the peers decoded.
WINDOWS = (0, 1, 2)


def _decoding(options: dict[str, Any]) -> Decoding:
    """openai/whisper's options, and CTranslate2's, as ours."""
    suppressed = options.get("suppress_tokens")
    return Decoding(
        language=options.get("language", "en"),
        task=options.get("task", "transcribe"),
        beam_size=options.get("beam_size", 1),
        patience=options.get("patience", 1.0),
        length_penalty=options.get("length_penalty"),
        prompt=tuple(options.get("prompt", ())),
        prefix=tuple(options.get("prefix", ())),
        timestamps=not options.get("without_timestamps", False),
        max_initial_timestamp=options.get("max_initial_timestamp", 1.0),
        suppress_tokens=None if suppressed is None else tuple(suppressed),
        suppress_blank=options.get("suppress_blank", True),
        max_new_tokens=options.get("sample_len"),
    )


def decoding(sides: Sides) -> Iterator[Row]:
    """Every option of one window, then the common ones on others."""
    for reference, section in (("openai-whisper", "decode"), ("CTranslate2", "ctranslate2")):
        ours: dict[tuple[str, int], Heard] = {}
        theirs = {window: sides.decoding[section]["pocket"][str(window)] for window in WINDOWS}
        for window, cases in theirs.items():
            heard = sides.hear(window, [_decoding(case["options"]) for case in cases.values()])
            ours |= {(name, window): one for name, one in zip(cases, heard, strict=True)}
        for name in theirs[WINDOWS[0]]:
            windows = [window for window in WINDOWS if name in theirs[window]]
            pairs = [(ours[name, window], theirs[window][name]) for window in windows]
            label = f"{name.replace('_', ' ')}, {len(windows)} windows" if windows[1:] else name.replace("_", " ")
            tokens = [token for one, _ in pairs for token in one.tokens]
            yield same(label, reference, tokens, [token for _, case in pairs for token in case["tokens"]])
        scores = [(ours[name, window], case) for window, cases in theirs.items() for name, case in cases.items()]
        for field in ("avg_logprob", "no_speech_prob"):
            values = [getattr(one, field) for one, _ in scores], [case[field] for _, case in scores]
            yield near(f"{field} of all these", reference, *values, 1e-4)


def language_probabilities(sides: Sides) -> Iterator[Row]:
    """Which language is spoken."""
    for window in WINDOWS:
        [heard] = sides.hear(window, [Decoding(language="en")])
        theirs = sides.decoding["languages"]["pocket"][str(window)]
        ours = [heard.languages[code] for code in theirs]
        name = f"{len(theirs)} languages, pocket window {window}"
        yield near(name, "openai-whisper", ours, list(theirs.values()), 1e-5)


def time_warping(sides: Sides) -> Iterator[Row]:
    """Paths through random matrices and through one of real attention."""
    arrays = sides.decoding_arrays
    names = [key.removesuffix("/cost") for key in arrays.files if key.endswith("/cost")]
    for kind in ("dtw/real", "dtw/ties", "pocket/alignment"):
        ours: list[int] = []
        theirs: list[int] = []
        for name in (name for name in names if name.startswith(kind)):
            cost, (tokens, frames) = arrays[f"{name}/cost"].astype(np.float32), arrays[f"{name}/path"]
            first, last = warp(jnp.asarray(cost)[None], jnp.asarray([cost.shape[0]]), jnp.asarray([cost.shape[1]]))
            ours += [*np.asarray(first[0]).tolist(), *np.asarray(last[0]).tolist()]
            for pick in (min, max):
                theirs += [pick(frames[tokens == token].tolist()) for token in range(cost.shape[0])]
        yield same(f"time warping, {kind}", "openai-whisper", ours, theirs, of="edges")


def word_times(sides: Sides) -> Iterator[Row]:
    """When each word was said, and how sure that is."""
    for window in WINDOWS:
        theirs = sides.decoding["alignment"]["pocket"][f"window_{window}"]
        [heard] = sides.hear(window, [Decoding(language="en", word_timestamps=True)])
        assert heard.times is not None
        starts, ends, sure, at = [], [], [], 0
        for word in theirs["words"]:
            until = at + len(word["tokens"])
            starts.append(heard.times.starts[at] / SAMPLE_RATE)
            ends.append(heard.times.starts[until] / SAMPLE_RATE)
            sure.append(float(np.mean(heard.times.probabilities[at:until])))
            at = until
        name = f"words, pocket window {window}"
        for edge, times in (("start", starts), ("end", ends)):
            theirs_at = [round(word[edge], 2) for word in theirs["words"]]
            yield same(f"{edge} of {name}", "openai-whisper", [round(time, 2) for time in times], theirs_at, of="times")
        probabilities = [word["probability"] for word in theirs["words"]]
        yield near(f"probability of {name}", "openai-whisper", sure, probabilities, 1e-4)


def sequential(sides: Sides) -> Iterator[Row]:
    """Whole recordings, window after window, each with the features of its own sound.

    What `hallucination_silence_threshold` drops is not compared, nor to which segment a word belongs: where a segment
    begins with a punctuation mark, openai/whisper hands its words to the one before, and judges both by that.
    """
    for run in sides.decoding["transcribe"]:
        options: dict[str, Any] = dict(run["options"])
        if run["features"] != "window" or options.keys() & {"clip_timestamps", "hallucination_silence_threshold"}:
            continue
        if options.pop("carry_initial_prompt", False):
            options["hotwords"] = options.pop("initial_prompt")
        path = sides.write(round(run["seconds"] * SAMPLE_RATE))
        quiet: dict[str, Any] = {"vad": False, "loop_guard": False, "max_tokens_per_second": None}
        ours = sides.pool.transcribe(path, mode="sequential", language="en", temperature=0.0, **quiet, **options)
        name = f"{run['case'].replace('_', ' ')}, {run['seconds']:.0f} s"
        theirs = [segment for segment in run["segments"] if segment["text"]]
        if "word_timestamps" in options:
            said = [(_bare(word["word"]), word["start"], word["end"]) for one in theirs for word in one["words"]]
            said = [word for word in said if word[0]]
            heard = _words(ours)
            share = sum(a == b for a, b in zip(heard, said, strict=False)) / max(len(heard), len(said))
            measure = f"of {len(said)} words at the same time"
            yield Row(f"sequential, {name}", "openai-whisper", measure, Wanted("≥", 0.99), share)
        else:
            texts = [(one["text"], round(one["start"], 2), round(one["end"], 2)) for one in theirs]
            segments = [(segment.text, *_seconds(segment.span)) for segment in ours.segments]
            yield same(f"sequential, {name}", "openai-whisper", segments, texts, of="segments")


def _seconds(span: Span) -> tuple[float, float]:
    return round(span.start / SAMPLE_RATE, 2), round(span.end / SAMPLE_RATE, 2)


def _bare(word: str) -> str:
    return word.strip().strip(string.punctuation)


def _words(transcript: Transcript) -> list[tuple[str, float, float]]:
    """Words without punctuation, start and end in seconds."""
    words = [(_bare(word.text), *_seconds(word.span)) for segment in transcript.segments for word in segment.words]
    return [word for word in words if word[0]]


def sample_errors(sides: Sides) -> Iterator[Row]:
    """Word error rate on the bundled sample, over what the peers make of it."""
    vocabulary = Vocabulary(sides.pocket)
    chunks = "".join(vocabulary.text(chunk["tokens"]) for chunk in sides.sample["chunks"])
    ways = {"greedy": {"beam_size": 1}, "beam 5": {"beam_size": 5}}
    texts = {way: sides.pool.transcribe(SAMPLE, language="en", **options).text for way, options in ways.items()}
    pairs = [("greedy", "transformers", chunks)]
    pairs += [(way, "faster-whisper", text) for way, text in sides.sample["faster_whisper"].items()]
    for way, reference, text in pairs:
        ours, theirs = word_error_rate(spoken(), texts[way]), word_error_rate(spoken(), text)
        name = f"sample, {way}: {ours:.1%} word errors, theirs {theirs:.1%}"
        yield Row(name, reference, "ours / theirs", Wanted("≤", 1.25), ours / theirs)


ROWS = (decoding, language_probabilities, time_warping, word_times, sequential, sample_errors)
