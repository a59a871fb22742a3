"""Reads the entries of QWED's audit log from a trail: pages newest first, single ones, their number."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Final, NamedTuple

from ledger.bounded import BoundedCache
from ledger.chain import StoredEntry
from ledger.core.org import OrgFacts
from ledger.core.reading.qwed_rows import TooFarBack
from ledger.pieces import piece
from ledger.qwed.event import EVENT_TYPE as IMPORTED
from ledger.storage.entries.search import EntrySearch
from server.access.principal import Principal
from server.access.rights import May
from server.qwed.bodies import LogBody, LogDetailBody
from server.qwed.rows import SOUND, VERDICT, RowReference, detail_body, log_body
from server.trails.reading import EntryBody, InvalidFilter, opened_of, show
from server.trails.services import Services

READS: Final = 8
"""Searches of each kind for one page; a page that would need more ends early."""
COUNTING_READS: Final = 4
"""Searches of each kind for a count; the next request goes on with it."""
COUNTED_AT_ONCE: Final = 10_000
MAX_COUNTED_ORGS: Final = 1_000
MAX_BROKEN: Final = 20
"""Broken rows of a page that are looked up for a correction; the others show as they were imported."""
EXPORT_ROWS: Final = 200


def search_for(event_type: str) -> EntrySearch:
    """Return the search of all entries of a type."""
    return EntrySearch(0, 0, [f'"event_type":"{event_type}",'.encode()], None, None)


KINDS: Final = (search_for(IMPORTED), search_for(VERDICT))


class LogPage(NamedTuple):
    """Rows newest first, and the seq before which the next page begins (None at the end)."""

    rows: list[LogBody]
    next_before: int | None


class _Merged(NamedTuple):
    entries: list[StoredEntry]
    next_before: int | None


class AuditLog:
    """The audit log of each org, and how many rows of it this process has counted."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._counts: BoundedCache[int, tuple[int, int]] = BoundedCache(MAX_COUNTED_ORGS)

    async def page(
        self, org: OrgFacts, by: Principal, before: int | None, limit: int, status: str | None
    ) -> LogPage:
        """Return a page, with a status only rows that have it. Raises InvalidFilter."""
        if status is not None and org.seals and not by.may(May.OPEN):
            raise InvalidFilter("status: this API key may not open the payloads that hold it")
        rows: list[LogBody] = []
        for _ in range(READS):
            found = await self._found(org, before, limit - len(rows))
            shown = await self._shown(org, by, found.entries)
            rows += [row for row in shown if status is None or row.status == status]
            before = found.next_before
            if before is None or len(rows) >= limit:
                break
        return LogPage(rows, before)

    async def exported(self, org: OrgFacts, by: Principal) -> AsyncIterator[list[LogBody]]:
        """Yield all rows, newest first, some at a time."""
        before: int | None = None
        while True:
            found = await self._found(org, before, EXPORT_ROWS)
            yield await self._shown(org, by, found.entries)
            before = found.next_before
            if before is None:
                return

    async def detail(
        self, org: OrgFacts, by: Principal, entry: StoredEntry
    ) -> LogDetailBody | None:
        """Return an entry as a row, None if it is no row of this log."""
        (body,) = await self._bodies(org, by, [entry])
        if body.event_type not in (IMPORTED, VERDICT):
            return None
        return detail_body(body, await self._outcome(org, body))

    async def total(self, org: OrgFacts) -> int | None:
        """Return how many rows the log has; None while more are left to count than one request may."""
        counted, next_seq = self._counts.get(org.id) or (0, 0)
        head, _hash, _time = await self._services.trail.head(org.id)
        for _ in range(COUNTING_READS):
            if next_seq > head:
                return counted
            added, next_seq = await self._count(org, next_seq, head)
            counted += added
            self._counts.put(org.id, (counted, next_seq))
        return counted if next_seq > head else None

    async def _count(self, org: OrgFacts, first: int, last: int) -> tuple[int, int]:
        """Count rows from a seq on; return their number and the seq up to which all are counted."""
        found: list[int] = []
        complete = last + 1
        for where in KINDS:
            places, after = await self._services.trail.places(
                org.id, where, from_seq=first, to_seq=last, limit=COUNTED_AT_ONCE
            )
            found += [seq for seq, _ in places]
            complete = complete if after is None else min(complete, after)
        return sum(seq < complete for seq in found), complete

    async def _found(self, org: OrgFacts, before: int | None, limit: int) -> _Merged:
        """Search both kinds, and merge them as far down as both were searched."""
        if before == 0:
            return _Merged([], None)
        entries: list[StoredEntry] = []
        searched: list[int] = []
        for where in KINDS:
            page = await self._services.trail.page(
                org.id,
                where,
                from_seq=None if before is None else before - 1,
                descending=True,
                limit=limit,
            )
            entries += page.entries
            if page.next_seq is not None:
                searched.append(page.next_seq + 1)
        # Below this seq one of the kinds was not searched yet.
        least = max(searched, default=0)
        entries = sorted((entry for entry in entries if entry.seq >= least), key=_seq, reverse=True)
        if len(entries) > limit:
            return _Merged(entries[:limit], entries[limit - 1].seq)
        return _Merged(entries, least if searched and least else None)

    async def _shown(
        self, org: OrgFacts, by: Principal, entries: Sequence[StoredEntry]
    ) -> list[LogBody]:
        bodies = await self._bodies(org, by, entries)
        rows, broken = [], 0
        for body in bodies:
            outcome = body.outcome
            if body.event_type == IMPORTED and outcome not in SOUND and broken < MAX_BROKEN:
                broken += 1
                outcome = await self._outcome(org, body)
            rows.append(log_body(body, outcome))
        await piece(org.id)
        return rows

    async def _bodies(
        self, org: OrgFacts, by: Principal, entries: Sequence[StoredEntry]
    ) -> list[EntryBody]:
        """Return entries in the form that the caller may see; what is opened goes to the org's trail."""
        bodies = await show(self._services.sealer, org, entries, may_open=by.may(May.OPEN))
        self._services.recorder.opened(org.id, by.key_id, opened_of(bodies))
        return bodies

    async def _outcome(self, org: OrgFacts, entry: EntryBody) -> str | None:
        """Return the outcome of an entry: of a broken row, as it was corrected last."""
        place = RowReference.of(entry.action)
        if entry.event_type != IMPORTED or entry.outcome in SOUND or place is None:
            return entry.outcome
        try:
            found = await self._services.qwed_rows.find(org.id, str(place.row_id))
        except TooFarBack:
            return entry.outcome
        for row in found:
            if row.organization_id == place.organization_id and row.entry.seq == entry.seq:
                return row.outcome
        return entry.outcome


def _seq(entry: StoredEntry) -> int:
    return entry.seq
