"""The routes of QWED's audit log."""

from __future__ import annotations

from contextlib import AsyncExitStack, aclosing
from typing import Annotated, Final

from litestar import Router, get
from litestar.params import PathParameter, QueryParameter
from litestar.types import ASGIApp

from ledger.chain import StoredEntry
from ledger.core.org import OrgFacts
from ledger.entry import has_control, parse_record_id
from ledger.errors import FormatError
from ledger.shapes import RECORD_ID_EXAMPLE
from ledger.times import EXAMPLE
from server.access.directory import NotFound
from server.access.principal import Principal
from server.access.rights import May, Right
from server.http.caller import HttpRequest, interruptible, org_named, principal_of, services_of
from server.http.contract import ResponseHeader, asks, text
from server.http.parameters import MAX_EVENT, MAX_TEXT_CHARS, OrganizationId
from server.http.problems import BadRequest
from server.http.routes.entries import page_turn
from server.http.streams.streamed_response import StreamedResponse
from server.qwed import export
from server.qwed.bodies import LogDetailBody, LogPageBody, TrailCheckBody
from server.qwed.checking import check_period
from server.qwed.period import Period
from server.qwed.reading import AuditLog
from server.trails.services import Services

CSV: Final = "text/csv"
MISSING: Final = "there is no such verification for this key"
FILE_NAME: Final = ResponseHeader(
    "Content-Disposition", "A name for the file", 'attachment; filename="audit-acme.csv"'
)
LogId = Annotated[
    str,
    PathParameter(
        description="Seq of an entry, as the list has it, or the entry's record id",
        schema_extra={"examples": ["41", RECORD_ID_EXAMPLE]},
    ),
]
Before = Annotated[
    int | None,
    QueryParameter(
        ge=0,
        le=MAX_EVENT,
        description="next_before of the page before; none: the newest",
        schema_extra={"examples": [17]},
    ),
]
LogLimit = Annotated[
    int,
    QueryParameter(
        ge=1,
        le=200,
        description="How many verifications the page has at most",
        schema_extra={"examples": [50]},
    ),
]
LogStatus = Annotated[
    str | None,
    QueryParameter(
        max_length=MAX_TEXT_CHARS,
        description="Only verifications with exactly this status",
        schema_extra={"examples": ["VERIFIED"]},
    ),
]


def _time(description: str) -> QueryParameter:
    return QueryParameter(
        max_length=64,
        description=description,
        schema_extra={"format": "date-time", "examples": [EXAMPLE]},
    )


Start = Annotated[str | None, _time("The first time of the period (RFC 3339); none: no bound")]
End = Annotated[
    str | None, _time("The last time of the period, or a date, which is included; none: no bound")
]


async def _org(
    request: HttpRequest, slug: str | None, right: Right
) -> tuple[Services, OrgFacts, Principal]:
    """Return the org that a caller names, or that of its key. Raises NotFound, BadRequest."""
    services, principal = services_of(request), principal_of(request)
    if slug is not None:
        return services, await org_named(request, slug, right), principal
    if principal.org_id is None:
        raise BadRequest("a key of the platform must name an org: organization_id")
    org = await services.directory.by_id(principal.org_id)
    if org is None:
        raise NotFound(MISSING)
    return services, org, principal


@get("/audit/logs", operation_id="listAuditLogs", opt=asks(May.READ, problems=(404, 422)))
async def list_logs(
    request: HttpRequest,
    organization: OrganizationId = None,
    limit: LogLimit = 50,
    status: LogStatus = None,
    before: Before = None,
) -> LogPageBody:
    """List verifications, newest first: rows imported from QWED, and verdicts of this server."""
    services, org, principal = await _org(request, organization, May.READ)
    log = services.part(AuditLog)
    async with page_turn(services, principal):
        page = await log.page(org, principal, before, limit, status)
        total = await log.total(org) if status is None else None
    return LogPageBody(total, page.next_before, page.rows)


@get("/audit/logs/{record:str}", operation_id="getAuditLog", opt=asks(May.READ, problems=(400,)))
async def get_log(
    request: HttpRequest, record: LogId, organization: OrganizationId = None
) -> LogDetailBody:
    """Get one verification, with what proves its entry."""
    services, org, principal = await _org(request, organization, May.READ)
    entry = await _entry(services, org, record)
    found = None
    if entry is not None:
        found = await services.part(AuditLog).detail(org, principal, entry)
    if found is None:
        raise NotFound(MISSING)
    return found


@get(
    "/audit/export",
    operation_id="exportAuditLogs",
    opt=asks(
        May.READ,
        problems=(404, 422),
        answers={200: {CSV: text("A line for each verification", ",".join(export.HEADER))}},
        headers=(FILE_NAME,),
    ),
    media_type=CSV,
)
async def export_logs(request: HttpRequest, organization: OrganizationId = None) -> ASGIApp:
    """Export all verifications as CSV, newest first."""
    services, org, principal = await _org(request, organization, May.READ)
    interruptible(request)
    resources = AsyncExitStack()
    lines = await resources.enter_async_context(
        aclosing(export.lines(services.part(AuditLog).exported(org, principal)))
    )
    headers = [
        (b"content-type", f"{CSV}; charset=utf-8".encode()),
        (b"content-disposition", f'attachment; filename="audit-{org.slug}.csv"'.encode()),
    ]
    return StreamedResponse(export.header(), lines, headers, resources, "an export of audit logs")


@get(
    "/admin/compliance/verify-trail",
    operation_id="verifyAuditTrail",
    opt=asks(May.VERIFY, problems=(404, 422)),
)
async def verify_audit_trail(
    request: HttpRequest,
    organization: OrganizationId = None,
    start: Start = None,
    end: End = None,
) -> TrailCheckBody:
    """Verify the trail, and say what that means for the verifications of a period."""
    services, org, _ = await _org(request, organization, May.VERIFY)
    period = Period.of(start, end)
    interruptible(request)
    return await check_period(services, org, period)


async def _entry(services: Services, org: OrgFacts, name: str) -> StoredEntry | None:
    """Return the entry with a seq or record id in an org, None without one."""
    if has_control(name):
        return None
    if name.isascii() and name.isdecimal() and len(name) <= len(str(MAX_EVENT)):
        seq = int(name)
        times = await services.trail.times(org.id, [seq]) if seq <= MAX_EVENT else {}
        if seq not in times:
            return None
        found = await services.trail.entries(org.id, [seq], times[seq], times[seq])
        return next(iter(found), None)
    try:
        place = parse_record_id(name)
    except FormatError:
        return None
    return await services.trail.entry(place) if place.org_id == org.id else None


router = Router(
    "/", route_handlers=[list_logs, get_log, export_logs, verify_audit_trail], tags=["QWED"]
)
