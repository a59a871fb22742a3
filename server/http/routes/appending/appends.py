"""POST /v1/orgs/{org}/entries: appends events."""

from __future__ import annotations

from functools import lru_cache
from itertools import islice, repeat
from typing import Annotated, Final
from urllib.parse import parse_qsl

import msgspec
from litestar import post
from litestar.exceptions.http_exceptions import RequestEntityTooLarge
from litestar.types import ASGIApp
from msgspec import UNSET, Meta, UnsetType

from ledger.core.org import OrgFacts
from ledger.core.sequencer import Appended, EntryPlace
from ledger.entry import format_time, record_id_prefix, rfc3339
from ledger.event import misspelt_fields
from ledger.pieces import piece
from ledger.shapes import HashHex, RecordIdText, Seq, TimeText
from server.access.limits.rules import Spending
from server.access.rights import May
from server.http.api.append import describe_append, event_schemas
from server.http.api.logs import SignedHeadBody
from server.http.api.orgs import HeadBody
from server.http.api.proofs import ProofBody
from server.http.append_warnings import AppendWarnings, warnings_of
from server.http.bodies import (
    SMALL_BYTES,
    announced_bytes,
    body_of,
    body_room,
    charge,
    parsed_body,
    refused_bytes,
)
from server.http.caller import HttpRequest, append_permitted, headers_of, org_of, services_of
from server.http.contract import ResponseHeader, asks
from server.http.parameters import OrgSlug
from server.http.problems import BadRequest, RequestTimeout
from server.http.protocol.bytes_response import BytesResponse
from server.http.protocol.watching.receiving import RECEIVED
from server.http.routes.appending.waiting import SignedInclusion, signed
from server.trails.appending import JSON

REPLAYED: Final = ResponseHeader(
    "Idempotency-Replayed",
    "The request was written before, under the same idempotency key; this is that answer again",
    "true",
    always=False,
)
SLICE_RECEIPTS: Final = 1_000
"""Receipts that are written in one turn of the event loop: about a millisecond."""
_REPLAYED: Final = ((b"idempotency-replayed", b"true"),)


Warnings = Annotated[
    list[str],
    Meta(
        examples=[
            [
                '"Actor" is no recognised field and is kept in the payload only; '
                'did you mean "actor"?'
            ]
        ]
    ),
]


class ReceiptBody(msgspec.Struct):
    """The place of an event in the trail; the event is durable once this is answered."""

    record_id: RecordIdText
    """The id of the entry."""
    seq: Seq
    """The number of the entry in the trail."""
    entry_hash: HashHex
    """The hash of the entry's leaf: SHA-256(0x00 ‖ leaf)."""
    previous_hash: HashHex | None
    """The hash of the entry before it; null for the first of the trail."""
    anchored_at: TimeText
    """When the entry was written."""
    proof: ProofBody | UnsetType | None = UNSET
    """The proof that a checkpoint includes the entry; null: none was signed within 10 seconds. Only
    with ``wait=checkpoint``, and for at most 100 entries."""
    warnings: Warnings | UnsetType = UNSET
    """The fields of the event that look like a recognised field misspelt, and what each may mean;
    absent if there are none."""


class BatchReceiptBody(msgspec.Struct):
    """The places of a batch's events, and the head after them."""

    entries: list[ReceiptBody]
    """The places of the events, in the order in which they were sent."""
    head: HeadBody
    """The newest of these entries."""
    checkpoint: SignedHeadBody | UnsetType | None = UNSET
    """A checkpoint that includes all of them; null: none was signed within 10 seconds. Only with
    ``wait=checkpoint``."""
    warnings: Warnings | UnsetType = UNSET
    """The fields of all events that look like a recognised field misspelt: the first 10, and how many
    more there are; absent if there are none."""


class BatchSummaryBody(msgspec.Struct):
    """The bounds of a batch, where ``Prefer: return=minimal`` asked for no more."""

    first_seq: Annotated[Seq, Meta(examples=[40])]
    """The smallest seq among these entries."""
    last_seq: Seq
    """The largest seq among these entries."""
    count: Annotated[int, Meta(examples=[2], extra_json_schema={"minimum": 1})]
    """How many events the batch has."""
    head: HeadBody
    """The newest of these entries."""
    checkpoint: SignedHeadBody | UnsetType | None = UNSET
    """A checkpoint that includes all of them; null: none was signed within 10 seconds. Only with
    ``wait=checkpoint``."""
    warnings: Warnings | UnsetType = UNSET
    """The fields of all events that look like a recognised field misspelt: the first 10, and how many
    more there are; absent if there are none."""


@post(
    "/v1/orgs/{org:str}/entries",
    name="append_entries",
    status_code=201,
    operation_id="appendEntries",
    opt=asks(
        May.APPEND,
        writes=True,
        spends=Spending.APPEND,
        reads_query=True,
        completes=describe_append,
        schemas=event_schemas,
        problems=(400, 408, 413, 415, 422, 423, 429, 503),
        answers={201: {JSON: ReceiptBody | BatchReceiptBody | BatchSummaryBody}},
        meanings={
            201: "The events are written and durable: the place of one event, or those of a batch, "
            "or the bounds of the batch with `Prefer: return=minimal`"
        },
        headers=(REPLAYED,),
    ),
)
async def append_entries(request: HttpRequest, org: OrgSlug) -> ASGIApp:
    """Append one event, or a batch of events as a whole, and answer once it is durable."""
    tenant, _ = org_of(request, org)
    wait = _waits(request)
    content_type, minimal, key = _headers(request)
    services = services_of(request)
    await services.quotas.require(tenant)
    limit = services.settings.max_body_bytes
    size = min(announced_bytes(request, limit), limit)
    services.part(refused_bytes).admit(tenant.id)
    if size <= SMALL_BYTES:
        body = await _body(request, tenant)
        events, single = await parsed_body(services, tenant, body, content_type)
    else:
        with services.part(body_room).holding(tenant.id, size):
            body = await _body(request, tenant)
            events, single = await parsed_body(services, tenant, body, content_type)
    repeated = services.appender.request_key(tenant, key, body, content_type)
    append = append_permitted(request, tenant, events, repeated)
    appended = await services.quotas.counted(tenant, len(events), len(body), append)
    headers = _REPLAYED if appended.replayed else ()
    found = await signed(request, tenant, appended) if wait else None
    misspelt = misspelt_fields(events)
    if len(events) > SLICE_RECEIPTS:
        await piece(tenant.id)
    warned = warnings_of(misspelt, single=single) if misspelt else None
    if single:
        (receipt,) = await _receipts(tenant, appended)
        content = _with(receipt, "proof", found and found.proofs[0])
    elif minimal:
        content = _with(_summary(appended), "checkpoint", found and found.checkpoint)
    else:
        receipts = await _receipts(tenant, appended)
        batch = await _batch(tenant, receipts, appended, found, warned)
        return BytesResponse(201, batch, headers)
    content = _with(content, "warnings", warned and warned.of_request)
    return BytesResponse(201, content.encode(), headers)


async def _body(request: HttpRequest, tenant: OrgFacts) -> bytes:
    """Return the body; what is received of one too large or too slow counts against the org."""
    try:
        return await body_of(request)
    except (RequestEntityTooLarge, RequestTimeout):
        received = request.scope["state"].get(RECEIVED, 0)
        services = services_of(request)
        charge(services, tenant.id, received)
        services.quotas.charge(tenant, received)
        raise


async def _batch(
    tenant: OrgFacts,
    receipts: list[str],
    appended: Appended,
    found: SignedInclusion | None,
    warned: AppendWarnings | None,
) -> bytes:
    """Return the answer to a batch, made in slices: it may have megabytes."""
    if found is not None and found.proofs:
        receipts = list(map(_with, receipts, repeat("proof"), found.proofs))
    if warned is not None:
        for index, said in warned.of_event.items():
            receipts[index] = _with(receipts[index], "warnings", said)
    rest = _with(f'{{"head":{_head(appended)}}}', "checkpoint", found and found.checkpoint)
    rest = _with(rest, "warnings", warned and warned.of_request)
    slices: list[bytes] = []
    for first in range(0, len(receipts), SLICE_RECEIPTS):
        if first:
            await piece(tenant.id)
        slices.append(",".join(receipts[first : first + SLICE_RECEIPTS]).encode())
    slices[0] = b'{"entries":[' + slices[0]
    slices[-1] += b"]," + rest[1:].encode()
    return b",".join(slices)


def _waits(request: HttpRequest) -> bool:
    """Return whether the request waits for a checkpoint. Raises BadRequest for another query."""
    query = request.scope["query_string"]
    if not query:
        return False
    if parse_qsl(query.decode("latin-1"), keep_blank_values=True) != [("wait", "checkpoint")]:
        raise BadRequest("an append has no query parameter but wait=checkpoint")
    return True


def _with(document: str, name: str, value: str | None) -> str:
    """Return a JSON object with one more member, unless its value is None."""
    return document if value is None else f'{document[:-1]},"{name}":{value}}}'


def _headers(request: HttpRequest) -> tuple[str, bool, str | None]:
    """Return content type, whether a minimal answer is preferred (RFC 7240), idempotency key."""
    headers = headers_of(request)
    content_type = _media_type(headers.get(b"content-type", b""))
    minimal = b"prefer" in headers and any(
        name == b"prefer" and b"return=minimal" in value.lower()
        for name, value in request.scope["headers"]
    )
    key = headers.get(b"idempotency-key")
    return content_type, minimal, None if key is None else key.decode("latin-1")


@lru_cache(maxsize=128)
def _media_type(content_type: bytes) -> str:
    """Return the media type of a Content-Type header, without its parameters."""
    return content_type.partition(b";")[0].strip().lower().decode("latin-1")


# Hashes, ids and times have no characters that JSON escapes, so they are
# formatted directly: a batch of 10,000 is answered in milliseconds.


async def _receipts(org: OrgFacts, appended: Appended) -> list[str]:
    """Return a receipt for each event; other requests go on after each SLICE_RECEIPTS of them."""
    places = appended.places()
    receipts: list[str] = []
    while some := list(islice(places, SLICE_RECEIPTS)):
        if receipts:
            await piece(org.id)
        receipts += _written(org, some)
    return receipts


def _written(org: OrgFacts, places: list[EntryPlace]) -> list[str]:
    receipts: list[str] = []
    last_us, prefix, anchored = -1, "", ""
    for seq, entry_hash, previous_hash, anchored_us in places:
        if anchored_us != last_us:
            last_us, anchored = anchored_us, format_time(anchored_us)
            prefix = record_id_prefix(org.id, anchored_us)
        previous = f'"{previous_hash.hex()}"' if previous_hash else "null"
        receipts.append(
            f'{{"record_id":"{prefix}{seq:010x}","seq":{seq},"entry_hash":"{entry_hash.hex()}",'
            f'"previous_hash":{previous},"anchored_at":"{anchored}"}}'
        )
    return receipts


def _summary(appended: Appended) -> str:
    seqs = [entry.seq for entry in appended.entries]
    return (
        f'{{"first_seq":{min(seqs)},"last_seq":{max(seqs)},"count":{len(seqs)},'
        f'"head":{_head(appended)}}}'
    )


def _head(appended: Appended) -> str:
    """Return the newest entry of the request: the head at that time, even in a replay."""
    entries = appended.entries
    newest = entries[-1] if appended.contiguous else max(entries, key=lambda entry: entry.seq)
    return (
        f'{{"seq":{newest.seq},"entry_hash":"{newest.entry_hash.hex()}",'
        f'"anchored_at":"{rfc3339(newest.anchored_at)}"}}'
    )
