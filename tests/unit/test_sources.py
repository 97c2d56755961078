"""What people name: kinds of sources, manifests, and what counts as whole in a folder; pure."""

from __future__ import annotations

import json

import pytest

from scheduler.items import Item
from scheduler.manifest import read_manifest
from scheduler.settling import Settling
from scheduler.sources import Kind, is_recording, key_of, kind_of, name_of
from stenopool.errors import UsageError
from storage.foreign import Foreign, read_foreign

# Sources


@pytest.mark.parametrize(
    ("source", "kind", "name"),
    [
        ("talks/a.mp3", Kind.PATH, "talks/a.mp3"),
        ("C:talk.mp3", Kind.PATH, "C:talk.mp3"),
        ("https://host/a/My%20talk.mp3?token=1#t=5", Kind.URL, "My talk.mp3"),
        ("HTTP://host/", Kind.URL, "host"),
        ("https://host/a%2Fb.mp3", Kind.URL, "a%2Fb.mp3"),
        ("https://host/a%0Ab.mp3", Kind.URL, r"'a\nb.mp3'"),
        ("https://host/..", Kind.URL, "'..'"),
        ("s3://bucket/2024/May%20talk.mp3?endpoint=https://host:9000", Kind.OBJECT, "2024/May talk.mp3"),
    ],
)
def test_a_source_is_of_a_kind_and_has_a_name(source: str, kind: Kind, name: str) -> None:
    """By how it is written, without asking anybody."""
    assert (kind_of(source), name_of(source)) == (kind, name)


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("ftp://host/a.mp3", "ftp://host/a.mp3: only http, https and s3 are fetched"),
        ("file:///etc/passwd", "file:///etc/passwd: name the path alone; file:// is not opened"),
        ("s3://b_/a.mp3", "no bucket can have that name"),
        ("s3://ada:secret@bucket/a.mp3", "an s3:// URL has no credentials in it"),
        ("s3://bucket/a.mp3?versionId=1", r"what is \?versionId=1 for"),
        ("s3://bucket/a#b.mp3", "write %23 for the # in its key"),
        ("s3://bucket/a.mp3?endpoint=host:9000", "the endpoint of an object store is https://host:port"),
    ],
)
def test_what_is_not_fetched_is_refused_by_its_form(source: str, line: str) -> None:
    """In a line, which tells no secret."""
    with pytest.raises(UsageError, match=line) as caught:
        kind_of(source)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("key", ["", "a/b.mp3", "50 %/Zoë & co?.mp3", "a%20b#c+d.mp3"])
def test_the_url_of_an_object_is_read_as_it_was_written(key: str) -> None:
    """Whatever its key is: S3 takes any text."""
    place = Foreign(bucket="bucket", key=key, endpoint="https://host:9000", region="eu-west-1")

    assert read_foreign(place.url) == place
    assert read_foreign(Foreign(bucket="bucket", key=key).url).endpoint is None


def test_recordings_are_known_by_their_ending() -> None:
    """Of any case; what is hidden is none."""
    assert [is_recording(name) for name in ("a.mp3", "b/C.WAV", "a.txt", "mp3", ".a.mp3", "a.mp3.part")] == [
        *(True, True),
        *(False, False, False, False),
    ]


def test_the_same_content_to_be_done_in_another_way_has_another_key() -> None:
    """And the same in the same way has the same, lists or tuples."""
    key = key_of("ab", {"model": "pocket", "temperature": (0.0, 0.2)})

    assert key == key_of("ab", {"temperature": [0.0, 0.2], "model": "pocket"})
    assert len({key, key_of("cd", {"model": "pocket"}), key_of("ab", {"model": "other"})}) == 3


# Manifests

TABLE = """\
source,name,language,lane,vocabulary,key,show
talks/a.mp3,Opening,en,urgent,"Zoë, Kubernetes",a1,Waves

https://host/b.mp3,,,,,,"Of ""C"", and D"
"""


def test_a_table_and_json_lines_say_the_same() -> None:
    """Known columns are how it is to be done, all others metadata; empty cells say nothing."""
    objects = [
        {"source": "talks/a.mp3", "name": "Opening", "language": "en", "lane": "urgent"}
        | {"vocabulary": "Zoë, Kubernetes", "key": "a1", "show": "Waves"},
        {"source": "https://host/b.mp3", "key": None, "show": 'Of "C", and D'},
    ]
    lines = "\n".join(map(json.dumps, objects)) + "\n\n"

    table = read_manifest(TABLE, "lists/m.csv", lambda _: None)

    assert table == read_manifest(lines, "lists/m.jsonl", lambda _: None)
    assert table.problems == ()
    assert table.items == (
        Item(
            location="lists/talks/a.mp3",
            name="Opening",
            options={"language": "en", "hotwords": "Zoë, Kubernetes"},
            lane="urgent",
            key="a1",
            metadata={"show": "Waves"},
        ),
        Item(location="https://host/b.mp3", name="b.mp3", metadata={"show": 'Of "C", and D'}),
    )


def test_every_bad_line_of_a_table_is_told() -> None:
    """With its number; a cell over two lines counts as an editor counts."""

    def check(item: Item) -> None:
        if item.name == "wrong":
            raise UsageError("is wrong")

    table = (
        'source,name,lane,key,note\na.mp3,,later,,\n,,,,\nb.mp3,,,k,"x\ny"\nc.mp3,one,too,,many,\n'
        "ftp://h/x,,,,\nd.mp3,,,k,\ne.mp3,wrong,,,\nf.mp3,,,,\n,x,,,\n"
    )

    manifest = read_manifest(table, "m.csv", check)

    assert [item.location for item in manifest.items] == ["b.mp3", "f.mp3"]
    assert manifest.problems == (
        "m.csv line 2: its lane is 'later'; choose from urgent, normal, bulk",
        "m.csv line 6: has 6 cells, its header 5; put quotation marks around a text with commas",
        "m.csv line 7: ftp://h/x: only http, https and s3 are fetched",
        "m.csv line 8: has the key of line 4; a key is for one recording",
        "m.csv line 9: is wrong",
        "m.csv line 11: has no source; give a path, an s3:// or an http(s) URL",
    )


def test_every_bad_json_line_is_told() -> None:
    """Values that are no text, and what is no JSON."""
    lines = '{"source": "a.mp3", "n": 3, "live": true}\n{"source": ["a"]}\n"a.mp3"\n{source: a}\n'

    manifest = read_manifest(lines, "m.ndjson", lambda _: None)

    assert manifest.items[0].metadata == {"n": "3", "live": "true"}
    assert [problem.partition(" (")[0] for problem in manifest.problems] == [
        'm.ndjson line 2: its source must be text or a number, is ["a"]',
        'm.ndjson line 3: is not an object, as in {"source": "talk.mp3"}',
        "m.ndjson line 4: is not JSON",
    ]


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("m.txt", "a.mp3", "m.txt: is it a table or JSON lines"),
        ("m.csv", "a.mp3,en\n", "m.csv line 1: is no header with a column source"),
        ("m.csv", "source,a,a\n", "m.csv line 1: names a column twice"),
        ("m.csv", "source\n", "m.csv: names no recording"),
        ("m.jsonl", "\n", "m.jsonl: names no recording"),
    ],
)
def test_what_is_no_manifest(name: str, text: str, line: str) -> None:
    """Is told so."""
    with pytest.raises(UsageError, match=line):
        read_manifest(text, name, lambda _: None)


# What is whole


def test_a_file_is_ready_when_it_has_rested() -> None:
    """One that grows waits; one that is done is not ready again unless it looks otherwise."""
    settling = Settling(5.0)

    assert settling.ready({"a": 1, "b": 1}, 0.0) == []
    assert settling.ready({"a": 2, "b": 1}, 4.0) == []
    assert settling.ready({"a": 2, "b": 1}, 5.0) == ["b"]
    settling.done("b", 1)
    assert settling.ready({"a": 2, "b": 1}, 9.0) == ["a"]
    assert settling.ready({"a": 2, "b": 1}, 10.0) == ["a"], "it was not done"
    assert settling.ready({"b": 2}, 11.0) == []
    assert settling.ready({"a": 2, "b": 2}, 16.0) == ["b"], "the one that had gone rests anew"


def test_what_is_whole_at_once_is_ready_at_once() -> None:
    """As objects are."""
    assert Settling(0.0).ready({"a": "etag"}, 0.0) == ["a"]
