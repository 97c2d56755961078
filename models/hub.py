"""The way from the model hub: what is wanted of a repository, which revision, and what this machine holds already.

Files lie in the hub's own cache, in its own layout, so other programs share them. Its client begins a file that broke
off anew in every process; weights are gigabytes, so they are fetched here, and go on where they ended.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stenopool.errors import CheckpointError, HubUnreachable

if TYPE_CHECKING:
    from huggingface_hub.file_download import DryRunFileInfo

#: What is fetched of a repository: never pickled weights, nor those of other frameworks, nor the same weights again in
#: another precision (`model.fp32-00001-of-00002.safetensors`).
_WANTED = ["*.json", "*.txt", "model.safetensors", "model-*.safetensors"]

_LARGE = 10 * 2**20  # bytes; from here on the hub keeps files by their SHA-256
_TRIES = 3  # without a single byte
_WAIT = 1.0  # seconds before the next

_SHA256 = re.compile(r"[0-9a-f]{64}")
_REVISION = re.compile(r"\w[\w.-]*(/\w[\w.-]*)*")


def download(repository: str, revision: str | None = None) -> Path:
    """The folder that holds a repository's files at a revision; what is missing is downloaded.

    Args:
        repository: as `openai/whisper-tiny`.
        revision: a branch, a tag or a commit; None for the main branch.

    Raises:
        CheckpointError: there is no such repository or revision, it is closed to us, or it cannot be kept.
        HubUnreachable: it is not all on this machine, and the hub does not answer.
    """
    name = repository if revision is None else f"{repository}@{revision}"
    if revision is not None and not _REVISION.fullmatch(revision):
        raise CheckpointError(f"{name}: no such revision; name a branch, a tag or a commit after the @")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import DryRunError

    bars = partial(_utils().tqdm, disable=True)  # small files need none: there are many, and they are here at once
    arguments: dict[str, Any] = {"revision": revision, "allow_patterns": _WANTED, "tqdm_class": bars}
    with _hub_failures(name):
        try:
            files = snapshot_download(repository, dry_run=True, **arguments)
        except DryRunError:
            pass  # no way to the hub: below it is found in the cache, or the reason is raised
        else:
            for file in files:
                if file.will_download and (file.file_size or 0) >= _LARGE:
                    _fetch(repository, file)
        return Path(snapshot_download(repository, **arguments))


def kept(repository: str, revision: str | None = None) -> Path:
    """As `download`, of what is on this machine already: nobody is asked.

    Raises:
        CheckpointError: it is not on this machine.
    """
    for snapshot in snapshots():
        if snapshot.repository == repository and (revision or "main") in (snapshot.revision, *snapshot.refs):
            return snapshot.folder
    name = repository if revision is None else f"{repository}@{revision}"
    raise CheckpointError(f"{name}: is not on this machine; fetch it with: stenopool models fetch {name}")


def _utils() -> Any:
    """The hub library's tools, which it exports out of sight of type checkers."""
    import huggingface_hub.utils

    return huggingface_hub.utils


@contextmanager
def _hub_failures(name: str) -> Iterator[None]:
    """Name what goes wrong on the way."""
    from httpx2 import HTTPError  # the hub's own client, whose errors come through where a download breaks off
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        IncompleteSnapshotError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        yield
    except CheckpointError:
        raise
    except GatedRepoError as error:
        raise CheckpointError(
            f"{name}: is gated; accept its terms on the hub, and set HF_TOKEN to your token"
        ) from error
    except RepositoryNotFoundError as error:
        raise CheckpointError(f"{name}: the hub has no such repository, or it needs a token (HF_TOKEN)") from error
    except RevisionNotFoundError as error:
        raise CheckpointError(f"{name}: no such revision; name a branch, a tag or a commit after the @") from error
    except HFValidationError as error:
        raise CheckpointError(f"{name}: is not the name of a repository, such as openai/whisper-tiny") from error
    except IncompleteSnapshotError as error:
        raise HubUnreachable(
            f"{name}: only a part of it is on this machine, and the model hub cannot be reached; "
            "connect, and the same command goes on from there"
        ) from error
    except (OSError, HTTPError) as error:
        if isinstance(error, HfHubHTTPError) and error.response.status_code in (401, 403):
            answer = f"{error.response.status_code} {error.response.reason_phrase}"
            raise CheckpointError(
                f"{name}: the hub refuses ({answer}); set HF_TOKEN to a token that may read it"
            ) from error
        # Among the former are the hub's own errors, without a number, and this machine's.
        if getattr(error, "errno", None) is not None and not isinstance(error, ConnectionError):
            raise CheckpointError(
                f"{name}: cannot be kept in the hub's cache ({error}); make room or set HF_HOME to another folder"
            ) from error
        raise HubUnreachable(
            f"{name}: not on this machine and the model hub cannot be reached; "
            "connect once, or name a folder that holds the checkpoint"
        ) from error


def _fetch(repository: str, file: DryRunFileInfo) -> None:
    """Put a large file where the hub's client looks for it.

    It grows beside its place and is moved there when its hash is right, so what is in place is whole.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.file_download import repo_folder_name

    url = hf_hub_url(repository, file.filename, revision=file.commit_hash)
    known = get_hf_file_metadata(url)
    digest, size = known.etag or "", known.size or 0
    if not _SHA256.fullmatch(digest):
        return  # not kept by its hash: left to the hub's client
    cache, folder = Path(HF_HUB_CACHE), repo_folder_name(repo_id=repository, repo_type="model")
    blob = cache / folder / "blobs" / digest
    lock = cache / ".locks" / folder / f"{digest}.lock"  # the client's own: neither of us fetches what the other does
    for parent in (blob.parent, lock.parent):
        parent.mkdir(parents=True, exist_ok=True)
    with _utils().WeakFileLock(lock):
        if blob.exists():
            return
        part = blob.with_name(f"{digest}.incomplete")
        _extend(part, url, size, f"{repository}: {file.filename}")
        with part.open("rb") as content:
            if hashlib.file_digest(content, "sha256").hexdigest() != digest:
                part.unlink()
                raise CheckpointError(f"{repository}: {file.filename} came damaged; the same command fetches it anew")
        part.replace(blob)


def _extend(part: Path, url: str, size: int, title: str) -> None:
    """Fetch what is missing of a file, again and again as long as something comes."""
    from httpx2 import TransportError
    from huggingface_hub import get_session

    utils = _utils()
    with part.open("ab") as out:
        at = out.tell()
        if at > size:  # not ours: nobody goes on beyond the end
            at = out.truncate(0)
        with utils.tqdm(desc=title, total=size, initial=at, unit="B", unit_scale=True, disable=None) as bar:
            failed = 0
            while at < size:
                before = at
                headers = utils.build_hf_headers() | {"Range": f"bytes={at}-", "Accept-Encoding": "identity"}
                broken: TransportError | None = None
                try:
                    with get_session().stream("GET", url, headers=headers) as response:
                        utils.hf_raise_for_status(response)
                        if response.status_code != 206:  # the whole file: this server knows no ranges
                            bar.update(-at)
                            at = out.truncate(0)
                        for block in response.iter_raw():
                            at += out.write(block)
                            bar.update(len(block))
                except TransportError as error:
                    broken = error
                failed = 0 if at > before else failed + 1
                if failed == _TRIES:
                    raise HubUnreachable(
                        f"{title}: the connection broke at {at / 1e6:.0f} of {size / 1e6:.0f} MB; "
                        "the same command goes on from there"
                    ) from broken
                if broken:
                    time.sleep(_WAIT)


@dataclass(frozen=True)
class Snapshot:
    """A revision of a repository in the hub's cache."""

    repository: str
    #: The commit.
    revision: str
    #: Branches and tags that were this commit when they were last asked for.
    refs: tuple[str, ...]
    folder: Path
    #: Bytes on disk.
    size: int


def snapshots() -> list[Snapshot]:
    """Every revision of every model in the hub's cache, by name."""
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        repositories = scan_cache_dir().repos
    except CacheNotFound:
        return []
    found = [
        Snapshot(one.repo_id, kept.commit_hash, tuple(sorted(kept.refs)), kept.snapshot_path, kept.size_on_disk)
        for one in repositories
        if one.repo_type == "model"
        for kept in one.revisions
    ]
    return sorted(found, key=lambda snapshot: (snapshot.repository, snapshot.revision))


def promised_sha256(file: Path) -> str | None:
    """What the hub says a file of its cache must hash to; None for files of other folders, and for small ones."""
    if not file.is_symlink():
        return None
    blob = file.readlink()  # one step: the blob may be a link in turn
    return blob.name if blob.parent.name == "blobs" and _SHA256.fullmatch(blob.name) else None
