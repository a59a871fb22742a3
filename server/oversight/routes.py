"""Security events and reviews over HTTP."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from litestar import Router, get, post
from litestar.params import PathParameter, QueryParameter

from ledger.errors import InvalidTime
from ledger.rows import RowNotAuthentic
from ledger.storage.acknowledged_events import Acknowledgement, EventFilter, ListedEvent
from ledger.storage.event_kinds import Severity
from ledger.times import EXAMPLE, bound
from server.access.rights import May
from server.http.bodies import MAX_BYTES, json_body
from server.http.caller import HttpRequest, actor_of, clean, org_of, permitted, services_of
from server.http.contract import WRITE_PROBLEMS, asks
from server.http.parameters import MAX_EVENT, BeforeEvent, Limit, OrgSlug
from server.http.problems import BadRequest
from server.oversight.acts import (
    acknowledge,
    concerns_all,
    event_table,
    record_review,
    require_open,
    require_period,
)
from server.oversight.bodies import (
    AcknowledgeEvent,
    RecordReview,
    ReviewBody,
    SecurityEvent,
    SecurityEventList,
    event_body,
    review_body,
)
from server.trails.services import Services

TIME = {"examples": [EXAMPLE], "format": "date-time"}
Kind = Annotated[
    str | None,
    QueryParameter(
        max_length=100,
        description="Only events of this kind",
        schema_extra={"examples": ["org_frozen"]},
    ),
]
SeverityFilter = Annotated[
    Severity | None,
    QueryParameter(
        description="Only events that are this serious", schema_extra={"examples": ["critical"]}
    ),
]
Since = Annotated[
    str | None,
    QueryParameter(
        max_length=64,
        description="Only events at this RFC 3339 time or later",
        schema_extra=TIME,
    ),
]
Until = Annotated[
    str | None,
    QueryParameter(
        max_length=64,
        description="Only events before this RFC 3339 time",
        schema_extra=TIME,
    ),
]
IsAcknowledged = Annotated[
    bool | None,
    QueryParameter(
        description="Only events that somebody has dealt with (true), or nobody yet (false)",
        schema_extra={"examples": [False]},
    ),
]
EventId = Annotated[
    int,
    PathParameter(
        ge=1,
        le=MAX_EVENT,
        description="The number of a security event",
        schema_extra={"examples": [7]},
    ),
]


@get(
    "/v1/orgs/{org:str}/security-events",
    operation_id="listSecurityEvents",
    opt=asks(May.SEE_EVENTS),
)
async def list_security_events(
    request: HttpRequest,
    org: OrgSlug,
    kind: Kind = None,
    severity: SeverityFilter = None,
    since: Since = None,
    until: Until = None,
    acknowledged: IsAcknowledged = None,
    cursor: BeforeEvent = MAX_EVENT,
    limit: Limit = 100,
) -> SecurityEventList:
    """List security events, newest first: why and when the org was frozen, and the like."""
    tenant, _ = org_of(request, org)
    services = services_of(request)
    kind = None if kind is None else clean("kind", kind)
    wanted = EventFilter(
        kind, severity, _moment("since", since), _moment("until", until), acknowledged
    )
    events, following = await services.part(event_table).page(
        tenant.id, wanted, cursor, limit, of_all=concerns_all(services, tenant)
    )
    for event in events:
        if event.is_forged:
            _report(services, tenant.id, event)
    return SecurityEventList([event_body(event) for event in events], following)


def _moment(name: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        return bound(text.replace(" ", "+") if "T" in text or "t" in text else text)
    except InvalidTime as error:
        raise BadRequest(f"{name} {error}") from None


def _report(services: Services, org_id: int, event: ListedEvent) -> str:
    detail = (
        f"the row of table acknowledged_events with event_id {event.row.id} was changed or made in "
        "the database: the event counts as open"
    )
    services.forged_rows.found(org_id, detail)
    return detail


@post(
    "/v1/orgs/{org:str}/security-events/{event_id:int}/acknowledge",
    status_code=200,
    operation_id="acknowledgeSecurityEvent",
    opt=asks(
        May.ADMINISTER,
        writes=True,
        body=AcknowledgeEvent,
        example={"reason": "restored from the backup of 3 May"},
        problems=(400, 409, 423, 429, *WRITE_PROBLEMS),
    ),
)
async def acknowledge_event(request: HttpRequest, org: OrgSlug, event_id: EventId) -> SecurityEvent:
    """State that a security event was dealt with, and why; the trail records it."""
    tenant, principal = org_of(request, org)
    data: AcknowledgeEvent = await json_body(request)
    reason = clean("reason", data.reason)
    services = services_of(request)
    table, of_all = services.part(event_table), concerns_all(services, tenant)
    event = require_open(await table.find(tenant.id, event_id, of_all=of_all))
    if event.is_forged:
        raise RowNotAuthentic(_report(services, tenant.id, event))
    at = datetime.now(UTC)
    said = Acknowledgement(at, principal.key_id, reason)
    await permitted(
        request,
        principal,
        lambda by: acknowledge(services.guard, table, tenant, event, said, by),
    )
    return event_body(event._replace(acknowledged=said))


@post(
    "/v1/orgs/{org:str}/reviews",
    operation_id="recordReview",
    opt=asks(
        May.ADMINISTER,
        writes=True,
        body=RecordReview,
        example={"period_start": "2026-01-01", "period_end": "2026-01-31", "notes": "none"},
        problems=(400, 423, 429, *WRITE_PROBLEMS),
    ),
)
async def review(request: HttpRequest, org: OrgSlug) -> ReviewBody:
    """State that the trail of some days was reviewed, by the caller; the trail records it."""
    tenant, principal = org_of(request, org)
    data: RecordReview = await json_body(request)
    notes = clean("notes", data.notes)
    services = services_of(request)
    require_period(data.period_start, data.period_end, services.clock.wall())
    period = data.period_start, data.period_end
    done = await permitted(
        request,
        principal,
        lambda by: record_review(services.guard, tenant, period, notes, by.key_id, by),
    )
    return review_body(tenant, data, actor_of(request), done)


router = Router(
    "/",
    route_handlers=[list_security_events, acknowledge_event, review],
    tags=["Oversight"],
    request_max_body_size=MAX_BYTES,
)
