"""Watch-lists on both databases: what is heard is kept, and told once."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine

from stenopool.errors import LedgerError, UsageError
from storage.outbox import Outbox
from storage.watching import Watching, find_in
from tests.farms import HandFarm, S
from tests.integration.test_search import Archive
from tests.transcripts import segment


def test_phrases_are_found_as_whole_words_across_segments() -> None:
    """Without case and punctuation; the time is that of the words where it is known."""
    said = [segment(0, 4, " We call it Project", words=True), segment(4, 8, " Falcon, for now.", words=True)]
    [falcon, call, art] = find_in(said, [["project", "falcon"], ["call"], ["con"]])

    assert [(one.place, one.start, one.end) for one in falcon] == [(3, 3 * S, said[1].words[0].span.end)]
    assert falcon[0].text == "We call it Project Falcon, for now."
    assert [one.start for one in call] == [S]
    assert art == []


def test_what_is_heard_is_told_in_the_transaction_that_shows_it(hand_farm: HandFarm) -> None:
    """An event with what was heard, where; to this tenant only; another version is told of anew."""
    farm = hand_farm
    watching = Watching(farm.farm.database)
    watch = watching.add("ada", "FIRST1, first2")
    watching.add("bob", "first1")
    one = farm.submit()
    farm.go()

    [hit] = watching.hits(tenant="ada")
    assert (hit.watch, hit.phrase, hit.start, hit.end) == (watch.id, "FIRST1, first2", 2 * S, 6 * S)
    assert hit.text == "first0 first1 first2"
    outbox = Outbox(farm.farm.database)
    outbox.number()
    [event] = [one for one in outbox.after(0) if one.state == "phrase_heard"]
    assert (event.tenant, event.submission) == ("ada", one.id)
    assert event.detail == {
        "watch": watch.id,
        "phrase": "FIRST1, first2",
        "transcript": hit.transcript,
        "hits": [{"start": 2 * S, "end": 6 * S, "text": "first0 first1 first2"}],
    }
    assert watching.hits(tenant="bob") == []

    farm.again(one)
    farm.go()
    assert len(watching.hits()) == 1, "the same version, for another submission"
    farm.again(one, again=True)
    farm.go()
    assert len({hit.transcript for hit in watching.hits()}) == 2


def test_the_archive_is_looked_through_on_demand(any_database: Engine) -> None:
    """Of what was there before, one is told if one asks; once."""
    archive, watching = Archive(any_database), Watching(any_database)
    for said in ("the merger", "nothing", "a merger and a merger"):
        archive.add(said)
    watch = watching.add("", "Merger!")

    assert list(archive.search.reindex()) == [1, 2, 3]
    assert watching.hits() == []
    assert list(watching.backfill(watch.id)) == [1, 0, 2]
    assert list(watching.backfill(watch.id)) == [0, 0, 0]
    assert len(watching.hits(watch=watch.id)) == 3
    assert watching.hits(limit=1)[0].text == "a merger and a merger"


def test_the_list_itself(any_database: Engine) -> None:
    """A phrase is watched once, whatever its spelling; removed, it is forgotten with its hits."""
    archive, watching = Archive(any_database), Watching(any_database)
    one = watching.add("", "Project Falcon")
    assert watching.add("", "project-falcon") == one
    assert watching.add("ada", "project falcon").id != one.id
    archive.add("Project falcon.")

    assert [watch.tenant for watch in watching.watches()] == ["", "ada"]
    assert [hit.watch for hit in watching.hits()] == [one.id]
    watching.remove(one.id)
    assert watching.hits() == []
    with pytest.raises(LedgerError, match="there is no watched phrase 1"):
        watching.remove(one.id)
    for wrong in ("...", "a " * 21):
        with pytest.raises(UsageError, match="a phrase has from 1 to 20 words"):
            watching.add("", wrong)
