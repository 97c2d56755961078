"""An object store by its URL."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TypedDict
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from stenopool.errors import UsageError
from storage.folder import FolderStore
from storage.objects import ObjectStore, is_key

_HOW = "an object store is a folder, or s3://bucket/prefix?endpoint=https://host:port&region=name"
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")  # two letters and more: what is shorter is a disk of Windows
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]")  # S3 of old took more than Amazon does today


class BucketOptions(TypedDict):
    """Where a bucket is; None for what boto3 is configured for."""

    endpoint: str | None
    region: str | None


def open_store(url: str, *, attempts: int = 8, timeout: float = 30.0) -> ObjectStore:
    """The object store at a URL: "file:///path", a plain path, or "s3://bucket/prefix?endpoint=...&region=...".

    Endpoint and region are for servers other than Amazon's, or buckets elsewhere than boto3 is configured for.
    Credentials are never in the URL: boto3 finds them, in the environment, a profile or the machine's own role.

    Args:
        attempts, timeout: of a bucket, as of `S3Store`; a folder answers at once.

    Raises:
        UsageError: it is no such URL.
        StoreError: the folder cannot be used. A bucket is not asked before it is used.
    """
    if not _SCHEME.match(url):
        if not url:
            raise UsageError(f"no object store is named; {_HOW}")
        return FolderStore(Path(url))
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise UsageError(f"this is no URL ({error}); {_HOW}") from error
    if "@" in parts.netloc:  # not repeated: it may be a secret
        raise UsageError("the URL of an object store has no credentials in it; boto3 finds them, say in AWS_PROFILE")
    if parts.fragment:
        raise UsageError(f"{url}: what is #{parts.fragment} for? {_HOW}")
    if parts.scheme == "file":
        return _folder(url, parts)
    if parts.scheme == "s3":
        return _bucket(url, parts, attempts, timeout)
    raise UsageError(f"{url}: there is no object store of that kind; {_HOW}")


def _folder(url: str, parts: SplitResult) -> ObjectStore:
    if parts.netloc not in ("", "localhost") or not parts.path.startswith("/") or parts.query:
        raise UsageError(f"{url}: a folder is file:/// and an absolute path, or the path alone")
    return FolderStore(Path(unquote(parts.path)))


def _bucket(url: str, parts: SplitResult, attempts: int, timeout: float) -> ObjectStore:
    from storage.s3 import S3Store  # boto3 takes half a second, and one machine does without

    options = read_bucket(url, parts, _HOW)
    prefix = unquote(parts.path).strip("/")
    if prefix and not is_key(prefix):
        raise UsageError(f"{url}: a prefix is a path of plain names (letters, digits, - _ .), not {prefix!r}")
    return S3Store(parts.netloc, prefix, **options, attempts=attempts, timeout=timeout)


def read_bucket(url: str, parts: SplitResult, how: str) -> BucketOptions:
    """Where the bucket of an s3:// URL is, by its query; whatever its path is.

    Args:
        how: what such a URL looks like, for whoever gave another.

    Raises:
        UsageError: no bucket can have that name, or the query says something else.
    """
    if not _BUCKET.fullmatch(parts.netloc):
        raise UsageError(f"{url}: no bucket can have that name; {how}")
    given = parse_qsl(parts.query, keep_blank_values=True)
    options = dict(given)
    if len(options) < len(given) or not options.keys() <= {"endpoint", "region"} or not all(options.values()):
        raise UsageError(f"{url}: what is ?{parts.query} for? {how}")
    if "endpoint" in options and not _is_endpoint(options["endpoint"]):
        raise UsageError("the endpoint of an object store is https://host:port, without a path or credentials")
    return {"endpoint": options.get("endpoint"), "region": options.get("region")}


def _is_endpoint(text: str) -> bool:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return False
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    plain = f"{parts.scheme}://{host}" + (f":{port}" if port is not None else "")
    return parts.scheme in ("http", "https") and bool(host) and text.lower().rstrip("/") == plain
