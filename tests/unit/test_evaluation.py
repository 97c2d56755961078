"""What is compared with what, the figures, and how they are shown."""

from __future__ import annotations

import base64
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from models.accuracy import EditKind, Errors, NormalForm, compare, normal_form
from stenopool.domain import CoverageKind, Options
from stenopool.errors import UsageError
from stenopool.evaluation.cases import Case, gather
from stenopool.evaluation.evaluation import Evaluation, Timing, evaluate, total
from stenopool.evaluation.page import Sound, to_html
from stenopool.evaluation.report import to_json
from stenopool.evaluation.rows import lay_out
from stenopool.evaluation.table import print_table
from stenopool.evaluation.texts import Piece, Text, text_of
from stenopool.formats import render
from tests.transcripts import segment, transcript

RATE = 16_000
TIMING = Timing(model="pocket", dtype="float32", samples=60 * RATE, wall=6.0, prepare=0.5, compile=2.0, device=3.0)


def text(*lines: str) -> Text:
    """A text without times."""
    return Text(None, tuple(map(Piece, lines)))


def case(said: str, *, name: str = "talk.mp3", language: str | None = "en", audio: Path | None = None) -> Case:
    """A case that has to be transcribed."""
    return Case(name=name, reference=text(said), hypothesis=None, audio=audio, language=language)


def evaluated(said: str, heard: str, name: str = "talk.mp3") -> Evaluation:
    """A recording's figures, of a transcript with times of words."""
    return evaluate(case(said, name=name), text_of(transcript(segment(1, 5, heard, words=True))))


# Cases


def write(path: Path, content: str) -> Path:
    path.write_text(content, encoding="utf-8")
    return path


def test_a_transcript_finds_its_recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the name it was made under, from here or beside the transcript; what is not there is not played."""
    said = write(tmp_path / "said.txt", "hello")
    folder = tmp_path / "out"
    folder.mkdir()
    heard = write(folder / "talk.json", render(transcript(segment(0, 1, " Hello."), source="in/talk.mp3"), "json"))
    monkeypatch.chdir(tmp_path)

    assert gather(heard, said)[0].audio is None
    beside = write(folder / "talk.mp3", "")
    assert gather(heard, said)[0].audio == beside
    (tmp_path / "in").mkdir()
    write(tmp_path / "in" / "talk.mp3", "")
    assert gather(heard, said)[0].audio == Path("in/talk.mp3")
    assert gather(heard, said, audio=said)[0].audio == said


def test_a_folder_of_transcripts_answers_a_manifest(tmp_path: Path) -> None:
    """By stem, or by whole name where `transcribe` gave that; a line's own hypothesis comes first."""
    out = tmp_path / "out"
    out.mkdir()
    write(out / "a.txt", "of a")
    write(out / "b.wav.txt", "of b.wav")
    write(out / "b.txt", "of another b")
    lines = [
        {"audio": "in/a.mp3", "reference": "x"},
        {"audio": "b.wav", "reference": "x"},
        {"audio": "a.mp3", "reference": "x", "hypothesis": "its own"},
    ]
    manifest = write(tmp_path / "m.jsonl", "\n".join(map(json.dumps, lines)))

    cases = gather(out, manifest, language="en")

    assert [one.hypothesis and one.hypothesis.text for one in cases] == ["of a", "of b.wav", "its own"]
    write(manifest, json.dumps({"audio": "c.mp3", "reference": "x"}))
    with pytest.raises(UsageError, match=r"m\.jsonl line 1: .*out: has no transcript of c\.mp3; transcribe it with -o"):
        gather(out, manifest)


@pytest.mark.parametrize(
    ("given", "by_file", "language", "normaliser", "form"),
    [
        ("de", "en", "de", "auto", NormalForm("basic")),  # what a person says comes first
        (None, "en", "en", "auto", NormalForm("english")),
        (None, "english", "en", "auto", NormalForm("english")),
        (None, None, None, "basic", NormalForm("basic")),
        ("zh", None, "zh", "auto", NormalForm("basic", letters=True)),
    ],
)
def test_the_language_is_the_one_that_is_named(
    given: str | None, by_file: str | None, language: str | None, normaliser: str, form: NormalForm
) -> None:
    """By the command or the manifest, else by the hypothesis; the form follows."""
    one = evaluate(case("a", language=given), Text("talk.json", (Piece("a"),), by_file), normaliser)

    assert (one.language, one.form) == (language, form)


def test_an_unknown_language_is_asked_for() -> None:
    """Plain text does not say its language; a wrong form would make a wrong figure look right."""
    with pytest.raises(UsageError, match=r"talk\.mp3: its language is not known; name it with --language"):
        evaluate(case("a", language=None), text("a"))


def test_a_transcript_of_silence_needs_no_language() -> None:
    """It has no words, and hence none in a wrong form."""
    one = evaluate(case("hello", language=None), text_of(transcript(language=None)))

    assert one.figures.words == Errors(deletions=1)


def test_a_translation_is_english() -> None:
    """Whatever was spoken."""
    translated = transcript(segment(0, 1, " The colour."), language="de", options=Options(task="translate"))

    assert evaluate(case("the color", language=None), text_of(translated)).figures.words == Errors(hits=2)


# Figures


def test_the_total_is_over_all_words_and_seconds() -> None:
    """Errors, repetitions and seconds add up; who has no coverage adds none."""
    gap = transcript(segment(0, 4, " one of us"), gap=(10, 20, "no memory"))
    with_gap = evaluate(case("one of them"), text_of(gap))
    without = evaluate(case("the cat sat"), text("the cat"))

    together = total([with_gap, without])

    assert together.words == Errors(hits=4, substitutions=1, deletions=1)
    assert together.words.rate == 2 / 6
    assert together.coverage is not None
    assert together.coverage[CoverageKind.TRANSCRIBED] == 50 * RATE
    assert together.coverage[CoverageKind.FAILED] == 10 * RATE
    assert together.duration == 60 * RATE
    assert without.figures.duration is None


def test_json_has_all_figures() -> None:
    """Of each recording, of all, of the run, and why others have none; a rate of nothing is null."""
    silent = evaluate(case("", name="b.mp3"), text("thank you"))
    document = json.loads(
        to_json([evaluated("it costs two dollars", "It cost $2."), silent], TIMING, {"c.mp3": "gone"})
    )

    first, second = document["recordings"]
    assert document["schema"] == "stenopool/evaluation"
    assert first["name"] == "talk.mp3"
    assert (first["wer"], first["normalizer"], first["language"], first["model"]) == (1 / 3, "english", "en", "pocket")
    assert first["words"] == {
        "reference": 3, "hypothesis": 3, "hits": 2, "substitutions": 1, "deletions": 0, "insertions": 0
    }  # fmt: skip
    assert first["cer"] == 1 / 11
    assert first["seconds"] == {"transcribed": 60, "silence": 0, "failed": 0, "skipped": 0}
    assert (second["wer"], second["cer"], second["seconds"]) == (None, None, None)
    assert document["total"]["wer"] == 3 / 3
    assert document["run"]["real_time_factor"] == 0.1
    assert document["failed"] == [{"name": "c.mp3", "reason": "gone"}]


def printed(width: int, *evaluations: Evaluation, failed: dict[str, str] | None = None) -> list[str]:
    """The table on a terminal of that width."""
    console = Console(width=width, force_terminal=True, color_system=None, highlight=False)
    with console.capture() as capture:
        print_table(evaluations, TIMING, failed or {}, console=console)
    return capture.get().splitlines()


def test_the_table_has_a_line_for_each_and_one_for_all() -> None:
    """Names as they are, figures under their heads."""
    lines = printed(120, evaluated("a b c d", "a b c", "[1].mp3"), evaluated("a", "a", "b.mp3"))

    assert lines[0].strip() == "recording          WER   CER words sub del ins rep length transcribed silence"
    assert lines[1].split()[:7] == ["[1].mp3", "25.0%", "28.6%", "4", "0", "1", "0"]
    assert lines[3].split()[:4] == ["all", "2", "20.0%", "25.0%"]
    assert lines[4] == "compared: Whisper's normal form for English"
    assert lines[5].startswith(
        "real-time factor 0.100: 1:00 of sound in 6.0 s (2.0 s compiling) with pocket in float32"
    )


def test_a_narrow_terminal_shows_what_matters_most() -> None:
    """No figure is cut; those that do not fit are left out, from the right."""
    for width in (30, 40, 50, 60, 70, 80):
        head, row, *_ = printed(width, evaluated("a b c d", "a b c"))
        assert len(head) <= width
        assert head.split()[:2] == ["recording", "WER"]
        assert row.split()[:2] == ["talk.mp3", "25.0%"]
        assert "…" not in head + row


def test_what_could_not_be_evaluated_is_not_forgotten() -> None:
    """The total says what it leaves out."""
    lines = printed(120, evaluated("a", "a"), failed={"b.mp3": "gone"})

    assert lines[-1] == "1 of 2 could not be evaluated and are not in the total"


# The page

letters = st.sampled_from(["a", "b", "two", "dollars", "twenty", "five", "[x]", "Mr.", "it's", "-"])


@given(
    said=st.lists(letters, max_size=12).map(" ".join),
    heard=st.lists(st.lists(letters, max_size=4).map(" ".join), max_size=4),
    words=st.booleans(),
)
def test_rows_hold_the_whole_alignment(said: str, heard: list[str], words: bool) -> None:
    """Each piece of the hypothesis is a row; all words of both texts stand in the rows, in order, once."""
    hypothesis = text_of(transcript(*(segment(i, i + 1, f" {one}", words=words) for i, one in enumerate(heard))))
    form = normal_form("en")

    rows = lay_out(compare(said, hypothesis.text, form), hypothesis, form)
    tokens = [token for row in rows for token in row.tokens]

    assert [row.start for row in rows] == ([*range(0, len(heard) * RATE, RATE)] if heard else [None])
    assert tuple(token.reference for token in tokens if token.reference is not None) == form.words(said)
    assert tuple(token.hypothesis for token in tokens if token.hypothesis is not None) == form.words(hypothesis.text)
    for token in tokens:
        assert (token.kind is EditKind.EQUAL) == (token.reference == token.hypothesis)


def test_words_stand_where_they_are_heard() -> None:
    """A figure made of several words has the time of one of them; what is not heard follows what is."""
    hypothesis = text_of(
        transcript(segment(0, 2, " It cost", words=True), segment(2, 4, " twenty five dollars", words=True))
    )
    form = normal_form("en")

    first, second = lay_out(compare("it cost him $25", hypothesis.text, form), hypothesis, form)

    assert [token.hypothesis or token.reference for token in first.tokens] == ["it", "cost", "him"]
    assert first.tokens[2].kind is EditKind.DELETE
    assert not first.right
    assert [(token.hypothesis, token.kind) for token in second.tokens] == [("$25", EditKind.EQUAL)]
    assert second.right
    assert second.tokens[0].start is not None
    assert 2 * RATE <= second.tokens[0].start < 4 * RATE


class Page(HTMLParser):
    """What a browser would find in a page."""

    VOID = frozenset({"meta", "input", "br", "img", "link"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        for tag in self._open:
            self.text.setdefault(tag, []).append(data)

    def attributes(self, name: str) -> list[str]:
        """All values of an attribute."""
        return [value for _, attributes in self.tags if (value := attributes.get(name)) is not None]


def test_the_page_shows_each_error_as_what_it_is() -> None:
    """Deletions are `del`, insertions `ins`, substitutions a pair; each word has the time to play it from."""
    html = to_html([evaluated("the old cat sat on", "the cat mat on now")], TIMING, {}, {0: Sound("talk%20one.mp3")})
    page = Page(html)

    assert "<del>old</del>" in html
    assert "<del>sat</del>" in html
    assert re.search(r"<ins><span data-t=[^>]+>now</span></ins>", html)
    assert re.search(r'<span class="sub" data-t="2\.\d+"><del>sat</del> <ins>mat</ins></span>', html)
    assert ("audio", {"controls": None, "preload": "none", "src": "talk%20one.mp3"}) in page.tags
    assert "1.000" in page.attributes("data-t")
    assert page.text["title"] == ["talk.mp3: 60.0% word error rate"]


def test_nothing_said_or_named_becomes_markup() -> None:
    """Names, texts, reasons and languages are shown as they are written."""
    evil = "<script>alert('1')</script>\"'& </style> <!-- \udce9 \0"
    heard = text_of(transcript(segment(0, 1, evil, words=True), source=evil, gap=(10, 20, evil), language="en"))
    one = evaluate(case(evil, name=evil), heard, "none")

    page = Page(to_html([one, one], TIMING, {evil: evil}, {0: Sound.beside(Path(evil.replace("\0", "")), Path())}))

    names = [name for name, _ in page.tags]
    assert names.count("script") == names.count("style") == 1
    assert {name for _, attributes in page.tags for name in attributes if name.startswith("on")} == set()
    assert "<script>alert('1')</script>" in "".join(page.text["body"])


def test_the_page_asks_nobody_for_anything() -> None:
    """Style and script are in it; it names no other place, and forbids itself to."""
    html = to_html([evaluated("a b", "a c")], TIMING, {}, {0: Sound("talk.mp3")})
    page = Page(html)

    assert page.attributes("src") == ["talk.mp3"]
    assert all(link.startswith("#") for link in page.attributes("href"))
    assert not re.search(r"https?:|//[a-z]|@import|url\(", html)
    [policy] = [attributes["content"] for _, attributes in page.tags if "http-equiv" in attributes]
    assert policy is not None
    assert policy.startswith("default-src 'none';")


def test_sound_beside_the_page_or_inside(tmp_path: Path) -> None:
    """Beside: by a path that holds when both are moved, whatever its letters. Inside: the file, whole."""
    (tmp_path / "pages").mkdir()
    audio = tmp_path / "sound" / "a b#c?.mp3"
    audio.parent.mkdir()
    audio.write_bytes(b"\xff\xfb" * 100)

    assert Sound.beside(audio, tmp_path / "pages").url == "../sound/a%20b%23c%3F.mp3"
    kind, _, content = Sound.inside(audio).url.partition(";base64,")
    assert kind == "data:audio/mpeg"
    assert base64.b64decode(content) == audio.read_bytes()


def test_languages_without_spaces_are_shown_without() -> None:
    """Letters that are compared one by one still read as a text."""
    one = evaluate(case("你好世界", language="zh"), text_of(transcript(segment(0, 1, "你坏世界"), language="zh")))

    page = Page(to_html([one], None, {}, {}))

    assert "世界" in page.text["span"]
