"""Verifies one entry at once, or a whole trail as a job that can be watched."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Annotated

from litestar import Response, Router, get, post
from litestar.params import PathParameter, QueryParameter
from litestar.response import ServerSentEvent, ServerSentEventMessage
from msgspec import json
from msgspec.structs import replace

from ledger.chain import StoredEntry
from ledger.core.org import OrgFacts
from ledger.core.verification.own_jobs import Job
from ledger.core.verification.rows.own_hash import with_own_hash
from ledger.core.verification.run import TrailRange
from ledger.core.verification.single import (
    EntryResult,
    check_inclusion,
    missing_entry,
    signed_size,
    verify_entry,
)
from ledger.core.verification.work.faults import RangeRefused
from ledger.core.verification.work.trust import TrailTrust
from ledger.entry import RecordId, format_time, from_datetime, has_control, record_id
from ledger.verdict import worse_of
from server.access.directory import NotFound
from server.access.limits.rules import Spending
from server.access.rights import May
from server.http.api.verifications import (
    UNBUFFERED,
    WATCHED,
    EntryVerdict,
    JobBody,
    VerifyRange,
    fault_schemas,
    job_body,
    watched_schemas,
)
from server.http.bodies import body_of, json_body
from server.http.caller import HttpRequest, interruptible, org_of, principal_of, services_of
from server.http.contract import WRITE_PROBLEMS, asks
from server.http.parameters import EntryName, OrgSlug
from server.http.problems import BadRequest
from server.http.routes.imported_rows import MISSING, named_entry
from server.http.streams.event_streams import event_streams
from server.trails.appending import JSON
from server.trails.own.verdicts import note_entry
from server.trails.services import Services

MAX_WAIT_S = 60.0
JobId = Annotated[
    str,
    PathParameter(
        description="Id of a verification: ver_ and 32 lower-case hex digits",
        schema_extra={"examples": ["ver_5f0c6d1f8a0f4e7c9d5b2a1e3c4d6f70"]},
    ),
]


async def _range(request: HttpRequest) -> VerifyRange:
    """Return the range to verify; no body means the whole trail."""
    if not (await body_of(request)).strip():
        return VerifyRange()
    bounds: VerifyRange = await json_body(request)
    if None not in (bounds.from_seq, bounds.to_seq) and bounds.to_seq < bounds.from_seq:  # type: ignore[operator]
        raise BadRequest("to_seq must not be less than from_seq")
    return bounds


async def _find(request: HttpRequest, org: OrgFacts, job_id: str) -> Job:
    job = None
    if not has_control(job_id):  # the database can't store NUL
        job = await services_of(request).verifications.find(org.id, job_id)
    if job is None:
        raise NotFound("this org has no verification with this id")
    return job


@post(
    "/v1/orgs/{org:str}/verifications",
    status_code=202,
    operation_id="startVerification",
    opt=asks(
        May.VERIFY,
        writes=True,
        spends=Spending.VERIFY,
        body=VerifyRange,
        body_required=False,
        example={"from_seq": 0, "to_seq": None},
        problems=(400, 429, *WRITE_PROBLEMS),
        answers={200: {JSON: JobBody}, 202: {JSON: JobBody}},
        meanings={200: "The verification ended", 202: "The verification goes on"},
        schemas=fault_schemas,
    ),
)
async def start_verification(
    request: HttpRequest,
    org: OrgSlug,
    wait: Annotated[
        float,
        QueryParameter(
            ge=0,
            le=MAX_WAIT_S,
            description="Seconds to wait for the end",
            schema_extra={"examples": [30]},
        ),
    ] = 0.0,
) -> Response[JobBody]:
    """Verify a trail, or a range of it: every entry, the signed tree over them, the anchors."""
    tenant, principal = org_of(request, org)
    bounds = await _range(request)
    jobs = services_of(request).verifications
    target = TrailRange(tenant.id, tenant.slug, bounds.from_seq, bounds.to_seq)
    try:
        job = await jobs.submit(target, principal.key_id)
    except RangeRefused as error:
        raise BadRequest(str(error)) from error
    if wait:
        interruptible(request)
        job = await jobs.wait(tenant.id, job.id, wait) or job
    return Response(job_body(job), status_code=200 if job.finished else 202)


@get(
    "/v1/orgs/{org:str}/verifications/{job_id:str}",
    operation_id="getVerification",
    opt=asks(May.VERIFY),
)
async def get_verification(request: HttpRequest, org: OrgSlug, job_id: JobId) -> JobBody:
    """Get state, progress, rate and faults so far; the result once done."""
    tenant, _ = org_of(request, org)
    return job_body(await _find(request, tenant, job_id))


@get(
    "/v1/orgs/{org:str}/verifications/{job_id:str}/events",
    operation_id="watchVerification",
    opt=asks(
        May.VERIFY,
        problems=(429,),
        answers={200: {"text/event-stream": WATCHED}},
        schemas=watched_schemas,
        headers=(UNBUFFERED,),
    ),
    media_type="text/event-stream",
)
async def watch_verification(request: HttpRequest, org: OrgSlug, job_id: JobId) -> ServerSentEvent:
    """Watch a verification as server-sent events: "progress" at each change, "done" at the end."""
    tenant, _ = org_of(request, org)
    services = services_of(request)
    jobs = services.verifications
    services.part(event_streams).open(tenant.id)
    await _find(request, tenant, job_id)

    async def events() -> AsyncIterator[ServerSentEventMessage]:
        async for job in jobs.watch(tenant.id, job_id):
            name = "done" if job.finished else "progress"
            yield ServerSentEventMessage(data=json.encode(job_body(job)).decode(), event=name)

    answer = ServerSentEvent(events())
    del answer.headers["Connection"]  # the protocol decides whether the connection is kept
    return answer


@get(
    "/admin/compliance/verify/{record:str}",
    operation_id="verifyEntry",
    opt=asks(May.VERIFY, spends=Spending.VERIFY, problems=(400,)),
)
async def verify_one(request: HttpRequest, record: EntryName) -> EntryVerdict:
    """Check one entry: hash, signature, link, payload, and its place in the signed tree."""
    principal = principal_of(request)
    services = services_of(request)
    missing = NotFound(MISSING)
    place, row = await named_entry(services, principal, record)
    if principal.org_id not in (None, place.org_id):
        raise missing
    org = await services.directory.by_id(place.org_id)
    if org is None:
        raise missing
    trust = await asyncio.to_thread(services.trust.of, org.id, org.slug)
    entry = await services.trail.entry(place)
    if entry is not None:
        result = await _verified(services, org, entry, trust)
    elif (lost := await _verified_missing(services, org, place, trust)) is not None:
        result = lost
    else:
        raise missing
    note_entry(
        services.recorder, services.callers.traffic, org.id, principal.key_id, place.seq, result
    )
    errors = [f"{fault.kind}: {fault.reason}" for fault in result.errors]
    verdict = result.verdict
    if row is not None:
        errors += row.errors
        verdict = worse_of(verdict, row.verdict)
    return EntryVerdict(
        verdict.valid,
        verdict,
        result.checks,
        errors,
        result.record_id,
        result.timestamp,
        result.unsigned_entries,
        row,
    )


async def _verified(
    services: Services, org: OrgFacts, entry: StoredEntry, trust: TrailTrust | None
) -> EntryResult:
    written_us = from_datetime(entry.anchored_at)
    keyring, database = services.keyring(True), services.database
    before = await services.trail.entry_before(entry)
    return verify_entry(
        await with_own_hash(database, entry, keyring),
        None if before is None else await with_own_hash(database, before, keyring),
        org.slug,
        keyring,
        timestamp=format_time(written_us),
        inclusion=await check_inclusion(database, entry, trust),
        rows=await services.trail.rows_at(org.id, entry.seq),
        late=written_us < (time.time() - services.signing_limits.signing_s) * 1_000_000,
    )


async def _verified_missing(
    services: Services, org: OrgFacts, place: RecordId, trust: TrailTrust | None
) -> EntryResult | None:
    """Return the verdict on an entry that is not in its place; None if there never was one."""
    signed = await signed_size(services.database, org.id, trust)
    if place.seq >= signed and not await services.trail.has(org.id, place.seq):
        return None
    row = await services.trail.row_at(org.id, place.seq)
    if row is not None:
        result = await _verified(services, org, row, trust)
        # If the row is intact, the record id of the request is wrong.
        return replace(result, record_id=record_id(*place)) if result.errors else None
    if await services.trail.was_dropped(org.id, place.seq):
        return None
    return missing_entry(place, f"entry {place.seq} is missing: later entries are known")


router = Router(
    "/",
    route_handlers=[start_verification, get_verification, watch_verification, verify_one],
    tags=["Verification"],
)
