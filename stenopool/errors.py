"""The one error tree.

    StenopoolError
    ├── UsageError            what was asked for does not fit together
    │   └── KeyTaken          an idempotency key was used before, for something else
    ├── MediaError            a source that cannot become sound
    │   ├── MediaMissing      no such file, or it cannot be read
    │   │   └── SoundGone     what was decoded or handed in is not kept any more
    │   ├── MediaUnreadable   it is there, but it is not audio, or broken from the start
    │   ├── MediaBeyondLimit  it is more than is taken: too large, too long, too slow to decode
    │   └── FetchError        it cannot be fetched from where it is said to be
    ├── CheckpointError       a model that is missing, damaged or of another kind
    │   ├── HubUnreachable    the model hub did not answer
    │   └── WeightsMismatch   tensors that do not fit the model (models/whisper/weights.py: it has them all)
    ├── EngineError           the model or the device failed on a chunk
    │   └── DeviceFull        the device has no room for what it was asked to hold
    ├── QueueFull             a tenant has as much work queued as is allowed
    ├── LegalHold             what is to be removed is held
    ├── UploadBusy            somebody else sends it just now
    ├── SoundNotYet           it is not decoded yet, or not known what of it is for everybody
    ├── BrokerUnreachable     Redis does not answer
    ├── OutOfRoom             this machine has no memory or no disk left for it
    │   └── DiskFull          of these, the disk (a FolderError as well)
    ├── LedgerError           the database refuses or is of another version
    │   ├── LedgerUnreachable the farm's database does not answer
    │   └── Missing           there is no such submission, campaign, key, ...
    ├── StoreError            the object store cannot be reached, or refuses
    │   └── FolderError       a folder of objects (a LedgerError as well: on one machine both are one disk)
    └── ServerError           a Redis or Postgres of this machine is not there, or does not start

Every message is one line that names the thing and the cure; `retryable` says whether the same call can succeed
later without anybody changing anything.
"""

from __future__ import annotations

from typing import Any


class StenopoolError(Exception):
    """Something went wrong that has a name."""

    #: Whether trying again later, unchanged, can help.
    retryable = False

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").strip())

    def __reduce__(self) -> tuple[Any, ...]:
        # Between processes it keeps its message; a class that is made from something else is not made again.
        return _again, (type(self), self.args), self.__dict__


def _again(kind: type[StenopoolError], args: tuple[Any, ...]) -> StenopoolError:
    return kind.__new__(kind, *args)


class UsageError(StenopoolError):
    """What was asked for does not fit together."""


class KeyTaken(UsageError):  # noqa: N818 - read as a statement
    """An idempotency key was used before, for something else."""


class MediaError(StenopoolError):
    """A source that cannot become sound."""


class MediaMissing(MediaError):  # noqa: N818 - read as a statement: "media missing"
    """No such file, or it cannot be read."""


class SoundGone(MediaMissing):
    """What was decoded or handed in is not kept any more."""


class MediaUnreadable(MediaError):  # noqa: N818
    """The file is there, but it is not audio, or broken from the start."""


class MediaBeyondLimit(MediaError):  # noqa: N818
    """The file is more than is taken."""


class FetchError(MediaError):
    """A source that cannot be fetched from where it is said to be; retryable where it may be later.

    Args:
        code: the reason, as programs and tests know it: url, scheme, credentials, host, address, redirects, status,
            later, busy, encoding, length, size, range, pace, time, cut, empty, content, certificate or network.
        later: seconds after which whoever has it wants to be asked again; None where nothing was said of it.
    """

    def __init__(self, code: str, message: str, *, retryable: bool = False, later: float | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.retryable = retryable
        self.later = later


class CheckpointError(StenopoolError):
    """A model that is missing, damaged or of another kind."""


class HubUnreachable(CheckpointError):  # noqa: N818
    """The model hub did not answer."""

    retryable = True


class EngineError(StenopoolError):
    """The model or the device failed on a chunk."""

    retryable = True


class DeviceFull(EngineError):  # noqa: N818
    """The device has no room for what it was asked to hold; retryable where it will be asked to hold less."""

    def __init__(self, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.retryable = retryable


class QueueFull(StenopoolError):  # noqa: N818 - read as a statement
    """A tenant has as much work queued as is allowed."""

    retryable = True


class LegalHold(StenopoolError):  # noqa: N818 - read as a statement
    """What is to be removed is held."""


class UploadBusy(StenopoolError):  # noqa: N818 - read as a statement
    """Somebody else sends it just now."""

    retryable = True


class SoundNotYet(StenopoolError):  # noqa: N818 - read as a statement
    """It is not decoded yet, or nobody knows yet what of it is for everybody."""

    retryable = True


class BrokerUnreachable(StenopoolError):  # noqa: N818 - read as a statement
    """Redis does not answer."""

    retryable = True


class OutOfRoom(StenopoolError):  # noqa: N818 - read as a statement
    """This machine has no memory or no disk left for it."""

    retryable = True


class LedgerError(StenopoolError):
    """The database of this machine refuses, or is of another version."""


class LedgerUnreachable(LedgerError):  # noqa: N818 - read as a statement
    """The farm's database does not answer."""

    retryable = True


class Missing(LedgerError):  # noqa: N818 - read as a statement
    """What was asked for is not in the ledger."""


class ServerError(StenopoolError):
    """A Redis or Postgres of this machine is not there, or does not start."""


class StoreError(StenopoolError):
    """The object store cannot be reached, or refuses; retryable where it may answer later."""

    def __init__(self, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.retryable = retryable


class FolderError(StoreError, LedgerError):
    """A folder of objects cannot be read or written to; on one machine it lies beside the ledger, on one disk."""


class DiskFull(FolderError, OutOfRoom):  # noqa: N818 - read as a statement
    """The disk has no room left."""

    def __init__(self, message: str) -> None:
        super().__init__(message, retryable=True)
