"""Acknowledgements of security events and reviews, each with its entry in the org's trail."""

from __future__ import annotations

from datetime import date
from typing import Final

from msgspec import structs

from ledger.core.org import OrgFacts
from ledger.core.sequencer import Appended
from ledger.entry import rfc3339, to_datetime
from ledger.errors import AppendRefused
from ledger.storage.acknowledged_events import Acknowledgement, ListedEvent, SecurityEventTable
from ledger.storage.trail import AppendTransaction
from server.access.administration import Conflict
from server.access.directory import NotFound
from server.access.principal import Principal
from server.http.problems import BadRequest
from server.oversight.entry_kinds import ACKNOWLEDGED, REVIEWED, EventAcknowledged, ReviewRecorded
from server.trails.guarding import TrailGuard
from server.trails.services import Services

_EARLIEST: Final = date(1970, 1, 1)


def event_table(services: Services) -> SecurityEventTable:
    """Return the events of this process's database; made once, by :meth:`Services.part`."""
    return SecurityEventTable(services.database, services.register.row_key)


def concerns_all(services: Services, org: OrgFacts) -> bool:
    """Return whether the org is `system`, to which the events belong that concern all orgs."""
    return org.id == services.register.system_id


def no_such_event() -> NotFound:
    """Return the error for an event that does not exist, or is another org's."""
    return NotFound("this org has no security event with this id")


async def acknowledge(
    guard: TrailGuard,
    table: SecurityEventTable,
    org: OrgFacts,
    event: ListedEvent,
    said: Acknowledgement,
    by: Principal | None = None,
) -> Appended:
    """Acknowledge an event, and record it in the trail, in one transaction. Raises Conflict."""
    row = event.row

    async def effect(transaction: AppendTransaction) -> AppendRefused | None:
        if await table.acknowledge(transaction, org.id, row.id, said):
            return None
        return _acknowledged_already()

    entry = EventAcknowledged(
        event_type=ACKNOWLEDGED,
        actor=f"key:{said.key_id}",
        action="acknowledge",
        event=row.id,
        kind=row.kind,
        at=rfc3339(row.at),
        digest=row.digest().hex(),
        reason=said.reason,
    )
    return await guard.record(org, structs.asdict(entry), by=by, effect=effect)


def require_open(event: ListedEvent | None) -> ListedEvent:
    """Return an event that is not acknowledged. Raises NotFound, Conflict."""
    if event is None:
        raise no_such_event()
    if event.acknowledged is not None:
        raise _acknowledged_already()
    return event


def _acknowledged_already() -> Conflict:
    return Conflict("this security event was acknowledged before; its entry in the trail says why")


def require_period(first: date, last: date, now_us: int) -> None:
    """Raise BadRequest unless the days are in order, and none of them is still to come (UTC)."""
    if last < first:
        raise BadRequest("period_end must not be before period_start")
    if first < _EARLIEST:
        raise BadRequest("period_start must be in 1970 or later")
    if last > to_datetime(now_us).date():
        raise BadRequest(
            "period_end must not be in the future: a day is reviewed once it has begun"
        )


async def record_review(
    guard: TrailGuard,
    org: OrgFacts,
    period: tuple[date, date],
    notes: str,
    key_id: str,
    by: Principal | None = None,
) -> Appended:
    """Record that the owner of a key reviewed the trail of a period of days."""
    first, last = period
    entry = ReviewRecorded(
        event_type=REVIEWED,
        actor=f"key:{key_id}",
        action="review",
        period_start=first.isoformat(),
        period_end=last.isoformat(),
        notes=notes,
    )
    return await guard.record(org, structs.asdict(entry), by=by)
