"""Seals security events into the trails of their orgs: digests of their rows, in batches.

An event is a row first, which survives where no entry can be written. An entry and the marks of the
events that it seals are one transaction, so whatever process does it, each event is sealed once.
The events of a frozen org wait for its thaw.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

import structlog

from ledger.core.register import RegisterBehind
from ledger.core.sealing.opener import own_payload
from ledger.core.sealing.sealer import Sealer
from ledger.core.verification.work.event_check import EventTrust
from ledger.core.verification.work.extent import TrailRange
from ledger.entry import rfc3339
from ledger.errors import AppendRefused, SealingError, StorageError
from ledger.rows import RowNotAuthentic
from ledger.sealed_events import MAX_SEALED, SealedEvent, SecurityEventsSealed
from ledger.storage.sealed_events import UnsealedEvents
from ledger.storage.security_events import SecurityEventRow
from ledger.storage.trail import AppendTransaction
from server import metrics
from server.access.directory import Directory
from server.trails.guarding import TrailGuard

log = structlog.get_logger("quire")

MAX_KIND_CHARS: Final = 100
"""Characters of a kind or a severity that an entry names; the digest covers all of it."""
SETTLED: Final = timedelta(minutes=5)
"""An event whose transaction committed so late is not taken for one that was withheld."""
FROM_THE_START: Final = timedelta(hours=1)
WAIT_S: Final = 10.0
"""How long a verification waits until the events of its org are sealed."""
AGAIN_S: Final = 0.1


class SealedAlready(AppendRefused):
    """Another process sealed some of the events; nothing was written."""


def sealing_payloads(rows: Sequence[SecurityEventRow]) -> list[SecurityEventsSealed]:
    """Return the payloads that seal these events, at most 500 in each."""
    events = [
        SealedEvent(
            id=row.id,
            at=rfc3339(row.at),
            kind=row.kind[:MAX_KIND_CHARS],
            severity=row.severity[:MAX_KIND_CHARS],
            digest=row.digest().hex(),
        )
        for row in rows
    ]
    return [
        SecurityEventsSealed(events=events[first : first + MAX_SEALED])
        for first in range(0, len(events), MAX_SEALED)
    ]


class LookedThrough:
    """Up to which number all events are sealed, so that the next look begins there.

    A number is given before its event is committed: the end of an earlier look counts only after
    ``SETTLED``. Once in ``FROM_THE_START`` all events are looked at, as marks may be removed.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.after_id = 0
        self._clock = clock
        self._began = clock()
        self._ends: deque[tuple[float, int]] = deque()
        self._settled = 0

    def looked(self, newest: int, first_waiting: int) -> None:
        """Note a look: the highest number then, and the lowest of an event that waits."""
        now = self._clock()
        self._ends.append((now, newest))
        while self._ends and self._ends[0][0] <= now - SETTLED.total_seconds():
            self._settled = self._ends.popleft()[1]
        self.after_id = min(self._settled, first_waiting - 1)
        if now - self._began > FROM_THE_START.total_seconds():
            self.after_id, self._began = 0, now


class EventSealing:
    """Seals what waits; ``batch_s`` is the age of an event at which its org's events are sealed."""

    def __init__(
        self,
        events: UnsealedEvents,
        guard: TrailGuard,
        directory: Directory,
        sealer: Sealer,
        batch_s: float,
    ) -> None:
        self._events = events
        self._guard = guard
        self._directory = directory
        self._sealer = sealer
        self._batch = timedelta(seconds=batch_s)
        self._looks = LookedThrough()

    async def seal_due(self, now: datetime | None = None) -> int:
        """Seal the events of all orgs where some are due; return how many. Raises StorageError."""
        register = self._guard.register
        if register.system_id is None:
            return 0
        sealed = 0
        newest = await self._events.newest()  # asked first: what is committed later is behind it
        waiting = await self._events.waiting(register.system_id, self._looks.after_id)
        self._looks.looked(newest, min((one.first_id for one in waiting), default=newest + 1))
        for org_id, oldest, _ in waiting:
            if oldest > (now or datetime.now(UTC)) - self._batch:
                continue
            try:
                if register.freeze_of(org_id) is not None:
                    continue  # the events of a frozen org wait for its thaw
                while count := await self.seal(org_id):
                    sealed += count
            except (AppendRefused, RegisterBehind, RowNotAuthentic, SealingError) as error:
                log.info("security events wait", org_id=org_id, why=str(error))
        return sealed

    async def seal(self, org_id: int) -> int:
        """Seal the first waiting events of an org; 0: none was left, or another process did it."""
        org = await self._directory.by_id(org_id)
        if org is None:
            return 0
        rows = await self._events.take(org_id, of_all=self._is_system(org_id))
        if not rows:
            return 0

        async def effect(transaction: AppendTransaction) -> AppendRefused | None:
            if await self._events.seal(transaction, org_id, [row.id for row in rows]):
                return None
            return SealedAlready("these security events were sealed by another process")

        payloads = sealing_payloads(rows)
        try:
            await self._guard.record_all(org, payloads, effect)
        except SealedAlready:
            return 0
        metrics.OWN_ENTRIES.inc(len(payloads))
        return len(rows)

    def _is_system(self, org_id: int) -> bool:
        return org_id == self._guard.register.system_id

    async def trust(self, target: TrailRange) -> EventTrust:
        """Seal what is due in an org, and return what its events are verified with then.

        Raises DatabaseUnavailable.
        """
        now, register = await self._events.now(), self._guard.register
        await register.refresh()
        return EventTrust(
            await self._opening(target.org_id),
            now,
            now - self._batch - SETTLED,
            waits=await self._settle(target.org_id, now),
            restored=register.state.restored.get(target.org_id, 0),
            of_all=self._is_system(target.org_id),
        )

    async def _settle(self, org_id: int, now: datetime) -> str | None:
        """Seal what is due in an org; return why it waits, None if nothing does."""
        if self._guard.register.freeze_of(org_id) is not None:
            return "the org is frozen"
        try:
            async with asyncio.timeout(WAIT_S):
                while await self._is_due(org_id, now):
                    if not await self.seal(org_id):
                        await asyncio.sleep(AGAIN_S)  # another process is about to commit them
        except TimeoutError:
            return f"the server could not write within {WAIT_S:g} s"
        except (AppendRefused, RowNotAuthentic, SealingError, StorageError) as error:
            return str(error)
        return None

    async def _is_due(self, org_id: int, now: datetime) -> bool:
        oldest = await self._events.oldest(org_id, of_all=self._is_system(org_id))
        return oldest is not None and oldest <= now - self._batch

    async def _opening(self, org_id: int) -> Callable[[str | None, bytes, int], bytes]:
        """Return what opens the server's entries of an org; it raises where the org's row is wrong."""
        try:
            org = await self._directory.by_id(org_id)
        except RowNotAuthentic as error:
            return partial(_closed, str(error))
        return (
            partial(own_payload, self._sealer, org) if org else partial(_closed, "the org is gone")
        )


def _closed(reason: str, _seal: str | None, _stored: bytes, _seq: int) -> bytes:
    raise SealingError(reason)
