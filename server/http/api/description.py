"""The OpenAPI 3.1 document: Litestar's, completed from the contracts of the routes.

Routes read bodies themselves, some answer prepared bytes, and every route answers problems.
Litestar can't see that; it comes from the contracts (:mod:`server.http.contract`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from types import UnionType
from typing import Any, Final, NamedTuple, get_args

import msgspec
from litestar import Litestar, Router
from litestar.handlers import HTTPRouteHandler
from litestar.openapi import OpenAPIConfig
from litestar.routes import HTTPRoute

from ledger import __version__
from server.http.api.docstrings import prose
from server.http.api.problem_answers import problem_answers, problem_ref, problem_schemas
from server.http.api.schemas import ApiSchemas
from server.http.contract import CONTRACT, OF_EVERY_ANSWER, RouteContract, octets
from server.http.problems import problems
from server.trails.appending import JSON

NO_KEY: Final = " No key where the log is public."
FOR_OPERATORS: Final = "The metrics token, or the private listener; no API key."
ABOUT: Final = """\
An append-only ledger: each org has one trail, a hash chain of signed entries that nobody \
alters unnoticed.

Send an API key with every request, as `Authorization: Bearer quire_live_…` or `x-api-key`. \
A request that can be read in two ways (a parameter twice, text that does not decode) is \
refused on every route with 400, 415, 417, 501 or 505. Every GET answers HEAD too. \
Errors are problem documents (RFC 9457); their `type` is stable. An org that does not exist and \
an org of another tenant are answered alike, with 404."""
SECURITY: Final = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key: `Authorization: Bearer quire_live_…`",
    },
    "apiKey": {
        "type": "apiKey",
        "in": "header",
        "name": "x-api-key",
        "description": "An API key: `x-api-key: quire_live_…`",
    },
}


class DescribedRoute(NamedTuple):
    """A route of the description: its contract, and its successful answers by status and media type."""

    contract: RouteContract
    answers: Mapping[int, Mapping[str, Any]]


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
    described = described_routes(app)
    kinds = problems(*packages)
    schemas = _schemas(described.values(), problem_schemas(kinds))
    for operations in document["paths"].values():
        for operation in operations.values():
            _complete(operation, described[operation["operationId"]], schemas)
    document["components"] = {
        "schemas": dict(sorted(schemas.named.items())),
        "responses": problem_answers(kinds),
        "securitySchemes": SECURITY,
    }
    return msgspec.json.encode(document)


def described_routes(app: Litestar) -> dict[str, DescribedRoute]:
    """Return all routes that are described, by operation id."""
    return {
        handler.operation_id: DescribedRoute(handler.opt[CONTRACT], _answers(handler))
        for route in app.routes
        if isinstance(route, HTTPRoute)
        for handler in route.route_handlers
        if isinstance(handler.operation_id, str) and CONTRACT in handler.opt
    }


def _answers(handler: HTTPRouteHandler) -> Mapping[int, Mapping[str, Any]]:
    """Return the answers of the contract, else the type that the route returns."""
    contract: RouteContract = handler.opt[CONTRACT]
    if contract.answers:
        return contract.answers
    returned = handler.parsed_fn_signature.return_type.annotation
    return {handler.status_code: {} if returned is type(None) else {JSON: returned}}


def _schemas(routes: Collection[DescribedRoute], named: Mapping[str, Any]) -> ApiSchemas:
    for route in routes:
        named = {**named, **route.contract.schemas()}
    return ApiSchemas(
        [route.contract.body for route in routes],
        [kind for route in routes for media in route.answers.values() for kind in media.values()],
        named,
    )


def _complete(operation: dict[str, Any], route: DescribedRoute, schemas: ApiSchemas) -> None:
    contract = route.contract
    operation["summary"] = operation.pop("description", operation["operationId"]).rstrip(".")
    for parameter in operation.get("parameters", []):
        _plain(parameter)
    _secure(operation, contract)
    responses = operation["responses"] = {}
    for status, media in route.answers.items():
        responses[str(status)] = _answer(contract, status, media, schemas)
    for status in contract.refusals(operation.get("parameters", [])):
        responses[str(status)] = problem_ref(status)
    if contract.body is not None:
        operation["requestBody"] = {
            "required": contract.body_required,
            "content": {JSON: {"schema": schemas.of(contract.body), "example": contract.example}},
        }
    if contract.raw is not None:
        content = {"schema": octets("Bytes of any kind")}
        operation["requestBody"] = {"required": False, "content": {contract.raw: content}}
    if contract.completes is not None:
        contract.completes(operation)


def _secure(operation: dict[str, Any], contract: RouteContract) -> None:
    """Describe who may call the route, and how keys are sent."""
    if contract.operators:
        operation["security"] = [{"bearer": []}]
        operation["description"] = FOR_OPERATORS
        return
    if contract.open:
        operation["security"] = []
        return
    operation["security"] = [{name: []} for name in SECURITY]
    operation["description"] = roles(contract)
    if contract.public:
        operation["security"].append({})
        operation["description"] += NO_KEY


def roles(contract: RouteContract) -> str:
    """Return the roles that may call a route, in words."""
    if contract.right is None:
        return "Any valid key."
    return f"Roles: {', '.join(sorted(map(str, contract.right.roles)))}."


def _answer(
    contract: RouteContract, status: int, media: Mapping[str, Any], schemas: ApiSchemas
) -> dict[str, Any]:
    """Return a successful answer, described by the contract, else by the docstring of its type."""
    texts = [_text(kind) for kind in media.values()]
    answer: dict[str, Any] = {"description": contract.meanings.get(status, " or ".join(texts))}
    headers = {header.name: header for header in (*OF_EVERY_ANSWER, *contract.headers)}
    answer["headers"] = {name: header.described() for name, header in headers.items()}
    if media:
        answer["content"] = {name: _content(schemas, kind) for name, kind in media.items()}
    if status in contract.examples:
        answer["content"][JSON]["example"] = contract.examples[status]
    return answer


def _text(kind: Any) -> str:
    """Return the first paragraph of the description of a type or a schema."""
    text = kind.get("description") if isinstance(kind, Mapping) else getattr(kind, "__doc__", "")
    return prose(text).partition("\n\n")[0].rstrip(".")


def _content(schemas: ApiSchemas, kind: Any) -> dict[str, Any]:
    schema = schemas.of(kind)
    if isinstance(kind, UnionType):
        examples = {
            choice.__name__: {"value": schemas.example(schemas.of(choice))}
            for choice in get_args(kind)
        }
        return {"schema": schema, "examples": examples}
    example = schemas.example(schema)
    return (
        {"schema": schema} if example is msgspec.UNSET else {"schema": schema, "example": example}
    )


def _plain(parameter: dict[str, Any]) -> None:
    """Simplify a parameter: it may be optional, but never null."""
    for noise in ("deprecated", "allowEmptyValue", "allowReserved"):
        parameter.pop(noise, None)
    schema = parameter["schema"]
    schema.pop("description", None)
    for choice in schema.pop("oneOf", []):
        if choice != {"type": "null"}:
            schema |= choice
    for bound in {"minimum", "maximum"} & schema.keys() if schema["type"] == "integer" else ():
        schema[bound] = int(schema[bound])
