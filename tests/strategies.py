"""Hypothesis strategies for domain values, of whatever text and numbers a test needs them to hold."""

from __future__ import annotations

import math

from hypothesis import strategies as st

from stenopool.domain import Options, Provenance, Segment, Span, Word


def segments(
    spans: st.SearchStrategy[Span], text: st.SearchStrategy[str], number: st.SearchStrategy[float]
) -> st.SearchStrategy[Segment]:
    """Segments with up to three words."""
    words = st.builds(Word, span=spans, text=text, probability=st.none() | number)
    return st.builds(
        Segment,
        span=spans,
        text=text,
        chunk=st.integers(),
        avg_logprob=number,
        compression_ratio=number,
        no_speech_prob=number,
        temperature=number,
        words=st.lists(words, max_size=3).map(tuple),
        language=st.none() | text,
        guards=st.lists(text, max_size=2).map(tuple),
        suspicion=st.floats(0, 1),
        speaker=st.none() | text,
    )


def provenances(text: st.SearchStrategy[str], number: st.SearchStrategy[float]) -> st.SearchStrategy[Provenance]:
    """Provenances, with options of any values that go together."""
    finite = number.map(lambda x: min(max(x, -1e6), 1e6) if math.isfinite(x) else 0.0)
    plain = st.text(max_size=20)  # what an option may hold: no halves of surrogate pairs
    options = st.builds(
        Options,
        language=plain,
        task=st.sampled_from(["transcribe", "translate"]),
        chunk_length=finite,
        overlap=st.none() | finite,
        vad=st.booleans(),
        beam_size=st.integers(1, 9),
        temperature=st.lists(st.floats(0, 1), max_size=3).map(lambda others: (0.0, 0.5, *others)),
        no_speech_threshold=st.none() | st.floats(0, 1),
        log_prob_threshold=st.none() | finite,
        initial_prompt=st.none() | plain,
        suppress_tokens=st.none() | st.lists(st.integers(0, 10**6)).map(tuple),
    )
    return st.builds(
        Provenance,
        model=text,
        model_digest=text,
        assistant_digest=st.none() | text,
        dtype=text,
        options=options,
        version=text,
    )
