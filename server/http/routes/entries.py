"""Reads a trail: pages, single entries, exact payloads, the head."""

from __future__ import annotations

from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from typing import Annotated, Final, Literal

import msgspec
from litestar import Response, Router, get
from litestar.params import QueryParameter

from ledger.chain import StoredEntry
from ledger.core.org import OrgFacts
from ledger.entry import parse_record_id
from ledger.errors import FormatError, KeyNotRestored, QueueFull, SealingError
from ledger.event import is_json_payload
from ledger.pieces import piece
from ledger.times import EXAMPLE
from ledger.turns import Share, Turn, Turns
from server.access.administration import Conflict
from server.access.directory import NotFound
from server.access.principal import Principal
from server.access.rights import May
from server.http.api.append import EVENT
from server.http.api.orgs import HeadBody, head_body
from server.http.caller import HttpRequest, note_seqs, org_of, services_of
from server.http.contract import asks, octets
from server.http.parameters import MAX_TEXT_CHARS, Cursor, Limit, OrgSlug, RecordName
from server.http.routes.appending.appends import append_entries
from server.trails.appending import JSON, MSGPACK
from server.trails.reading import (
    EntryBody,
    EntryQuery,
    cursor_of,
    find,
    is_own,
    opened_of,
    payload_bytes,
    show,
)
from server.trails.services import Services

ENCODED_AT_ONCE: Final = 250
"""Entries of a page that are encoded without a pause: about a millisecond."""
_NO_ENTRIES: Final = b'{"entries":[]'
PAGES_AT_ONCE: Final = 8
PAGES_OF_ORG: Final = 2
"""Pages that one org reads at a time: each takes the processor for as long as many small requests."""
PAGE_WAIT_S: Final = 10.0
_PAGE: Final = "page"
TIME: Final = {"format": "date-time", "examples": [EXAMPLE]}


def _exact(description: str, example: str) -> QueryParameter:
    return QueryParameter(
        max_length=MAX_TEXT_CHARS, description=description, schema_extra={"examples": [example]}
    )


EventType = Annotated[str | None, _exact("Only entries of exactly this type", "invoice.approved")]
Actor = Annotated[
    str | None, _exact('Only entries of this actor, by name or ref ("ref:…")', "ada@example.com")
]
Subject = Annotated[
    str | None, _exact('Only entries of this subject, by name or ref ("ref:…")', "bob@example.com")
]
Action = Annotated[str | None, _exact("Only entries with exactly this action", "approve")]
Outcome = Annotated[str | None, _exact("Only entries with exactly this outcome", "success")]
Classification = Annotated[
    str | None, _exact("Only entries with exactly this data_classification", "confidential")
]
Since = Annotated[
    str | None,
    QueryParameter(
        max_length=64,
        description="Only entries written at this RFC 3339 time or later",
        schema_extra=TIME,
    ),
]
Until = Annotated[
    str | None,
    QueryParameter(
        max_length=64,
        description="Only entries written before this RFC 3339 time",
        schema_extra=TIME,
    ),
]
Order = Annotated[
    Literal["desc", "asc"],
    QueryParameter(
        description="Newest (desc) or oldest (asc) first", schema_extra={"examples": ["asc"]}
    ),
]


class EntryPageBody(msgspec.Struct):
    """A page of entries; follow ``next_cursor`` until it is null, also from an empty page."""

    entries: list[EntryBody]
    """The entries of this page; may be empty while a search goes on."""
    next_cursor: Annotated[str, msgspec.Meta(examples=["MQAAAAAAAAAq"])] | None
    """The ``cursor`` of the next page; null: this is the last page."""


async def _entry(request: HttpRequest, org: OrgFacts, text: str) -> StoredEntry:
    missing = NotFound("this org has no entry with this record id")
    try:
        place = parse_record_id(text)
    except FormatError:
        raise missing from None
    entry = None
    if place.org_id == org.id:
        entry = await services_of(request).trail.entry(place)
    if entry is None:
        raise missing
    return entry


def page_turns(_: Services) -> Turns:
    """Return the turns of pages in this process; made once, by :meth:`Services.part`."""
    return Turns(PAGES_AT_ONCE, {_PAGE: Share(PAGES_AT_ONCE, PAGES_OF_ORG)}, full=_too_many_pages)


def _too_many_pages(_: Hashable) -> QueueFull:
    return QueueFull(
        "too many pages are read with keys of this org; read fewer at a time, and retry shortly"
    )


@asynccontextmanager
async def page_turn(services: Services, principal: Principal) -> AsyncIterator[None]:
    """Wait until it is the turn of the caller's org to read a page. Raises QueueFull."""
    turns, turn = services.part(page_turns), Turn(principal.owner, _PAGE)
    try:
        await turns.take(turn, PAGE_WAIT_S)
    except TimeoutError:
        raise _too_many_pages(_PAGE) from None
    try:
        yield
    finally:
        turns.give_back(turn)


@get(
    "/v1/orgs/{org:str}/entries",
    operation_id="listEntries",
    opt=asks(May.READ, problems=(400, 422), answers={200: {JSON: EntryPageBody}}),
)
async def list_entries(
    request: HttpRequest,
    org: OrgSlug,
    event_type: EventType = None,
    actor: Actor = None,
    subject: Subject = None,
    action: Action = None,
    outcome: Outcome = None,
    data_classification: Classification = None,
    since: Since = None,
    until: Until = None,
    cursor: Cursor = None,
    order: Order = "desc",
    limit: Limit = 100,
) -> Response[bytes]:
    """List entries, newest first; complete up to the last acknowledged entry."""
    tenant, principal = org_of(request, org)
    services = services_of(request)
    may_open = principal.may(May.OPEN)
    query = EntryQuery(
        event_type=event_type,
        actor=actor,
        subject=subject,
        action=action,
        outcome=outcome,
        data_classification=data_classification,
        since=since,
        until=until,
        cursor=cursor,
        descending=order == "desc",
        limit=limit,
    )
    async with page_turn(services, principal):
        page = await find(services.trail, services.sealer, tenant, query, may_open=may_open)
        shown = await show(services.sealer, tenant, page.entries, may_open=may_open)
    note_seqs(request, [entry.seq for entry in shown], opened_of(shown))
    following = None if page.next_seq is None else cursor_of(page.next_seq)
    return Response(await _page(tenant, shown, following), media_type=JSON)


async def _page(tenant: OrgFacts, shown: list[EntryBody], following: str | None) -> bytes:
    """Return an EntryPageBody as JSON, made in pieces: it may have megabytes."""
    if len(shown) <= ENCODED_AT_ONCE:
        return msgspec.json.encode(EntryPageBody(shown, following))
    pieces: list[bytes] = []
    for first in range(0, len(shown), ENCODED_AT_ONCE):
        await piece(tenant.id)
        pieces.append(msgspec.json.encode(shown[first : first + ENCODED_AT_ONCE])[1:-1])
    rest = msgspec.json.encode(EntryPageBody([], following)).removeprefix(_NO_ENTRIES)
    return b"".join((_NO_ENTRIES[:-1], b",".join(pieces), b"]", rest))


@get(
    "/v1/orgs/{org:str}/entries/{record:str}",
    operation_id="getEntry",
    opt=asks(May.READ, answers={200: {JSON: EntryBody}}),
)
async def get_entry(request: HttpRequest, org: OrgSlug, record: RecordName) -> Response[bytes]:
    """Get one entry."""
    tenant, principal = org_of(request, org)
    entry = await _entry(request, tenant, record)
    services = services_of(request)
    shown = await show(services.sealer, tenant, [entry], may_open=principal.may(May.OPEN))
    note_seqs(request, [entry.seq], opened_of(shown))
    return Response(msgspec.json.encode(shown[0]), media_type=JSON)


@get(
    "/v1/orgs/{org:str}/entries/{record:str}/payload",
    operation_id="getPayload",
    opt=asks(
        May.OPEN,
        problems=(409,),
        answers={
            200: {
                JSON: {"type": "object", "examples": [EVENT]},
                MSGPACK: octets("The event as MessagePack"),
            }
        },
        meanings={200: "The event as it was sent, byte by byte"},
    ),
)
async def get_payload(request: HttpRequest, org: OrgSlug, record: RecordName) -> Response[bytes]:
    """Get the exact bytes of the event as it was sent."""
    tenant, _ = org_of(request, org)
    entry = await _entry(request, tenant, record)
    services = services_of(request)
    try:
        payload = await payload_bytes(services.sealer, tenant, entry)
    except KeyNotRestored as error:
        raise Conflict(str(error)) from None
    except (SealingError, FormatError) as error:
        raise Conflict(f"the entry was altered and can't be opened: {error}") from None
    if payload is None:
        raise NotFound("the subject of this entry is erased; its payload can't be read any more")
    note_seqs(request, [entry.seq], [entry.seq] if tenant.seals and not is_own(entry) else [])
    return Response(payload, media_type=JSON if is_json_payload(payload) else MSGPACK)


@get("/v1/orgs/{org:str}/head", operation_id="getHead", opt=asks(May.READ))
async def get_head(request: HttpRequest, org: OrgSlug) -> HeadBody:
    """Get the newest entry of the trail."""
    tenant, _ = org_of(request, org)
    return head_body(*await services_of(request).trail.head(tenant.id))


router = Router(
    "/",
    route_handlers=[
        append_entries,
        list_entries,
        get_entry,
        get_payload,
        get_head,
    ],
    tags=["Entries"],
)
