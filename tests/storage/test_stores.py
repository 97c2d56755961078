"""Opening a store by its URL."""

from __future__ import annotations

from pathlib import Path

import pytest

from stenopool.errors import FolderError, UsageError
from storage.folder import FolderStore
from storage.objects import ObjectStore
from storage.s3 import S3Store
from storage.stores import open_store
from tests.servers import BUCKET


def test_a_folder_by_its_path(tmp_path: Path) -> None:
    """A plain path is taken as it is; a URL is decoded."""
    for url in (f"{tmp_path}/a b%20c", f"file://{tmp_path}/a%20b%2520c", f"file://localhost{tmp_path}/a%20b%2520c"):
        store = open_store(url)
        assert isinstance(store, FolderStore)
        store.put("pcm/1", url.encode())
        assert (tmp_path / "a b%20c" / "pcm" / "1").read_bytes() == url.encode()


def test_a_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the current folder."""
    monkeypatch.chdir(tmp_path)
    open_store("objects").put("pcm/1", b"abc")

    assert (tmp_path / "objects" / "pcm" / "1").exists()


@pytest.mark.parametrize("path", ["", "/", "/a", "/a/b-c_d.e/"])
def test_a_bucket(s3_server: tuple[str, int], path: str) -> None:
    """With a prefix or without, at an endpoint: what is written is where it is looked for."""
    host, port = s3_server
    store = open_store(f"s3://{BUCKET}{path}?endpoint=http%3A%2F%2F{host}:{port}&region=us-east-1")
    same = S3Store(BUCKET, path.strip("/"), endpoint=f"http://{host}:{port}")
    store.put("there", path.encode())

    assert isinstance(store, S3Store)
    assert same.read("there", 0, 99) == path.encode()
    same.delete("there")


def test_amazons_needs_no_endpoint() -> None:
    """The bucket's name is enough; it is asked nothing yet."""
    assert isinstance(open_store("s3://bucket"), S3Store)


def test_without_an_endpoint_it_is_amazons(s3_server: tuple[str, int]) -> None:
    """Its links name the host of the bucket there, in the region that was given."""
    url = open_store("s3://bucket/farm?region=eu-west-1").presign("pcm/1", 60, "a")

    assert url.startswith("https://bucket.s3.eu-west-1.amazonaws.com/farm/pcm/1?")


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("", "no object store is named; an object store is a folder, or s3://"),
        ("ftp://host/path", "ftp://host/path: there is no object store of that kind; an object store is a folder"),
        ("s3", None),
        ("s3:bucket", "s3:bucket: no bucket can have that name; "),
        ("s3://", "s3://: no bucket can have that name; "),
        ("s3:///prefix", "s3:///prefix: no bucket can have that name; "),
        ("s3://b_", "s3://b_: no bucket can have that name; "),
        ("s3://bucket:80/x", "s3://bucket:80/x: no bucket can have that name; "),
        ("s3://bucket/a b", "s3://bucket/a b: a prefix is a path of plain names (letters, digits, - _ .), not 'a b'"),
        (
            "s3://bucket/../x",
            "s3://bucket/../x: a prefix is a path of plain names (letters, digits, - _ .), not '../x'",
        ),
        ("s3://bucket/unfinished", "s3://bucket/unfinished: a prefix is a path of plain names "),
        ("s3://bucket#part", "s3://bucket#part: what is #part for? an object store is"),
        ("s3://bucket?region=", "s3://bucket?region=: what is ?region= for? an object store is"),
        ("s3://bucket?zone=a", "s3://bucket?zone=a: what is ?zone=a for? an object store is"),
        ("s3://bucket?region=a&region=b", "s3://bucket?region=a&region=b: what is ?region=a&region=b for? "),
        ("s3://bucket?endpoint=host:80", "the endpoint of an object store is https://host:port, without a path"),
        ("s3://bucket?endpoint=http://host/path", "the endpoint of an object store is https://host:port, without"),
        ("s3://bucket?endpoint=http://host:x", "the endpoint of an object store is https://host:port, without a path"),
        ("s3://[", "this is no URL (Invalid IPv6 URL); an object store is a folder, or s3://"),
        ("file:objects", "file:objects: a folder is file:/// and an absolute path, or the path alone"),
        ("file://host/objects", "file://host/objects: a folder is file:/// and an absolute path, or the path alone"),
        ("file:///objects?a=b", "file:///objects?a=b: a folder is file:/// and an absolute path, or the path alone"),
    ],
)
def test_what_is_no_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, line: str | None) -> None:
    """One line says what it should have been, and no folder of that name appears; a name alone is a folder."""
    monkeypatch.chdir(tmp_path)
    if line is None:
        assert isinstance(open_store(url), FolderStore)
        return
    with pytest.raises(UsageError) as error:
        open_store(url)

    assert str(error.value).startswith(line)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("url", ["s3://key:secret@bucket", "s3://bucket?endpoint=http://key:secret@host:80"])
def test_secrets_are_not_repeated(url: str) -> None:
    """Credentials do not belong in the URL; what says so does not have them."""
    with pytest.raises(UsageError) as error:
        open_store(url)

    assert "credentials" in str(error.value)
    assert "secret" not in str(error.value)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    """As with the folder itself."""
    (tmp_path / "file").touch()
    with pytest.raises(FolderError, match=r"cannot be written to \(Not a directory\)"):
        open_store(f"{tmp_path}/file/objects")


def test_a_folder_gives_no_urls(tmp_path: Path) -> None:
    """A file's URL would never end, and lead nowhere on another machine."""
    store: ObjectStore = FolderStore(tmp_path)
    store.put("a", b"abc")
    with pytest.raises(UsageError) as error:
        store.presign("a", 60, "a.txt")

    assert str(error.value) == (
        f"{tmp_path}: a folder gives no URLs; read the object and send it, or keep objects in S3"
    )
    with pytest.raises(UsageError, match="a folder takes nothing by a URL; send it to the API, or keep objects in S3"):
        store.presign_upload("a", 60, 3)
