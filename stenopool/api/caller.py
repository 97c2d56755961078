"""Who calls, and what they may."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Protocol, TypeVar

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from stenopool.api.problem import Refused
from stenopool.api.rate import Rates
from stenopool.api.session import HEADER, SAFE, check_own, session_key
from stenopool.config import Config
from stenopool.errors import Missing
from storage.access import Access, Actor, Key, Scope
from storage.desk import Submission
from storage.outcome import Outcome, Outcomes
from workers.farm import Farm

_BEARER = HTTPBearer(auto_error=False, description="A key of `stenopool key create`.")


# What asks nobody is `async`: it is called where it is, and not handed to a thread first, which takes longer than it.


async def farm_of(request: Request) -> Farm:
    """The farm of the application."""
    found: Farm = request.app.state.farm
    return found


TheFarm = Annotated[Farm, Depends(farm_of)]


async def _config_of(request: Request) -> Config:
    found: Config = request.app.state.config
    return found


TheConfig = Annotated[Config, Depends(_config_of)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Whose request it is."""

    key: Key
    request: str

    @property
    def tenant(self) -> str | None:
        """Whose work it may see; None: everybody's."""
        return self.key.tenant

    @property
    def actor(self) -> Actor:
        """As the audit log names it."""
        return Actor(self.key.who, self.request)

    @property
    def sees_all(self) -> bool:
        """Whether what is redacted is there for it in full."""
        return Scope.ADMIN in self.key.scopes

    def whose(self, asked: str | None) -> str | None:
        """Of which tenant it is told; None: of all. Raises Refused where it asks for another's."""
        return asked if self.tenant is None else self.acts_for(asked)

    def may_see(self, tenant: str) -> bool:
        """Whether what is this tenant's is there for it."""
        return self.tenant is None or self.tenant == tenant

    def acts_for(self, asked: str | None) -> str:
        """For which tenant it hands in. Raises Refused where it may not, or has to say for whom."""
        if self.tenant is None:
            return asked or "default"
        if asked not in (None, self.tenant):
            raise Refused(403, f"this key is {self.tenant}'s; leave tenant out")
        return self.tenant


def _caller(
    request: Request,
    farm: TheFarm,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Security(_BEARER)],
) -> Caller:
    if credentials is None:
        key = session_key(request, farm.database)
        if key is None:
            raise Refused(401, "send a key: Authorization: Bearer sp_...", headers={"WWW-Authenticate": "Bearer"})
        if request.method not in SAFE:
            check_own(request, request.headers.get(HEADER))
    else:
        key = Access(farm.database).key_of(credentials.credentials)
    if key is None:
        raise Refused(
            401,
            "this key is unknown, revoked or expired; make one with: stenopool key create",
            headers={"WWW-Authenticate": 'Bearer error="invalid_token"'},
        )
    rates: Rates = request.app.state.rates
    if (allowance := rates.take(key.id)) is not None:
        request.state.headers.update(allowance.headers)
        if not allowance.allowed:
            raise Refused(
                429, "this key asks too often; come again as Retry-After says, or have STENOPOOL_API_RATE raised"
            )
    return Caller(key=key, request=request.state.id)


def allowed(scope: Scope) -> Callable[..., Awaitable[Caller]]:
    """A dependency: whoever calls, if their key has this scope."""

    async def check(caller: Annotated[Caller, Depends(_caller)]) -> Caller:
        if scope not in caller.key.scopes:
            raise Refused(403, f"this key lacks the scope {scope}; it has {', '.join(sorted(caller.key.scopes))}")
        return caller

    return check


Reader = Annotated[Caller, Depends(allowed(Scope.READ))]
Submitter = Annotated[Caller, Depends(allowed(Scope.SUBMIT))]
Administrator = Annotated[Caller, Depends(allowed(Scope.ADMIN))]


def refuse(farm: Farm, caller: Caller, subject: str, tenant: str, missing: str) -> Missing:
    """What is told to who asks for something that is another tenant's: that there is none. It is noted."""
    Access(farm.database).note(caller.actor, "access.refused", subject, tenant=tenant)
    return Missing(missing)


class Owned(Protocol):
    """What is a tenant's."""

    @property
    def tenant(self) -> str:
        """Whose."""


_Owned = TypeVar("_Owned", bound=Owned)


def owned(farm: Farm, caller: Caller, subject: str, find: Callable[[], _Owned], missing: str) -> _Owned:
    """What is found, if it is there for the caller; who asks for another's is told that there is none, and noted.

    Raises:
        Missing: there is none, for all that the caller is told.
    """
    try:
        found = find()
    except Missing:
        raise Missing(missing) from None
    if not caller.may_see(found.tenant):
        raise refuse(farm, caller, subject, found.tenant, missing)
    return found


def submission_of(farm: Farm, caller: Caller, id: int) -> Submission:
    """A submission that is there for the caller. Raises Missing where there is none, for all that they are told."""
    return _submitted(farm, caller, id, farm.desk.submission)


def outcome_of(farm: Farm, caller: Caller, id: int) -> Outcome:
    """The same, and what has become of it."""
    return _submitted(farm, caller, id, Outcomes(farm.database).of)


def _submitted(farm: Farm, caller: Caller, id: int, find: Callable[[int], _Owned]) -> _Owned:
    missing = f"there is no recording {id}; GET /v1/recordings lists them"
    return owned(farm, caller, f"submission {id}", lambda: find(id), missing)
