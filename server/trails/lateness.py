"""Watches how long entries wait to be signed: an alarm first, then no more appends of that org.

Entries that no checkpoint covers can be cut off unnoticed. So a signer that stands still, for
whatever reason, must not go unnoticed, and the unsigned end of a trail must not grow without limit.
Each process measures by its own clock, from when it first saw the entries.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Final, NamedTuple

import structlog

from ledger.core.lasting import GRACE_S, Lasting
from ledger.core.org import OrgFacts
from ledger.errors import AppendRefused, ProblemType, StorageError
from ledger.storage import security_events, unsigned
from ledger.storage.database import Database
from ledger.storage.unsigned import UnsignedTrail
from server.settings import Settings

log = structlog.get_logger("quire")

SIGNING_LATE: Final = "signing_late"
POLLS_PER_LIMIT: Final = 10
POLL_INTERVAL_S: Final = 5.0
"""The longest pause between two polls; shorter for short limits."""
RETRY_AFTER_S: Final = 30


class SigningLate(AppendRefused):
    """Entries of the org wait too long for a checkpoint; ``retry_after`` is in seconds."""

    problem_type = ProblemType(
        "signing-late",
        503,
        "Entries are not signed",
        "entries of this org from seq 40 on have waited over 900 s for a checkpoint: until they are "
        "signed, nothing is appended. The operator's log says why nothing is signed",
    )
    retry_after = RETRY_AFTER_S


class _Waiting(NamedTuple):
    """Entries ``first`` to ``end`` - 1 of an org, unsigned since ``since_s`` at the latest."""

    first: int
    end: int
    since_s: float
    trail: UnsignedTrail


class SigningWatch:
    """Knows which orgs wait for a checkpoint, and since when. Keep :meth:`watch` running.

    Where another server signs (``QUIRE_CHECKPOINTS=false``), that server watches.
    """

    def __init__(
        self, settings: Settings, database: Database, clock: Callable[[], float] = time.monotonic
    ) -> None:
        usual_s = settings.checkpoint_seconds
        self._on = settings.checkpoints
        self._event_s = settings.unsigned_event_seconds + usual_s
        self._limit_s = settings.unsigned_limit_seconds + usual_s
        self._database = database
        self._clock = clock
        self._waiting: dict[int, _Waiting] = {}
        self._alarmed: set[int] = set()
        self._last_signed: datetime | None = None
        self._moved_s = clock()

    def require_signed(self, org: OrgFacts) -> None:
        """Raise SigningLate if entries of the org have waited longer than the limit."""
        waiting = self._waiting.get(org.id)
        if waiting is None or waiting.trail.frozen:  # the append says that the org is frozen
            return
        if self._clock() - waiting.since_s > self._limit_s:
            raise SigningLate(
                f"entries of this org from seq {waiting.first} on have waited over "
                f"{self._limit_s:.0f} s for a checkpoint: until they are signed, nothing is "
                "appended. The operator's log says why nothing is signed"
            )

    @property
    def stands_still(self) -> bool:
        """Whether nothing at all was signed for longer than the limit while entries wait."""
        now_s = self._clock()
        oldest = [
            one.since_s
            for one in self._waiting.values()
            if not (one.trail.stopped or one.trail.frozen)
        ]
        return bool(oldest) and now_s - max(min(oldest), self._moved_s) > self._limit_s

    async def watch(self) -> None:
        """Poll until cancelled."""
        if not self._on:
            return
        trouble = Lasting(
            "unsigned entries can't be counted", "unsigned entries are counted", grace_s=GRACE_S
        )
        while True:
            try:
                await self.poll()
            except StorageError as error:
                trouble.failed(log.warning, str(error), early=log.info)
            else:
                trouble.fine()
            await asyncio.sleep(min(POLL_INTERVAL_S, self._event_s / POLLS_PER_LIMIT))

    async def poll(self) -> None:
        """Look once at what is not signed; report orgs that have waited too long."""
        trails = await unsigned.unsigned_trails(self._database)
        last_signed = await unsigned.last_signed(self._database)
        now_s = self._clock()
        if last_signed != self._last_signed:
            self._last_signed, self._moved_s = last_signed, now_s
        self._see(trails, now_s)
        late = {
            org_id for org_id, one in self._waiting.items() if now_s - one.since_s > self._event_s
        }
        self._alarmed &= late
        for org_id in sorted(late - self._alarmed):
            await self._report(org_id, self._waiting[org_id])

    def _see(self, trails: Iterable[UnsignedTrail], now_s: float) -> None:
        seen = {}
        for one in trails:
            known = self._waiting.get(one.org_id)
            if known is not None and one.size < known.end:
                seen[one.org_id] = known._replace(first=one.size, trail=one)
            else:  # what waited before is signed; what waits now was appended since the last poll
                seen[one.org_id] = _Waiting(one.size, one.length, now_s, one)
        self._waiting = seen

    async def _report(self, org_id: int, waiting: _Waiting) -> None:
        # The same words in each process, so that the event is stored once.
        detail = (
            f"entries from seq {waiting.first} on have waited over {self._event_s:.0f} s for a "
            "checkpoint"
        )
        await security_events.add_once(self._database, org_id, SIGNING_LATE, detail)
        log.error("entries are not signed", org_id=org_id, reason=detail)
        self._alarmed.add(org_id)
