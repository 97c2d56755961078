"""The description of the API (OpenAPI): what every route has in common is said here, once."""

from __future__ import annotations

import re
from typing import Any

from fastapi import FastAPI

from stenopool.api.problem import LATER
from stenopool.api.shapes import Problem
from stenopool.api.speech_errors import SpeechProblems
from stenopool.api.terms import HandIn

_TAGS = {
    "recordings": "What was handed in, and what became of it.",
    "uploads": "Large files, and connections that break (tus 1.0).",
    "transcripts": "What was heard.",
    "keeping": "What is deleted, held, and kept for how long.",
    "campaigns": "Many recordings as one.",
    "search": "Where something was said.",
    "events": "What became of recordings, for programs that ask.",
    "webhooks": "The same, for programs that are told.",
    "keys": "Who may ask for what.",
    "audit": "Who did what.",
    "workers": "Which processes work; what operators look at, and do.",
    "speech": "As OpenAI's clients ask for it (docs/openai.md).",
    "sound": "What can be listened to, and looked at.",
    "health": "Whether this server lives.",
}

_PROBLEMS = {
    400: "The request cannot be read.",
    401: "There is no key, or none that counts.",
    403: "The key does not allow it.",
    404: "There is no such thing, for whoever asks.",
    408: "Nothing has come for too long.",
    409: "It is not as it would have to be.",
    412: "Another version of the protocol is spoken.",
    413: "It is more than is taken.",
    415: "It is of a kind that is not taken here.",
    422: "It does not fit together.",
    423: "Somebody else is at it.",
    429: "Too much is asked for, or queued; Retry-After says when to come again.",
    460: "What came is not what was sent.",
    500: "Something is wrong here.",
    503: "A part of the farm does not answer.",
    504: "It was not heard in time.",
    507: "There is no room left here.",
}

#: What any route with a key may answer.
_ANY = (400, 401, 403, 422, 429, 500, 503)
#: What routes for OpenAI's clients may answer instead.
_SPEECH = (400, 401, 403, 404, 429, 500, 503)
_HEARING = (*_SPEECH, 408, 413, 504, 507)


def describe(app: FastAPI) -> None:
    """Have an application describe itself in full."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _completed(plain())
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def methods_of(app: FastAPI, path: str) -> list[str]:
    """What can be done with a path, as it is described."""
    found: set[str] = set()
    paths = app.openapi()["paths"]
    for template, operations in ((path, paths[path]),) if path in paths else paths.items():
        if re.fullmatch(re.sub(r"\\\{.*?\\\}", "[^/]+", re.escape(template)), path):
            found |= {method.upper() for method in operations}
    return sorted(found)


def _completed(described: dict[str, Any]) -> dict[str, Any]:
    schemas = described.setdefault("components", {}).setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    for shape in (Problem, SpeechProblems, HandIn):
        schema = shape.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas |= schema.pop("$defs", {})
        schemas[shape.__name__] = schema
    described["tags"] = [{"name": name, "description": about} for name, about in _TAGS.items()]
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            answers = operation.setdefault("responses", {})
            answers.pop("422", None)
            for status in _statuses(path, method, operation):
                answers.setdefault(str(status), _problem(status, speech="speech" in operation["tags"]))
    return described


def _statuses(path: str, method: str, operation: dict[str, Any]) -> list[int]:
    if "security" not in operation:
        return [500]
    if "speech" in operation["tags"]:
        return sorted(_HEARING if "requestBody" in operation else _SPEECH)
    found = {*_ANY}
    if "{" in path:
        found.add(404)
    if method in ("post", "put", "patch", "delete"):
        found |= {404, 409}
    if "requestBody" in operation:
        found |= {413, 415}
    if path == "/v1/recordings" and method == "post":
        found |= {404, 408, 507}
    if path.startswith("/v1/uploads"):
        found |= {408, 412, 413, 415, 423, 460, 507}
    if path.endswith("/hits"):
        found.add(404)
    if path.endswith(("/transcript", "/forecast")):
        found.add(409)
    return sorted(found)


def _problem(status: int, *, speech: bool) -> dict[str, Any]:
    kind, shape = ("application/json", SpeechProblems) if speech else ("application/problem+json", Problem)
    answer: dict[str, Any] = {
        "description": _PROBLEMS[status],
        "content": {kind: {"schema": {"$ref": f"#/components/schemas/{shape.__name__}"}}},
    }
    if status in (423, 429, 503):
        answer["headers"] = {
            "Retry-After": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 1, "example": LATER}}
        }
    return answer
