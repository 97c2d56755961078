"""Who calls, and what they may."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from stenopool.api.problem import Refused
from stenopool.errors import Missing
from storage.access import Access, Actor, Key, Scope
from storage.desk import Submission
from workers.farm import Farm

_BEARER = HTTPBearer(auto_error=False, description="A key of `stenopool key create`.")


def farm_of(request: Request) -> Farm:
    """The farm of the application."""
    found: Farm = request.app.state.farm
    return found


TheFarm = Annotated[Farm, Depends(farm_of)]


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
        raise Refused(401, "send a key: Authorization: Bearer sp_...", headers={"WWW-Authenticate": "Bearer"})
    key = Access(farm.database).key_of(credentials.credentials)
    if key is None:
        raise Refused(
            401,
            "this key is unknown, revoked or expired; make one with: stenopool key create",
            headers={"WWW-Authenticate": 'Bearer error="invalid_token"'},
        )
    return Caller(key=key, request=request.state.id)


def allowed(scope: Scope) -> Callable[..., Caller]:
    """A dependency: whoever calls, if their key has this scope."""

    def check(caller: Annotated[Caller, Depends(_caller)]) -> Caller:
        if scope not in caller.key.scopes:
            raise Refused(403, f"this key lacks the scope {scope}; it has {', '.join(sorted(caller.key.scopes))}")
        return caller

    return check


Reader = Annotated[Caller, Depends(allowed(Scope.READ))]
Submitter = Annotated[Caller, Depends(allowed(Scope.SUBMIT))]
Administrator = Annotated[Caller, Depends(allowed(Scope.ADMIN))]


def submission_of(farm: Farm, caller: Caller, id: int) -> Submission:
    """A submission that is there for the caller; who asks for another's is told that there is none, and noted.

    Raises:
        Missing: there is none, for all that the caller is told.
    """
    found = farm.desk.submission(id)
    if not caller.may_see(found.tenant):
        Access(farm.database).note(caller.actor, "access.refused", f"submission {id}", tenant=found.tenant)
        raise Missing(f"there is no submission {id}; GET /v1/recordings lists them")
    return found
