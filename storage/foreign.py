"""Objects of S3 that are not the farm's: which there are below a prefix, and a URL to fetch one of them by."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlencode, urlsplit

from stenopool.errors import UsageError
from storage.stores import read_bucket

if TYPE_CHECKING:
    from storage.s3_bucket import Bucket

_HOW = (
    "an object is s3://bucket/key, a prefix s3://bucket/prefix/; of another server: ?endpoint=https://host&region=name"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreign:
    """An object of some bucket, or all that are below a prefix: then its key ends in a slash, or is empty."""

    bucket: str
    #: As S3 has it: any text.
    key: str
    #: None for Amazon's, or the one that boto3 is configured for.
    endpoint: str | None = None
    region: str | None = None

    @property
    def is_prefix(self) -> bool:
        """Whether it names all objects below it."""
        return not self.key or self.key.endswith("/")

    @property
    def url(self) -> str:
        """What `read_foreign` reads."""
        given = {"endpoint": self.endpoint, "region": self.region}
        query = urlencode({name: value for name, value in given.items() if value}, safe=":/")
        return f"s3://{self.bucket}/{quote(self.key)}" + (f"?{query}" if query else "")


def read_foreign(url: str) -> Foreign:
    """The object or prefix at "s3://bucket/key?endpoint=...&region=...", without asking for it.

    Raises:
        UsageError: it is no such URL.
    """
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise UsageError(f"this is no URL ({error}); {_HOW}") from error
    if "@" in parts.netloc:  # not repeated: it may be a secret
        raise UsageError("an s3:// URL has no credentials in it; boto3 finds them, say in AWS_PROFILE")
    if parts.fragment:
        raise UsageError(f"{url}: write %23 for the # in its key")
    options = read_bucket(url, parts, _HOW)
    return Foreign(bucket=parts.netloc, key=unquote(parts.path.removeprefix("/")), **options)


@dataclass(frozen=True, slots=True)
class Found:
    """An object as a listing has it."""

    place: Foreign
    #: Bytes.
    size: int
    #: Another one where other bytes are put there.
    etag: str


def objects_below(prefix: Foreign) -> Iterator[Found]:
    """All objects below a prefix, in the order of their keys, listed as they are asked for.

    Raises:
        StoreError: the server cannot be reached, or refuses.
    """
    bucket = _bucket(prefix)
    with bucket.asking():
        pages = bucket.client.get_paginator("list_objects_v2")
        for page in pages.paginate(Bucket=prefix.bucket, Prefix=prefix.key):
            for one in page.get("Contents", ()):
                yield Found(replace(prefix, key=one["Key"]), int(one["Size"]), str(one["ETag"]).strip('"'))


def signed_url(place: Foreign, seconds: int) -> str:
    """A URL by which an object can be fetched for so long: a secret. Nobody is asked whether it is there.

    Raises:
        StoreError: there are no credentials to sign with.
    """
    bucket = _bucket(place)
    with bucket.asking():
        wanted = {"Bucket": place.bucket, "Key": place.key}
        return str(bucket.client.generate_presigned_url("get_object", Params=wanted, ExpiresIn=seconds))


def _bucket(place: Foreign) -> Bucket:
    from storage.s3_bucket import Bucket  # boto3 takes half a second

    return Bucket(
        name=place.bucket, endpoint=place.endpoint, region=place.region, attempts=8, timeout=20.0, patience=60.0
    )
