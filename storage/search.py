"""Search: passages by their words, ranked, page by page.

What a passage ranks is by itself and the query alone, so a page goes on exactly behind the one before it, whatever was
transcribed meanwhile. Postgres stems words by their language; on one machine they are compared as they are.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Float,
    Integer,
    Select,
    Text,
    and_,
    bindparam,
    cast,
    column,
    func,
    literal,
    not_,
    or_,
    select,
    table,
    text,
    tuple_,
    union_all,
)
from sqlalchemy.dialects.postgresql import REGCONFIG, TSQUERY
from sqlalchemy.orm import Session, aliased

from stenopool.errors import UsageError
from stenopool.wording import likeness, words_of
from storage.campaign_tables import CampaignRow
from storage.passages import SIMPLE
from storage.search_index import TRIGRAMS, index_again, make_trigrams
from storage.search_query import ALIKE, Query, Term, read_query, spots
from storage.tables import (
    COMPLETED,
    PassageRow,
    RecordingRow,
    RedactionRow,
    SubmissionRow,
    SubmissionState,
    SubmissionTranscriptRow,
    TranscriptRow,
    View,
)
from storage.transactions import Transactions

#: Words that a misspelt one may be, on one machine.
MEANT = 30

#: SQLite's index of the passages.
_FULL_TEXT = table("passages_words", column("rowid", Integer), column("words", Text))


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is looked for."""

    query: str
    tenant: str | None = None
    #: On a farm: what was handed in as this campaign, and channels in which this one is heard.
    campaign: str | None = None
    speaker: str | None = None
    language: str | None = None
    #: Transcripts that were completed from then on, and before then: seconds since 1970.
    since: float | None = None
    until: float | None = None
    #: Words that are spelled alike count, too.
    fuzzy: bool = False
    #: Only what is left of redacted transcripts.
    redacted: bool = False
    #: What is redacted is not there; transcripts without redaction are, in full.
    veiled: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A passage that was found."""

    transcript: int
    tenant: str
    #: Of the file; on a farm as it was handed in the last time.
    name: str
    #: None on one machine.
    submission: int | None
    #: From 1; None where channels were mixed.
    channel: int | None
    #: Who is heard in that channel, as far as whoever handed it in has said.
    speaker: str | None
    language: str
    #: Samples: of the passage, and of the first segment in which something was found.
    start: int
    end: int
    at: int
    text: str
    #: Characters of the text that were found, `[start, end)`.
    found: tuple[tuple[int, int], ...]
    rank: float


@dataclass(frozen=True, slots=True)
class Page:
    """Some hits, the best first."""

    hits: tuple[Hit, ...]
    #: What the next page is asked for with; None where this is the last.
    cursor: str | None


class Search(Transactions):
    """Looks into the index, and rebuilds it."""

    def find(self, wanted: Wanted, *, limit: int = 20, cursor: str | None = None) -> Page:
        """A page of what was found.

        Raises:
            UsageError: the query is none; the cursor is of another search; this database has no fuzzy search.
        """
        query = read_query(wanted.query)
        mark = hashlib.sha256(json.dumps(asdict(wanted), sort_keys=True).encode()).hexdigest()[:12]
        behind = None if cursor is None else _read_cursor(cursor, mark)
        with self._transaction() as session:
            ranked = (self._postgres if self._on_postgres else self._sqlite)(session, wanted, query)
            if ranked is None:
                return Page((), None)
            rows = ranked.subquery()
            page = select(rows.c.id, rows.c.rank)
            if behind is not None:
                page = page.where(tuple_(rows.c.rank, rows.c.id) < tuple_(literal(behind[0], Float(53)), behind[1]))
            found = session.execute(page.order_by(rows.c.rank.desc(), rows.c.id.desc()).limit(limit + 1)).all()
            ranks = [(id, rank) for id, rank in found[:limit]]
            hits = tuple(self._hits(session, ranks, query, fuzzy=wanted.fuzzy)) if ranks else ()
        last = found[limit - 1] if len(found) > limit else None
        return Page(hits, None if last is None else _cursor(last.rank, last.id, mark))

    def reindex(self) -> Iterator[int]:
        """Make the index anew from the documents, transcript by transcript; yields how many are done."""
        with self._transaction() as session:
            if self._on_postgres:
                make_trigrams(session.connection())
            else:
                session.execute(text("INSERT INTO passages_words (passages_words) VALUES ('rebuild')"))
        after = n = 0
        while True:
            with self._transaction() as session:
                transcript = session.scalar(
                    select(func.min(TranscriptRow.id)).where(
                        TranscriptRow.id > after, TranscriptRow.state.in_(COMPLETED)
                    )
                )
                if transcript is None:
                    return
                index_again(session, transcript)
            after, n = transcript, n + 1
            yield n

    def names(self, transcripts: set[int]) -> dict[int, str]:
        """What people call the files of these transcripts."""
        with self._transaction() as session:
            return {id: its.name for id, its in _names(session, transcripts).items()}

    @property
    def _on_postgres(self) -> bool:
        return self._engine.dialect.name == "postgresql"

    # Which passages, and how good they are

    def _postgres(self, session: Session, wanted: Wanted, query: Query) -> Select[int, float] | None:
        if wanted.fuzzy:
            return self._postgres_fuzzy(session, wanted, query)
        several = []
        for config in _configs(session):
            asked = _tsquery(config, query)
            several.append(
                select(PassageRow.id, cast(func.ts_rank(PassageRow.words, asked, 1), Float(53)).label("rank")).where(
                    PassageRow.config == config, PassageRow.words.bool_op("@@")(asked), *_filters(wanted)
                )
            )
        if not several:
            return None
        every = union_all(*several).subquery()
        return select(every.c.id, every.c.rank)

    @staticmethod
    def _postgres_fuzzy(session: Session, wanted: Wanted, query: Query) -> Select[int, float]:
        if session.scalar(text("SELECT to_regclass(:name)").bindparams(name=TRIGRAMS)) is None:
            raise UsageError(
                "this database has no pg_trgm, which --fuzzy needs: have its owner run CREATE EXTENSION pg_trgm, "
                "and then: stenopool search --reindex"
            )
        session.execute(text(f"SET LOCAL pg_trgm.word_similarity_threshold = {ALIKE}"))
        alike = [
            or_(*(and_(*(literal(word).bool_op("<%")(PassageRow.text) for word in term.words)) for term in choices))
            for choices in query.wanted
        ]
        words = sorted({word for term in query.terms for word in term.words})
        rank = sum((func.word_similarity(word, PassageRow.text) for word in words), literal(0.0))
        by = cast(PassageRow.config, REGCONFIG)
        without = [not_(PassageRow.words.bool_op("@@")(_tsterm(by, term))) for term in query.unwanted]
        return select(PassageRow.id, cast(rank, Float(53)).label("rank")).where(*alike, *without, *_filters(wanted))

    @staticmethod
    def _sqlite(session: Session, wanted: Wanted, query: Query) -> Select[int, float] | None:
        if wanted.fuzzy:
            meant = _meant(session, query)
            if meant is None:
                return None
            query = meant
        asked = " AND ".join(f"({' OR '.join(map(_fts, choices))})" for choices in query.wanted)
        for term in query.unwanted:
            asked = f"({asked}) NOT {_fts(term)}"
        terms = json.dumps([[" ".join(term.words), term.prefix] for term in query.terms])
        return (
            select(PassageRow.id, func.relevance(PassageRow.words, terms).label("rank"))
            .select_from(PassageRow)
            .join(_FULL_TEXT, _FULL_TEXT.c.rowid == PassageRow.id)
            .where(_FULL_TEXT.c.words.bool_op("MATCH")(asked), *_filters(wanted))
        )

    # What they are

    def _hits(
        self, session: Session, found: Sequence[tuple[int, float]], query: Query, *, fuzzy: bool
    ) -> Iterator[Hit]:
        ids = [id for id, _ in found]
        rows = {row.id: row for row in session.scalars(select(PassageRow).where(PassageRow.id.in_(ids)))}
        names = _names(session, {row.transcript_id for row in rows.values()})
        words = {id: words_of(row.text) for id, row in rows.items()}
        compared: dict[str, set[str]] = {}
        for id, row in rows.items():
            asked = compared.setdefault(row.config, {word for term in query.terms for word in term.words})
            asked |= {one.word for one in words[id]}
        stems = {config: self._stems(session, config, sorted(several)) for config, several in compared.items()}
        for id, rank in found:
            row = rows[id]
            marked = spots(words[id], query, stems[row.config], fuzzy=fuzzy)
            first = marked[0][0] if marked else 0
            its = names.get(row.transcript_id, _Name(""))
            yield Hit(
                transcript=row.transcript_id,
                tenant=row.tenant,
                name=its.name,
                submission=its.submission,
                channel=its.channel or None,
                speaker=its.speaker,
                language=row.language,
                start=row.start,
                end=row.end,
                at=max((sample for at, sample in row.marks if at <= first), default=row.start),
                text=row.text,
                found=tuple(marked),
                rank=rank,
            )

    def _stems(self, session: Session, config: str, words: Sequence[str]) -> Mapping[str, str]:
        """Of each word, what the database compares."""
        if not self._on_postgres:
            return {word: word for word in words}
        rows = session.execute(
            text(
                "SELECT word, array_to_string(tsvector_to_array(to_tsvector(cast(:config AS regconfig), word)), ' ') "
                "FROM unnest(cast(:words AS text[])) AS word"
            ),
            {"config": config, "words": list(words)},
        )
        return {str(word): str(stem) for word, stem in rows}


def _filters(wanted: Wanted) -> list[ColumnElement[bool]]:
    views = (View.ALL, View.REDACTED) if wanted.redacted else (View.ALL, View.FULL)
    filters = [_of_views(*views)]
    if wanted.veiled and not wanted.redacted:
        # Also of what is to be redacted, and is not yet.
        secret = (select(RedactionRow.transcript_id), _handed_in_as(SubmissionRow.redact.is_not(None)))
        plain = and_(*(PassageRow.transcript_id.not_in(some) for some in secret))
        left = _of_views(View.ALL, View.REDACTED)
        filters = [or_(left, and_(PassageRow.view == View.FULL, plain))]
    if wanted.tenant is not None:
        filters.append(PassageRow.tenant == wanted.tenant)
    if wanted.language is not None:
        filters.append(PassageRow.language == wanted.language)
    if wanted.since is not None:
        filters.append(PassageRow.completed_at >= wanted.since)
    if wanted.until is not None:
        filters.append(PassageRow.completed_at < wanted.until)
    if wanted.campaign is not None:
        filters.append(PassageRow.transcript_id.in_(_handed_in_as(CampaignRow.name == wanted.campaign)))
    if wanted.speaker is not None:
        filters.append(PassageRow.transcript_id.in_(_handed_in_as(SubmissionTranscriptRow.speaker == wanted.speaker)))
    return filters


def _of_views(*views: View) -> ColumnElement[bool]:
    # As IN it would be written into the statement anew each time, which for one of this length takes a while.
    return or_(*(PassageRow.view == view for view in views))


def _handed_in_as(*which: ColumnElement[bool]) -> Select[int]:
    """Transcripts of such submissions, in whatever version."""
    return _handed_in(_SHOWN.id).where(*which)


_SHOWN, _VERSION = aliased(TranscriptRow), aliased(TranscriptRow)


def _handed_in(*columns: Any) -> Select[*tuple[Any, ...]]:
    """Columns of transcripts, of the submissions that led to any version of them, and of their campaigns."""
    state = func.coalesce(SubmissionRow.settled, SubmissionRow.state)
    return (
        select(*columns)
        .select_from(_SHOWN)
        .join(
            _VERSION,
            (_VERSION.tenant == _SHOWN.tenant)
            & (_VERSION.recording_id == _SHOWN.recording_id)
            & (_VERSION.work_digest == _SHOWN.work_digest),
        )
        .join(SubmissionTranscriptRow, SubmissionTranscriptRow.transcript_id == _VERSION.id)
        .join(SubmissionRow, SubmissionRow.id == SubmissionTranscriptRow.submission_id)
        .outerjoin(CampaignRow, CampaignRow.id == SubmissionRow.campaign_id)
        .where(state != SubmissionState.FAILED, state != SubmissionState.CANCELLED)
    )


def _configs(session: Session) -> list[str]:
    """Those that there are passages of. One look at the index each: to find all that differ would read all of it."""
    return list(session.connection().scalars(_CONFIGS))


_CONFIGS = text(
    "WITH RECURSIVE configs AS (SELECT min(config) AS config FROM passages UNION ALL "
    "SELECT (SELECT min(config) FROM passages WHERE config > configs.config) FROM configs WHERE config IS NOT NULL) "
    "SELECT config FROM configs WHERE config IS NOT NULL"
)


def _tsquery(config: str, query: Query) -> ColumnElement[Any]:
    """A query as Postgres has it, put together by its own operators: no text is ever parsed as a query's syntax."""
    by = cast(literal(config), REGCONFIG)
    asked: ColumnElement[Any] = cast(literal(""), TSQUERY)
    for choices in query.wanted:
        one_of = _tsterm(by, choices[0])
        for term in choices[1:]:
            one_of = func.tsquery_or(one_of, _tsterm(by, term))
        asked = func.tsquery_and(asked, one_of)
    for term in query.unwanted:
        asked = func.tsquery_and(asked, func.tsquery_not(_tsterm(by, term)))
    return asked


def _tsterm(by: ColumnElement[Any], term: Term) -> ColumnElement[Any]:
    if not term.prefix:
        return func.phraseto_tsquery(by, " ".join(term.words))
    *before, last = term.words
    begins = f"'{last}':*"  # a word has no quotation marks
    ends = func.tsquery_or(func.to_tsquery(by, begins), func.to_tsquery(cast(literal(SIMPLE), REGCONFIG), begins))
    return func.tsquery_phrase(func.phraseto_tsquery(by, " ".join(before)), ends) if before else ends


def _fts(term: Term) -> str:
    """A term as FTS5 has it: a string of words, which have no quotation marks."""
    return f'"{" ".join(term.words)}"{"*" if term.prefix else ""}'


def _meant(session: Session, query: Query) -> Query | None:
    """The query with all words that there are and that are spelled alike; None where one has none."""
    meant: dict[str, list[Term]] = {}
    for word in {word for term in query.terms for word in term.words}:
        rows = session.scalars(
            text("SELECT term FROM passages_vocabulary WHERE length(term) BETWEEN :least AND :most"),
            {"least": len(word) * ALIKE, "most": len(word) / ALIKE},
        )
        alike = sorted(((likeness(word, term), term) for term in rows), reverse=True)[:MEANT]
        meant[word] = [Term((term,)) for measure, term in alike if measure >= ALIKE]
    wanted: list[tuple[Term, ...]] = []
    for choices in query.wanted:
        if len(choices) == 1:  # all of its words, in whatever order
            wanted += [tuple(meant[word]) for word in choices[0].words]
        else:
            wanted.append(tuple(one for term in choices for word in term.words for one in meant[word]))
    return Query(tuple(wanted), query.unwanted) if all(wanted) else None


@dataclass(frozen=True, slots=True)
class _Name:
    """What people call a transcript."""

    name: str
    submission: int | None = None
    channel: int | None = None
    speaker: str | None = None


def _names(session: Session, transcripts: set[int]) -> dict[int, _Name]:
    """What people call these transcripts; on a farm, as they were handed in the last time."""
    asked, connection = {"transcripts": list(transcripts)}, session.connection()
    names = {id: _Name(name or recording[:12]) for id, name, recording in connection.execute(_NAMED, asked)}
    for id, name, submission, channel, speaker in connection.execute(_NAMED_BY, asked):
        names[id] = _Name(name, submission, channel, speaker)
    return names


_LINK = SubmissionTranscriptRow
_NAMED = (
    select(TranscriptRow.id, RecordingRow.name, RecordingRow.id)
    .join(RecordingRow, RecordingRow.id == TranscriptRow.recording_id)
    .where(TranscriptRow.id.in_(bindparam("transcripts", expanding=True)))
)
_NAMED_BY = (
    _handed_in(
        _SHOWN.id,
        SubmissionRow.name,
        SubmissionRow.id,
        SubmissionTranscriptRow.channel,
        SubmissionTranscriptRow.speaker,
    )
    .where(_SHOWN.id.in_(bindparam("transcripts", expanding=True)))
    .order_by(SubmissionRow.id)
)


def _cursor(rank: float, id: int, mark: str) -> str:
    return base64.urlsafe_b64encode(json.dumps([rank, id, mark]).encode()).decode().rstrip("=")


def _read_cursor(cursor: str, mark: str) -> tuple[float, int]:
    try:
        rank, id, of = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        place = float(rank), int(id)
    except (ValueError, TypeError, OverflowError):
        raise UsageError(f"{cursor!r} is no cursor; it is what the page before this one ended with") from None
    if of != mark or abs(place[1]) >= 1 << 63:
        raise UsageError("that cursor is of another search: the query and all else has to be as it was")
    return place
