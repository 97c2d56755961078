"""Drafts in a bucket: uploads in parts, and what is left of those that nobody finished."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from stenopool.errors import StoreError
from storage.objects import Draft
from storage.s3_bucket import Bucket, age

#: Bytes of a draft that are in memory. S3 takes parts of 5 MiB and more, 10,000 of them: 80 GB, 29 days of samples.
PART = 8 << 20


class S3Draft(Draft):
    """A draft. What is smaller than a part is put under its key at once; more goes under the draft's own name first.

    Args:
        name: of the draft, in the bucket.
        place: bucket and name of the object that has a key. Raises ValueError where it is none.
    """

    def __init__(self, bucket: Bucket, name: str, place: Callable[[str], dict[str, str]]) -> None:
        self._bucket = bucket
        self._draft = {"Bucket": bucket.name, "Key": name}
        self._place = place
        self._buffer = bytearray()
        self._upload: dict[str, str] | None = None
        self._parts: list[dict[str, Any]] = []

    def write(self, data: bytes | memoryview) -> None:
        """See `Draft`."""
        self._buffer += data
        while len(self._buffer) >= PART:
            self._send(PART)

    def _send(self, size: int) -> None:
        client, number = self._bucket.client, len(self._parts) + 1
        with self._bucket.asking():
            if self._upload is None:
                self._upload = {**self._draft, "UploadId": client.create_multipart_upload(**self._draft)["UploadId"]}
            sent = client.upload_part(**self._upload, PartNumber=number, Body=bytes(self._buffer[:size]))
        self._parts.append({"PartNumber": number, "ETag": sent["ETag"]})
        del self._buffer[:size]

    def keep(self, key: str) -> None:
        """See `Draft`."""
        client, target = self._bucket.client, self._place(key)
        if self._upload is None:
            with self._bucket.asking():
                client.put_object(**target, Body=bytes(self._buffer))
            return
        if self._buffer:
            self._send(len(self._buffer))
        with self._bucket.asking():
            client.complete_multipart_upload(**self._upload, MultipartUpload={"Parts": self._parts})
        self._upload = None
        try:
            with self._bucket.transfers() as manager:
                manager.copy(self._draft, target["Bucket"], target["Key"]).result()
        finally:
            with contextlib.suppress(StoreError), self._bucket.asking():  # it is collected later
                client.delete_object(**self._draft)

    def close(self) -> None:
        """Give up what was not kept."""
        if self._upload is not None:
            with contextlib.suppress(StoreError):  # it is collected later
                abort(self._bucket.hasty, self._upload)


def uploads(bucket: Bucket, prefix: str) -> Iterator[tuple[dict[str, str], float]]:
    """Uploads that are not finished, and the seconds since they were begun."""
    with bucket.asking():
        pages = bucket.client.get_paginator("list_multipart_uploads")
        for page in pages.paginate(Bucket=bucket.name, Prefix=prefix):
            for found in page.get("Uploads", ()):
                upload = {"Bucket": bucket.name, "Key": found["Key"], "UploadId": found["UploadId"]}
                yield upload, age(found["Initiated"])


def untouched(bucket: Bucket, upload: dict[str, str]) -> float:
    """Seconds since the last part of an upload; infinite where it has none. Raises KeyError where it is finished."""
    with bucket.asking(upload["Key"]):
        pages = bucket.client.get_paginator("list_parts").paginate(**upload)
        ages = [age(part["LastModified"]) for page in pages for part in page.get("Parts", ())]
    return min(ages, default=float("inf"))


def abort(bucket: Bucket, upload: dict[str, str]) -> None:
    """Give an upload up; it is no error if there is none."""
    with contextlib.suppress(KeyError), bucket.asking(upload["Key"]):
        bucket.client.abort_multipart_upload(**upload)
