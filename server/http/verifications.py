"""Verification: one entry at once, a whole trail as a job that can be watched."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated

from litestar import Response, Router, get, post
from litestar.params import PathParameter, QueryParameter
from litestar.response import ServerSentEvent, ServerSentEventMessage
from msgspec import Meta, Struct, json

from ledger.chain import Fault
from ledger.core.sealer import Org
from ledger.core.verification.faults import Result
from ledger.core.verification.inclusion import check_inclusion
from ledger.core.verification.jobs import Job
from ledger.core.verification.single import EntryChecks, verify_entry
from ledger.core.verification.trail import Target
from ledger.entry import format_time, from_datetime, has_control, parse_record_id
from ledger.errors import FormatError
from server.auth import May
from server.directory import NotFound
from server.http.caller import HttpRequest, body_of, org_of, principal_of, services_of
from server.http.json_body import json_body
from server.http.parameters import OrgSlug, RecordName
from server.http.problems import BadRequest

MAX_WAIT_S = 60.0
JobId = Annotated[str, PathParameter(description="Id of a verification")]


class VerifyRange(Struct, forbid_unknown_fields=True):
    """What to verify, both ends included; null for the start, and for all there is."""

    from_seq: Annotated[int, Meta(ge=0, le=2**40)] | None = None
    to_seq: Annotated[int, Meta(ge=0, le=2**40)] | None = None


class JobBody(Struct):
    """A verification; ``rate`` is in entries a second.

    ``valid`` and ``result`` are the verdict, null until the state is "done".
    """

    id: str
    state: str
    valid: bool | None
    from_seq: int | None
    to_seq: int | None
    processed: int
    total: int
    rate: float
    faults: list[Fault]
    fault_count: int
    result: Result | None
    error: str | None
    created_at: str
    finished_at: str | None


class EntryVerdict(Struct):
    """Whether one entry is intact, and what is wrong with it."""

    valid: bool
    checks: EntryChecks
    errors: list[str]
    record_id: str
    timestamp: str


def _rfc3339(moment: datetime) -> str:
    return format_time(from_datetime(moment))


def _body(job: Job) -> JobBody:
    return JobBody(
        job.id,
        job.state,
        None if job.result is None else job.result.valid,
        job.from_seq,
        job.to_seq,
        job.processed,
        job.total,
        round(job.rate, 1),
        job.faults,
        job.fault_count,
        job.result,
        job.error,
        _rfc3339(job.created_at),
        None if job.finished_at is None else _rfc3339(job.finished_at),
    )


async def _range(request: HttpRequest) -> VerifyRange:
    """What to verify; no body means the whole trail."""
    if not (await body_of(request)).strip():
        return VerifyRange()
    asked = await json_body(request, VerifyRange)
    if None not in (asked.from_seq, asked.to_seq) and asked.to_seq < asked.from_seq:  # type: ignore[operator]
        raise BadRequest("to_seq must not be less than from_seq")
    return asked


async def _find(request: HttpRequest, org: Org, job_id: str) -> Job:
    job = None
    if not has_control(job_id):  # the database takes no NUL
        job = await services_of(request).verifications.find(org.id, job_id)
    if job is None:
        raise NotFound("this org has no such verification")
    return job


@post("/v1/orgs/{org:str}/verifications", status_code=202, operation_id="startVerification")
async def start_verification(
    request: HttpRequest,
    org: OrgSlug,
    wait: Annotated[
        float, QueryParameter(ge=0, le=MAX_WAIT_S, description="Seconds to wait for the end")
    ] = 0.0,
) -> Response[JobBody]:
    """Verify a trail, or a range of it: every entry, the signed tree over them, the anchors."""
    tenant, _ = await org_of(request, org, May.VERIFY)
    asked = await _range(request)
    jobs = services_of(request).verifications
    job = await jobs.submit(Target(tenant.id, tenant.slug, asked.from_seq, asked.to_seq))
    if wait:
        job = await jobs.wait(tenant.id, job.id, wait) or job
    return Response(_body(job), status_code=200 if job.finished else 202)


@get("/v1/orgs/{org:str}/verifications/{job_id:str}", operation_id="getVerification")
async def get_verification(request: HttpRequest, org: OrgSlug, job_id: JobId) -> JobBody:
    """State, progress, rate and faults so far; the result once done."""
    tenant, _ = await org_of(request, org, May.VERIFY)
    return _body(await _find(request, tenant, job_id))


@get(
    "/v1/orgs/{org:str}/verifications/{job_id:str}/events",
    operation_id="watchVerification",
    media_type="text/event-stream",
)
async def watch_verification(request: HttpRequest, org: OrgSlug, job_id: JobId) -> ServerSentEvent:
    """The same as server-sent events: "progress" each time it changes, "done" at the end."""
    tenant, _ = await org_of(request, org, May.VERIFY)
    jobs = services_of(request).verifications
    await _find(request, tenant, job_id)

    async def events() -> AsyncIterator[ServerSentEventMessage]:
        async for job in jobs.watch(tenant.id, job_id):
            name = "done" if job.finished else "progress"
            yield ServerSentEventMessage(data=json.encode(_body(job)).decode(), event=name)

    answer = ServerSentEvent(events())
    del answer.headers["Connection"]  # the connection itself says whether it is kept
    return answer


@get("/admin/compliance/verify/{record:str}", operation_id="verifyEntry")
async def verify_one(request: HttpRequest, record: RecordName) -> EntryVerdict:
    """The checks of one entry: hash, signature, link, payload, and its place in the signed tree."""
    principal = await principal_of(request)
    services = services_of(request)
    missing = NotFound("this key has no such entry")
    try:
        place = parse_record_id(record)
    except FormatError:
        raise missing from None
    if principal.org_id not in (None, place.org_id):
        raise missing
    org = await services.directory.by_id(place.org_id)
    entry = None if org is None else await services.trail.entry(place)
    if org is None or entry is None:
        raise missing
    before = await services.trail.entry_before(entry)
    trust = await asyncio.to_thread(services.trust.of, org.id, org.slug)
    verdict = verify_entry(
        entry,
        before,
        org.slug,
        services.keyring(True),
        timestamp=_rfc3339(entry.anchored_at),
        inclusion=await check_inclusion(services.database, entry, trust),
    )
    errors = [f"{fault.kind}: {fault.reason}" for fault in verdict.errors]
    return EntryVerdict(verdict.valid, verdict.checks, errors, verdict.record_id, verdict.timestamp)


router = Router(
    "/",
    route_handlers=[start_verification, get_verification, watch_verification, verify_one],
    tags=["Verification"],
)
