"""Search on both databases: what is shown is found, ranked, page by page, and nothing else."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, select, text

from stenopool.domain import Segment
from stenopool.errors import UsageError
from stenopool.wording import words_of
from storage.campaigns import Campaigns, Plan
from storage.ledger import Ledger, Source
from storage.records import document_of
from storage.search import Hit, Search, Wanted
from storage.search_query import Query, read_query
from storage.tables import PassageRow, TranscriptState
from tests.farms import HandFarm, S
from tests.transcripts import segment, transcript


class Archive:
    """Transcripts of one machine, completed by hand."""

    def __init__(self, database: Engine) -> None:
        self.ledger = Ledger(database)
        self.search = Search(database)
        self._n = 0

    def add(self, *texts: str, language: str = "en", each: int = 5, segments: Sequence[Segment] = ()) -> int:
        """A recording in which this is said, a segment every five seconds; the transcript's id."""
        self._n += 1
        said = list(segments) or [segment(each * at, each * at + each, f" {text}") for at, text in enumerate(texts)]
        recording = f"{self._n:064x}"
        duration = max(one.span.end for one in said)
        source = Source(channel=0, recording=recording, duration=duration, ended_early=None, damaged=0)
        self.ledger.add_sources(recording, [source])
        self.ledger.call(recording, f"talk{self._n}.mp3")
        work = self.ledger.plan(recording, "work", provenance={}, language=language, chunks=[], silences=[])
        coverage = transcript(seconds=duration / S).coverage
        fence = self.ledger.begin_merge(work.id) or 0
        assert self.ledger.complete(work.id, fence, TranscriptState.COMPLETED, document_of(said, coverage))
        return work.id

    def find(self, query: str, **other: Any) -> list[Hit]:
        """All there is."""
        return list(self.search.find(Wanted(query=query, **other), limit=1000).hits)

    def names(self, query: str, **other: Any) -> list[str]:
        """Of what was found, in the order of the alphabet."""
        return sorted(hit.name for hit in self.find(query, **other))


@pytest.fixture
def archive(any_database: Engine) -> Archive:
    """Nothing in it."""
    return Archive(any_database)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("budget", [1, 2]),
        ("budget review", [1]),
        ("BUDGET, Review!", [1]),
        ("budget forecast OR review", [1, 2]),
        ("budget -review", [2]),
        ('"quarterly budget"', [1]),
        ('"budget quarterly"', []),
        ('budget -"quarterly budget"', [2]),
        ("bud*", [1, 2]),
        ('"quarterly bud*"', []),  # within a phrase, a star is no word's beginning
        ("café", [3]),
        ("cafe", [3]),
        ("three-course", [3]),
        ("nothing", []),
    ],
)
def test_queries(archive: Archive, query: str, found: list[int]) -> None:
    """Words, phrases, alternatives, exclusions, beginnings; without case, punctuation and accents."""
    archive.add("The quarterly budget", "is under review.")
    archive.add("A budget and a forecast.")
    archive.add("In the café: a three-course meal.")

    assert archive.names(query) == [f"talk{n}.mp3" for n in found]


def test_a_hit_says_where_it_was_said(archive: Archive) -> None:
    """File, passage, the segment in which it was heard, the characters that were found."""
    id = archive.add("Good morning everybody.", "The budget, please.", "Which budget is that?")

    [hit] = archive.find("budget please")

    assert (hit.transcript, hit.name, hit.submission, hit.language) == (id, "talk1.mp3", None, "en")
    assert (hit.start, hit.end, hit.at) == (0, 15 * S, 5 * S)
    assert hit.text == "Good morning everybody. The budget, please. Which budget is that?"
    assert [hit.text[start:end] for start, end in hit.found] == ["budget, please", "budget"]


def test_who_says_more_of_it_in_fewer_words_is_first(archive: Archive) -> None:
    """By how often it is said, and how much else."""
    archive.add("Somebody mentioned the harbour once, among the many other things that were on the table that day.")
    archive.add("The harbour, the harbour, and again the harbour.")

    assert [hit.name for hit in archive.find("harbour")] == ["talk2.mp3", "talk1.mp3"]


def test_pages_go_on_where_the_last_one_ended(archive: Archive) -> None:
    """Whatever comes in meanwhile, nothing is shown twice, and nothing is left out that was there."""
    for n in range(10):
        archive.add(f"budget {'budget ' * (n % 3)} number {n}")
    everything = [hit.name for hit in archive.find("budget")]
    wanted = Wanted(query="budget")
    seen, cursor = [], None
    for n in range(4):
        page = archive.search.find(wanted, limit=3, cursor=cursor)
        seen += [hit.name for hit in page.hits]
        cursor = page.cursor
        archive.add(f"budget budget budget budget, said later {n}")

    assert [name for name in seen if name in everything] == everything
    assert len(set(seen)) == len(seen)
    with pytest.raises(UsageError, match="cursor is of another search"):
        archive.search.find(Wanted(query="other"), cursor=archive.search.find(wanted, limit=1).cursor)
    for wrong in ("x", "bm8", "WzEsMV0", "W05hTiwgMWU0MDAsICIiXQ"):
        with pytest.raises(UsageError, match="is no cursor"):
            archive.search.find(wanted, cursor=wrong)


def test_languages(archive: Archive, any_database: Engine) -> None:
    """Each by its own rules where Postgres has some; scripts without spaces by their characters."""
    archive.add("Die Häuser werden gebaut.", language="de")
    archive.add("我们明天在东京开会。", language="zh")
    archive.add("Meetings were held.", language="en")

    assert archive.names("东京") == ["talk2.mp3"]
    assert archive.names("京东") == []
    assert archive.names("häuser", language="de") == ["talk1.mp3"]
    assert archive.names("häuser", language="en") == []
    stemmed = any_database.dialect.name == "postgresql"
    assert archive.names("meeting") == (["talk3.mp3"] if stemmed else [])
    assert archive.names("haus") == (["talk1.mp3"] if stemmed else [])


def test_times(archive: Archive) -> None:
    """From a moment on, and before it."""
    archive.add("budget")

    assert archive.names("budget", since=1e9) == ["talk1.mp3"]
    assert archive.names("budget", since=1e11) == []
    assert archive.names("budget", until=1e9) == []


def test_fuzzy(archive: Archive) -> None:
    """What is spelled alike is found, and marked; all words have to be."""
    archive.add("The transcription of the Kowalski interview.")
    archive.add("The transcription of another one.")

    assert archive.names("kovalski transcripton") == []
    [hit] = archive.find("kovalski transcripton", fuzzy=True)
    assert [hit.text[start:end] for start, end in hit.found] == ["transcription", "Kowalski"]
    assert archive.names("transcripton -kowalski", fuzzy=True) == ["talk2.mp3"]
    assert archive.names("xylophone", fuzzy=True) == []


def test_postgres_without_trigrams(ledger_url: str) -> None:
    """Who may not create extensions is told what to do; all else works."""
    from storage.database import open_database

    database = open_database(ledger_url)
    with database.begin() as connection:
        connection.execute(text("DROP EXTENSION IF EXISTS pg_trgm CASCADE"))
    archive = Archive(database)
    archive.add("budget")

    assert archive.names("budget") == ["talk1.mp3"]
    with pytest.raises(UsageError, match=r"has no pg_trgm.*CREATE EXTENSION pg_trgm.*search --reindex"):
        archive.find("budget", fuzzy=True)
    database.dispose()


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("", "no word to be found"),
        ("!!!", "no word to be found"),
        ("-budget", "only something to leave out"),
        ('"budget', "and does not end"),
        ("OR budget", "OR stands between"),
        ("budget OR", "OR stands between"),
        ("budget OR -review", "OR stands between"),
        ("a " * 33, "may have 32 words"),
    ],
)
def test_what_is_no_query(query: str, why: str) -> None:
    """A line that says so."""
    with pytest.raises(UsageError, match=why) as error:
        read_query(query)
    assert "\n" not in str(error.value)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(query=st.text() | st.text(alphabet="ab\"'-*OR &|!():\\%_<>;$ \x00東é", max_size=30), fuzzy=st.booleans())
def test_any_query_is_answered_or_refused(any_database: Engine, query: str, fuzzy: bool) -> None:
    """Nothing that is typed reaches a database as anything but words."""
    with contextlib.suppress(UsageError):
        Search(any_database).find(Wanted(query=query, fuzzy=fuzzy, tenant=query.replace("\x00", "")))


def brute(query: Query, said: list[str]) -> bool:
    """Whether a passage is found, by counting."""
    line = f" {' '.join(said)} "

    def there(words: tuple[str, ...]) -> bool:
        return f" {' '.join(words)} " in line

    return all(any(there(term.words) for term in choices) for choices in query.wanted) and not any(
        there(term.words) for term in query.unwanted
    )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(
    query=st.lists(
        st.tuples(st.sampled_from(["", "-", "OR "]), st.lists(st.sampled_from("uvwxyz"), min_size=1, max_size=3)),
        min_size=1,
        max_size=5,
    )
)
def test_both_databases_find_what_is_there(any_database: Engine, query: list[tuple[str, list[str]]]) -> None:
    """The same passages as by reading all of them."""
    archive = Archive(any_database)
    with any_database.connect() as connection:
        known = connection.scalars(select(PassageRow.text)).all()
    if not known:
        for n in range(40):
            archive.add(" ".join("uvwxyz"[(n * k * k + k + n // 7) % 6] for k in range(1, 2 + n % 6)), language="xx")
    typed = " ".join(f'{how}"{" ".join(words)}"' for how, words in query)
    try:
        asked = read_query(typed)
    except UsageError:
        return
    with any_database.connect() as connection:
        passages = connection.scalars(select(PassageRow.text)).all()

    assert sorted(hit.text for hit in archive.find(typed)) == sorted(
        passage for passage in passages if brute(asked, [one.word for one in words_of(passage)])
    )


def texts(farm: HandFarm, query: str) -> list[str]:
    """What is found on a farm."""
    return [hit.text for hit in Search(farm.farm.database).find(Wanted(query=query)).hits]


def test_only_what_is_shown_is_found(hand_farm: HandFarm) -> None:
    """Another version replaces it at once, one that is worse does not, and what is cancelled is not found."""
    farm = hand_farm
    one = farm.submit()
    farm.ingest()
    assert texts(farm, "first0") == []
    farm.hear()
    farm.merge()
    assert texts(farm, "first0") == ["first0 first1 first2"], "found as soon as it is merged"
    farm.publish()

    gaps = farm.submit()
    farm.go("third", {1})
    assert texts(farm, "third0") == ["third0 third2"], "with gaps, too"

    farm.again(one, again=True)
    farm.go("second")
    assert (texts(farm, "first0"), texts(farm, "second0")) == ([], ["second0 second1 second2"])

    assert farm.farm.desk.retry(gaps.id)
    farm.go("mended")
    assert texts(farm, "mended1") == ["third0 mended1 third2"]

    farm.again(one, again=True)
    farm.go("worse", {0})
    assert (texts(farm, "worse1"), texts(farm, "second0")) == ([], ["second0 second1 second2"])
    [hit] = Search(farm.farm.database).find(Wanted(query="second0", tenant="ada")).hits
    assert (hit.submission, hit.name) == (4, "talk1.wav")
    assert Search(farm.farm.database).find(Wanted(query="second0", tenant="bob")).hits == ()


def test_a_speaker_and_a_campaign(hand_farm: HandFarm) -> None:
    """Where somebody speaks, as was said when it was handed in; what belongs to a campaign."""
    farm = hand_farm
    campaign = Campaigns(farm.farm.database).create(Plan(tenant="ada", name="calls", model="pocket", options={}))
    call = farm.submit(channels=2, split=True, speakers=("Ada", "Grace"), campaign_id=campaign.id)
    farm.submit()
    farm.go("hello")
    search = Search(farm.farm.database)

    [grace] = search.find(Wanted(query="hello0", speaker="Grace")).hits
    assert (grace.submission, grace.channel, grace.speaker) == (call.id, 2, "Grace")
    assert search.find(Wanted(query="hello0", speaker="Bob")).hits == ()
    assert {hit.submission for hit in search.find(Wanted(query="hello0", campaign="calls")).hits} == {call.id}
    assert len(search.find(Wanted(query="hello0")).hits) == 3
    assert search.find(Wanted(query="hello0", campaign="others")).hits == ()


def test_what_is_cancelled_is_not_found(hand_farm: HandFarm) -> None:
    """Though its transcript is complete; until somebody has it again."""
    farm = hand_farm
    one = farm.submit()
    farm.ingest()
    farm.hear()
    farm.merge()
    two = farm.again(one)
    farm.ingest()
    assert farm.farm.desk.cancel(one.id)
    assert texts(farm, "first0") == ["first0 first1 first2"], "the other has it"
    assert farm.farm.desk.cancel(two.id)
    assert texts(farm, "first0") == []

    assert farm.farm.desk.retry(one.id)
    assert farm.go() == [], "nothing had to be heard again"
    assert texts(farm, "first0") == ["first0 first1 first2"]


def test_the_index_rebuilt_is_what_it_was(hand_farm: HandFarm) -> None:
    """From the documents, passage by passage; and a damaged one is mended."""
    farm = hand_farm
    one, _, three = (farm.submit(), farm.submit(), farm.submit())
    farm.go()
    farm.again(one, again=True)
    farm.go("second")
    farm.again(three, again=True)
    farm.go("worse", {0})
    database = farm.farm.database
    columns = [column for column in PassageRow.__table__.columns if column.name != "id"]

    def index() -> list[tuple[object, ...]]:
        with database.connect() as connection:
            rows = connection.execute(select(*columns).order_by(PassageRow.transcript_id, PassageRow.start))
            return [tuple(row) for row in rows]

    before = index()
    assert len(before) == 3
    with database.begin() as connection:
        connection.execute(text("UPDATE passages SET start = 7 WHERE id IN (SELECT max(id) FROM passages)"))
        connection.execute(text("DELETE FROM passages WHERE id IN (SELECT min(id) FROM passages)"))

    assert list(Search(database).reindex()) == [1, 2, 3, 4, 5]

    assert index() == before
    assert len(texts(farm, "second0 OR first0")) == 3


def test_passages_end_where_languages_and_subjects_do(archive: Archive) -> None:
    """After forty words, at a long pause, and where another language begins."""
    long = " ".join(f"w{n}" for n in range(30))
    said = [segment(0, 5, f" {long} one"), segment(5, 10, f" {long} two"), segment(10, 15, " three")]
    said += [segment(30, 35, " four")]
    archive.add(segments=said)

    assert archive.names('"one w0"') == archive.names('"one w0" -three') == ["talk1.mp3"]
    assert [(hit.start, hit.end) for hit in archive.find("four")] == [(30 * S, 35 * S)]
    assert [hit.start for hit in archive.find("three")] == [10 * S]


def test_zero_bytes_and_nothing_at_all(archive: Archive) -> None:
    """What no database takes in a text does not keep a transcript from being completed."""
    archive.add("bud\x00get \ud800 ok", "   ")
    archive.add("...")

    assert archive.names("ok") == ["talk1.mp3"]
