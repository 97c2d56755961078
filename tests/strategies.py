"""Hypothesis strategies for domain values, of whatever text and numbers a test needs them to hold."""

from __future__ import annotations

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
    )


def provenances(text: st.SearchStrategy[str], number: st.SearchStrategy[float]) -> st.SearchStrategy[Provenance]:
    """Provenances, with options of any values."""
    options = st.builds(
        Options,
        language=text,
        task=st.sampled_from(["transcribe", "translate"]),
        chunk_length=number,
        overlap=number,
        vad=st.booleans(),
        no_speech_threshold=number,
        log_prob_threshold=number,
    )
    return st.builds(Provenance, model=text, model_digest=text, dtype=text, options=options, version=text)
