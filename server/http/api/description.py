"""The OpenAPI 3.1 document: Litestar's, completed from the contracts of the routes.

Routes read bodies themselves, some answer prepared bytes, and every route answers problems.
Litestar can't see that; it comes from the contracts (:mod:`server.http.contract`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from http import HTTPStatus
from types import UnionType
from typing import Any, Final, get_args

import msgspec
from litestar import Litestar, Router
from litestar.openapi import OpenAPIConfig
from litestar.routes import HTTPRoute

from ledger import __version__
from ledger.errors import ProblemType
from server.http.contract import PROMISE, RouteContract
from server.http.problems import MEDIA_TYPE, problems
from server.trails.appending import JSON

REFS: Final = "#/components/schemas/{name}"
NO_KEY: Final = " No key where the log is public."
ABOUT: Final = """\
An append-only ledger: each org has one trail, a hash chain of signed entries that nobody \
alters unnoticed.

Send an API key with every request, as `Authorization: Bearer quire_live_…` or `x-api-key`. \
A request that can be read in two ways (a parameter twice, text that does not decode) is \
refused on every route with 400, 415, 417, 501 or 505. Every GET answers HEAD too. \
Errors are problem documents (RFC 9457); their `type` is stable. An org that does not exist and \
an org of another tenant are answered alike, with 404."""


def describe(
    routers: Sequence[Router], tags: Mapping[str, str], packages: Sequence[str] = ()
) -> bytes:
    """Return the document as JSON; ``packages`` are further packages whose errors state problems."""
    # This application is never served: it would also serve documentation pages that load
    # scripts from other hosts.
    app = Litestar(
        route_handlers=routers,
        openapi_config=OpenAPIConfig(
            title="Quire", version=__version__, description=ABOUT, use_handler_docstrings=True
        ),
        logging_config=None,  # Litestar's own would replace this process's
    )
    document = app.openapi_schema.to_schema()
    # Relative to the address of the document (OpenAPI 3.1, section 4.8.5): a proxy may serve
    # the API under a prefix that this server does not know.
    document["servers"] = [{"url": "."}]
    document["tags"] = [{"name": name, "description": text} for name, text in tags.items()]
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    promises = promises_of(app)
    kinds = problems(*packages)
    schemas |= _schemas(promises.values(), kinds)
    document["components"]["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "apiKey": {"type": "apiKey", "in": "header", "name": "x-api-key"},
    }
    for operations in document["paths"].values():
        for operation in operations.values():
            _complete(operation, promises[operation["operationId"]], kinds)
    return msgspec.json.encode(document)


def promises_of(app: Litestar) -> dict[str, RouteContract]:
    """Return the contracts of all described routes, by operation id."""
    return {
        handler.operation_id: handler.opt[PROMISE]
        for route in app.routes
        if isinstance(route, HTTPRoute)
        for handler in route.route_handlers
        if isinstance(handler.operation_id, str) and PROMISE in handler.opt
    }


def _schemas(
    promises: Collection[RouteContract], kinds: Mapping[str, ProblemType]
) -> dict[str, Any]:
    types = [
        struct
        for promise in promises
        for kind in (
            promise.body,
            *(schema for media in promise.answers.values() for schema in media.values()),
        )
        if kind is not None and not isinstance(kind, dict)
        for struct in (get_args(kind) or (kind,))
    ]
    named = {name: schema for promise in promises for name, schema in promise.schemas.items()}
    _, structs = msgspec.json.schema_components(types, ref_template=REFS)
    return {**structs, "Problem": _problem_schema(kinds), **named}


def _complete(
    operation: dict[str, Any], promise: RouteContract, kinds: Mapping[str, ProblemType]
) -> None:
    operation["summary"] = operation.pop("description", operation["operationId"]).rstrip(".")
    for parameter in operation.get("parameters", []):
        _plain(parameter)
    responses = operation["responses"]
    responses.pop("400", None)
    if promise.open:
        operation["security"] = []
    else:
        operation["security"] = [{"bearer": []}, {"apiKey": []}]
        operation["description"] = roles(promise)
        if promise.public:
            operation["security"].append({})
            operation["description"] += NO_KEY
    for status, media in promise.answers.items():
        answer = responses.setdefault(str(status), {"description": HTTPStatus(status).phrase})
        answer["content"] = {name: {"schema": _schema(kind)} for name, kind in media.items()}
    for status in promise.refusals(operation.get("parameters", [])):
        responses[str(status)] = {
            "description": _phrase(status, kinds),
            "content": {MEDIA_TYPE: {"schema": _schema("Problem")}},
        }
    if promise.body is not None:
        operation["requestBody"] = {
            "required": promise.body_required,
            "content": {JSON: {"schema": _schema(promise.body), "example": promise.example}},
        }
    if promise.raw is not None:
        octets = {"schema": {"type": "string", "format": "binary"}}
        operation["requestBody"] = {"required": False, "content": {promise.raw: octets}}
    if promise.completes is not None:
        promise.completes(operation)


def roles(promise: RouteContract) -> str:
    """Return the roles that may call a route, in words."""
    if promise.right is None:
        return "Any valid key."
    return f"Roles: {', '.join(sorted(map(str, promise.right.roles)))}."


def _schema(kind: Any) -> Any:
    if isinstance(kind, dict):
        return kind
    if isinstance(kind, UnionType):
        return {"anyOf": [_schema(choice) for choice in get_args(kind)]}
    return {"$ref": REFS.format(name=kind if isinstance(kind, str) else kind.__name__)}


def _phrase(status: int, kinds: Mapping[str, ProblemType]) -> str:
    return " or ".join(kind.title for kind in kinds.values() if kind.status == status)


def _plain(parameter: dict[str, Any]) -> None:
    """Simplify a parameter: it may be optional, but never null."""
    for noise in ("deprecated", "allowEmptyValue", "allowReserved"):
        parameter.pop(noise, None)
    schema = parameter["schema"]
    schema.pop("description", None)
    for choice in schema.pop("oneOf", []):
        if choice != {"type": "null"}:
            schema |= choice


def _problem_schema(kinds: Mapping[str, ProblemType]) -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["type", "title", "status", "detail"],
        "properties": {
            "type": {"type": "string", "format": "uri", "description": ", ".join(kinds)},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "index": {"type": "integer", "description": "0-based index of the event at fault"},
            "field": {"type": "string", "description": "field of the event at fault"},
            "reason": {"type": "string", "description": "why the org is frozen"},
        },
    }
