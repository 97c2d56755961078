"""`stenopool.load_model` as people use it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stenopool
from stenopool.errors import MediaMissing, UsageError
from stenopool.formats import parse_json
from tests import sounds


@pytest.fixture(scope="module")
def pool() -> stenopool.Pool:
    """The bundled model."""
    return stenopool.load_model("pocket", dtype="float32", batch_size=3)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve seconds of two beeps: sound, though nobody speaks."""
    return sounds.write(tmp_path_factory.mktemp("clip") / "beeps.wav", sounds.tone(12.0))


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first hundred seconds of the sample."""
    return sounds.write(tmp_path_factory.mktemp("speech") / "speech.wav", sounds.read(sounds.SAMPLE)[: 100 * 16_000])


def test_a_transcript_says_everything_about_itself(pool: stenopool.Pool, speech: Path) -> None:
    """Text, segments, language, coverage, and the formats."""
    result = pool.transcribe(speech, language="English", temperature=0)

    assert result.text == "".join(segment.text for segment in result.segments).strip()
    assert result.language == "en"
    assert result.coverage.duration == result.duration
    assert result.coverage.gaps == ()
    starts = [segment.span.start for segment in result.segments]
    assert starts == sorted(starts)
    assert result.segments[-1].span.end <= result.duration
    assert result.to_srt().startswith("1\n00:00:")
    assert result.to_vtt().startswith("WEBVTT\n")
    assert parse_json(result.to_json()) == result


def test_files_share_batches_and_do_not_mix(pool: stenopool.Pool, clip: Path, speech: Path) -> None:
    """Two files at once give what each gives alone; batch size and decoders change nothing but the speed."""
    alone = pool.transcribe(speech, language="en", temperature=0)
    quiet, together = pool.transcribe_batch([clip, speech], language="en", temperature=0, batch_size=5, decoders=2)

    assert [(one.span, one.text) for one in together.segments] == [(one.span, one.text) for one in alone.segments]
    # Products of another width are rounded in another order, in the seventh digit.
    scores = [one.avg_logprob for one in alone.segments]
    assert [one.avg_logprob for one in together.segments] == pytest.approx(scores, abs=1e-5)
    assert quiet.source == str(clip)


def test_each_file_has_words_of_its_own(pool: stenopool.Pool, tmp_path: Path) -> None:
    """Words to expect in one recording are told for that one alone; those of the options for all."""
    speech = sounds.write(tmp_path / "speech.wav", sounds.read(sounds.SAMPLE)[: 20 * 16_000])
    both: dict[str, Any] = {"language": "en", "temperature": 0, "hotwords": "meeting"}
    plain, named = pool.transcribe_batch([speech, speech], vocabulary=[None, "Grace, Leo"], **both)

    assert plain.provenance.options.hotwords == "meeting"
    assert named.provenance.options.hotwords == "meeting, Grace, Leo"
    assert plain.text == pool.transcribe(speech, **both).text != named.text
    with pytest.raises(UsageError, match=r"^vocabulary must be a list of words for each of the 2 files, or None$"):
        pool.transcribe_batch([speech, speech], vocabulary=["Grace"])
    with pytest.raises(UsageError, match=r"^decoders must be a number from 1 to 64, or None; is 0$"):
        pool.transcribe_batch([speech, speech], decoders=0)


def test_channels_are_recordings_of_their_own(pool: stenopool.Pool, tmp_path: Path) -> None:
    """One transcript per channel, numbered from 1."""
    stereo = np.concatenate([sounds.tone(3.0), np.zeros_like(sounds.tone(3.0))])
    left, right = pool.transcribe_channels(sounds.write(tmp_path / "two.wav", stereo, layout="stereo"), language="en")

    assert (left.channel, right.channel) == (1, 2)
    assert right.text == ""


WRONG: tuple[tuple[dict[str, Any], type[Exception], str], ...] = (
    ({"beam": 5}, TypeError, "no option 'beam'; there are language, languages, multilingual, task, mode, chunk_length"),
    ({"vad": "no"}, UsageError, "vad must be True or False, is 'no'"),
    ({"language": 7}, UsageError, "language must be a string, is 7"),
    ({"language": "klingon"}, UsageError, "does not know the language 'klingon'"),
    ({"task": "sing"}, UsageError, "sing"),
    ({"chunk_length": "30"}, UsageError, "chunk_length must be a finite number, is '30'"),
    ({"chunk_length": 60}, UsageError, "between 2 and the model's window of 30 seconds"),
    ({"overlap": 15}, UsageError, "less than half of the chunk length of 30"),
    ({"no_speech_threshold": 5}, UsageError, "no_speech_threshold must be between 0 and 1, is 5"),
    ({"no_speech_threshold": float("nan")}, UsageError, "no_speech_threshold must be a finite number or None, is nan"),
    ({"log_prob_threshold": "-1"}, UsageError, "log_prob_threshold must be a finite number or None, is '-1'"),
)


@pytest.mark.parametrize(("options", "kind", "said"), WRONG, ids=[str(row[0]) for row in WRONG])
def test_wrong_options_are_named(
    pool: stenopool.Pool, clip: Path, options: dict[str, Any], kind: type[Exception], said: str
) -> None:
    """Nothing is accepted and ignored."""
    with pytest.raises(kind, match=re.escape(said)):
        pool.transcribe(clip, **options)


def test_wrong_models_and_files_are_named(pool: stenopool.Pool, clip: Path) -> None:
    """A dtype, a batch size, a string for a list, a missing file."""
    with pytest.raises(UsageError, match=r"^no dtype 'float8'; choose from auto, float32, bfloat16, int8$"):
        stenopool.load_model("pocket", dtype="float8")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"^the batch size must be at least 1, got 'many'$"):
        stenopool.load_model("pocket", batch_size="many")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="takes a list of files"):
        pool.transcribe_batch(str(clip))
    with pytest.raises(MediaMissing, match=r"^gone\.wav: does not exist$"):
        pool.transcribe_batch([clip, "gone.wav"])


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_other_precisions_transcribe_as_well(speech: Path, dtype: Any) -> None:
    """Each that is offered works, end to end."""
    result = stenopool.load_model("pocket", dtype=dtype, batch_size=3).transcribe(speech, language="en", temperature=0)

    assert result.provenance.dtype == dtype
    assert len(result.text.split()) > 100
