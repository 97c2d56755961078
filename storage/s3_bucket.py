"""A bucket of any S3, as storage/s3.py asks it: the client, and what goes wrong in one line."""

from __future__ import annotations

import contextlib
import functools
import os
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import boto3
import botocore.loaders
import botocore.session
from boto3.s3.transfer import TransferConfig, create_transfer_manager
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    CredentialRetrievalError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
    SSLError,
)
from s3transfer.exceptions import RetriesExceededError
from urllib3.exceptions import HTTPError

from stenopool.errors import StoreError

#: Above this, files travel and objects are copied in parts. One copy may have 5 GB, and a server that copies so much in
#: one go keeps us waiting for longer than we wait for an answer.
_TRANSFER = TransferConfig(
    multipart_threshold=64 << 20,
    multipart_chunksize=64 << 20,
    max_concurrency=4,
    num_download_attempts=3,  # of a body: a server that falls silent in it is given up as soon as any other
    preferred_transfer_client="classic",
)

#: How an answer breaks off after its head; before, the client tries again by itself.
BROKEN = (BotoCoreError, HTTPError)

_ABSENT = {"NoSuchKey", "NoSuchUpload"}

_KEYS = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
_REGION = "the bucket is in another region; name that one"
_CURES = {
    "NoSuchBucket": "there is no such bucket; create it, or correct its name",
    "InvalidBucketName": "no bucket can have that name; correct it",
    "InvalidAccessKeyId": f"the credentials are wrong; {_KEYS}",
    "SignatureDoesNotMatch": f"the credentials are wrong; {_KEYS}",
    "ExpiredToken": f"the credentials have ended; renew them, or {_KEYS}",
    "RequestTimeTooSkewed": "the clock of this machine is wrong; set it",
    "AuthorizationHeaderMalformed": _REGION,
    "PermanentRedirect": _REGION,
    "301": _REGION,
    "NotImplemented": "the server lacks what is needed; use one that has conditional writes and uploads in parts",
}
_FORBIDDEN = "access is refused; allow the account to get, put, delete and list objects and uploads of this bucket"
_PASSING = {"ConditionalRequestConflict", "OperationAborted", "RequestTimeout", "SlowDown", "Throttling"}


@functools.cache
def _loader(folders: str | None) -> Any:
    """What boto3 reads of its descriptions of S3: nine tenths of making a client, and the same for all of them."""
    return botocore.loaders.create_loader(folders)


@functools.lru_cache(maxsize=16)
def _client(
    _process: int,
    endpoint: str | None,
    region: str | None,
    addressing: str,
    attempts: int,
    timeout: float,
    patience: float,
) -> Any:
    """A client of this process: making one takes 100 ms, and a process that was forked must not share connections."""
    session = botocore.session.get_session()
    session.register_component("data_loader", _loader(session.get_config_variable("data_path")))
    client = boto3.session.Session(botocore_session=session).client(
        "s3",
        endpoint_url=endpoint,
        region_name=region,
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": addressing},
            # "adaptive" would hold back all that this process asks for after one answer of "slow down".
            retries={"mode": "standard", "total_max_attempts": attempts},
            connect_timeout=min(timeout, 10.0),
            read_timeout=timeout,
            max_pool_connections=32,
            # Otherwise sums are sent in trailers, which other servers refuse or store as part of the object. Nothing is
            # lost: without them, the signature has the SHA-256 of every body, which any server checks.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )
    client.meta.events.register("before-call.s3", _begin)
    client.meta.events.register_first("needs-retry.s3", functools.partial(_too_late, patience))
    return client


def _begin(params: dict[str, Any], **_: Any) -> None:
    """A call of boto3's, with all attempts that it will take."""
    params["context"]["begun"] = time.monotonic()


def _too_late(patience: float, request_dict: dict[str, Any], **_: Any) -> bool | None:
    """False where no further attempt is to be made; None leaves it to boto3, which counts them."""
    return False if time.monotonic() - request_dict["context"]["begun"] >= patience else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """A bucket; see `S3Store` for what the fields mean. It can be sent to another process."""

    name: str
    endpoint: str | None
    region: str | None
    attempts: int
    timeout: float
    patience: float

    @property
    def client(self) -> Any:
        """Of boto3; for many threads."""
        # Few servers but Amazon's have a host per bucket; there, with "auto", URLs are signed for the wrong region.
        addressing = "path" if self.endpoint or "." in self.name else "virtual"
        with self.asking():  # what boto3 is configured with is read here
            where = (os.getpid(), self.endpoint, self.region, addressing)
            return _client(*where, self.attempts, self.timeout, self.patience)

    @property
    def hasty(self) -> Bucket:
        """The same, asked once and not for long: for what is cleared up later where it is not now."""
        return replace(self, attempts=1, timeout=min(self.timeout, 5.0))

    @contextlib.contextmanager
    def asking(self, key: str | None = None) -> Iterator[None]:
        """What goes wrong as a StoreError; where a key is asked for and there is none, KeyError."""
        try:
            yield
        except (BotoCoreError, ClientError, RetriesExceededError, HTTPError) as error:
            if key is not None and _is_absence(error):
                raise KeyError(key) from None
            raise self._named(error) from error

    def _named(self, error: Exception) -> StoreError:
        if isinstance(error, RetriesExceededError):
            error = error.last_exception
        where = f"s3://{self.name}" + (f" at {self.endpoint}" if self.endpoint else "")
        kind = type(error).__name__  # not its text, which has URLs with keys
        if isinstance(error, ClientError):
            return self._refusal(where, error)
        if isinstance(error, NoCredentialsError | PartialCredentialsError | CredentialRetrievalError):
            return StoreError(f"{where}: no credentials were found ({kind}); {_KEYS}")
        if isinstance(error, SSLError):
            return StoreError(f"{where}: its certificate is not trusted ({kind}); mend it, or set AWS_CA_BUNDLE")
        if isinstance(error, ConnectionError | HTTPClientError | HTTPError | IncompleteReadError):
            return StoreError(f"{where}: does not answer ({kind}); see that it runs and can be reached", retryable=True)
        return StoreError(f"{where}: cannot be asked ({kind}); correct the bucket, the endpoint or the region")

    @staticmethod
    def _refusal(where: str, error: ClientError) -> StoreError:
        status = error.response["ResponseMetadata"].get("HTTPStatusCode", 0)
        code = code_of(error) or str(status)
        if cure := _CURES.get(code):
            return StoreError(f"{where}: {cure} ({code})")
        if _is_absence(error):
            return StoreError(f"{where}: a draft was removed while it was written ({code}); try again", retryable=True)
        if status in (401, 403):
            return StoreError(f"{where}: {_FORBIDDEN} ({code})")
        if status == 404:
            # As a proxy does that has lost the server behind it.
            line = f"{where}: what answers there is no object store ({code}); see that the server behind it runs"
            return StoreError(line, retryable=True)
        if status == 429 or status >= 500 or code in _PASSING:
            return StoreError(f"{where}: cannot answer now ({code}); try again when it has recovered", retryable=True)
        return StoreError(f"{where}: refuses {error.operation_name} ({code}); the server's log says why")

    @contextlib.contextmanager
    def transfers(self, key: str | None = None) -> Iterator[Any]:
        """Boto3's own way with whole objects, in parts, several at a time; errors as with `asking`."""
        with self.asking(key), create_transfer_manager(self.client, _TRANSFER) as manager:
            yield manager

    def again(self, attempt: int, begun: float) -> bool:
        """Wait after an attempt that failed, longer after each; the first is 1. False where there were enough.

        Args:
            begun: when the first was, by the monotonic clock.
        """
        if attempt >= self.attempts or time.monotonic() - begun >= self.patience:
            return False
        time.sleep(random.uniform(0, 0.05 * 2**attempt))
        return True


def code_of(error: Exception) -> str:
    """What S3 calls it: "NoSuchKey"; empty where it was not S3 that answered."""
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, ClientError) else ""


def _is_absence(error: Exception) -> bool:
    """There is no such object or upload. A HEAD is answered by a number alone: see `S3Store._missing`."""
    if isinstance(error, ClientError) and error.operation_name == "HeadObject":
        return code_of(error) == "404"
    return code_of(error) in _ABSENT


def age(modified: datetime) -> float:
    """Seconds since then. A server refuses whose clock is 15 minutes off, so ours tells what is older than an hour."""
    return time.time() - modified.timestamp()
