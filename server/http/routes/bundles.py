"""Evidence bundles over HTTP: planned, recorded if they disclose something, then streamed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, aclosing
from typing import Final, Literal

from litestar import Router, post
from litestar.types import ASGIApp
from msgspec import structs

from ledger.core.bundling import (
    BundlePlan,
    Disclosure,
    NothingSelected,
    Selection,
    by_filter,
    by_range,
    by_records,
    covering,
)
from ledger.core.bundling.covering import Covering
from ledger.core.org import OrgFacts
from ledger.core.proving import NotYetSigned
from ledger.entry import RecordId
from ledger.evidence.format import Disclose, Filter, Request
from ledger.intake.record_lists import RecordList, RecordLists, places_of, slices
from server.access.limits.rules import Spending
from server.access.principal import Principal
from server.access.rights import May
from server.http.api.bundles import CreateBundle
from server.http.bodies import MAX_BODY_BYTES, listing_body
from server.http.caller import HttpRequest, interruptible, org_of, permitted, services_of
from server.http.contract import (
    WRITE_PROBLEMS,
    ResponseHeader,
    asks,
    octets,
)
from server.http.parameters import OrgSlug
from server.http.problems import BadRequest
from server.http.routes import disclosures
from server.http.streams.streamed_response import StreamedResponse
from server.keys.attestors import witnesses_asked
from server.trails import reading
from server.trails.own.recorder import MadeBundle
from server.trails.services import Services

ZIP: Final = "application/zip"
A_BUNDLE: Final = octets(
    "The bundle: a zip with the entries, their proofs, the keys, and a page that verifies them"
)
FILE_NAME: Final = ResponseHeader(
    "Content-Disposition",
    "A name for the file: the org, the first and the last seq",
    'attachment; filename="quire-acme-0-41.zip"',
)
SEARCH_S: Final = 20.0
"""How long a filter may search before the request fails."""
POLL_INTERVAL_S: Final = 0.25
"""Pause between two checks whether the entries are signed."""


@post(
    "/v1/orgs/{org:str}/bundles",
    status_code=200,
    operation_id="createBundle",
    opt=asks(
        May.BUNDLE,
        writes=True,
        spends=Spending.READ,
        body=CreateBundle,
        example={"from_seq": 0, "to_seq": 0, "include_payloads": False},
        problems=(400, 409, 422, 423, *WRITE_PROBLEMS),
        answers={200: {ZIP: A_BUNDLE}},
        headers=(FILE_NAME,),
    ),
    request_max_body_size=MAX_BODY_BYTES,
)
async def create_bundle(request: HttpRequest, org: OrgSlug) -> ASGIApp:
    """Return entries with their proofs, signatures and keys in one zip that is verified offline."""
    tenant, principal = org_of(request, org)
    options, lists = await listing_body(request, tenant)
    interruptible(request)
    _check(options, principal)
    services = services_of(request)
    with services.bundles.place(tenant.id):
        stated, selection = await _select(services, tenant, principal, options, lists)
        disclosure = await _disclosure(services, tenant, options, lists, selection)
    signed = await _signed(services, tenant, selection.seqs[-1], options.include_pq_attestation)
    contents = BundlePlan(tenant, stated, selection, signed, disclosure)
    async with AsyncExitStack() as resources:
        place = resources.enter_context(services.bundles.place(tenant.id))
        stream = services.bundles.stream(contents, place)
        pieces = await resources.enter_async_context(aclosing(stream))
        # A fault in the first entries can still be answered as a problem.
        first = await anext(pieces)
        if disclosure is not None and tenant.seals:
            await permitted(
                request, principal, lambda by: _record_disclosure(services, contents, by)
            )
        services.recorder.bundle(_made(contents, principal))
        name = f"bundle of {tenant.slug}"
        return StreamedResponse(
            first, pieces, _headers(contents), resources.pop_all(), name, place.let_go
        )


def _check(options: CreateBundle, principal: Principal) -> None:
    """Refuse a request that contradicts itself, or that this role may not make."""
    ranged = options.from_seq is not None or options.to_seq is not None
    if sum((options.record_ids is not None, ranged, options.filter is not None)) != 1:
        raise BadRequest("select entries in one way: record_ids, from_seq and to_seq, or filter")
    if options.to_seq is not None and options.to_seq < (options.from_seq or 0):
        raise BadRequest("to_seq must not be less than from_seq")
    if options.disclose is None:
        return
    principal.require(May.DISCLOSE)
    if len(set(options.disclose.fields)) != len(options.disclose.fields):
        raise BadRequest("disclose.fields names a field twice")
    if "payload" in options.disclose.fields and not options.include_payloads:
        raise BadRequest("without include_payloads there is no payload to disclose")


async def _select(
    services: Services,
    org: OrgFacts,
    principal: Principal,
    options: CreateBundle,
    lists: RecordLists,
) -> tuple[Request, Selection]:
    """Return the request as the manifest states it, and the selected entries."""
    database, limit = services.database, services.settings.max_bundle_entries
    stated = Request(
        disclose=None
        if options.disclose is None
        else Disclose(
            tuple(options.disclose.fields),
            _all_or_listed(options.disclose.records, lists),
        ),
        include_merkle_proofs=options.include_merkle_proofs,
        include_payloads=options.include_payloads,
        include_pq_attestation=options.include_pq_attestation,
    )
    if options.record_ids is not None:
        listed = lists.get("record_ids") or _listed(options.record_ids)
        selection = await by_records(services.trail, org.id, _places(listed), limit)
        return structs.replace(stated, record_ids=tuple(listed.texts)), selection
    if options.filter is None:
        first = options.from_seq or 0
        selection = await by_range(
            database, services.trail, org.id, from_seq=first, to_seq=options.to_seq, limit=limit
        )
        return structs.replace(stated, from_seq=first, to_seq=selection.seqs[-1]), selection
    query = await reading.resolve(
        services.sealer,
        org,
        reading.EntryQuery(**structs.asdict(options.filter)),
        may_open=principal.may(May.OPEN),
    )
    if query is None:
        raise NothingSelected("no entry matches")
    selection = await by_filter(
        database,
        services.trail,
        org.id,
        reading.where_of(query),
        limit=limit,
        within_s=SEARCH_S,
    )
    # The file would keep a name after the person is erased; the ref means nothing then.
    shown = {**structs.asdict(options.filter), "actor": query.actor, "subject": query.subject}
    return structs.replace(stated, filter=Filter(**shown)), selection


async def _disclosure(
    services: Services,
    org: OrgFacts,
    options: CreateBundle,
    lists: RecordLists,
    selection: Selection,
) -> Disclosure | None:
    if options.disclose is None:
        return None
    fields = frozenset(options.disclose.fields)
    if options.disclose.records == "all":
        return Disclosure(fields, None)
    places = _places(lists.get("records") or _listed(options.disclose.records))
    selected = selection.seqs if isinstance(selection.seqs, range) else frozenset(selection.seqs)
    seqs: set[int] = set()
    for some in slices(places):
        asked = {place.seq for place in some if place.org_id == org.id and place.seq in selected}
        if len(asked) != len(some) or await services.trail.present(org.id, some) != asked:
            raise BadRequest("disclose.records names an entry that is not in the bundle")
        seqs |= asked
    return Disclosure(fields, frozenset(seqs))


def _all_or_listed(
    records: Literal["all"] | list[str], lists: RecordLists
) -> Literal["all"] | tuple[str, ...]:
    """Return what a request asks to disclose, as the manifest states it."""
    if records == "all":
        return "all"
    return tuple((lists.get("records") or _listed(records)).texts)


def _listed(texts: list[str]) -> RecordList:
    return RecordList(texts, places_of(texts))


def _places(listed: RecordList) -> list[RecordId]:
    if listed.places is None:
        raise NothingSelected("one of the record ids does not belong to an entry of this org")
    return listed.places


async def _signed(services: Services, org: OrgFacts, seq: int, anchored: bool) -> Covering:
    """Wait, as long as the settings allow, until this entry is signed; return the signatures.

    Cosignatures follow some seconds after the anchor and are waited for as long again; if they do
    not come, the bundle is made without them.
    """
    wait_s = services.settings.bundle_wait_seconds
    deadline = time.monotonic() + wait_s
    cosigned_by: float | None = None
    policy = witnesses_asked(services.settings) if anchored else None
    with services.bundles.waiting(org.id):
        while True:
            try:
                found = await covering(
                    services.database,
                    org,
                    seq,
                    anchored=anchored,
                    policy=policy,
                    published=services.published_keys,
                )
            except NotYetSigned:
                if time.monotonic() + POLL_INTERVAL_S > deadline:
                    raise
            else:
                cosigned_by = cosigned_by or time.monotonic() + wait_s
                if found.cosigned or time.monotonic() + POLL_INTERVAL_S > cosigned_by:
                    return found
            await asyncio.sleep(POLL_INTERVAL_S)


async def _record_disclosure(services: Services, contents: BundlePlan, by: Principal) -> None:
    """Record in the trail which fields of which entries are disclosed, before they are sent.

    A crash here leaves a record of a disclosure that was not sent, never the reverse.
    """
    assert contents.disclosure is not None
    seqs: Sequence[int] = contents.selection.seqs
    if contents.disclosure.seqs is not None:
        seqs = sorted(contents.disclosure.seqs)
    size, limit = contents.covering.checkpoint.size, services.settings.max_payload_bytes
    fields = contents.disclosure.fields
    # Work of Python, beside which others go on.
    found = await asyncio.to_thread(disclosures.records, seqs, fields, size, limit)
    for record in found:
        await services.guard.disclosed(contents.org, record, by.key_id, by)


def _made(contents: BundlePlan, by: Principal) -> MadeBundle:
    """Return what is recorded of a bundle that is about to be sent."""
    seqs, disclosure = contents.selection.seqs, contents.disclosure
    fields = () if disclosure is None else tuple(sorted(disclosure.fields))
    return MadeBundle(contents.org.id, by.key_id, seqs[0], seqs[-1], len(seqs), fields)


def _headers(contents: BundlePlan) -> list[tuple[bytes, bytes]]:
    seqs = contents.selection.seqs
    name = f"quire-{contents.org.slug}-{seqs[0]}-{seqs[-1]}.zip"
    return [
        (b"content-type", ZIP.encode()),
        (b"content-disposition", f'attachment; filename="{name}"'.encode()),
    ]


router = Router("/", route_handlers=[create_bundle], tags=["Evidence"])
