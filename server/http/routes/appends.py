"""POST /v1/orgs/{org}/entries: appends events."""

from __future__ import annotations

import asyncio
from itertools import repeat
from typing import Final
from urllib.parse import parse_qsl

import msgspec
from litestar import post
from litestar.types import ASGIApp
from msgspec import UNSET, UnsetType

from ledger.core.org import OrgFacts
from ledger.core.sequencer import Appended
from ledger.entry import format_time, record_id_prefix, rfc3339
from ledger.event import misspelt_fields
from server.access.rights import May
from server.http.api.append import describe_append, event_schema
from server.http.append_warnings import AppendWarnings, warnings_of
from server.http.bodies import SMALL_BYTES, body_of, body_reads
from server.http.caller import HttpRequest, org_of, services_of
from server.http.contract import asks
from server.http.parameters import OrgSlug
from server.http.problems import BadRequest
from server.http.protocol.bytes_response import BytesResponse
from server.http.routes.proofs import ProofBody, SignedHeadBody
from server.http.routes.tenants import HeadBody
from server.http.routes.waiting import SignedInclusion, signed
from server.trails.appending import JSON

LARGE_BODY_BYTES: Final = 1 << 20
_REPLAYED: Final = ((b"idempotency-replayed", b"true"),)


class ReceiptBody(msgspec.Struct):
    """The place of an event in the trail; durable once this is answered.

    ``proof`` is there where ``wait=checkpoint`` was asked for; null: not signed in time.
    ``warnings`` is there where fields look like a recognised field misspelt.
    """

    record_id: str
    seq: int
    entry_hash: str
    previous_hash: str | None
    anchored_at: str
    proof: ProofBody | UnsetType | None = UNSET
    warnings: list[str] | UnsetType = UNSET


class BatchReceiptBody(msgspec.Struct):
    """The places of a batch's events, in their order, and the head after them.

    ``checkpoint`` is there where ``wait=checkpoint`` was asked for; null: not signed in time.
    """

    entries: list[ReceiptBody]
    head: HeadBody
    checkpoint: SignedHeadBody | UnsetType | None = UNSET
    warnings: list[str] | UnsetType = UNSET


class BatchSummaryBody(msgspec.Struct):
    """The bounds of a batch, where ``Prefer: return=minimal`` asked for no more."""

    first_seq: int
    last_seq: int
    count: int
    head: HeadBody
    checkpoint: SignedHeadBody | UnsetType | None = UNSET
    warnings: list[str] | UnsetType = UNSET


@post(
    "/v1/orgs/{org:str}/entries",
    name="append_entries",
    status_code=201,
    operation_id="appendEntries",
    opt=asks(
        May.APPEND,
        writes=True,
        reads_query=True,
        completes=describe_append,
        schemas={"Event": event_schema()},
        problems=(400, 408, 413, 415, 422, 423, 429, 503),
        answers={201: {JSON: ReceiptBody | BatchReceiptBody | BatchSummaryBody}},
    ),
)
async def append_entries(request: HttpRequest, org: OrgSlug) -> ASGIApp:
    """Append one event, or a batch of events as a whole, and answer once it is durable."""
    tenant, _ = org_of(request, org)
    wait = _waits(request)
    content_type, minimal, key = _headers(request)
    services = services_of(request)
    appender = services.appender
    size = _announced(request, services.settings.max_body_bytes)
    if size <= SMALL_BYTES:
        body = await body_of(request)
        events, single = appender.parse(body, content_type)
    else:
        with services.part(body_reads).room.holding(tenant.id, size):
            body = await body_of(request)
            if len(body) > LARGE_BODY_BYTES:
                # Parsing megabytes of JSON must not delay other requests.
                events, single = await asyncio.to_thread(appender.parse, body, content_type)
            else:
                events, single = appender.parse(body, content_type)
    appended = await appender.append(
        tenant, events, idempotency=appender.request_key(key, body, content_type)
    )
    headers = _REPLAYED if appended.replayed else ()
    found = await signed(request, tenant, appended) if wait else None
    misspelt = misspelt_fields(events)
    warned = warnings_of(misspelt, single=single) if misspelt else None
    if single:
        content = _with(_receipts(tenant, appended)[0], "proof", found and found.proofs[0])
    elif minimal:
        content = _with(_summary(appended), "checkpoint", found and found.checkpoint)
    else:
        content = _batch(tenant, appended, found, warned)
    content = _with(content, "warnings", warned and warned.of_request)
    return BytesResponse(201, content.encode(), headers)


def _batch(
    tenant: OrgFacts,
    appended: Appended,
    found: SignedInclusion | None,
    warned: AppendWarnings | None,
) -> str:
    receipts = _receipts(tenant, appended)
    if found is not None and found.proofs:
        receipts = list(map(_with, receipts, repeat("proof"), found.proofs))
    if warned is not None:
        for index, said in warned.of_event.items():
            receipts[index] = _with(receipts[index], "warnings", said)
    content = f'{{"entries":[{",".join(receipts)}],"head":{_head(appended)}}}'
    return _with(content, "checkpoint", found and found.checkpoint)


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
    content_type, minimal, key = "", False, None
    for name, value in request.scope["headers"]:
        if name == b"content-type":
            content_type = value.partition(b";")[0].strip().lower().decode("latin-1")
        elif name == b"prefer":
            minimal = minimal or b"return=minimal" in value.lower()
        elif name == b"idempotency-key":
            key = value.decode("latin-1")
    return content_type, minimal, key


def _announced(request: HttpRequest, limit_bytes: int) -> int:
    """Return the announced size of a body, at most the limit; the limit if it is not announced."""
    for name, value in request.scope["headers"]:
        if name == b"content-length":
            return min(int(value), limit_bytes) if value.isdigit() else limit_bytes
    return limit_bytes


# Hashes, ids and times have no characters that JSON escapes, so they are
# formatted directly: a batch of 10,000 is answered in milliseconds.


def _receipts(org: OrgFacts, appended: Appended) -> list[str]:
    receipts: list[str] = []
    last_us, prefix, anchored = -1, "", ""
    for seq, entry_hash, previous_hash, anchored_us in appended.receipts():
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
