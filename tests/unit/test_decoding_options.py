"""Each option of decoding does what it says to real sound, and nothing else: all of them in one engine at once."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

import pytest

from models.decoding.requests import Heard, Prompt, Stop, prompt_of
from models.engine import Engine
from stenopool.domain import Chunk, Options, Span
from stenopool.options import options_of, resolved
from tests import sounds
from tests.hearing import RATE, Ask, Told, hear
from workers.decoding import LEAST_TOKENS, decoding_of, most_tokens

#: One temperature and no second thoughts: what comes out first.
ONCE = {"temperature": 0}
BEAMS = {**ONCE, "beam_size": 3}
LADDER = {"temperature": [0, 0.4, 0.8], "best_of": 3}


def once(**options: Any) -> Ask:
    """The first ten seconds, greedily."""
    return Ask(options={**ONCE, **options})


def beams(**options: Any) -> Ask:
    """Four seconds in which the ranking of beams matters."""
    return Ask(options={**BEAMS, **options}, start=4, end=8)


NOISE = sounds.noise(5)[0] // 64

ASKS: dict[str, Ask] = {
    "plain": once(),
    "german": Ask(options=ONCE, language="de"),
    "detected": Ask(options=ONCE, language=None),
    "few languages": Ask(options={**ONCE, "languages": ["de", "fr"]}, language=None),
    "multilingual": Ask(options={**ONCE, "multilingual": True}, language=None),
    "translate": once(task="translate"),
    "initial_prompt": once(initial_prompt="Leo, Anna, Simon"),
    "hotwords": once(hotwords="weekly"),
    "prefix": once(prefix="Welcome to the"),
    "prefix, no times": once(prefix="Welcome to the", without_timestamps=True),
    "other prefix": once(prefix="Goodbye", word_timestamps=True),
    "no times": once(without_timestamps=True),
    "at once": once(max_initial_timestamp=0),
    "blank": Ask(options={**ONCE, "without_timestamps": True, "suppress_blank": False}, sound=NOISE),
    "no blank": Ask(options={**ONCE, "without_timestamps": True}, sound=NOISE),
    "five tokens": once(max_new_tokens=5),
    "three tokens a second": once(max_tokens_per_second=0.5),
    "words": once(word_timestamps=True),
    "words and signs": once(word_timestamps=True, append_punctuations="", prepend_punctuations=""),
    "silence dropped": once(word_timestamps=True, hallucination_silence_threshold=29),
    "no guards": once(loop_guard=False, max_tokens_per_second=None),
    "no thresholds": once(compression_ratio_threshold=None, log_prob_threshold=None, no_speech_threshold=None),
    "usual thresholds": Ask(options=LADDER),
    "unlikely": Ask(options={**LADDER, "log_prob_threshold": -0.01}),
    "repetitive": Ask(options={**LADDER, "compression_ratio_threshold": 0.5}),
    "silence": Ask(options={**LADDER, "log_prob_threshold": -0.01, "no_speech_threshold": 0.0}),
    "hot": Ask(options={"temperature": 0.7, "best_of": 3}),
    "hot, later": Ask(options={"temperature": 0.7, "best_of": 3}, start=0.02, end=10.02),
    "beams": beams(),
    "patience": beams(patience=3),
    "length_penalty": beams(length_penalty=0),
}


@pytest.fixture(scope="module")
def asks(busy_engine: Engine) -> dict[str, Ask]:
    """All of them."""
    return {**ASKS, "no the": once(suppress_tokens=list(busy_engine.vocabulary.encode(" the")))}


@pytest.fixture(scope="module")
def told(busy_engine: Engine, asks: dict[str, Ask]) -> dict[str, Told]:
    """What came of each; they were decoded beside each other, in any order."""
    names = Random(0).sample(sorted(asks), len(asks))
    return hear(busy_engine, {name: asks[name] for name in names})


def times(one: Told) -> list[tuple[Span, str]]:
    """Segments with their time."""
    return [(segment.span, segment.text) for segment in one.result.segments]


def spelled(engine: Engine, prompt: Prompt) -> str:
    """A prompt as a reader sees it."""
    return engine.vocabulary.spell(prompt.tokens)


def prompt(engine: Engine, ask: Ask) -> str:
    """What a slot begins with."""
    decoding = ask.request(engine, 0).decoding
    assert decoding is not None
    return spelled(engine, prompt_of(engine.vocabulary, decoding, ask.language or "en", 224))


# What changes no text


@pytest.mark.parametrize("seed", [1, 2])
def test_neighbours_and_their_order_do_not_matter(
    busy_engine: Engine, asks: dict[str, Ask], told: dict[str, Told], seed: int
) -> None:
    """Greedy, of beams or drawn, with a prompt or tried again: each is what it was beside all the others."""
    names = Random(seed).sample(sorted(asks), len(asks) // 2)

    again = hear(busy_engine, {name: asks[name] for name in names})

    for name in names:
        assert again[name].heard == replace(told[name].heard, key=name)
        assert times(again[name]) == times(told[name])


def test_the_number_of_slots_does_not_matter(pool_engine: Engine, asks: dict[str, Ask], told: dict[str, Told]) -> None:
    """Three or six: the same tokens, of beams and samples as well. Products of another width are rounded in another
    order, in the seventh digit.
    """
    names = ["plain", "beams", "hot", "repetitive", "initial_prompt", "words"]

    again = hear(pool_engine, {name: asks[name] for name in names})

    for name in names:
        one, other = again[name].heard, told[name].heard
        assert (one.tokens, one.stop, one.temperature) == (other.tokens, other.stop, other.temperature), name
        assert one.avg_logprob == pytest.approx(other.avg_logprob, abs=1e-5)
        assert one.languages == pytest.approx(other.languages, abs=1e-6)


@pytest.mark.parametrize(
    "name",
    ["detected", "multilingual", "words", "words and signs", "no guards", "no thresholds"],
)
def test_what_only_watches_changes_no_text(told: dict[str, Told], name: str) -> None:
    """Detection of the right language, times of words, guards and thresholds that do not strike: the same tokens, as
    likely as before.
    """
    plain, other = told["plain"].heard, told[name].heard

    assert other.tokens == plain.tokens
    assert other.avg_logprob == pytest.approx(plain.avg_logprob, abs=1e-5)
    assert other.stop is Stop.END
    assert told[name].text == told["plain"].text


# Language


def test_a_language_is_part_of_the_prompt(busy_engine: Engine, told: dict[str, Told]) -> None:
    """Another one is another text, even of the same sound."""
    assert prompt(busy_engine, ASKS["plain"]) == "<|startoftranscript|><|en|><|transcribe|>"
    assert prompt(busy_engine, ASKS["german"]) == "<|startoftranscript|><|de|><|transcribe|>"
    assert told["german"].heard.language == "de"
    assert told["german"].heard.tokens != told["plain"].heard.tokens


def test_detection_chooses_from_those_allowed(told: dict[str, Told]) -> None:
    """The likeliest of all, or of the allow-list; the probabilities of all are told in both cases."""
    free, few = told["detected"].heard, told["few languages"].heard

    assert free.language == max(free.languages, key=free.languages.__getitem__) == "en"
    assert few.languages == pytest.approx(free.languages, abs=1e-6)
    assert few.language == max(("de", "fr"), key=few.languages.__getitem__)


def test_each_segment_has_its_language_where_that_may_change(told: dict[str, Told]) -> None:
    """Else it is the recording's."""
    assert {segment.language for segment in told["multilingual"].result.segments} == {"en"}
    assert {segment.language for segment in told["plain"].result.segments} == {None}


def test_the_task_is_part_of_the_prompt(busy_engine: Engine, told: dict[str, Told]) -> None:
    """A translation is asked for by name."""
    assert prompt(busy_engine, ASKS["translate"]) == "<|startoftranscript|><|en|><|translate|>"
    assert told["translate"].heard.tokens != told["plain"].heard.tokens


# Context


def test_what_was_said_before_is_in_the_prompt(busy_engine: Engine, told: dict[str, Told]) -> None:
    """A prompt and words to expect stand before the transcript; they change what is heard."""
    begin = "<|startoftranscript|><|en|><|transcribe|>"
    both = once(initial_prompt=" Leo, Anna", hotwords="weekly ")

    assert prompt(busy_engine, ASKS["initial_prompt"]) == f"<|startofprev|> Leo, Anna, Simon{begin}"
    assert prompt(busy_engine, ASKS["hotwords"]) == f"<|startofprev|> weekly{begin}"
    assert prompt(busy_engine, both) == f"<|startofprev|> weekly Leo, Anna{begin}"
    for name in ("initial_prompt", "hotwords"):
        assert told[name].heard.tokens != told["plain"].heard.tokens
    assert "weekly" in told["hotwords"].text


def test_a_text_begins_with_its_prefix(busy_engine: Engine, told: dict[str, Told]) -> None:
    """It is part of the text, from the chunk's beginning, and the text goes on from it: what the model would have
    written anyhow changes nothing.
    """
    begin = "<|startoftranscript|><|en|><|transcribe|>"
    assert prompt(busy_engine, ASKS["prefix"]) == f"{begin}<|0.00|> Welcome to the"
    assert prompt(busy_engine, ASKS["prefix, no times"]) == f"{begin}<|notimestamps|> Welcome to the"
    assert told["at once"].text.startswith(" Welcome to the weekly meeting.")
    assert told["prefix"].heard.tokens == told["at once"].heard.tokens
    assert times(told["prefix"]) == times(told["at once"])
    assert told["prefix, no times"].text.startswith(" Welcome to the weekly meeting.")
    [*_, last] = told["other prefix"].result.segments
    first = told["other prefix"].result.segments[0]
    assert first.text.startswith(" Goodbye")
    assert first.words[0].text == " Goodbye"
    assert last.text != first.text


def test_a_prefix_leaves_room_for_the_text(busy_engine: Engine) -> None:
    """Both together have half of the context; a limit is for what follows."""
    prefix = " ".join(["so"] * 100)
    asked = {
        "long": once(prefix=prefix, loop_guard=False),
        "limited": once(prefix="Welcome to the", max_new_tokens=3),
    }

    heard = hear(busy_engine, asked)

    n_prefix = 1 + len(busy_engine.vocabulary.encode(" " + prefix))
    assert n_prefix > 100
    assert n_prefix < len(heard["long"].heard.tokens) <= 224
    assert len(heard["limited"].heard.tokens) == 1 + len(busy_engine.vocabulary.encode(" Welcome to the")) + 3
    assert heard["limited"].heard.stop is Stop.LIMIT


# Times and tokens


def test_without_times_a_chunk_is_one_segment(told: dict[str, Told]) -> None:
    """Of the chunk's whole length, and no token of it is a time."""
    [segment] = told["no times"].result.segments

    assert segment.span == Span(0, 10 * RATE)
    assert len(told["plain"].result.segments) > 1


def test_the_first_time_can_be_limited(told: dict[str, Told]) -> None:
    """At 0 the text begins with the chunk; by default it may begin within a second."""
    assert told["at once"].result.segments[0].span.start == 0
    assert 0 < told["plain"].result.segments[0].span.start <= RATE


def test_suppressed_tokens_are_never_written(busy_engine: Engine, told: dict[str, Told]) -> None:
    """An article, for instance."""
    [the] = busy_engine.vocabulary.encode(" the")

    assert the in told["plain"].heard.tokens
    assert the not in told["no the"].heard.tokens
    assert told["no the"].text != told["plain"].text


def test_a_text_may_be_allowed_to_begin_with_its_end(told: dict[str, Told]) -> None:
    """Noise is nothing at all, where a blank is not suppressed."""
    assert told["blank"].heard.tokens == ()
    assert told["no blank"].heard.tokens != ()


def test_a_text_has_no_more_tokens_than_it_may(told: dict[str, Told]) -> None:
    """It is cut off there, which its segments say."""
    five, plain = told["five tokens"], told["plain"]

    assert five.heard.tokens == plain.heard.tokens[:5]
    assert five.heard.stop is Stop.LIMIT
    assert {segment.guards for segment in five.result.segments} == {("cut off: 5 tokens",)}


def test_a_text_has_no_more_tokens_than_its_speech(told: dict[str, Told]) -> None:
    """Half a token a second, and what a text has whatever its speech."""
    slow = told["three tokens a second"].heard

    assert (len(slow.tokens), slow.stop) == (LEAST_TOKENS + 5, Stop.LIMIT)
    assert slow.tokens == told["plain"].heard.tokens[: len(slow.tokens)]


@pytest.mark.parametrize(
    ("rate", "limit", "speech", "expected"),
    [
        (None, None, None, None),
        (25.0, None, None, LEAST_TOKENS + 250),
        (25.0, None, [(0, 2)], LEAST_TOKENS + 50),
        (25.0, None, [(0, 2), (4, 4.5)], LEAST_TOKENS + 63),  # 62.5, rounded up
        (25.0, None, [], LEAST_TOKENS),
        (25.0, 30, None, 30),
        (25.0, 300, [(0, 1)], LEAST_TOKENS + 25),
        (None, 300, [(0, 1)], 300),
    ],
)
def test_how_many_tokens_a_chunk_may_have(
    rate: float | None, limit: int | None, speech: list[tuple[float, float]] | None, expected: int | None
) -> None:
    """By what voice activity detection heard in it; by its length where that was not asked."""
    runs = None if speech is None else tuple(Span(round(a * RATE), round(b * RATE)) for a, b in speech)
    chunk = Chunk(index=0, span=Span(0, 10 * RATE), speech=runs)

    assert most_tokens(Options(max_tokens_per_second=rate, max_new_tokens=limit), chunk) == expected


def test_words_have_times_and_probabilities(told: dict[str, Told]) -> None:
    """Every segment's words joined are its text, in order, inside it; nobody else's segments have any."""
    assert not any(segment.words for segment in told["plain"].result.segments)
    for segment in told["words"].result.segments:
        assert "".join(word.text for word in segment.words) == segment.text
        starts = [word.span.start for word in segment.words]
        assert starts == sorted(starts)
        assert segment.span.start <= starts[0]
        assert segment.words[-1].span.end <= segment.span.end
        assert all(word.probability is not None and 0 < word.probability <= 1 for word in segment.words)


def test_marks_join_the_words_that_they_are_told_to(told: dict[str, Told]) -> None:
    """A full stop belongs to the word before it, or is a word of its own."""
    joined = [word.text for segment in told["words"].result.segments for word in segment.words]
    apart = [word.text for segment in told["words and signs"].result.segments for word in segment.words]

    assert "." not in joined
    assert " meeting." in joined
    assert "." in apart
    assert " meeting" in apart
    assert "".join(joined) == "".join(apart)


def test_improbable_words_in_silence_are_dropped(told: dict[str, Told]) -> None:
    """The tokens are the same; of the segments some are gone, and what is left says which."""
    kept = [(segment.span, segment.text) for segment in told["silence dropped"].result.segments]
    all_of_them = [(segment.span, segment.text) for segment in told["words"].result.segments]

    assert told["silence dropped"].heard.tokens == told["words"].heard.tokens
    dropped = [text.strip() for span, text in all_of_them if (span, text) not in kept]
    assert kept
    assert dropped
    assert kept == [one for one in all_of_them if one[1].strip() not in dropped]
    guards = told["silence dropped"].result.segments[0].guards
    assert guards == tuple(f"dropped {text!r}: improbable words between silences" for text in dropped)


# Temperatures, samples, beams


def test_good_enough_is_not_tried_again(told: dict[str, Told]) -> None:
    """Only what the thresholds object to goes on, and says why; silence does not."""
    plain, again = told["plain"].heard, told["usual thresholds"].heard

    assert bool(again.rejected) == (plain.avg_logprob < -1 or plain.compression_ratio > 2.4)
    assert told["unlikely"].heard.rejected[0] == (
        f"at temperature 0 its mean log-probability is {plain.avg_logprob:.2f}"
    )
    assert told["silence"].heard.temperature == 0
    assert told["silence"].heard.rejected == ()
    assert told["silence"].heard.tokens == told["plain"].heard.tokens


def test_each_threshold_objects_in_its_words(told: dict[str, Told]) -> None:
    """What nothing satisfies has been tried at all temperatures that might help; its segments keep the reasons."""
    unlikely, repetitive = told["unlikely"], told["repetitive"]

    assert len(repetitive.heard.rejected) == 2
    assert all("its compression ratio is" in reason for reason in repetitive.heard.rejected)
    assert all("its mean log-probability is" in reason for reason in unlikely.heard.rejected)
    guards = unlikely.result.segments[0].guards
    assert guards == tuple(f"decoded again: {reason}" for reason in unlikely.heard.rejected)


def test_silence_is_what_both_thresholds_say(told: dict[str, Told]) -> None:
    """A chunk of it is skipped, with its reason."""
    heard = told["plain"].heard
    said = f"no speech (probability {heard.no_speech_prob:.2f}, text {heard.avg_logprob:.2f})"

    assert (told["silence"].result.segments, told["silence"].result.skipped) == ((), said)
    assert told["plain"].result.skipped is None


def test_samples_are_repeatable_and_differ_by_place(busy_engine: Engine, told: dict[str, Told]) -> None:
    """The same chunk of the same recording gives the same sample; another place in it draws other numbers."""
    asked = {"again": ASKS["hot"], "later": replace(ASKS["hot, later"], start=0.0, end=10.0)}

    again = hear(busy_engine, asked)

    assert again["again"].heard.tokens == told["hot"].heard.tokens
    assert again["later"].heard.tokens == told["hot"].heard.tokens
    assert told["hot"].heard.tokens != told["plain"].heard.tokens
    assert told["hot, later"].heard.tokens != told["hot"].heard.tokens
    assert told["hot"].heard.temperature == 0.7


def test_the_best_of_several_samples_is_taken(busy_engine: Engine) -> None:
    """Each sample has its own random numbers, whoever else is drawn: the first of three is the only one of one, so the
    best of three is at least as likely.
    """
    spans = [(0, 5), (5, 10), (10, 15), (15, 20)]
    asked = {
        f"{best_of} at {start}": Ask(options={"temperature": 0.7, "best_of": best_of}, start=start, end=end)
        for start, end in spans
        for best_of in (1, 3)
    }

    found = {name: one.heard for name, one in hear(busy_engine, asked).items()}

    gains = [found[f"3 at {start}"].avg_logprob - found[f"1 at {start}"].avg_logprob for start, _ in spans]
    assert min(gains) > -1e-5
    assert max(gains) > 0.01


def test_the_least_temperature_is_nearly_none(busy_engine: Engine, told: dict[str, Told]) -> None:
    """So little that float32 takes it for nothing: the samples are the greedy text."""
    cold = hear(busy_engine, {"cold": Ask(options={"temperature": 1e-45, "best_of": 3})})["cold"].heard

    assert cold.tokens == told["plain"].heard.tokens


def test_beams_are_kept_and_ranked(told: dict[str, Told], busy_engine: Engine) -> None:
    """Several beams find another text than one; more patience and another ranking take another of them."""
    greedy = hear(busy_engine, {"greedy": Ask(options=ONCE, start=4, end=8)})["greedy"]

    assert told["beams"].heard.tokens != greedy.heard.tokens
    assert told["beams"].heard.temperature == 0
    assert told["patience"].heard.tokens != told["beams"].heard.tokens
    assert told["patience"].heard.avg_logprob >= told["beams"].heard.avg_logprob
    penalised, plain = told["length_penalty"].heard, told["beams"].heard
    assert penalised.tokens != plain.tokens
    assert total(penalised) > total(plain)  # with a penalty of 0, the sum alone counts


def total(heard: Heard) -> float:
    """Log-probability of the whole text."""
    return heard.avg_logprob * (len(heard.tokens) + 1)


def test_what_stands_for_nothing_is_nothing(busy_engine: Engine) -> None:
    """A prompt, words or a prefix of spaces ask for nothing."""
    blank = options_of({"initial_prompt": " ", "hotwords": "", "prefix": "\t"})
    chunk = Chunk(index=0, span=Span(0, RATE))
    decoding = decoding_of(resolved(blank), chunk, busy_engine.vocabulary, "en")

    assert (decoding.prompt, decoding.prefix) == ((), ())
