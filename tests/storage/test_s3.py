"""The store in S3 where the network or the server fails: it tries again, or says in one line what to do."""

from __future__ import annotations

import pickle
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import boto3
import pytest

from stenopool.errors import StoreError
from storage.s3 import LONGEST_URL, S3Store
from storage.s3_drafts import PART
from tests.proxy import End, Fault, Proxy, answer, cut, delay, drop, interrupt, reset
from tests.servers import BUCKET

DATA = bytes(range(251)) * 400  # 100 kB

#: What may befall a connection and pass.
PASSING = {
    "overloaded": answer("503 Slow Down"),
    "broken": answer("500 Internal Server Error"),
    "reset": reset(),
    "closed": cut(),
}


def use(store: S3Store, tmp_path: Path) -> dict[str, Callable[[], object]]:
    """Everything that a store does, on a small object that is there."""
    (tmp_path / "file").write_bytes(DATA)

    def draft() -> None:
        with store.draft() as draft:
            draft.write(bytes(PART + 1))
            draft.keep("kept")

    return {
        "read": lambda: store.read("there", 100, 99_000),
        "size": lambda: store.size("there"),
        "put": lambda: store.put("new", DATA),
        "put_if_absent": lambda: store.put_if_absent("once", DATA),
        "draft": draft,
        "delete": lambda: store.delete("old"),
        "list": lambda: [found.key for found in store.list()],
        "download": lambda: store.download("there", tmp_path / "copy"),
        "upload": lambda: store.upload(tmp_path / "file", "uploaded"),
        "collect_drafts": store.collect_drafts,
        "discard_drafts": store.discard_drafts,
    }


VERBS = sorted(use(S3Store("none"), Path("/tmp")))


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
@pytest.mark.parametrize("verb", VERBS)
def test_what_passes_is_not_noticed(
    far: S3Store, s3: S3Store, proxy: Proxy, tmp_path: Path, verb: str, fault: Fault
) -> None:
    """Two connections fail, also after the server did what it was asked to: the outcome is as without."""
    s3.put("there", DATA)
    s3.put("old", DATA)
    proxy.next(fault, fault)
    given = use(far, tmp_path)[verb]()

    assert proxy.connections > 2
    expected: dict[str, object] = {"read": DATA[100:99_000], "size": len(DATA), "put_if_absent": True}
    expected |= {"list": ["old", "there"], "collect_drafts": 0}
    assert given == expected.get(verb)
    kept = {"put": "new", "put_if_absent": "once", "upload": "uploaded"}
    if verb in kept:
        assert s3.read(kept[verb], 0, len(DATA) + 1) == DATA
    assert s3.size("kept") == (PART + 1 if verb == "draft" else None)
    assert s3.exists("old") == (verb != "delete")
    if verb == "download":
        assert (tmp_path / "copy").read_bytes() == DATA


@pytest.mark.parametrize("after", [1, 300, 5000, 50_000, 100_000])
@pytest.mark.parametrize("fault", [cut, reset], ids=["cut", "reset"])
def test_an_answer_that_breaks_off_is_asked_for_again(
    far: S3Store, s3: S3Store, proxy: Proxy, tmp_path: Path, fault: Callable[[int], Fault], after: int
) -> None:
    """Wherever it breaks, in its head or its body: what is read is whole, and so is what is downloaded."""
    s3.put("pcm/1", DATA)

    proxy.next(fault(after), fault(after))
    assert far.read("pcm/1", 0, len(DATA) + 50) == DATA
    assert proxy.connections == 3

    proxy.sever()
    proxy.next(fault(after), fault(after))
    far.download("pcm/1", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == DATA


def test_an_answer_that_never_comes_whole_is_never_short(
    far: S3Store, s3: S3Store, proxy: Proxy, tmp_path: Path
) -> None:
    """Each attempt is cut: an error that may pass, no file and no piece of one."""
    s3.put("pcm/1", DATA)
    proxy.always(cut(50_000))
    for ask in (lambda: far.read("pcm/1", 0, len(DATA)), lambda: far.download("pcm/1", tmp_path / "file")):
        with pytest.raises(StoreError, match=r"does not answer \((IncompleteRead|ResponseStreaming)Error\)") as error:
            ask()
        assert error.value.retryable

    assert list(tmp_path.iterdir()) == []


def test_silence_is_given_up(far: S3Store, s3: S3Store, proxy: Proxy) -> None:
    """A connection on which nothing comes any more is left after its time, and another one is tried."""
    s3.put("pcm/1", DATA)
    proxy.next(drop(), drop(50_000))

    assert far.read("pcm/1", 0, len(DATA)) == DATA
    assert proxy.connections == 3


def test_slow_is_no_error(far: S3Store, s3: S3Store, proxy: Proxy) -> None:
    """Bytes that come late are waited for, on one connection."""
    s3.put("pcm/1", DATA)
    proxy.always(delay(0.2))

    assert far.read("pcm/1", 0, len(DATA)) == DATA
    assert proxy.connections == 1


#: Everything that sends an object, and the key under which it is then.
SENDING = {"put": "new", "put_if_absent": "once", "draft": "kept", "upload": "uploaded"}


#: Bytes of a request after which it breaks off. In its head by a reset only: moto takes an end for that of the head.
BREAKS: dict[End, tuple[int, ...]] = {"reset": (1, 300, 5000, 99_000), "close": (5000, 99_000)}


@pytest.mark.parametrize("end", BREAKS)
@pytest.mark.parametrize("verb", SENDING)
def test_a_request_that_breaks_off_is_made_again(
    far: S3Store, s3: S3Store, proxy: Proxy, tmp_path: Path, verb: str, end: End
) -> None:
    """Wherever it breaks, in its head or its body, whether the server sees an end or a reset: the object is whole."""
    for after in BREAKS[end]:
        before = proxy.connections
        proxy.sever()
        proxy.next(interrupt(after, end), interrupt(after, end))
        use(far, tmp_path)[verb]()

        assert proxy.connections >= before + 3
        whole = bytes(PART + 1) if verb == "draft" else DATA
        assert s3.read(SENDING[verb], 0, len(whole) + 1) == whole
        assert [found.key for found in s3.list()] == [SENDING[verb]]
        assert s3.collect_drafts(-60) == 0
        s3.delete(SENDING[verb])


@pytest.mark.parametrize("end", ["close", "reset", "silence"])
@pytest.mark.parametrize("verb", SENDING)
def test_of_a_request_that_never_goes_through_there_is_no_half(
    hasty: S3Store, s3: S3Store, proxy: Proxy, tmp_path: Path, verb: str, end: End
) -> None:
    """Each attempt breaks off in its body: an error that may pass, and what was there before is as it was."""
    before = b"as it was"
    if verb != "put_if_absent":
        s3.put(SENDING[verb], before)
    asked = use(hasty, tmp_path)[verb]
    proxy.always(interrupt(50_000, end))
    with pytest.raises(StoreError, match="does not answer") as error:
        asked()

    assert error.value.retryable
    proxy.sever()
    found = {found.key: found.size for found in s3.list()}
    assert found == ({} if verb == "put_if_absent" else {SENDING[verb]: len(before)})


@pytest.mark.parametrize("verb", VERBS)
def test_a_silent_server_is_given_up_in_time(
    hasty: S3Store, s3: S3Store, proxy: Proxy, tmp_path: Path, verb: str
) -> None:
    """Time counts, not attempts; for each thing that is asked."""
    s3.put("there", DATA)
    asked = use(hasty, tmp_path)[verb]
    proxy.always(drop())
    begun = time.monotonic()
    with pytest.raises(StoreError, match=r"does not answer \(ReadTimeoutError\)") as error:
        asked()

    assert error.value.retryable
    assert time.monotonic() - begun < 30


@pytest.mark.parametrize("verb", ["read", "download"])
def test_a_server_that_falls_silent_is_given_up_in_time(
    hasty: S3Store, s3: S3Store, proxy: Proxy, tmp_path: Path, verb: str
) -> None:
    """Also in the middle of its answer, each time."""
    s3.put("there", DATA)
    asked = use(hasty, tmp_path)[verb]
    proxy.always(drop(50_000))
    begun = time.monotonic()
    with pytest.raises(StoreError, match="does not answer") as error:
        asked()

    assert error.value.retryable
    assert time.monotonic() - begun < 30
    assert not (tmp_path / "copy").exists()


def test_a_server_that_is_overloaded_is_given_up_in_time(hasty: S3Store, proxy: Proxy) -> None:
    """Though each of its answers comes at once."""
    proxy.always(answer("503 Slow Down"))
    begun = time.monotonic()
    with pytest.raises(StoreError, match="cannot answer now") as error:
        hasty.read("pcm/1", 0, 10)

    assert error.value.retryable
    assert proxy.connections > 3
    assert time.monotonic() - begun < 30


def test_a_draft_whose_server_falls_silent(hasty: S3Store, s3: S3Store, proxy: Proxy) -> None:
    """Its writer is told in time; to give up what is there is tried once, and it is collected later."""

    def write() -> None:
        with hasty.draft() as draft:
            draft.write(bytes(PART))
            proxy.always(drop())
            proxy.sever()
            draft.write(bytes(PART))

    begun = time.monotonic()
    with pytest.raises(StoreError, match="does not answer"):
        write()

    assert time.monotonic() - begun < 30
    proxy.always()
    assert list(s3.list()) == []
    # The server may have heard of it, and go on with a part that it had begun to take.
    for _ in range(60):
        if s3.collect_drafts(-60) == 0:
            break
        time.sleep(0.5)
    assert s3.collect_drafts(-60) == 0


@pytest.mark.parametrize("verb", VERBS)
def test_a_proxy_that_has_lost_its_server(far: S3Store, proxy: Proxy, tmp_path: Path, verb: str) -> None:
    """It answers 404 to everything: nothing is missing or gone for that, and it may pass."""
    asked = use(far, tmp_path)[verb]
    proxy.always(answer("404 Not Found"))
    with pytest.raises(StoreError, match=r": what answers there is no object store \(404\)") as error:
        asked()

    assert error.value.retryable


@pytest.mark.parametrize("verb", VERBS)
def test_a_server_that_is_gone(far: S3Store, s3: S3Store, proxy: Proxy, tmp_path: Path, verb: str) -> None:
    """One line names bucket, endpoint and cure, and says that it may pass; it does where the server is back."""
    s3.put("there", DATA)
    asked = use(far, tmp_path)[verb]
    proxy.refuse()
    with pytest.raises(StoreError) as error:
        asked()

    endpoint = f"http://127.0.0.1:{proxy.port}"
    line = (
        f"s3://{BUCKET} at {endpoint}: does not answer (EndpointConnectionError); see that it runs and can be reached"
    )
    assert str(error.value) == line
    assert error.value.retryable
    assert pickle.loads(pickle.dumps(error.value)).retryable

    proxy.accept()
    asked()


def test_a_draft_that_lost_its_server(far: S3Store, s3: S3Store, proxy: Proxy) -> None:
    """Its writer is told once; the parts that are there are collected later."""

    def write() -> None:
        with far.draft() as draft:
            draft.write(bytes(PART))
            proxy.refuse()
            draft.write(bytes(PART))

    with pytest.raises(StoreError, match="does not answer"):
        write()

    assert list(s3.list()) == []
    assert s3.collect_drafts(-60) == 1


@pytest.mark.parametrize("sign", ["503 Slow Down", "429 Too Many Requests", "500 Internal Server Error"])
def test_a_server_that_cannot_answer(far: S3Store, proxy: Proxy, sign: str) -> None:
    """For longer than we are patient: an error that may pass."""
    proxy.always(answer(sign))
    with pytest.raises(StoreError, match=r"^s3://stenopool at http://127.0.0.1:\d+: cannot answer now") as error:
        far.read("pcm/1", 0, 10)

    assert error.value.retryable
    assert proxy.connections == 4


def test_an_account_that_may_not(far: S3Store, proxy: Proxy) -> None:
    """Nothing is tried again, and the line says what it must be allowed to."""
    proxy.always(answer("403 Forbidden"))
    with pytest.raises(StoreError) as error:
        far.read("pcm/1", 0, 10)

    assert str(error.value) == (
        f"s3://{BUCKET} at http://127.0.0.1:{proxy.port}: access is refused; allow the account to get, put, delete and "
        "list objects and uploads of this bucket (403)"
    )
    assert not error.value.retryable
    assert proxy.connections == 1


def test_what_else_is_refused(far: S3Store, proxy: Proxy) -> None:
    """What has no cure of its own is named as the server names it."""
    proxy.always(answer("418 Teapot"))
    with pytest.raises(StoreError, match=r": refuses PutObject \(418\); the server's log says why$") as error:
        far.put("pcm/1", b"abc")

    assert not error.value.retryable


def test_a_bucket_that_is_not_there(s3_server: tuple[str, int], tmp_path: Path) -> None:
    """Said by whatever is asked of it; nothing is taken for missing there."""
    store = S3Store("none-of-that-name", endpoint="http://{}:{}".format(*s3_server))
    for asked in use(store, tmp_path).values():
        with pytest.raises(StoreError, match=r"there is no such bucket; create it, or correct its name \(NoSuch"):
            asked()


def test_credentials_that_are_not_there(s3_server: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """The line says how to give some."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    store = S3Store(BUCKET, endpoint="http://{}:{}".format(*s3_server), timeout=3.0)
    line = r"no credentials were found \(NoCredentialsError\); set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_"
    with pytest.raises(StoreError, match=line) as error:
        store.put("pcm/1", b"abc")

    assert not error.value.retryable


def test_a_profile_that_is_not_there(s3_server: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Also what boto3 refuses before anything is asked is one line."""
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    store = S3Store(BUCKET, endpoint="http://{}:{}".format(*s3_server), timeout=4.0)
    with pytest.raises(StoreError, match=r"cannot be asked \(ProfileNotFound\)"):
        store.size("pcm/1")


def test_a_url_for_a_browser(s3: S3Store) -> None:
    """Anybody gets the object as a file of that name, whatever characters it has."""
    s3.put("transcripts/1", DATA)
    url = s3.presign("transcripts/1", LONGEST_URL, 'näme "x";\r\n.txt')
    with urllib.request.urlopen(url) as response:
        assert response.read() == DATA
        disposition = response.headers["Content-Disposition"]

    assert disposition == "attachment; filename*=UTF-8''n%C3%A4me%20%22x%22%3B%0D%0A.txt"
    asked = parse_qs(urlsplit(url).query)
    assert asked["X-Amz-Expires"] == ["900"]
    assert "X-Amz-Signature" in asked


@pytest.mark.parametrize("seconds", [0, -1, LONGEST_URL + 1])
def test_no_url_is_good_for_longer(s3: S3Store, seconds: int) -> None:
    """15 minutes are enough to begin a download."""
    with pytest.raises(ValueError, match=rf"^a URL is good for 1 to 900 seconds, not {seconds}$"):
        s3.presign("transcripts/1", seconds, "a.txt")
    with pytest.raises(ValueError, match=rf"^a URL is good for 1 to 900 seconds, not {seconds}$"):
        s3.presign_upload("uploads/1", seconds, 3)


def test_a_url_to_put_an_object_by(s3: S3Store) -> None:
    """Of exactly so many bytes: their number is part of what is signed."""
    url = s3.presign_upload("uploads/1", LONGEST_URL, len(DATA))
    kind = {"Content-Type": "application/octet-stream"}
    with urllib.request.urlopen(urllib.request.Request(url, DATA, kind, method="PUT")) as response:
        assert response.status == 200

    assert s3.read("uploads/1", 0, len(DATA)) == DATA
    assert "content-length" in parse_qs(urlsplit(url).query)["X-Amz-SignedHeaders"][0].split(";")


def test_stores_share_a_bucket(s3: S3Store, s3_server: tuple[str, int]) -> None:
    """What is below another prefix, or has a name that is no key, is not ours: not listed, not collected."""
    other = S3Store(BUCKET, s3._prefix.rstrip("/") + "2", endpoint="http://{}:{}".format(*s3_server))
    client = boto3.client("s3", endpoint_url="http://{}:{}".format(*s3_server))
    client.put_object(Bucket=BUCKET, Key=f"{s3._prefix}what is this?", Body=b"")
    s3.put("ours", b"abc")
    with other.draft() as draft:
        draft.write(bytes(PART))

        assert s3.collect_drafts(-60) == 0
        assert [found.key for found in s3.list()] == ["ours"]
        assert list(other.list()) == []
        draft.keep("theirs")
    assert other.exists("theirs")


def test_an_upload_that_was_cut_short_is_collected(s3: S3Store, s3_server: tuple[str, int]) -> None:
    """A whole file goes to its key directly, in parts: what a killed one left lies there, not below drafts."""
    client = boto3.client("s3", endpoint_url="http://{}:{}".format(*s3_server))
    where = {"Bucket": BUCKET, "Key": f"{s3._prefix}sources/1"}
    begun = client.create_multipart_upload(**where)["UploadId"]
    client.upload_part(**where, UploadId=begun, PartNumber=1, Body=bytes(PART))

    assert s3.collect_drafts() == 0
    assert s3.collect_drafts(-60) == 1
    uploads = client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", ())
    assert begun not in [upload["UploadId"] for upload in uploads]


def test_a_finished_draft_is_collected(s3: S3Store, s3_server: tuple[str, int]) -> None:
    """What was left between a draft's end and its copy."""
    client = boto3.client("s3", endpoint_url="http://{}:{}".format(*s3_server))
    client.put_object(Bucket=BUCKET, Key=f"{s3._prefix}unfinished/x-1", Body=b"abc")

    assert list(s3.list()) == []
    assert s3.collect_drafts() == 0
    assert s3.collect_drafts(-60) == 1
    assert s3.collect_drafts(-60) == 0


def test_every_version_is_erased(versioned: S3Store) -> None:
    """Of what is there, and of what was removed long ago, with the marks of that."""
    for data in (b"one", b"three"):
        versioned.put("pcm/1", data)
    versioned.put("pcm/2", b"seven..")
    versioned.delete("pcm/2")
    assert versioned.look("pcm/2") is None

    assert sorted((copy.key, copy.size) for copy in versioned.copies("pcm")) == [
        ("pcm/1", 3),
        ("pcm/1", 5),
        ("pcm/2", 0),
        ("pcm/2", 7),
    ]
    versioned.erase("pcm/1")
    versioned.erase("pcm/2")

    assert list(versioned.copies("pcm")) == []
