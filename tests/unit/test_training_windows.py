"""Windows and batches: what is packed into them, what is to be written, and that they come again as they were."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.checkpoint import find_checkpoint
from models.tokens import Vocabulary
from models.training.augment import Augmentation, stretched
from models.training.batches import IGNORED, Batch, Batches, Cursor, Feeding
from models.training.windows import Kind, Packing, Placed, Timed, Utterance, Window, cut, packed, written
from stenopool.domain import SAMPLE_RATE, Span
from stenopool.errors import UsageError
from tests.lessons import SPOKEN, lesson, read, said

POCKET = find_checkpoint("pocket")
VOCABULARY = Vocabulary(POCKET)

_LENGTHS = st.lists(st.integers(1, 1500), max_size=60)


@given(lengths=_LENGTHS, data=st.data(), seed=st.integers(0, 2**32))
def test_every_utterance_that_fits_is_in_one_window(lengths: list[int], data: st.DataObject, seed: int) -> None:
    costs = data.draw(st.lists(st.integers(1, 50), min_size=len(lengths), max_size=len(lengths)))
    packing = Packing(window=1000, room=40, speeds=(0.9, 1.0, 1.1), quiet=0.1)
    windows = packed(lengths, costs, packing, np.random.default_rng(seed))

    placed = [one for window in windows for one in window.placed]
    fit = {index for index, length in enumerate(lengths) if length <= 1000 and costs[index] <= 40}
    # Played faster, one that is a little too long may fit as well.
    assert fit <= {one.utterance for one in placed} <= {i for i, length in enumerate(lengths) if length <= 1100}
    assert len({one.utterance for one in placed}) == len(placed)
    for window in windows:
        assert sum(costs[one.utterance] for one in window.placed) <= 40
        assert bool(window.placed) == (window.kind is Kind.SPEECH)
        ends = [one.start + stretched(lengths[one.utterance], one.speed) for one in window.placed]
        assert all(end <= 1000 for end in ends)
        assert all(end == following.start for end, following in zip(ends, window.placed[1:], strict=False))


@given(lengths=_LENGTHS, seed=st.integers(0, 2**32))
def test_a_seed_gives_the_same_windows(lengths: list[int], seed: int) -> None:
    packing, costs = Packing(window=1000, room=100), [1] * len(lengths)

    assert packed(lengths, costs, packing, np.random.default_rng(seed)) == packed(
        lengths, costs, packing, np.random.default_rng(seed)
    )


def test_a_window_is_told_what_was_in_the_one_before() -> None:
    windows = [one for one in packed([700] * 5, [1] * 5, Packing(window=1000, room=9), np.random.default_rng(0))
               if one.placed]  # fmt: skip

    assert windows[0].previous == ()
    assert all(after.previous == (before.placed[0].utterance,) for before, after in pairwise(windows))


@given(st.lists(st.tuples(st.integers(0, 400), st.integers(1, 600), st.sampled_from(["yes", ""])), max_size=20))
def test_a_recording_is_cut_between_its_texts(pieces: list[tuple[int, int, str]]) -> None:
    """No window is too long, no text is lost but those without a place, and what is not to be learnt is in none."""
    texts, at = [], 0
    for pause, length, text in pieces:
        texts.append(Timed(Span(at + pause, at + pause + length), text))
        at += pause + length
    found = cut(Path("talk"), at, texts, "en", 500)

    kept = [
        Span(one.span.start + utterance.span.start, one.span.end + utterance.span.start)
        for utterance in found
        for one in utterance.texts
    ]
    assert kept == [one.span for one in texts if one.text and len(one.span) <= 500]
    assert all(len(one.span) <= 500 for one in found)
    unwanted = [one.span for one in texts if not one.text]
    assert not any(one.span.intersection(span) for one in found for span in unwanted)


def test_what_is_to_be_written_has_times_and_what_was_before() -> None:
    utterances = [said(("low", "high")), said(("middle",))]
    window = Window(placed=(Placed(0, 0), Placed(1, SAMPLE_RATE)), previous=(1,))
    special = VOCABULARY.special
    found = written(window, utterances, VOCABULARY, timestamps=True, previous=9)

    told, rest = found.tokens[: found.first - 1], found.tokens[found.first - 1 :]
    assert told[0] == special.start_of_previous
    assert VOCABULARY.text(told) == " middle"
    assert VOCABULARY.spell(rest) == (
        "<|startoftranscript|><|en|><|transcribe|><|0.00|> low<|0.50|><|0.50|> high<|1.00|>"
        "<|1.00|> middle<|1.50|><|endoftext|>"
    )
    assert len(found.times) == len(found.tokens)
    assert list(found.times[: found.first + 2]) == [-1.0] * (found.first + 2)
    assert max(found.times) == 75.0  # positions of 20 ms


def test_faster_speech_has_earlier_times() -> None:
    found = written(Window(placed=(Placed(0, 0, 1.25),)), [said(("low", "high"))], VOCABULARY, timestamps=True)

    assert VOCABULARY.spell(found.tokens[3:]) == "<|0.00|> low<|0.40|><|0.40|> high<|0.80|><|endoftext|>"


def test_times_are_told_from_where_the_encoder_hears_the_window() -> None:
    """Its positions and the timestamps are the same clock: a window that is heard later is written later."""
    utterances = [said(("low", "high"))]
    window = Window(placed=(Placed(0, 0),))
    found, later = (written(window, utterances, VOCABULARY, timestamps=True, offset=offset) for offset in (0, 500))

    assert VOCABULARY.spell(later.tokens[3:]) == "<|10.00|> low<|10.50|><|10.50|> high<|11.00|><|endoftext|>"
    assert later.times == found.times  # where in the window each token is said


def test_a_batchs_timestamps_begin_where_its_encoder_does() -> None:
    """Every window of these batches is full from its beginning on."""
    special = VOCABULARY.special
    batches = [batch for batch, _ in _batches(6, timestamps=1.0)]
    starts = [
        (int(offset), int(first) - special.timestamp_begin)
        for batch in batches
        for offset, targets in zip(batch.offset[0], batch.targets[0], strict=True)
        for first in targets[targets >= special.timestamp_begin][:1]
    ]

    assert len({offset for offset, _ in starts}) > 3
    assert all(first == offset for offset, first in starts)


def test_a_text_whose_times_are_not_known_teaches_none() -> None:
    untimed = replace(said(("low",)), timed=False)
    found = written(Window(placed=(Placed(0, 0),)), [untimed], VOCABULARY, timestamps=True)

    assert (
        VOCABULARY.spell(found.tokens) == "<|startoftranscript|><|en|><|transcribe|><|notimestamps|> low<|endoftext|>"
    )
    assert set(found.times) == {-1.0}


@pytest.mark.parametrize("kind", [Kind.SILENCE, Kind.NOISE])
def test_where_nobody_speaks_that_is_written(kind: Kind) -> None:
    found = written(Window(kind=kind), [], VOCABULARY, timestamps=True)

    assert VOCABULARY.spell(found.tokens) == "<|startoftranscript|><|nospeech|><|endoftext|>"


def test_a_batch_asks_for_every_token_but_what_is_told() -> None:
    batch = _batches(1, previous=1.0)[0][0]
    special = VOCABULARY.special
    starts = np.argwhere(batch.tokens[0] == special.start_of_transcript)

    assert len(starts) == len(batch.tokens[0])
    for row, at in starts:
        targets, tokens = batch.targets[0, row], batch.tokens[0, row]
        n = int(np.argmax(targets == special.end_of_text))
        assert set(targets[:at]) <= {IGNORED}
        assert set(targets[n + 1 :]) <= {IGNORED}
        np.testing.assert_array_equal(targets[at:n], tokens[at + 1 : n + 1])


def test_whoever_goes_on_from_a_step_hears_what_follows_it() -> None:
    """Across the end of an epoch, with all that chance does to sound."""
    whole = _batches(8)
    rest = _batches(5, step=3, cursor=whole[2][1])

    assert whole[-1][1]["32000"][0] > 0
    for (ours, at), (theirs, also_at) in zip(whole[3:], rest, strict=True):
        assert at == also_at
        for name in Batch._fields:
            np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name), err_msg=name)


def test_another_seed_gives_another_batch() -> None:
    assert not np.array_equal(_batches(1)[0][0].pcm, _batches(1, seed=8)[0][0].pcm)


def test_tokens_that_are_told_wrong_are_asked_for_right() -> None:
    right, wrong = (_batches(1, confusion=share)[0][0] for share in (0.0, 0.5))

    np.testing.assert_array_equal(right.targets, wrong.targets)
    changed = right.tokens != wrong.tokens
    assert 0.2 < changed.sum() / (right.tokens < VOCABULARY.special.end_of_text).sum() < 0.8
    assert (right.tokens[changed] < VOCABULARY.special.end_of_text).all()  # what steers is never wrong


def test_what_fits_into_no_window_is_refused() -> None:
    with pytest.raises(UsageError, match=r"nothing to learn from fits into a window of 0\.4 s; give texts with times"):
        Batches(lesson().utterances, read, VOCABULARY, POCKET.dims, Feeding(batch=1, lengths=((0.4, 1.0),)))


def test_a_windows_sound_is_that_of_its_utterances() -> None:
    plain = Feeding(batch=1, lengths=((1.0, 1.0),), quiet=0.0)
    utterances: list[Utterance] = [said(("low", "high"))]
    made = iter(Batches(utterances, read, VOCABULARY, POCKET.dims, plain))
    batch, _ = next(made)
    made.close()  # type: ignore[attr-defined]

    samples = batch.pcm.shape[-1]
    assert samples == 2 * SPOKEN
    np.testing.assert_allclose(batch.pcm[0, 0], read(utterances[0].audio, utterances[0].span), atol=1)


def _batches(n: int, *, step: int = 0, cursor: Cursor | None = None, **values: float) -> list[tuple[Batch, Cursor]]:
    how = Augmentation(speeds=(0.9, 1.0, 1.1), pitch=0.5, noise=0.5, reverberation=0.5, masking=0.5)
    few: dict[str, object] = {"batch": 1, "lengths": ((2.0, 1.0),), "seed": 7, "augmentation": how, "previous": 0.3}
    feeding = Feeding(**(few | values))  # type: ignore[arg-type]
    dims = replace(POCKET.dims, n_audio_ctx=200)
    made = iter(Batches(lesson().utterances, read, VOCABULARY, dims, feeding, step=step, cursor=cursor))
    found = list(islice(made, n))
    made.close()  # type: ignore[attr-defined]
    return found
