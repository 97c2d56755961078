"""Search: how long a question takes, how large the index is, and what passages of other lengths would find and cost.

    python bench/search.py --out bench/search.json

Text is drawn from a vocabulary in which words are as unequally frequent as in a language; on both databases.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from itertools import accumulate
from pathlib import Path
from typing import Any

from circumstances import circumstances
from sqlalchemy import Engine, text

from stenopool.domain import Coverage, CoverageKind, CoveragePiece, Segment, Span
from stenopool.servers import Postgres
from stenopool.wording import words_of
from storage.database import make_or_migrate, open_database
from storage.ledger import Ledger, Source
from storage.passages import WORDS, passages_of
from storage.records import document_of
from storage.search import Search, Wanted
from storage.tables import TranscriptState

RATE = 16_000
#: Words of a segment, and of a recording.
SEGMENT, RECORDING = 9, 10_000

_RANDOM = random.Random(7)
_VOCABULARY = [
    "".join(_RANDOM.choices("bcdfghklmnprstvw", k=2 + n % 4)) + "aeiou"[n % 5] + f"{n:x}" for n in range(40_000)
]
_WEIGHTS = list(accumulate(1 / (rank + 3) for rank in range(len(_VOCABULARY))))


def said(n: int) -> list[Segment]:
    """So many words, three a second."""
    words = _RANDOM.choices(_VOCABULARY, cum_weights=_WEIGHTS, k=n)
    return [
        Segment(
            span=Span(at * RATE // 3, min(n, at + SEGMENT) * RATE // 3),
            text=" " + " ".join(words[at : at + SEGMENT]),
            chunk=0,
            avg_logprob=-0.1,
            compression_ratio=1.0,
            no_speech_prob=0.0,
        )
        for at in range(0, n, SEGMENT)
    ]


def fill(database: Engine, n_words: int) -> float:
    """That many words in the ledger, completed as ever; seconds that each completion took, on average."""
    ledger = Ledger(database)
    seconds = 0.0
    n = n_words // RECORDING
    for at in range(n):
        segments = said(RECORDING)
        end = segments[-1].span.end
        coverage = Coverage((CoveragePiece(span=Span(0, end), kind=CoverageKind.TRANSCRIBED),))
        recording = f"{at:064x}"
        ledger.add_sources(
            recording, [Source(channel=0, recording=recording, duration=end, ended_early=None, damaged=0)]
        )
        work = ledger.plan(recording, "w", provenance={}, language="en", chunks=[], silences=[])
        fence = ledger.begin_merge(work.id) or 0
        began = time.perf_counter()
        ledger.complete(work.id, fence, TranscriptState.COMPLETED, document_of(segments, coverage))
        seconds += time.perf_counter() - began
    return seconds / n


def questions(kind: str, n: int) -> list[str]:
    """Of one word, of two, of a phrase of three that was said; common and rare ones as they come."""
    chosen = [_RANDOM.choices(_VOCABULARY, cum_weights=_WEIGHTS, k=2) for _ in range(n)]
    if kind == "word":
        return [one for one, _ in chosen]
    if kind == "two words":
        return [f"{one} {other}" for one, other in chosen]
    if kind == "misspelt":
        return [f"{one[0]}{one[2:]}x" for one, _ in chosen]
    if kind == "beginning":
        return [f"{one[:4]}*" for one, _ in chosen]
    return [f'"{one} {other}"' for one, other in chosen]


def ask(database: Engine, kind: str, n: int) -> dict[str, float]:
    """How long questions of a kind take, the first page of twenty each, in milliseconds."""
    search = Search(database)
    times, hits = [], 0
    for question in questions(kind, n):
        began = time.perf_counter()
        hits += len(search.find(Wanted(query=question, fuzzy=kind == "misspelt")).hits)
        times.append(1000 * (time.perf_counter() - began))
    times.sort()
    return {
        "p50_ms": round(times[len(times) // 2], 1),
        "p95_ms": round(times[int(len(times) * 0.95)], 1),
        "hits": round(hits / n, 1),
    }


def sizes(database: Engine) -> dict[str, float]:
    """Megabytes."""
    with database.connect() as connection:
        if database.dialect.name == "postgresql":
            query = "SELECT pg_total_relation_size('passages'), pg_relation_size('ix_passages_words')"
            both = connection.execute(text(query)).one()
            trigrams = connection.scalar(
                text("SELECT coalesce(pg_relation_size(to_regclass('ix_passages_trigrams')), 0)")
            )
            return {"all": both[0] / 1e6, "words": both[1] / 1e6, "trigrams": (trigrams or 0) / 1e6}
        index = connection.scalar(text("SELECT sum(length(block)) FROM passages_words_data"))
        texts = connection.scalar(text("SELECT sum(length(text) + length(words) + length(marks)) FROM passages"))
        return {"all": (index + texts) / 1e6, "words": index / 1e6}


def lengths() -> list[dict[str, float]]:
    """For passages of other lengths: how many there are, and how many phrases of three words are cut in two."""
    segments = [one for _ in range(5) for one in said(RECORDING)]
    whole = [spoken.word for one in segments for spoken in words_of(one.text)]
    rows = []
    for n_words in (1, 20, WORDS, 80):
        passages = list(passages_of(segments, "en", n_words=n_words))
        lost = 2 * (len(passages) - 1)  # of each border, two
        seconds = sorted((one.end - one.start) / RATE for one in passages)
        rows.append(
            {
                "words": n_words,
                "passages_per_1000_words": round(1000 * len(passages) / len(whole), 1),
                "phrases_cut_percent": round(100 * lost / (len(whole) - 2), 1),
                "seconds": round(seconds[len(seconds) // 2], 1),
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--words", type=int, default=1_000_000)
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--beside", default="nothing", help="what else the machine does meanwhile")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    found: dict[str, Any] = {**circumstances("sqlalchemy"), "beside": arguments.beside, "words": arguments.words}
    found["passage_lengths"] = lengths()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        with Postgres(Path(folder) / "postgres") as server:
            make_or_migrate(server.url)
            for name, where in (("postgres", server.url), ("sqlite", Path(folder) / "ledger.sqlite")):
                database = open_database(where)
                completing = fill(database, arguments.words)
                with database.connect() as connection:
                    passages = connection.scalar(text("SELECT count(*) FROM passages"))
                    if name == "postgres":
                        connection.execute(text("ANALYZE passages"))
                        connection.commit()
                kinds = ("word", "two words", "phrase", "beginning", "misspelt")
                found[name] = {
                    "passages": passages,
                    "seconds_to_complete_10000_words": round(completing, 3),
                    "megabytes": {key: round(value, 1) for key, value in sizes(database).items()},
                    **{kind: ask(database, kind, arguments.questions) for kind in kinds},
                }
                database.dispose()
                print(name, json.dumps(found[name], indent=2))
    if arguments.out:
        arguments.out.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
