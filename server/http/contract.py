"""The contract of a route beyond its signature, stated once, on the route.

The guard admits callers by it, the description of the API shows it, and the tests of all routes
are generated from it. An application does not start with a route that has none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final, NamedTuple

import msgspec
from litestar import Litestar
from litestar.routes import HTTPRoute
from litestar.types.internal_types import PathParameterDefinition

from server.access.limits.rules import Spending
from server.access.rights import Right

CONTRACT: Final = "contract"
"""The option of a route handler that holds its contract."""
ADMITTED: Final = "admitted"
"""The key in a request's state under which the guard stores the admitted org and principal."""
ORG: Final = "org"
"""The path parameter with the org's slug: the guard requires the right in this org."""

WRITE_PROBLEMS: Final = (408, 413, 503)
"""Problems of all routes that read a body and write."""
OCTETS: Final = "application/octet-stream"


class ResponseHeader(NamedTuple):
    """A header of successful answers, with an example of its value; ``always`` there, or not."""

    name: str
    description: str
    example: str
    always: bool = True

    def described(self) -> dict[str, Any]:
        """Return the header as a part of the API's description."""
        return {
            "description": self.description,
            "required": self.always,
            "schema": {"type": "string"},
            "example": self.example,
        }


NO_STORE: Final = ResponseHeader(
    "Cache-Control",
    "No cache may keep this answer: it holds what is for the caller only",
    "no-store",
)
NO_SNIFFING: Final = ResponseHeader(
    "X-Content-Type-Options", "Browsers take the content for what its type says", "nosniff"
)
VARY: Final = ResponseHeader(
    "Vary", "The request headers that the answer depends on", "authorization, x-api-key"
)
OF_EVERY_ANSWER: Final = (NO_STORE, NO_SNIFFING, VARY)
"""Headers of all answers; a route's own description of one replaces it."""


def text(description: str, example: str) -> dict[str, Any]:
    """Return the schema of an answer that is text."""
    return {"type": "string", "description": description, "examples": [example]}


def octets(description: str) -> dict[str, Any]:
    """Return the schema of an answer that is bytes."""
    return {"type": "string", "format": "binary", "description": description}


class NoRightStated(Exception):
    """A route states no right, so the application does not start."""


class RouteContract(msgspec.Struct, frozen=True, kw_only=True):
    """One route: the right it requires (None: any key), its body and the problems it answers.

    Every route with a right also answers 401, and 403 or 404 to the wrong key. An ``open`` route
    needs no key, a ``public`` one needs none where the org's log is public. An open route for
    ``operators`` asks for the token of QUIRE_METRICS_TOKEN itself. ``spends`` says of which rate
    limits a request uses a part; None: READ if it writes nothing, else OTHER. A ``probe`` of a load
    balancer or a monitor uses none. Where
    ``others_forbidden``, the key of an org gets 403 and not 404 for the path of any other org, existing
    or not. ``writes`` says
    whether a call may change anything: every method but GET must say so. A route that
    ``reads_query`` refuses unknown parameters itself. ``raw`` is the content type of a body of any bytes. ``answers`` is for routes that
    write their bytes themselves: schema by media type; ``schemas`` makes named ones of theirs, and
    ``completes`` adds to the route's part of the API's description. ``meanings`` says, by status,
    what a successful answer means, where the docstring of its type does not; ``examples`` are answers
    of a status that the examples of its type do not fit; ``headers`` are those of successful answers.
    """

    right: Right | None = None
    open: bool = False
    public: bool = False
    operators: bool = False
    spends: Spending | None = None
    probe: bool = False
    others_forbidden: bool = False
    writes: bool | None = None
    reads_query: bool = False
    raw: str | None = None
    body: type | None = None
    body_required: bool = True
    example: Any = None
    problems: tuple[int, ...] = ()
    answers: Mapping[int, Mapping[str, Any]] = {}
    meanings: Mapping[int, str] = {}
    examples: Mapping[int, Any] = {}
    headers: tuple[ResponseHeader, ...] = ()
    schemas: Callable[[], Mapping[str, Any]] = dict
    completes: Callable[[dict[str, Any]], None] | None = None

    @property
    def spending(self) -> Spending:
        """What rate limits a request uses."""
        if self.spends is not None:
            return self.spends
        return Spending.OTHER if self.writes else Spending.READ

    def refusals(self, parameters: Sequence[Mapping[str, Any]]) -> list[int]:
        """Return all problem statuses that a route with these parameters answers."""
        statuses = set(self.problems)
        if not self.open:
            statuses |= {401, 503}
        if not self.probe:  # its caller may send too many requests
            statuses.add(429)
        if self.right is not None:
            statuses.add(403)
        if any(parameter["in"] == "path" for parameter in parameters):
            statuses.add(404)
        if any(parameter["in"] == "query" for parameter in parameters):
            statuses.add(400)
        return sorted(statuses)


def asks(right: Right, **more: Any) -> dict[str, Any]:
    """Return the options of a route that requires a right."""
    return {CONTRACT: RouteContract(right=right, **more)}


def any_key(**more: Any) -> dict[str, Any]:
    """Return the options of a route that every valid key may call."""
    return {CONTRACT: RouteContract(**more)}


def needs_no_key(**more: Any) -> dict[str, Any]:
    """Return the options of a route that needs no key."""
    return {CONTRACT: RouteContract(open=True, **more)}


def require_contracts(app: Litestar) -> None:
    """Raise NoRightStated if a route has no contract, or contradicts it."""
    for route in app.routes:
        if not isinstance(route, HTTPRoute):
            raise NoRightStated(f"{route.path}: only HTTP routes can state who may call them")
        for handler in route.route_handlers:
            if handler.fn.__module__.startswith("litestar."):
                continue  # its answer to OPTIONS
            methods = ", ".join(sorted(handler.http_methods))
            fault = _misnamed_org(route) or _fault(
                handler.opt.get(CONTRACT), ORG in route.path_parameters, reads=methods == "GET"
            )
            if fault is not None:
                raise NoRightStated(f"{methods} {route.path_format} {fault}")


def _misnamed_org(route: HTTPRoute) -> str | None:
    """Return what is wrong with the org's name in a path, by which the guard would not find it."""
    for folder, part in pairwise(route.path_components):
        if folder == "orgs" and isinstance(part, PathParameterDefinition) and part.name != ORG:
            return f"names its org {{{part.name}}}: call this part of the path {{{ORG}}}"
    return None


def _fault(contract: Any, of_org: bool, *, reads: bool) -> str | None:
    """Return what is wrong with the contract of a route."""
    if not isinstance(contract, RouteContract):
        return "states no right: give it opt=asks(…), any_key(…) or needs_no_key(…)"
    if of_org and not contract.open and contract.right is None:
        return "has an org in its path, but asks for no right there: give it opt=asks(…)"
    if contract.open and contract.right is not None:
        return "asks for a right and needs no key: state one of them"
    if contract.writes is None and not reads:
        return "does not say whether it writes: state writes=True or writes=False"
    if contract.writes and reads:
        return "writes, which a GET may not: give it another method"
    return None
