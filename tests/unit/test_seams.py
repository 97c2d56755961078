"""Which words survive where two chunks overlap."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.seams import Resolution, Side, merge_seam, words_of
from stenopool.domain import Segment, Span, Word

S = 16_000  # one second
OVERLAP = Span(27 * S, 30 * S)


def spoken(text: str, start: float, step: float = 0.5) -> list[Word]:
    """Words of a sentence, one each `step` seconds; "-" is a word that was not heard."""
    edges = [round((start + step * i) * S) for i in range(len(text.split()) + 1)]
    pairs = zip(text.split(), edges, edges[1:], strict=False)
    return [Word(Span(a, b), f" {word}") for word, a, b in pairs if word != "-"]


def read(left: list[Word], right: list[Word], overlap: Span = OVERLAP) -> str:
    """What is kept, as text."""
    picks = merge_seam(left, right, overlap).picks
    return "".join((left if pick.side is Side.LEFT else right)[pick.index].text for pick in picks).strip()


@pytest.mark.parametrize(
    ("left", "right", "text"),
    [
        # time:  27  27.5  28    28.5  29   29.5 | 30   30.5
        ("one two three four five six", "one two three four five six seven", "one two three four five six seven"),
        ("One, two, three. Four", "one two three four five.", "One, two, three. four five."),  # the nearer side's marks
        (
            "one two three four five si",
            "ne two three four five six seven",
            "one two three four five six seven",
        ),  # halves
        ("one two three four", "- - three four five six", "one two three four five six"),  # dropped at the edges
        ("one two three bird", "cat two three four five", "one two three four five"),  # misheard at the edges
        ("one two three four five six", "one two three four - six", "one two three four five six"),  # left only, late
        (
            "one - three four five six",
            "one two three four five six",
            "one two three four five six",
        ),  # right only, early
        ("one two three ice cream six", "one two three icecream - six", "one two three icecream six"),  # regrouped
        ("one two in put five", "one two input - five", "one two in put five"),
        ("one two three four", "one two three 4", "one two three 4"),
        ("no no no no no no", "no no no no no no no", "no no no no no no no"),  # repeats, by time
        ("no no no no -  -", "- - no no no no no", "no no no no no no no"),
        ("Yes. No. Okay. Right.", "- no. Okay. Right. Okay. So next", "Yes. No. Okay. Right. Okay. So next"),
        ("one two three four", "", "one two three four"),
        ("", "one two three four", "one two three four"),
        ("one two three four five six", "eins zwei drei vier fünf sechs", "one two three vier fünf sechs"),
        ("one - -", "- - - four five", "one four five"),  # nothing in common, and nothing lost
        ("- - - four", "one", "one four"),  # the same, each on the other's side
    ],
)
def test_overlap_is_read_once(left: str, right: str, text: str) -> None:
    """Words from 27 s on, one each half second; the overlap is [27, 30) s."""
    assert read(spoken(left, 27), spoken(right, 27)) == text


def test_a_word_in_several_pieces_at_the_edge_gives_way_to_the_whole() -> None:
    """Pieces that match nothing are dropped where the other chunk tells their moment."""
    whole = Word(Span(round(29.4 * S), round(30.2 * S)), " transcribe")
    pieces = [Word(Span(round(at * S), round((at + 0.3) * S)), text) for at, text in ((29.4, " tran"), (29.7, " scri"))]

    assert read(spoken("we all do", 27.9) + pieces, [*spoken("we all do", 27.9), whole]) == "we all do transcribe"


def at(*words: tuple[float, float, str]) -> list[Word]:
    """Words from seconds."""
    return [Word(Span(round(start * S), round(end * S)), f" {text}") for start, end, text in words]


def test_half_a_word_behind_a_match_is_dropped() -> None:
    """A piece at its own chunk's edge, at a moment that the other chunk fills with a word matched already."""
    left = at((28.6, 29, "all"), (29.4, 29.8, "it"), (29.85, 30, "i"))
    right = at((28.6, 29, "all"), (29.4, 29.8, "it"), (30.7, 31, "now"))

    assert read(left, right) == "all it now"


@pytest.mark.parametrize(("first", "text"), [("eins", "one two vier"), ("one", "one zwei two vier")])
def test_a_word_between_others_counts_only_if_the_two_chunks_heard_the_same_speech(first: str, text: str) -> None:
    """One match is enough to take "zwei" for a word that the left chunk missed; without any, it is other words."""
    left = at((27, 27.2, "one"), (28, 28.2, "two"))
    right = at((27.05, 27.2, first), (27.45, 27.5, "zwei"), (28.05, 28.2, "drei"), (29, 29.2, "vier"))

    assert read(left, right) == text


def test_similar_words_in_a_row_are_not_taken_for_each_other() -> None:
    """Each chunk missed the word nearer to its edge; where both hear well, a difference is no mishearing."""
    left = at((27.9, 28.2, "meeting"), (28.4, 28.7, "meetings"))
    right = at((28.4, 28.7, "meetings"), (28.8, 29.1, "people"))

    assert read(left, right) == "meeting meetings people"


def test_a_moment_told_in_other_words_is_told_once() -> None:
    """One side's "100" spans the other's "one hundred"."""
    figure = Word(Span(round(28.6 * S), round(29.4 * S)), " 100")
    left = spoken("we have one hundred men now", 27.8, 0.4)
    right = [*spoken("we have", 27.8, 0.4), figure, *spoken("men now", 29.4, 0.4)]

    assert read(left, right) == "we have 100 men now"


def test_a_mark_alone_is_no_word() -> None:
    """A dash that only the less reliable side heard is dropped, one that the other side heard is kept."""
    words = spoken("one two three four five six", 27)
    early, late = Word(Span(28 * S, 28 * S), " —"), Word(Span(29 * S, 29 * S), " —")
    marked = [*words[:2], early, *words[2:4], late, *words[4:]]

    assert read(marked, words) == "one two — three four five six"
    assert read(words, marked) == "one two three four — five six"


def test_half_a_word_at_each_edge_gives_way_to_the_whole() -> None:
    """A word that the cut went through is taken from the chunk that heard all of it."""
    left = [*spoken("we transcribe all of it and we trans", 26.7, 0.42)]
    right = [Word(Span(27 * S, int(27.5 * S)), " scribe"), *spoken("all of it and we transcribe more", 27.54, 0.42)]

    assert read(left, right) == "we transcribe all of it and we transcribe more"


def test_words_outside_the_overlap_are_all_kept() -> None:
    """Before the overlap only the left chunk speaks, after it only the right one, whatever they say."""
    left = spoken("one one one one one one", 24)
    right = spoken("one one one one one one", 30)

    assert merge_seam(left, right, OVERLAP) == Resolution(
        picks=merge_seam(left, [], OVERLAP).picks + merge_seam([], right, OVERLAP).picks,
        turn=6,
        matched=0,
        substituted=0,
        left_only=0,
        right_only=0,
    )


def test_repeats_a_second_off_are_matched_by_their_neighbours() -> None:
    """Times that are off by a second all along do not double a sentence."""
    left = spoken("the cat sat on the mat and the", 26)
    right = spoken("cat sat on the mat and the dog", 27.2)

    assert read(left, right) == "the cat sat on the mat and the dog"


def test_agreement_counts_the_moments_of_the_overlap() -> None:
    """Four matches, one substitution and one word that only the left chunk heard: four of six."""
    result = merge_seam(
        spoken("before it one two three four five six", 26), spoken("one two three vier - six seven", 27), OVERLAP
    )

    assert (result.matched, result.substituted, result.left_only, result.right_only) == (4, 1, 1, 0)
    assert result.agreement == 4 / 6


def test_nothing_to_hear_is_full_agreement() -> None:
    """Two chunks that both heard nothing agree."""
    assert merge_seam([], [], OVERLAP).agreement == 1.0


def test_each_side_says_which_of_its_words_are_kept() -> None:
    """`kept` gives indices in reading order."""
    result = merge_seam(spoken("one two three four", 27), spoken("one two three four five", 27), OVERLAP)

    assert (result.kept(Side.LEFT), result.kept(Side.RIGHT), result.turn) == ([0, 1, 2], [3, 4], 3)


@given(st.data())
def test_picks_never_reorder_or_repeat_a_side(data: st.DataObject) -> None:
    """Whatever the words and times: each side's indices rise, and what lies clear of the overlap is kept."""

    def words(start: int, end: int) -> list[Word]:
        texts = st.sampled_from([" no", " No.", " yes", " -", "", " transcribe", " scribe", "我", "们"])
        starts = data.draw(st.lists(st.integers(start * S, end * S), max_size=12).map(sorted))
        lengths = st.integers(0, S)
        return [Word(Span(at, at + data.draw(lengths)), data.draw(texts)) for at in starts]

    left, right = words(20, 30), words(27, 40)
    result = merge_seam(left, right, OVERLAP)

    for side, heard in ((Side.LEFT, left), (Side.RIGHT, right)):
        kept = result.kept(side)
        assert kept == sorted(set(kept))
        middles = [(word.span.start + word.span.end) / 2 / S for word in heard]
        clear = {i for i, at in enumerate(middles) if (at < 25.5 if side is Side.LEFT else at > 31.5)}
        settled = {
            i for i in clear if all((j in clear) for j in (range(i) if side is Side.LEFT else range(i, len(heard))))
        }
        assert settled <= set(kept)
    assert 0 <= result.turn <= len(result.picks)


def segment(text: str, words: tuple[Word, ...] = ()) -> Segment:
    """Ten seconds of text."""
    return Segment(
        span=Span(100 * S, 110 * S),
        text=text,
        chunk=0,
        avg_logprob=-0.1,
        compression_ratio=1.0,
        no_speech_prob=0.0,
        words=words,
    )


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        (" Hello, wide  world. ", [" Hello,", " wide", "  world. "]),
        ("你好。我用Python写「代码」", ["你", "好。", "我", "用", "Python", "写", "「代", "码」"]),  # Chinese
        ("カーを買う", ["カ", "ー", "を", "買", "う"]),  # Japanese
        ("ที่นี่", ["ที่", "นี่"]),  # Thai: vowels and tones stay with their consonant
        ("ສະບາຍ", ["ສ", "ະ", "ບ", "າ", "ຍ"]),  # Lao
        ("မြန်", ["မြ", "န်"]),  # Burmese
        ("안녕 하세요", ["안녕", " 하세요"]),  # Korean puts spaces
        ("", []),
        ("  ", ["  "]),
    ],
)
def test_text_without_words_is_cut_at_spaces_or_characters(text: str, pieces: list[str]) -> None:
    """Scripts without spaces give a word per character, with its marks and punctuation."""
    assert [word.text for word in words_of(segment(text))] == pieces


def test_interpolated_times_follow_the_characters() -> None:
    """Ten seconds over five, three and two characters."""
    spans = [(word.span.start / S, word.span.end / S) for word in words_of(segment(" abcde fgh ij"))]

    assert spans == [(100, 105), (105, 108), (108, 110)]


def test_words_of_the_model_are_taken_as_they_are() -> None:
    """Nothing is interpolated where the model gave word times."""
    words = (Word(Span(101 * S, 102 * S), " all", 0.5), Word(Span(102 * S, 103 * S), " there", 0.9))

    assert words_of(segment(" all there", words)) == list(words)


@given(st.text())
def test_interpolated_words_joined_are_the_text(text: str) -> None:
    """Any text comes back to the character, and times fill the segment in order."""
    words = words_of(segment(text))

    assert "".join(word.text for word in words) == text
    edges = [edge for word in words for edge in (word.span.start, word.span.end)]
    assert edges == sorted(edges)
    assert not words or (edges[0], edges[-1]) == (100 * S, 110 * S)


@given(st.text(st.characters(codec="ascii"), min_size=1).filter(str.strip))
def test_plain_text_is_cut_as_any_other(text: str) -> None:
    """A letter that is not plain, a word before, changes nothing of where the others begin."""
    first, *others = words_of(segment("é " + text))

    assert first.text == "é"
    assert [word.text for word in others] == [word.text for word in words_of(segment(" " + text))]
