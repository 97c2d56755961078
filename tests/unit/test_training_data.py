"""What training learns from: manifests, labels, made speech; and a clear line for what is wrong with them."""

from __future__ import annotations

import json
import sys
import wave
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.training.windows import Timed
from stenopool.domain import SAMPLE_RATE, Coverage, CoverageKind, CoveragePiece, Options, Provenance, Segment, Span
from stenopool.domain import Transcript as Document
from stenopool.errors import MediaUnreadable, UsageError
from workers.training.labels import Filter, agrees, labelled
from workers.training.manifest import Entry, read_manifest, utterances_of
from workers.training.sentences import sentences
from workers.training.sounds import Sounds
from workers.training.speech import make_speech

WINDOW = 30 * SAMPLE_RATE


def test_a_line_names_its_sound_and_its_text(tmp_path: Path) -> None:
    _wav(tmp_path / "a.wav", 2.0)
    path = _manifest(
        tmp_path,
        {"audio": "a.wav", "text": "all of it", "language": "de", "speaker": 3},
        {
            "audio_filepath": "a.wav",
            "segments": [{"start": 0.5, "end": 1.25, "text": "one"}, {"start": 1.25, "end": 2, "text": "two"}],
        },
    )
    whole, timed = read_manifest(path)

    assert (whole.text, whole.segments, whole.language) == ("all of it", None, "de")
    assert timed.text == "one two"
    assert timed.segments == (Timed(Span(8000, 20000), "one"), Timed(Span(20000, 32000), "two"))


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", r"is not JSON \(.*\); each line is an object of its own"),
        ("[1]", "is not an object"),
        ('{"text": "x"}', "has no audio; name the file"),
        ('{"audio": "b.wav", "text": "x"}', "b.wav does not exist"),
        ('{"audio": "a.wav", "text": 7}', "its text must be text, is 7"),
        (
            '{"audio": "a.wav", "text": "x", "offset": 3.5}',
            "has an offset; give the times as segments of the whole file",
        ),
        ('{"audio": "a.wav", "segments": {}}', "its segments must be a list"),
        (
            '{"audio": "a.wav", "segments": [{"start": 0, "text": "x"}]}',
            r"segments\[0\] needs start and end in seconds",
        ),
        (
            '{"audio": "a.wav", "segments": [{"start": 2, "end": 1, "text": "x"}]}',
            r"segments\[0\] is from 2 to 1 s; each begins after the one before it, and ends later",
        ),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, problem: str) -> None:
    _wav(tmp_path / "a.wav", 1.0)
    (tmp_path / "talks.jsonl").write_text(f'{{"audio": "a.wav", "text": "fine"}}\n\n{line}\n')

    with pytest.raises(UsageError, match=rf"talks\.jsonl line 3: .*{problem}"):
        read_manifest(tmp_path / "talks.jsonl")


def test_a_manifest_that_is_not_there_or_empty_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.jsonl: does not exist"):
        read_manifest(tmp_path / "none.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(UsageError, match=r"empty\.jsonl: names no recording"):
        read_manifest(tmp_path / "empty.jsonl")


def test_short_recordings_are_whole_and_long_ones_are_cut(tmp_path: Path) -> None:
    _wav(tmp_path / "short.wav", 3.0)
    _wav(tmp_path / "long.wav", 50.0)
    pieces = [{"start": start, "end": start + 10, "text": f"at {start}"} for start in (0, 12, 24, 39)]
    path = _manifest(tmp_path, {"audio": "short.wav", "text": "short"}, {"audio": "long.wav", "segments": pieces})
    entries = read_manifest(path)
    short, *long = utterances_of(entries, _decoded(tmp_path, entries), WINDOW, ["en"])

    assert (short.span, short.timed) == (Span(0, 3 * SAMPLE_RATE), False)
    assert [one.text for one in long] == ["at 0 at 12", "at 24 at 39"]
    assert [(one.span.start / SAMPLE_RATE, one.span.end / SAMPLE_RATE) for one in long] == [(0, 22), (24, 49)]
    assert all(one.timed for one in long)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ({"text": "x"}, r"line 1: a\.wav lasts 31 s, and its text has no times; give segments, or cut it to 30 s"),
        ({}, "line 1: has neither text nor segments; label it with --pseudo-labels"),
        (
            {"segments": [{"start": 0, "end": 40, "text": "x"}]},
            r"line 1: a segment ends at 40\.00 s, but a\.wav at 31\.00 s",
        ),
        ({"text": "x", "language": "tlh"}, "line 1: the model does not know the language 'tlh'; it knows: en de"),
    ],
)
def test_a_text_that_has_no_place_is_named(tmp_path: Path, line: dict[str, object], problem: str) -> None:
    _wav(tmp_path / "a.wav", 31.0)
    entries = read_manifest(_manifest(tmp_path, {"audio": "a.wav", **line}))

    with pytest.raises(UsageError, match=problem):
        utterances_of(entries, _decoded(tmp_path, entries), WINDOW, ["en", "de"])


def test_sound_is_decoded_once_and_anew_when_the_file_has_changed(tmp_path: Path) -> None:
    path, counted = tmp_path / "a.wav", []
    _wav(path, 1.0)
    sounds = Sounds(tmp_path / "kept")
    sounds.decode([path, path], lambda: counted.append(1), threads=2)
    first = list((tmp_path / "kept").iterdir())
    Sounds(tmp_path / "kept").decode([path], lambda: None, threads=1)

    assert (len(counted), len(first)) == (1, 1)
    assert list((tmp_path / "kept").iterdir()) == first
    np.testing.assert_array_equal(sounds.read(path, Span(100, 300)), np.arange(100, 300, dtype=np.int16))

    _wav(path, 2.0)
    again = Sounds(tmp_path / "kept")
    again.decode([path], lambda: None, threads=1)
    assert again.length(path) == 2 * SAMPLE_RATE


def test_what_is_no_sound_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_text("no sound")

    with pytest.raises(MediaUnreadable, match=r"a\.wav"):
        Sounds(tmp_path / "kept").decode([tmp_path / "a.wav"], lambda: None, threads=1)
    assert list((tmp_path / "kept").iterdir()) == []


@pytest.mark.parametrize(
    ("reference", "label", "max_wer", "good"),
    [
        ("The budget is final.", "the budget is final", 0.0, True),
        (
            "red blue green grey pink gold black white brown teal",
            "red blue green grey pink gold black white brown",
            0.1,
            True,
        ),
        ("red blue green grey", "red blue green", 0.1, False),
        ("", "", 0.1, True),
        ("", "thank you for watching", 0.1, False),
    ],
)
def test_a_label_is_kept_where_it_agrees_with_its_reference(
    reference: str, label: str, max_wer: float, good: bool
) -> None:
    assert agrees(reference, label, "en", max_wer) == good


def test_labels_are_filtered_by_references_and_by_suspicion(tmp_path: Path) -> None:
    """Where the manifest has a text, by the words; where it has none, segment by segment; gaps are no silence."""
    entries = [_entry(name, text) for name, text in (("right", "hello there"), ("wrong", "goodbye"), ("unknown", None))]
    for name in ("right", "wrong", "unknown"):
        transcript = _transcript(("hello", 0.9), ("there", 0.1), gap=name == "unknown")
        (tmp_path / f"{name}.json").write_text(transcript.to_json())
    found = labelled(entries, tmp_path, Filter(max_wer=0.1, max_suspicion=0.5))

    assert (found.n_wrong, found.n_suspicious) == (1, 1)
    right, unknown = found.entries
    assert [one.text for one in right.segments or ()] == [" hello", " there"]
    assert [(one.span.start, one.text) for one in unknown.segments or ()] == [(0, ""), (16000, " there"), (32000, "")]
    assert (unknown.text, unknown.language) == ("there", "en")


def test_a_recording_without_a_transcript_is_named_with_the_command(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"has no transcript of a\.wav; make it: stenopool transcribe a\.wav"):
        labelled([_entry("a", None)], tmp_path, Filter())


def test_a_label_that_is_no_transcript_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{}")

    with pytest.raises(UsageError, match=r"a\.json: not a Stenopool transcript"):
        labelled([_entry("a", None)], tmp_path, Filter())


def test_a_seed_gives_the_same_sentences() -> None:
    texts = sentences(200, 1)

    assert texts == sentences(200, 1) != sentences(200, 2)
    assert len(set(texts)) == 200
    assert all(text[0].isupper() and text[-1] in ".?" for text in texts)


def test_half_of_the_sentences_are_words_in_no_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Usual words come from fortunes, any words from the dictionary; what stands in neither is of the frames."""
    (tmp_path / "fortunes").mkdir()
    (tmp_path / "fortunes" / "wise").write_text("The quick fox jumps over it.\n%\nIndian tea isn't cheap here.\n")
    (tmp_path / "words").write_text("zebra\nquartz\nvellum\nOslo\nhymn\ntsar's\nfjord\nlynx\nopal\n")
    monkeypatch.setattr("workers.training.sentences._FORTUNES", tmp_path / "fortunes")
    monkeypatch.setattr("workers.training.sentences._DICTIONARY", tmp_path / "words")
    texts = sentences(300, 1)

    usual = {"quick", "fox", "jumps", "over", "it", "tea", "isn't", "cheap", "here"}
    rare = {"zebra", "quartz", "vellum", "hymn", "fjord", "lynx", "opal"}
    kinds = [set(text[:-1].lower().split()) for text in texts]
    assert {"The quick fox jumps over it.", "Indian tea isn't cheap here."} < set(texts)
    assert sum(words <= usual for words in kinds) == pytest.approx(100, abs=25)
    assert sum(words <= rare for words in kinds) == pytest.approx(100, abs=25)


def test_without_voices_the_packages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(UsageError, match="neither espeak-ng nor flite is installed; apt-get install espeak-ng flite"):
        make_speech(tmp_path / "speech", 5, seed=0, spoken=lambda: None)


def test_speech_is_made_once_and_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for the voice, which hums; what a manifest has and what is not made again is ours."""
    programs, counted = tmp_path / "bin", []
    programs.mkdir()
    hum = (
        f"#!{sys.executable}\nimport io, sys, wave\n"
        "if '-x' in sys.argv: print(\"h@l'oU\"); raise SystemExit\n"
        "whole = io.BytesIO(); file = wave.open(whole, 'wb'); file.setparams((1, 2, 22050, 22050, 'NONE', ''))\n"
        "file.writeframes((b'\\x00\\x10' * 25 + b'\\x00\\xf0' * 25) * 441); file.close()\n"
        "sys.stdout.buffer.write(whole.getvalue())\n"
    )
    (programs / "espeak-ng").write_text(hum)
    (programs / "espeak-ng").chmod(0o755)
    monkeypatch.setenv("PATH", str(programs))
    made = make_speech(tmp_path / "speech", 3, seed=0, spoken=lambda: counted.append(1))
    audio = {path: path.stat().st_mtime_ns for path in (tmp_path / "speech" / "audio").glob("*.wav")}

    assert (made.programs, len(counted), len(audio)) == (("espeak-ng",), 5, 5)
    entries = read_manifest(made.manifest)
    assert len(entries) == 3
    assert entries[0].phonemes == "h@loU"
    said = entries[0].segments
    assert said is not None
    assert said[0].span.seconds == pytest.approx(1.0, abs=0.01)
    lengths = _decoded(tmp_path, entries)
    assert all(lengths.length(one.audio) > 1.05 * SAMPLE_RATE for one in entries)
    assert [json.loads(line)["voice"] for line in made.held_out.read_text().splitlines()][-1] == "espeak-ng en-us+m6"

    make_speech(tmp_path / "speech", 3, seed=0, spoken=lambda: None)
    assert audio == {path: path.stat().st_mtime_ns for path in audio}


def _wav(path: Path, seconds: float) -> None:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, SAMPLE_RATE, 0, "NONE", ""))
        file.writeframes(np.arange(round(seconds * SAMPLE_RATE)).astype(np.int16).tobytes())


def _manifest(folder: Path, *lines: dict[str, object]) -> Path:
    path = folder / "talks.jsonl"
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return path


def _decoded(folder: Path, entries: list[Entry]) -> Sounds:
    sounds = Sounds(folder / "kept")
    sounds.decode((one.audio for one in entries), lambda: None, threads=1)
    return sounds


def _entry(name: str, text: str | None) -> Entry:
    return Entry(place="talks.jsonl line 1", audio=Path(f"{name}.wav"), text=text, segments=None, language=None)


def _transcript(*texts: tuple[str, float], gap: bool) -> Document:
    """A second for each text, with its suspicion; and perhaps a second that failed."""
    segment = Segment(
        span=Span(0, 1), text="", chunk=0, avg_logprob=-0.1, compression_ratio=1.0, no_speech_prob=0.0
    )  # fmt: skip
    segments = tuple(
        replace(segment, span=Span(at * SAMPLE_RATE, (at + 1) * SAMPLE_RATE), text=f" {text}", suspicion=suspicion)
        for at, (text, suspicion) in enumerate(texts)
    )
    end = len(texts) * SAMPLE_RATE
    pieces = [CoveragePiece(span=Span(0, end), kind=CoverageKind.TRANSCRIBED)]
    if gap:
        pieces.append(CoveragePiece(span=Span(end, end + 100), kind=CoverageKind.FAILED, reason="lost"))
    return Document(
        source="a.wav",
        recording="0" * 64,
        duration=pieces[-1].span.end,
        language="en",
        language_probability=None,
        segments=segments,
        coverage=Coverage(tuple(pieces)),
        provenance=Provenance(model="m", model_digest="0", dtype="float32", options=Options(), version="0"),
    )
