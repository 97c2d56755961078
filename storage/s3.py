"""Objects in a bucket of any S3: the store of the farm.

An object of S3 cannot be renamed, and a draft's key is known only at its end. So a draft is uploaded in parts under a
name of its own, copied to its key by the server, and removed (storage/s3_drafts.py).
"""

from __future__ import annotations

import contextlib
import copy
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from botocore.exceptions import ClientError

from storage.objects import (
    ABANDONED_AFTER,
    UNFINISHED,
    Listed,
    ObjectStore,
    check_key,
    check_range,
    downloading,
    is_key,
    uploading,
)
from storage.s3_bucket import BROKEN, Bucket, age, code_of
from storage.s3_drafts import S3Draft, abort, untouched, uploads

LONGEST_URL = 900  # seconds

#: A finished draft is there while it is copied. Amazon dates an object of parts by its beginning, so one that took an
#: hour to write looks abandoned at once: it is given so many times longer than an upload, whose last part has a date.
COPIED_WITHIN = 24


class S3Store(ObjectStore):
    """Objects in a bucket, below a prefix that is ours alone. Credentials are found as boto3 finds them.

    Args:
        bucket: it must be there; without a prefix, all of it is ours.
        prefix: a path of plain names, or nothing.
        endpoint: URL of the server; None for Amazon's.
        region: None for what boto3 is configured for.
        attempts: how often what may pass is tried before it is an error: the eighth after some five seconds.
        timeout: seconds without a byte after which an attempt is given up.
        patience: seconds after which no further one is made: a silent server is given up after a minute.
    """

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        endpoint: str | None = None,
        region: str | None = None,
        attempts: int = 8,
        timeout: float = 20.0,
        patience: float = 60.0,
    ) -> None:
        self._bucket = Bucket(
            name=bucket, endpoint=endpoint, region=region, attempts=attempts, timeout=timeout, patience=patience
        )
        self._prefix = f"{check_key(prefix)}/" if prefix else ""
        self._writer = uuid.uuid4().hex  # how drafts that were begun here are told from those of others

    def _object(self, key: str) -> dict[str, str]:
        return {"Bucket": self._bucket.name, "Key": self._prefix + check_key(key)}

    def read(self, key: str, start: int, end: int) -> bytes:
        """See `ObjectStore`."""
        check_range(start, end)
        wanted = self._object(key)
        if start == end:  # HTTP has no empty range
            if not self.exists(key):
                raise KeyError(key)
            return b""
        attempt, begun = 1, time.monotonic()
        with self._bucket.asking(key):
            while True:
                try:
                    answer = self._bucket.client.get_object(**wanted, Range=f"bytes={start}-{end - 1}")
                except ClientError as error:
                    if code_of(error) != "InvalidRange":
                        raise
                    return b""  # the object ends before it
                try:
                    return bytes(answer["Body"].read())
                except BROKEN:  # then whole, not from where it did: another may be in its place meanwhile
                    if not self._bucket.again(attempt, begun):
                        raise
                attempt += 1

    def look(self, key: str) -> Listed | None:
        """See `ObjectStore`."""
        try:
            with self._missing(key), self._bucket.asking(key):
                found = self._bucket.client.head_object(**self._object(key))
        except KeyError:
            return None
        return Listed(key, int(found["ContentLength"]), age(found["LastModified"]))

    @contextlib.contextmanager
    def _missing(self, key: str) -> Iterator[None]:
        """KeyError only where the object is not there, though HEAD was answered by a number alone.

        A 404 may as well be that of a bucket, or of a proxy without a server behind it: a GET is told which.
        """
        try:
            yield
        except KeyError:
            self.read(key, 0, 1)
            raise

    @contextlib.contextmanager
    def draft(self) -> Iterator[S3Draft]:
        """See `ObjectStore`."""
        draft = S3Draft(self._bucket, f"{self._drafts}{self._writer}-{uuid.uuid4().hex}", self._object)
        try:
            yield draft
        finally:
            draft.close()

    def put(self, key: str, data: bytes, media_type: str | None = None) -> None:
        """See `ObjectStore`."""
        kind = {"ContentType": media_type} if media_type else {}
        with self._bucket.asking():
            self._bucket.client.put_object(**self._object(key), Body=data, **kind)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """See `ObjectStore`."""
        wanted = self._object(key)
        writer = uuid.uuid4().hex
        attempt, begun = 1, time.monotonic()
        with self._bucket.asking():
            while True:
                try:
                    self._bucket.client.put_object(**wanted, Body=data, IfNoneMatch="*", Metadata={"writer": writer})
                except ClientError as error:
                    if code_of(error) == "PreconditionFailed":
                        break
                    # Somebody else is at it, and who wins is not decided yet.
                    if code_of(error) != "ConditionalRequestConflict" or not self._bucket.again(attempt, begun):
                        raise
                else:
                    return True
                attempt += 1
        # If the answer to our first attempt was lost, it is our own object that the second one met.
        try:
            with self._missing(key), self._bucket.asking(key):
                return bool(self._bucket.client.head_object(**wanted)["Metadata"].get("writer") == writer)
        except KeyError:  # removed meanwhile
            return False

    def delete(self, key: str) -> None:
        """See `ObjectStore`."""
        with self._bucket.asking():
            self._bucket.client.delete_object(**self._object(key))

    def copies(self, prefix: str) -> Iterator[Listed]:
        """See `ObjectStore`. What marks an object as removed is one of its copies, of no bytes."""
        for version in self._versions(prefix):
            key = version["Key"].removeprefix(self._prefix)
            if is_key(key):
                yield Listed(key, int(version.get("Size", 0)), age(version["LastModified"]))

    def erase(self, key: str) -> None:
        """See `ObjectStore`."""
        wanted = self._object(key)
        for version in self._versions(key):
            if version["Key"] == wanted["Key"]:
                with self._bucket.asking():
                    self._bucket.client.delete_object(**wanted, VersionId=version["VersionId"])

    def _versions(self, prefix: str) -> Iterator[dict[str, Any]]:
        """All versions of what is called so, or lies below; in a bucket that keeps none, each object is one."""
        name = self._object(prefix)["Key"]
        with self._bucket.asking():
            pages = self._bucket.client.get_paginator("list_object_versions")
            for page in pages.paginate(Bucket=self._bucket.name, Prefix=name):
                for version in (*page.get("Versions", ()), *page.get("DeleteMarkers", ())):
                    if version["Key"] == name or version["Key"].startswith(f"{name}/"):
                        yield version

    def list(self, prefix: str = "", after: str = "") -> Iterator[Listed]:
        """See `ObjectStore`."""
        below = f"{self._prefix}{check_key(prefix)}/" if prefix else self._prefix
        for found in self._listing(below, self._object(after)["Key"] if after else ""):
            key = found.key.removeprefix(self._prefix)
            if is_key(key):
                yield found._replace(key=key)

    def _listing(self, prefix: str, after: str = "") -> Iterator[Listed]:
        start = {"StartAfter": after} if after else {}
        with self._bucket.asking():
            pages = self._bucket.client.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self._bucket.name, Prefix=prefix, **start):
                for found in page.get("Contents", ()):
                    yield Listed(found["Key"], found["Size"], age(found["LastModified"]))

    def presign(self, key: str, seconds: int, filename: str) -> str:
        """See `ObjectStore`. It ends earlier where the credentials that signed it do."""
        _check_seconds(seconds)
        # To be saved, not shown: what somebody uploaded may be a page with scripts.
        attachment = f"attachment; filename*=UTF-8''{quote(filename, safe='')}"
        wanted = {**self._object(key), "ResponseContentDisposition": attachment}
        with self._bucket.asking():
            return str(self._bucket.client.generate_presigned_url("get_object", Params=wanted, ExpiresIn=seconds))

    def presign_upload(self, key: str, seconds: int, size: int) -> str:
        """See `ObjectStore`. The length is signed: S3 refuses any other."""
        _check_seconds(seconds)
        wanted = {**self._object(key), "ContentLength": size}
        with self._bucket.asking():
            return str(self._bucket.client.generate_presigned_url("put_object", Params=wanted, ExpiresIn=seconds))

    def download(self, key: str, path: Path) -> None:
        """See `ObjectStore`."""
        wanted = self._object(key)
        with downloading(path), self._missing(key), self._bucket.transfers(key) as manager:
            manager.download(wanted["Bucket"], wanted["Key"], str(path)).result()

    def upload(self, path: Path, key: str) -> None:
        """See `ObjectStore`."""
        wanted = self._object(key)
        with uploading(path), self._bucket.transfers() as manager:
            manager.upload(str(path), wanted["Bucket"], wanted["Key"]).result()

    def for_child(self) -> S3Store:
        """See `ObjectStore`."""
        child = copy.copy(self)
        child._writer = uuid.uuid4().hex
        return child

    def discard_drafts(self) -> None:
        """See `ObjectStore`."""
        ours = self._drafts + self._writer
        for upload, _ in uploads(self._bucket, ours):
            abort(self._bucket, upload)
        for found in self._listing(ours):
            self._remove(found)

    def collect_drafts(self, seconds: float = ABANDONED_AFTER) -> int:
        """See `ObjectStore`; for one caller, now and then. Also what is left of uploads and copies of whole objects."""
        removed = 0
        for upload, begun in uploads(self._bucket, self._prefix):
            with contextlib.suppress(KeyError):  # just finished
                if begun > seconds and untouched(self._bucket, upload) > seconds:
                    abort(self._bucket, upload)
                    removed += 1
        for found in self._listing(self._drafts):
            if found.age > COPIED_WITHIN * seconds:
                self._remove(found)
                removed += 1
        return removed

    @property
    def _drafts(self) -> str:
        return f"{self._prefix}{UNFINISHED}/"

    def _remove(self, draft: Listed) -> None:
        with self._bucket.asking():
            self._bucket.client.delete_object(Bucket=self._bucket.name, Key=draft.key)


def _check_seconds(seconds: int) -> None:
    if not 1 <= seconds <= LONGEST_URL:
        raise ValueError(f"a URL is good for 1 to {LONGEST_URL} seconds, not {seconds}")
