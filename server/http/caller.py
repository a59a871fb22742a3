"""Finds the caller and the services of a request, and admits callers by the contract of a route.

The right that a route requires is stated once, in its contract. The application runs
:func:`guard` before every route; the short routes of :mod:`server.http.short_routes` call
:func:`let_in` themselves.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from functools import cache
from typing import Any, Final, TypeVar

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.datastructures import State
from litestar.handlers.base import BaseRouteHandler
from litestar.params import QueryParameter
from litestar.types import Scope

from ledger.core.org import OrgFacts
from ledger.core.sequencer import Appended, KeyDigest, StaleKey
from ledger.entry import has_control
from ledger.errors import DatabaseUnavailable, QuireError
from ledger.event import Event
from ledger.storage.asking import STRANGERS, ask_for, ask_without_key
from server.access.auth import KnownKey, token_of
from server.access.callers.blocked import AddressBlocked
from server.access.callers.watch import NOT_FOUND
from server.access.directory import NotFound
from server.access.limits.rates import count_refusal
from server.access.limits.rules import RateLimited, Spending
from server.access.permits import append_permits
from server.access.principal import AddressNotAllowed, Forbidden, Principal, Unauthorized
from server.access.rights import Right
from server.addresses import network_of
from server.http.contract import ADMITTED, CONTRACT, ORG, RouteContract
from server.http.problems import BadRequest
from server.http.protocol.address import address_of
from server.http.protocol.wellformed import HEADERS
from server.trails.services import Services

HttpRequest = Request[Any, Any, State]

SERVICES: Final = "services"
"""The key in a request's state of the services of the process."""

Admitted = tuple[OrgFacts | None, Principal | None]
"""The org and the principal that the guard admitted; neither for an open route.

There is no principal if the org's log is public and the route needs no key then. It is a plain
tuple because every request makes one.
"""

NOBODY: Final[Admitted] = (None, None)
LIVE: Final = "live"
"""The key in a request's state of its :class:`LiveRequest`."""
_REASONS: Final[dict[type[QuireError], str]] = {
    Forbidden: "forbidden",
    NotFound: NOT_FOUND,
    AddressNotAllowed: "address",
    AddressBlocked: "address_blocked",
    RateLimited: "too_many_requests",
}
MAX_LOOKS: Final = 5
"""How often a key is looked up again for one change."""
T = TypeVar("T")
_INTEGER: Final = re.compile(r"-?[0-9]+")


async def guard(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """Admit the caller, or raise Unauthorized, Forbidden, NotFound or BadRequest."""
    contract = handler.opt.get(CONTRACT)
    if contract is None:
        if connection.scope.get("method") == "OPTIONS":
            return  # Litestar's own answer, which names methods
        raise Forbidden("this route can't be called")
    assert isinstance(connection, Request)
    await let_in(connection, contract, connection.path_params.get(ORG))
    _, principal = _admitted(connection)
    if principal is not None:
        live, address = services_of(connection).live, address_of(connection.scope)
        connection.scope["state"][LIVE] = live.add(
            principal, address, interruptible=not contract.writes
        )
    refuse_other_integers(connection)


async def let_in(request: HttpRequest, contract: RouteContract, slug: str | None) -> None:
    """Admit the caller; store org and principal in the state of the request.

    Refusals are counted, and requests that only read.
    """
    try:
        try:
            await _let_in(request, contract, slug)
        except Unauthorized:
            # An address that sends too many of these learns that instead.
            services_of(request).limits.admit_stranger(address_of(request.scope))
            raise
    except (Unauthorized, Forbidden, NotFound, AddressNotAllowed, RateLimited) as error:
        key = note_refusal(request, services_of(request), error)
        if contract.others_forbidden and isinstance(error, NotFound) and key and key.org_id:
            raise Forbidden("this API key may see its own org only") from None
        raise
    services_of(request).callers.admitted(_admitted(request), address_of(request.scope).group)
    if not contract.writes:
        note_read(request)


def note_read(request: HttpRequest) -> None:
    """Count a request that reads, if it was admitted by a key."""
    org, principal = _admitted(request)
    if principal is None:
        return
    services = services_of(request)
    org_id = principal.org_id if org is None else org.id
    if org_id is None:
        org_id = services.register.system_id or 0
    services.recorder.read(org_id, principal.key_id, route_of(request))


def note_seqs(request: HttpRequest, seqs: Sequence[int], opened: Sequence[int] = ()) -> None:
    """Note the entries that a request of a key shows, and those whose sealed payloads it opens."""
    org, principal = _admitted(request)
    assert org is not None, "this route has an org in its path"
    if principal is not None and seqs:
        recorder = services_of(request).recorder
        recorder.saw(org.id, principal.key_id, route_of(request), seqs)
        recorder.opened(org.id, principal.key_id, opened)


def route_of(request: HttpRequest) -> str:
    """Return the operationId of a request's route."""
    return str(request.route_handler.operation_id)


def note_refusal(request: HttpRequest, services: Services, error: QuireError) -> KnownKey | None:
    """Count a refused request: in the trail of its key's org, else in that of `system`.

    Returns the key that the request names, valid or not; None for one that never existed.
    """
    token = token_of(headers_of(request))
    key = None if token is None else services.authenticator.known_key(token)
    reason = _REASONS.get(type(error), "no_key" if token is None else "invalid_key")
    org_id, key_id = (None, None) if key is None else (key.org_id, key.id)
    address = address_of(request.scope)
    source = network_of(address) if key is None else f"key:{key.id}"
    services.recorder.refused(org_id or services.register.system_id or 0, source, reason)
    if isinstance(error, RateLimited):
        count_refusal(error)
    services.callers.refused(org_id, key_id, address.group, reason)
    return key


async def _let_in(request: HttpRequest, contract: RouteContract, slug: str | None) -> None:
    state = request.scope["state"]
    services = services_of(request)
    if contract.open:
        address = address_of(request.scope)
        ask_without_key(address.group)
        if not contract.probe:
            services.limits.admit_stranger(address)
        refuse_ignored(request)
        state[ADMITTED] = NOBODY
        return
    token = token_of(headers_of(request))
    principal = None if token is None else services.authenticator.cached(token)
    if principal is None:
        _require_quiet(request, services, token)
    directory = services.directory
    if contract.public and slug is not None:
        _ask_as_known(request, services, writes=bool(contract.writes))
        org = await directory.public(slug)
        if org is not None:
            refuse_ignored(request)
            await _spend(request, services, principal, contract.spending)
            state[ADMITTED] = org, None
            return
    principal = await _principal(request, services)
    ask_for(principal.owner, writes=bool(contract.writes))
    right = contract.right
    org = None
    if slug is not None and right is not None:
        org = await directory.org(slug, principal, right)
    elif right is not None:
        principal.require(right)
    state[ADMITTED] = org, principal
    await _spend(request, services, principal, contract.spending)


def _require_quiet(request: HttpRequest, services: Services, token: str | None) -> None:
    """Raise RateLimited if no valid key can have this token, and its address sent too much.

    A token of an id that a key has is looked up in any case: its caller may share the address.
    """
    if token is None or services.authenticator.known_key(token) is None:
        services.limits.require_stranger(address_of(request.scope))


async def _spend(
    request: HttpRequest, services: Services, principal: Principal | None, spending: Spending
) -> None:
    """Count an admitted request in the limits of its key, else in those of its address."""
    if principal is None:
        services.limits.admit_stranger(address_of(request.scope))
    else:
        await services.limits.admit(principal, spending)


async def org_named(request: HttpRequest, slug: str, right: Right) -> OrgFacts:
    """Return an org that a request names elsewhere than in its path, if its caller has the right.

    Raises NotFound, which is noted like that of a path, Forbidden.
    """
    services = services_of(request)
    try:
        return await services.directory.org(slug, principal_of(request), right)
    except NotFound as error:
        note_refusal(request, services, error)
        raise


def caller_of(scope: Scope, services: Services) -> tuple[Hashable, str | None]:
    """Return who sends a request, as far as this process knows without the database.

    It is the owner of its API key, or STRANGERS and the group of the address.
    """
    token = token_of(scope["state"][HEADERS])
    owner = None if token is None else services.authenticator.owner_of(token)
    return (STRANGERS, address_of(scope).group) if owner is None else (owner, None)


def _ask_as_known(request: HttpRequest, services: Services, *, writes: bool) -> None:
    """Ask for the owner of the request's key, if this process knows it, else for the address.

    So those who read a public log without a key do not hold up its org.
    """
    owner, address = caller_of(request.scope, services)
    if address is None:
        ask_for(owner, writes=writes)
    else:
        ask_without_key(address, writes=writes)


async def _principal(request: HttpRequest, services: Services) -> Principal:
    """Return the principal of the request's API key. Raises Unauthorized."""
    token = token_of(headers_of(request))
    if token is None:
        raise Unauthorized("send an API key as 'Authorization: Bearer …' or 'x-api-key: …'")
    authenticator = services.authenticator
    principal = authenticator.cached(token) or await authenticator.principal(token)
    if principal.allowed:
        require_address(request, principal)
    services.key_uses.note(principal.key_id)
    refuse_ignored(request)
    return principal


def require_address(request: HttpRequest, principal: Principal) -> None:
    """Raise AddressNotAllowed if a key may not be used from the address of a request."""
    address = address_of(request.scope)
    if not principal.admits(address):
        services_of(request).refused_addresses.note(principal, address)
        raise AddressNotAllowed


async def append_permitted(
    request: HttpRequest, org: OrgFacts, events: list[Event], key: KeyDigest | None = None
) -> Appended:
    """Append events for a request's caller, if there is a key its transaction checks it again."""
    services = services_of(request)
    append, validity = services.appender.append, services.authenticator.validity
    _, principal = _admitted(request)
    if principal is None:
        return await append(org, events, idempotency=key)
    return await permitted(
        request,
        principal,
        lambda by: append(org, events, idempotency=key, permits=append_permits(validity, by)),
    )


async def permitted(
    request: HttpRequest, principal: Principal, act: Callable[[Principal], Awaitable[T]]
) -> T:
    """Write something for a caller, whose key the transaction checks again.

    Raises Unauthorized if the key ended since it was admitted; nothing is written then.
    """
    for _ in range(MAX_LOOKS):
        try:
            return await act(principal)
        except StaleKey:
            principal = await _renewed(request, principal)
    raise DatabaseUnavailable("API keys of this org are changed faster than a request is written")


async def _renewed(request: HttpRequest, principal: Principal) -> Principal:
    """Return the principal of a request's key as it is now. Raises Unauthorized, AddressNotAllowed."""
    authenticator = services_of(request).authenticator
    authenticator.forget(principal.key_id)
    token = token_of(headers_of(request))
    assert token is not None, "the request was admitted by its key"
    state = request.scope["state"]
    org, _ = state[ADMITTED]
    renewed = await authenticator.principal(token)
    require_address(request, renewed)
    state[ADMITTED] = org, renewed
    return renewed


def interruptible(request: HttpRequest) -> None:
    """Let a request be broken off from here on if its key is revoked: it only reads or waits now."""
    request.scope["state"][LIVE].interruptible = True


async def require_current(request: HttpRequest) -> None:
    """Raise Unauthorized if the key of an admitted request ended meanwhile."""
    _, principal = _admitted(request)
    if principal is not None and not services_of(request).authenticator.validity.is_current(
        principal
    ):
        await _renewed(request, principal)


async def has_current_key(request: HttpRequest) -> bool:
    """Return whether the key of an admitted request is still valid; True if it needed none."""
    try:
        await require_current(request)
    except (Unauthorized, AddressNotAllowed):
        return False
    return True


def services_of(request: HttpRequest) -> Services:
    """Return the services of this process; the request keeps them, as an append needs them often."""
    state = request.scope["state"]
    services: Services | None = state.get(SERVICES)
    if services is None:
        services = state[SERVICES] = request.app.state.services
    return services


def headers_of(request: HttpRequest) -> Mapping[bytes, bytes]:
    """Return the request's headers by lower-case name; of a repeated one, the last.

    A header that may be sent once only is repeated in no request that reaches a route.
    """
    state = request.scope["state"]
    headers: Mapping[bytes, bytes] | None = state.get(HEADERS)
    if headers is None:
        headers = state[HEADERS] = dict(request.scope["headers"])
    return headers


def contract_of(request: HttpRequest) -> RouteContract:
    """Return the contract of this request's route."""
    contract: RouteContract = request.route_handler.opt[CONTRACT]
    return contract


def actor_of(request: HttpRequest) -> str:
    """Return the caller as entries of the server name it: its API key."""
    return principal_of(request).actor


def principal_of(request: HttpRequest) -> Principal:
    """Return the principal that the guard admitted."""
    _, principal = _admitted(request)
    assert principal is not None, "this route needs a key"
    return principal


def org_of(request: HttpRequest, slug: str) -> tuple[OrgFacts, Principal]:
    """Return the org of the path, and the principal that the guard admitted to it."""
    org, principal = _admitted(request)
    assert org is not None, "this route has an org in its path"
    assert org.slug == slug, "this is the org of the path"
    assert principal is not None, "this route needs a key"
    return org, principal


def log_of(request: HttpRequest, slug: str) -> tuple[OrgFacts, bool]:
    """Return the org of the path, and whether its log is public and read without a key."""
    org, principal = _admitted(request)
    assert org is not None, "this route has an org in its path"
    assert org.slug == slug, "this is the org of the path"
    return org, principal is None


def _admitted(request: HttpRequest) -> Admitted:
    admitted: Admitted = request.scope["state"][ADMITTED]
    return admitted


def clean(field: str, text: str) -> str:
    """Return a text that the database can store. Raises BadRequest."""
    if has_control(text):
        raise BadRequest(f"{field} has a control character; remove it")
    return text


def refuse_unknown(request: HttpRequest, known: frozenset[str]) -> None:
    """Raise BadRequest for an unknown query parameter: a misspelt filter would match everything."""
    unknown = sorted(set(request.query_params) - known)
    if unknown:
        names = f"known: {', '.join(sorted(known))}" if known else "it has none"
        raise BadRequest(f'"{unknown[0][:64]}" is not a query parameter of this route; {names}')


def refuse_ignored(request: HttpRequest) -> None:
    """Raise BadRequest if a route would ignore a part of the query.

    On a route with parameters it may be a misspelt one; on a route that writes, also a part of a
    name that was not percent-encoded. The known parameters are those in the route's signature; a
    route that ``reads_query`` checks the query itself.
    """
    if not request.scope["query_string"]:
        return
    contract = contract_of(request)
    if contract.reads_query:
        return
    handler = request.route_handler
    known = {
        definition.name or name
        for name, field in handler.parsed_fn_signature.parameters.items()
        if isinstance(definition := field.kwarg_definition, QueryParameter)
    }
    if known or contract.writes:
        refuse_unknown(request, frozenset(known))
    if contract.writes and not request.query_params:
        raise BadRequest("the query of this request has no parameter; leave it out")


def refuse_other_integers(request: HttpRequest) -> None:
    """Raise BadRequest for an integer parameter that is not decimal digits.

    Litestar would read 1e0 and 1.0 as 1.
    """
    if not request.scope["query_string"]:
        return
    for name in _integers_of(request.route_handler):
        text = request.query_params.get(name)
        if text is not None and _INTEGER.fullmatch(text) is None:
            raise BadRequest(f"{name} must be a whole number in decimal digits")


@cache
def _integers_of(handler: BaseRouteHandler) -> tuple[str, ...]:
    """Return the names of a route's query parameters that are integers."""
    return tuple(
        definition.name or name
        for name, field in handler.parsed_fn_signature.parameters.items()
        if isinstance(definition := field.kwarg_definition, QueryParameter)
        and int in {field.annotation, *field.args}
    )
