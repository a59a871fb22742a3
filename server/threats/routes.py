"""Threats over HTTP: Quire's own route, and those in QWED's shapes."""

from __future__ import annotations

from typing import Annotated, Final

from litestar import Router, get
from litestar.params import QueryParameter

from ledger.core.org import OrgFacts
from ledger.entry import format_time, rfc3339
from ledger.storage import security_events
from ledger.storage.event_kinds import EVENT_KINDS
from ledger.storage.security_events import SecurityEventRow
from server.access.directory import NotFound
from server.access.rights import May
from server.http.caller import (
    HttpRequest,
    clean,
    org_named,
    org_of,
    principal_of,
    services_of,
)
from server.http.contract import asks
from server.http.parameters import MAX_EVENT, OrganizationId, OrgSlug
from server.http.problems import BadRequest
from server.threats.bodies import (
    QwedEventBody,
    QwedEventsBody,
    QwedThreatsBody,
    ThreatsBody,
    metrics_body,
    threats_body,
)
from server.threats.summary import summary_of
from server.threats.writing import type_of
from server.trails.services import Services

BeforeId = Annotated[
    int,
    QueryParameter(
        ge=0,
        le=MAX_EVENT,
        description="next_before of the page before; none: the newest",
        schema_extra={"examples": [7]},
    ),
]
EventLimit = Annotated[
    int,
    QueryParameter(
        ge=1,
        le=200,
        description="How many events the page has at most",
        schema_extra={"examples": [50]},
    ),
]
EventType = Annotated[
    str | None,
    QueryParameter(
        max_length=100,
        description="Only events of this type",
        schema_extra={"examples": ["BLOCKED"]},
    ),
]


@get("/v1/orgs/{org:str}/threats", operation_id="getThreats", opt=asks(May.SEE_EVENTS))
async def get_threats(request: HttpRequest, org: OrgSlug) -> ThreatsBody:
    """Show the threat score with its parts, the level of the last 24 hours, and who contributes."""
    tenant, _ = org_of(request, org)
    services = services_of(request)
    return threats_body(org, await summary_of(services, tenant), _now(services))


@get(
    "/admin/security/threats/{org:str}",
    operation_id="getThreatsAsQwed",
    opt=asks(May.SEE_EVENTS, others_forbidden=True),
)
async def get_threats_as_qwed(request: HttpRequest, org: OrgSlug) -> QwedThreatsBody:
    """Show the threat level of the last 24 hours, in QWED's shape; another's org is 403."""
    tenant, _ = org_of(request, org)
    services = services_of(request)
    found = await summary_of(services, tenant)
    return QwedThreatsBody(
        org, found.hours, found.level, metrics_body(found), found.by_layer(), _now(services)
    )


@get(
    "/admin/security/events",
    operation_id="listSecurityEventsAsQwed",
    opt=asks(May.SEE_EVENTS, problems=(404,)),
)
async def list_events_as_qwed(
    request: HttpRequest,
    organization: OrganizationId = None,
    limit: EventLimit = 50,
    before: BeforeId = MAX_EVENT,
    event_type: EventType = None,
) -> QwedEventsBody:
    """List security events in QWED's shape, newest first."""
    services, org = services_of(request), await _org(request, organization)
    of_all = org.id == services.register.system_id
    kinds = None if event_type is None else kinds_of(clean("event_type", event_type))
    rows = await security_events.page(
        services.database, org.id, kinds, before, limit + 1, of_all=of_all
    )
    total = await security_events.count(services.database, org.id, kinds, of_all=of_all)
    shown = rows[:limit]
    return QwedEventsBody(
        total, shown[-1].id if len(rows) > limit else None, [qwed_event(row) for row in shown]
    )


async def _org(request: HttpRequest, slug: str | None) -> OrgFacts:
    """Return the org that a caller names, or that of its key. Raises NotFound, BadRequest."""
    principal = principal_of(request)
    if slug is not None:
        return await org_named(request, slug, May.SEE_EVENTS)
    if principal.org_id is None:
        raise BadRequest("a key of the platform must name an org: organization_id")
    org = await services_of(request).directory.by_id(principal.org_id)
    if org is None:
        raise NotFound("the org of this key is gone")
    return org


def kinds_of(event_type: str) -> list[str]:
    """Return the kinds of events that have a type of QWED, or are that type in capitals."""
    kinds = [kind for kind in EVENT_KINDS if type_of(kind) == event_type]
    return kinds or [event_type.lower()]


def qwed_event(row: SecurityEventRow) -> QwedEventBody:
    """Return an event in QWED's shape."""
    return QwedEventBody(
        row.id, rfc3339(row.at), type_of(row.kind), row.severity, row.layer, row.detail, None, None
    )


def _now(services: Services) -> str:
    return format_time(services.clock.wall.unbroken_us())


OWN: Final = Router("/", route_handlers=[get_threats], tags=["Threats"])
AS_QWED: Final = Router(
    "/", route_handlers=[get_threats_as_qwed, list_events_as_qwed], tags=["QWED"]
)
