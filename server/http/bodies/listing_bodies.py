"""Reads requests that list record ids: megabytes of them, with the share of their org."""

from __future__ import annotations

from typing import Any, Final

from litestar.exceptions.http_exceptions import RequestEntityTooLarge

from ledger.core.org import OrgFacts
from ledger.errors import InvalidEvent
from ledger.intake.record_lists import RecordLists
from server.http.bodies.json_bodies import MAX_BYTES, decoded, json_body
from server.http.bodies.reading import announced_bytes, body_of, body_room
from server.http.bodies.refused import charge, refused_bytes
from server.http.caller import HttpRequest, contract_of, services_of
from server.http.problems import BadRequest, MalformedBody, RequestTimeout
from server.http.protocol.watching.receiving import RECEIVED

MAX_BODY_BYTES: Final = 16 << 20
"""Room for two hundred thousand record ids, twice."""


async def listing_body(request: HttpRequest, org: OrgFacts) -> tuple[Any, RecordLists]:
    """Return the body as the type in the route's contract, and its long lists of record ids.

    A long list has one id left in the body. Raises BadRequest, QueueFull, RequestTimeout, and
    RequestEntityTooLarge; what was received in vain counts against the org.
    """
    services = services_of(request)
    services.part(refused_bytes).admit(org.id)
    size = min(announced_bytes(request, MAX_BODY_BYTES), MAX_BODY_BYTES)
    if size <= MAX_BYTES:
        return await json_body(request), {}
    with services.part(body_room).holding(org.id, size):
        try:
            body = await body_of(request)
        except (RequestEntityTooLarge, RequestTimeout):
            charge(services, org.id, request.scope["state"].get(RECEIVED, 0))
            raise
        if len(body) <= MAX_BYTES:
            return await json_body(request), {}
        try:
            return await _taken_apart(request, org, body)
        except (BadRequest, InvalidEvent) as error:
            charge(services, org.id, len(body))
            raise MalformedBody(str(error)) from None


async def _taken_apart(request: HttpRequest, org: OrgFacts, body: bytes) -> tuple[Any, RecordLists]:
    kind = contract_of(request).body
    assert kind is not None, "a route that reads a body states its type"
    rest, lists = await services_of(request).appender.parsers.take_out(org.id, body)
    if len(rest) > MAX_BYTES:
        raise MalformedBody(
            f"the body is not valid: beside record ids it has over {MAX_BYTES} bytes"
        )
    return decoded(rest, kind), lists
