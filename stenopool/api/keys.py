"""Keys: who may ask for what. A tenant's administrator sees and makes the tenant's; an operator's all."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response
from pydantic import Field

from stenopool.api.caller import Administrator, Caller, TheFarm, refuse
from stenopool.api.shapes import Shape
from stenopool.api.terms import Line, Strict, Tenant
from stenopool.errors import Missing
from storage.access import Access, Key, Scope
from workers.farm import Farm

router = APIRouter(prefix="/v1/keys", tags=["keys"])

Id = Annotated[int, Path(ge=1, le=2**31 - 1)]


class NewKey(Strict):
    """Who is to have a key, and what it allows."""

    name: Line
    scopes: list[str] = Field(
        default_factory=lambda: ["submit", "read"],
        min_length=1,
        max_length=3,
        json_schema_extra={"items": {"type": "string", "enum": list(Scope)}},
    )
    tenant: Tenant | None = Field(None, description="Whose work it sees; by an operator's key left out: everybody's.")
    days: float | None = Field(None, gt=0, le=36_500, description="That it is good for; null: until it is revoked.")


class KeyRecord(Shape):
    """A key, without its secret."""

    id: int
    tenant: str | None
    name: str
    prefix: str
    scopes: list[Scope]
    created_at: float
    expires_at: float | None
    revoked_at: float | None
    used_at: float | None


class KeyWithSecret(KeyRecord):
    """A key with its secret, which is shown this once."""

    secret: str


@router.get("", response_model=list[KeyRecord])
def list_keys(farm: TheFarm, caller: Administrator, tenant: Tenant | None = None) -> list[dict[str, Any]]:
    """All keys, without their secrets, the latest first."""
    return list(map(_record, Access(farm.database).keys(tenant=caller.whose(tenant))))


@router.post("", response_model=KeyWithSecret, status_code=201)
def create_key(new: NewKey, farm: TheFarm, caller: Administrator) -> dict[str, Any]:
    """Make a key. Its secret is shown this once."""
    whose = new.tenant if caller.tenant is None else caller.acts_for(new.tenant)
    scopes = [_scope(one) for one in new.scopes]
    seconds = None if new.days is None else new.days * 86_400
    made, secret = Access(farm.database).create(caller.actor, new.name, tenant=whose, scopes=scopes, seconds=seconds)
    return _record(made) | {"secret": secret}


@router.post("/{id}/rotate", response_model=KeyWithSecret, status_code=201)
def rotate_key(
    id: Id,
    farm: TheFarm,
    caller: Administrator,
    hours: Annotated[float, Query(ge=0, le=8760, description="That the old one counts for.")] = 24.0,
) -> dict[str, Any]:
    """Make another key in the place of this one, which counts for some hours more."""
    _check(farm, caller, id)
    made, secret = Access(farm.database).rotate(caller.actor, id, hours * 3600, tenant=caller.tenant)
    return _record(made) | {"secret": secret}


@router.delete("/{id}", status_code=204, response_class=Response)
def revoke_key(id: Id, farm: TheFarm, caller: Administrator) -> Response:
    """Let a key count no more, from now on."""
    _check(farm, caller, id)
    Access(farm.database).revoke(caller.actor, id, tenant=caller.tenant)
    return Response(status_code=204)


def _check(farm: Farm, caller: Caller, id: int) -> None:
    """Raises Missing where there is no such key for the caller; who asks for another's is noted."""
    missing = f"there is no key {id} that counts; GET /v1/keys lists them"
    known = Access(farm.database).keys()
    found = [one for one in known if one.id == id and one.revoked_at is None]
    if not found:
        raise Missing(missing)
    if caller.tenant is not None and found[0].tenant != caller.tenant:
        raise refuse(farm, caller, f"key {id}", found[0].tenant or "", missing)


def _scope(name: str) -> Scope:
    from stenopool.errors import UsageError

    try:
        return Scope(name)
    except ValueError:
        raise UsageError(f"{name[:40]!r}: there is no such scope; there are {', '.join(Scope)}") from None


def _record(one: Key) -> dict[str, Any]:
    return asdict(one) | {"scopes": sorted(one.scopes)}
