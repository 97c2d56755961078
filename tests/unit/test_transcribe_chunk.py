"""From what the engine heard in a chunk to timed text in the recording, and how far text is from what was said."""

from __future__ import annotations

import pytest

from models.accuracy import word_error_rate
from models.checkpoint import find_checkpoint
from models.decoding.requests import Heard, Stop
from models.decoding.segments import compression_ratio
from models.tokens import Vocabulary
from stenopool.domain import Chunk, ChunkResult, Options, Span
from workers.transcribe import chunk_result

S = 16_000
BEGIN = 1107  # <|0.00|> of pocket
CHUNK = Span(100 * S + 7, 110 * S + 7)  # seconds 100 to 110, and not on any grid


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    """Pocket's."""
    return Vocabulary(find_checkpoint("pocket"))


@pytest.fixture(scope="module")
def word(vocabulary: Vocabulary) -> dict[str, int]:
    """Tokens by their text."""
    return {vocabulary.text([token]): token for token in reversed(range(1000))}


def result(
    vocabulary: Vocabulary, tokens: list[int], *, avg_logprob: float = -0.3, no_speech: float = 0.1, **options: float
) -> ChunkResult:
    """The result of one chunk."""
    text = vocabulary.text(tokens)
    heard = Heard(
        key=0,
        tokens=tuple(tokens),
        avg_logprob=avg_logprob,
        no_speech_prob=no_speech,
        compression_ratio=compression_ratio(text.strip()),
        temperature=0.0,
        language="en",
        languages={},
        stop=Stop.END,
        rejected=(),
        times=None,
    )
    return chunk_result(
        heard,
        Chunk(index=3, span=CHUNK),
        language="en",
        vocabulary=vocabulary,
        options=Options(**options),  # type: ignore[arg-type]
    )


def test_times_move_into_the_recording(vocabulary: Vocabulary, word: dict[str, int]) -> None:
    """A chunk's times are counted from its own first sample; scores are the chunk's."""
    tokens = [BEGIN + 25, word[" the"], BEGIN + 50, BEGIN + 100, word[" and"], word[" the"]]

    heard = result(vocabulary, tokens)

    assert (heard.index, heard.span, heard.language, heard.skipped, heard.failed) == (3, CHUNK, "en", None, None)
    first, second = heard.segments
    assert (first.span, first.text) == (Span(CHUNK.start + S // 2, CHUNK.start + S), " the")
    assert (second.span, second.text) == (Span(CHUNK.start + 2 * S, CHUNK.end), " and the")
    for segment in heard.segments:
        assert segment.chunk == 3
        assert (segment.avg_logprob, segment.no_speech_prob, segment.temperature) == (-0.3, 0.1, 0.0)
        assert segment.compression_ratio == compression_ratio("the and the")


def test_segments_without_text_are_left_out(vocabulary: Vocabulary, word: dict[str, int]) -> None:
    """Spaces alone are no segment; a chunk of nothing is transcribed all the same, as nothing."""
    heard = result(vocabulary, [BEGIN, word[" "], BEGIN + 50, BEGIN + 50, word[" the"], BEGIN + 60])

    assert [segment.text for segment in heard.segments] == [" the"]
    empty = result(vocabulary, [])
    assert (empty.segments, empty.skipped, empty.failed) == ((), None, None)


@pytest.mark.parametrize(
    ("no_speech", "avg_logprob", "skipped"),
    [
        (0.61, -1.01, "no speech (probability 0.61, text -1.01)"),
        (0.6, -1.01, None),  # <|nospeech|> has to be likelier than the threshold
        (0.99, -0.9, None),  # and the text unsure
        (0.1, -3.0, None),
    ],
)
def test_silence_needs_two_signs(
    vocabulary: Vocabulary, word: dict[str, int], no_speech: float, avg_logprob: float, skipped: str | None
) -> None:
    """A chunk is skipped, with its reason, only where <|nospeech|> is likely and the text is not."""
    tokens = [BEGIN, word[" the"], BEGIN + 50]

    heard = result(vocabulary, tokens, no_speech=no_speech, avg_logprob=avg_logprob)

    assert heard.skipped == skipped
    assert len(heard.segments) == (0 if skipped else 1)
    assert heard.span == CHUNK


def test_thresholds_are_options(vocabulary: Vocabulary, word: dict[str, int]) -> None:
    """Both thresholds can be moved."""
    tokens = [BEGIN, word[" the"], BEGIN + 50]

    assert result(vocabulary, tokens, no_speech=0.5, avg_logprob=-0.5).skipped is None
    assert result(
        vocabulary, tokens, no_speech=0.5, avg_logprob=-0.5, no_speech_threshold=0.4, log_prob_threshold=-0.4
    ).skipped


@pytest.mark.parametrize(
    ("said", "heard", "rate"),
    [
        ("Ask not what your country can do.", "ask not what your country can do", 0),  # case and stops are no words
        ("It's twenty five dollars, um, Mr. Smith", "it is $25 mister smith", 0),  # nor how things are written
        ("please close the door", "please clothes the door", 1 / 4),
        ("please close the door", "", 1),
        ("a b", "a x y b", 1),  # insertions count, too
        ("", "hello", 1),
        ("", "", 0),
    ],
)
def test_word_error_rate(said: str, heard: str, rate: float) -> None:
    """Errors over the reference's words, both in Whisper's normal form."""
    assert word_error_rate(said, heard) == rate
