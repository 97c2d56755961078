"""Webhooks: who is told what became of recordings, and whether it arrived."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from threading import BoundedSemaphore
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import Field

from stenopool.api.caller import Administrator, Caller, TheConfig, TheFarm, owned
from stenopool.api.paging import Cursor, Limit, cursor_of, link_next, read_cursor
from stenopool.api.problem import Refused
from stenopool.api.shapes import Shape
from stenopool.api.terms import Strict, Tenant, Url
from stenopool.config import Config
from stenopool.errors import UsageError
from storage.access import Access
from storage.tables import Heard, SubmissionState
from storage.webhook_tables import DeliveryState
from storage.webhooks import Endpoint, Sent, Webhooks
from workers.addresses import may_ask
from workers.farm import Farm
from workers.post import Post, literal, target
from workers.webhooks import send

router = APIRouter(prefix="/v1/webhooks", tags=["webhooks"])

Id = Annotated[int, Path(ge=1, le=2**31 - 1)]

#: Webhooks that are tested at once, in this process: each keeps a thread for as long as its host pleases.
_TESTS = BoundedSemaphore(4)

#: What there is to be told of.
TYPES = tuple(f"submission.{state}" for state in (*SubmissionState, *Heard))


class NewWebhook(Strict):
    """Who is to be told, and of what."""

    url: Url
    types: list[str] | None = Field(
        None,
        min_length=1,
        max_length=len(TYPES),
        description="Types of events; null for all.",
        json_schema_extra={"items": {"type": "string", "enum": list(TYPES)}},
    )
    tenant: Tenant | None = None


class Webhook(Shape):
    """An endpoint that is told what becomes of a tenant's recordings."""

    id: int
    tenant: str
    url: str
    types: list[str] | None
    state: str
    reason: str | None
    failing_since: float | None
    former_until: float | None
    waiting: int
    position: int
    created_at: float


class WebhookWithSecret(Webhook):
    """The same, with what it signs with: that is shown this once."""

    secret: str


class Secret(Shape):
    """What a webhook signs with from now on; shown this once."""

    id: int
    secret: str


class Tried(Shape):
    """What came of a test."""

    id: int
    taken: bool
    status: int | None
    error: str | None
    resumed: bool


class Replay(Strict):
    """What is to be sent once more."""

    after: int = Field(ge=0, le=2**62, description="Events behind that number.")
    to: int | None = Field(None, ge=1, le=2**62, description="Up to that one; null: all that it has been told of.")


class Replayed(Shape):
    """What came of it."""

    id: int
    events: int


class DeliveryPage(Shape):
    """Deliveries, the last event first."""

    deliveries: list[Sent]
    cursor: str | None


@router.get("", response_model=list[Webhook])
def list_webhooks(farm: TheFarm, caller: Administrator, tenant: Tenant | None = None) -> list[dict[str, Any]]:
    """All webhooks, and whether they take what they are sent."""
    return [asdict(one) for one in Webhooks(farm.database).endpoints(tenant=caller.whose(tenant))]


@router.post("", response_model=WebhookWithSecret, status_code=201)
def add_webhook(
    new: NewWebhook, farm: TheFarm, config: TheConfig, caller: Administrator, response: Response
) -> dict[str, Any]:
    """Tell a URL of all that happens from now on. Its secret is shown this once."""
    if (address := literal(target(new.url))) is not None and not _post(config).permitted(address):
        raise UsageError(f"{new.url}: {address} is not on the public internet, and is never posted to")
    if unknown := [one for one in new.types or () if one not in TYPES]:
        raise UsageError(f"{unknown[0][:60]!r}: there is no such type of event; there are {', '.join(TYPES)}")
    whose = caller.acts_for(new.tenant)
    types = None if new.types is None else list(dict.fromkeys(new.types))
    endpoint, secret = Webhooks(farm.database).add(whose, new.url, types)
    _note(farm, caller, "webhook.add", endpoint, {"url": new.url})
    response.headers["Location"] = f"/v1/webhooks/{endpoint.id}"
    return asdict(endpoint) | {"secret": secret}


@router.get("/{id}", response_model=Webhook)
def show_webhook(id: Id, farm: TheFarm, caller: Administrator) -> dict[str, Any]:
    """A webhook, and whether it takes what it is sent."""
    return asdict(_endpoint_of(farm, caller, id))


@router.delete("/{id}", status_code=204, response_class=Response)
def remove_webhook(id: Id, farm: TheFarm, caller: Administrator) -> Response:
    """Tell it nothing more, and forget what it was told."""
    endpoint = _endpoint_of(farm, caller, id)
    Webhooks(farm.database).remove(id)
    _note(farm, caller, "webhook.remove", endpoint)
    return Response(status_code=204)


@router.post("/{id}/rotate", response_model=Secret)
def rotate_webhook(
    id: Id,
    farm: TheFarm,
    caller: Administrator,
    overlap: Annotated[float, Query(ge=0, le=720, description="Hours that the secret before signs as well.")] = 24.0,
) -> dict[str, Any]:
    """Give a webhook a new secret, which is shown this once."""
    endpoint = _endpoint_of(farm, caller, id)
    secret = Webhooks(farm.database).rotate(id, overlap * 3600)
    _note(farm, caller, "webhook.rotate", endpoint)
    return {"id": id, "secret": secret}


@router.post("/{id}/test", response_model=Tried)
def test_webhook(id: Id, farm: TheFarm, config: TheConfig, caller: Administrator) -> dict[str, Any]:
    """Send a webhook an event that is none, from this machine; where it takes it, a paused one goes on."""
    endpoint = _endpoint_of(farm, caller, id)
    webhooks = Webhooks(farm.database)
    if not _TESTS.acquire(blocking=False):
        raise Refused(429, "others are tested here just now; try again", headers={"Retry-After": "5"})
    try:
        outcome = send(_post(config), webhooks.probe(id))
    finally:
        _TESTS.release()
    taken = outcome.state == DeliveryState.DELIVERED
    resumed = taken and webhooks.resume(id)
    _note(farm, caller, "webhook.test", endpoint, {"taken": taken})
    return {"id": id, "taken": taken, "status": outcome.status, "error": outcome.error, "resumed": resumed}


@router.post("/{id}/replay", response_model=Replayed)
def replay_webhook(id: Id, what: Replay, farm: TheFarm, caller: Administrator) -> dict[str, Any]:
    """Send a webhook once more what it was told before, under the same ids."""
    endpoint = _endpoint_of(farm, caller, id)
    n = Webhooks(farm.database).replay(id, what.after, what.to)
    _note(farm, caller, "webhook.replay", endpoint, {"after": what.after, "to": what.to})
    return {"id": id, "events": n}


@router.get("/{id}/deliveries", response_model=DeliveryPage)
def list_deliveries(
    request: Request,
    response: Response,
    id: Id,
    farm: TheFarm,
    caller: Administrator,
    failed: Annotated[bool, Query(description="Those only that failed, or did the last time.")] = False,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> dict[str, Any]:
    """What was sent to a webhook, and what came of it; for a month."""
    _endpoint_of(farm, caller, id)
    before = read_cursor(cursor, id, failed)
    sent = Webhooks(farm.database).sent(endpoint=id, failed=failed, before=before, limit=limit + 1)
    following = cursor_of(sent[limit - 1].position, id, failed) if len(sent) > limit else None
    link_next(request, response, following)
    return {"deliveries": sent[:limit], "cursor": following}


def _post(config: Config) -> Post:
    return Post(partial(may_ask, allowed=config.fetch_allow))


def _endpoint_of(farm: Farm, caller: Caller, id: int) -> Endpoint:
    missing = f"there is no webhook {id}; GET /v1/webhooks lists them"
    return owned(farm, caller, f"webhook {id}", lambda: Webhooks(farm.database).endpoint(id), missing)


def _note(farm: Farm, caller: Caller, action: str, endpoint: Endpoint, after: dict[str, object] | None = None) -> None:
    Access(farm.database).note(caller.actor, action, f"webhook {endpoint.id}", tenant=endpoint.tenant, after=after)
