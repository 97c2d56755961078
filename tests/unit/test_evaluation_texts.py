"""References, hypotheses and manifests, read from the files that people keep them in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stenopool.errors import UsageError
from stenopool.evaluation.manifest import Entry, is_manifest, read_manifest
from stenopool.evaluation.subtitles import Cue, parse_cues
from stenopool.evaluation.texts import Piece, read_text
from stenopool.formats import KEPT, format_of, render
from tests.transcripts import segment, transcript

RATE = 16_000


#: Those that hold no more than what was said, and when.
READ = (*KEPT, "podcast-srt", "podcast-vtt")


@pytest.mark.parametrize("format", READ)
def test_what_we_write_is_read_back(format: str, tmp_path: Path) -> None:
    """In each of our formats, the words come back, and where there are times, the first one's."""
    written = transcript(segment(1.5, 3, " Hello <there>, A & B."), segment(3, 4, " Good bye."))
    path = tmp_path / f"talk.{format_of(format).ending}"
    path.write_text(render(written, format), encoding="utf-8")

    text = read_text(path)

    assert " ".join(text.text.split()) == "Hello <there>, A & B. Good bye."
    assert text.pieces[0].start == (None if format == "txt" else 1.5 * RATE)
    assert (text.transcript == written) == (format == "json")


def test_cues_without_what_is_not_said() -> None:
    """Styles, notes, speakers' names, tags and positions are left out; entities are letters; hours may be missing."""
    text = """WEBVTT - talk

STYLE
::cue { color: red }

NOTE 00:00 is when we began

intro
00:01.000 --> 00:02.500 align:start
<v Leo>Fish &amp; <i>chips</i>,
{\\an8}twice.

01:00:00,25 --> 01:00:01,000
Late.
"""
    assert list(parse_cues(text)) == [
        Cue(RATE, "Fish & chips, twice."),
        Cue(3600 * RATE + RATE // 4, "Late."),
    ]


def test_cues_of_a_careless_editor() -> None:
    """Cues with no empty line between them are still two, and a number is no word; line ends may be Windows'."""
    text = "1\r\n00:00:01,000 --> 00:00:02,000\r\nOne.\r\n2\r\n00:00:02,000 --> 00:00:03,000\r\n42 is it.\r\n"

    assert [cue.text for cue in parse_cues(text)] == ["One.", "42 is it."]


def test_what_other_programs_write_as_json(tmp_path: Path) -> None:
    """openai/whisper's result, with the times of words where all of them have one."""
    path = tmp_path / "talk.json"
    words = [{"word": " Good", "start": 1.0, "end": 1.2}, {"word": " day", "start": 1.25, "end": 2}]
    path.write_text(
        json.dumps(
            {
                "text": " Good day. Bye.",
                "language": "en",
                "segments": [
                    {"start": 1.0, "end": 2.0, "text": " Good day.", "words": words},
                    {"start": 2.0, "end": 3.0, "text": " Bye.", "words": [{"word": " Bye."}]},
                ],
            }
        )
    )

    text = read_text(path)

    assert text.language == "en"
    assert text.pieces == (
        Piece(" Good day.", RATE, ((" Good", RATE), (" day", 20_000))),
        Piece(" Bye.", 2 * RATE),
    )


def test_silence_has_no_pieces(tmp_path: Path) -> None:
    """An empty transcript is one, in every format."""
    for format in READ:
        path = tmp_path / f"silence.{format_of(format).ending}"
        path.write_text(render(transcript(), format), encoding="utf-8")
        assert read_text(path).pieces == ()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("gone.txt", None, "does not exist"),
        ("latin.txt", "Grüße".encode("latin-1"), "is not text in UTF-8; save it as that"),
        ("sound.txt", b"RIFF\0\0", "is not text; name a transcript"),
        ("prose.srt", b"Hello there.", "holds no subtitles"),
        ("other.tsv", b"start,end,text\n", "its first line is not start, end, text"),
        ("short.tsv", b"start\tend\ttext\n1\t2\n", "line 2 is not start, end"),
        ("half.json", b'{"schema": "stenopool/tran', "not a Stenopool transcript: it is not JSON"),
        ("other.json", b'{"results": []}', "not a Stenopool transcript"),
        ("wrong.json", b'{"segments": [{"start": 1}]}', 'segments[0] has no "text"'),
    ],
)
def test_what_is_no_text_is_named(name: str, content: bytes | None, said: str, tmp_path: Path) -> None:
    """One line: the file, what is wrong with it, and what to do where that is not plain."""
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(UsageError) as caught:
        read_text(path, name)

    assert str(caught.value).startswith(f"{name}: ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def manifest(tmp_path: Path, name: str, content: str) -> list[Entry]:
    """A manifest's lines."""
    (tmp_path / name).write_text(content, encoding="utf-8")
    return read_manifest(tmp_path / name)


def test_a_manifest_may_be_json_lines_or_a_table(tmp_path: Path) -> None:
    """The same two recordings, in any of the forms; paths are looked up where the manifest is."""
    rows = [("a.mp3", "a.srt", "en"), ("b.mp3", "what is said, in b", "de")]
    table = [("audio", "reference", "language"), *rows]
    forms = {
        "m.jsonl": "\n\n".join(json.dumps(dict(zip(table[0], row, strict=True))) for row in rows),
        "m.csv": "\r\n".join(",".join(f'"{cell}"' for cell in row) for row in table),
        "m.tsv": "\n".join("\t".join(row) for row in table),
    }

    for name, content in forms.items():
        first, second = manifest(tmp_path, name, content)

        assert is_manifest(tmp_path / name)
        assert (first.name, first.audio, first.reference) == ("a.mp3", tmp_path / "a.mp3", tmp_path / "a.srt")
        assert (second.reference, second.hypothesis, second.language) == ("what is said, in b", None, "de")


def test_manifests_of_nemo_are_read_as_they_are(tmp_path: Path) -> None:
    """Their names for the columns; a text is a text, even if it ends like a file; other columns are not looked at."""
    line = {"audio_filepath": "a.wav", "text": "open notes.txt", "pred_text": "", "duration": 3.5, "offset": None}
    [entry] = manifest(tmp_path, "m.jsonl", json.dumps(line))

    assert (entry.audio, entry.reference, entry.hypothesis) == (tmp_path / "a.wav", "open notes.txt", None)


def test_nobody_speaks(tmp_path: Path) -> None:
    """An empty reference is one where the column is there: what is heard then was never said."""
    [entry] = manifest(tmp_path, "m.csv", "audio,reference\na.wav,\n")

    assert entry.reference == ""


def test_a_table_of_times_is_a_transcript(tmp_path: Path) -> None:
    """What `transcribe --format tsv` writes can be a reference, too."""
    path = tmp_path / "talk.tsv"
    path.write_text(render(transcript(segment(0, 1, " Hello.")), "tsv"))

    assert not is_manifest(path)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("m.jsonl", "", "m.jsonl: names no recording"),
        ("m.jsonl", '{"audio": "a.wav", "reference": "hi"}\n{"audio":', "m.jsonl line 2: is not JSON"),
        ("m.jsonl", "[1]", "m.jsonl line 1: is not an object"),
        ("m.jsonl", '{"audio": "a.wav"}', "m.jsonl line 1: has no reference"),
        ("m.jsonl", '{"reference": "hi"}', "m.jsonl line 1: has neither audio nor hypothesis"),
        ("m.jsonl", '{"audio": 3, "reference": "hi"}', "m.jsonl line 1: its audio must be text, is 3"),
        ("m.jsonl", '{"audio": "a", "text": "hi", "reference": "ho"}', "m.jsonl line 1: says its reference twice"),
        ("m.csv", "file,words\na,b\n", "m.csv line 1: is no header with a column reference"),
        ("m.csv", 'audio,reference\na,"x\ny"\nb,x,y\n', "m.csv line 4: has 3 cells, its header 2; put quotation marks"),
        ("m.tsv", "audio\treference\na\n", "m.tsv line 2: has 1 cells, its header 2"),
    ],
)
def test_a_wrong_line_is_named(name: str, content: str, said: str, tmp_path: Path) -> None:
    """The manifest, the line as an editor counts it, and what is wrong."""
    with pytest.raises(UsageError) as caught:
        manifest(tmp_path, name, content)

    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
