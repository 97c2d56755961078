"""Text that was heard in nothing: improbable words among silence. Pure, from the words' times and probabilities.

The rules are openai/whisper's (`transcribe.py`, where `hallucination_silence_threshold` is set). What becomes of such
text is the caller's: a sequential transcription hears the stretch again from where the text began, a chunk loses it.
"""

from __future__ import annotations

from collections.abc import Sequence

from stenopool.domain import SAMPLE_RATE, Segment, Span, Word

IMPROBABLE = 0.15
SHORT, LONG = 0.133, 2.0  # seconds that a word hardly takes
SHORTNESS = 15.0  # what a second too short counts more than a second too long
#: Words of a segment that are looked at, and what they may score together.
FIRST_WORDS, ANOMALOUS = 8, 3.0
#: From a window's edge on, text is taken to have silence beside it.
EDGE = 2 * SAMPLE_RATE

#: What is no word. As in openai/whisper, this is asked as "is in it", which holds for ")]" and the empty text as well.
_PUNCTUATION = "\"'“¿([{-\"'.。,，!！?？:：”)]}、"


def anomaly(word: Word) -> float:
    """How strange a word is: improbable, too short or too long; 0 for the usual one."""
    seconds = word.span.seconds
    score = 1.0 if (word.probability or 0.0) < IMPROBABLE else 0.0
    return score + max(SHORT - seconds, 0.0) * SHORTNESS + max(seconds - LONG, 0.0)


def is_anomalous(segment: Segment) -> bool:
    """Whether a segment's first words are strange as a whole, or nearly each of them; never, where it has none."""
    if not segment.words:
        return False
    words = [word for word in segment.words if word.text not in _PUNCTUATION][:FIRST_WORDS]
    score = sum(map(anomaly, words))
    return score >= ANOMALOUS or score + 0.01 >= len(words)


def first_spoken(segments: Sequence[Segment]) -> Segment | None:
    """The first that has words."""
    return next((segment for segment in segments if segment.words), None)


def hallucinations(
    segments: Sequence[Segment], *, heard: Span, window_end: int, threshold: int, last_speech: int
) -> list[int]:
    """Indices of the segments that are anomalous and surrounded by silence, or by more of their kind.

    Args:
        segments: of one window, in order, with their words.
        heard: the stretch of the recording that they come from.
        window_end: where the model's window ends: there, or later if sound was missing to fill it.
        threshold: samples of silence that count.
        last_speech: sample at which the last word before this window ended; 0 if there was none.
    """
    found = []
    for at, segment in enumerate(segments):
        if not segment.words:
            continue
        span = segment.span
        if is_anomalous(segment):
            following = first_spoken(segments[at + 1 :])
            next_speech = following.words[0].span.start if following else heard.end
            silence_before = (
                span.start - last_speech > threshold or span.start < threshold or span.start - heard.start < EDGE
            )
            silence_after = (
                next_speech - span.end > threshold
                or (following is not None and is_anomalous(following))
                or window_end - span.end < EDGE
            )
            if silence_before and silence_after:
                found.append(at)
                continue
        last_speech = span.end
    return found
