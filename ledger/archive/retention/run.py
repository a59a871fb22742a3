"""Retention of the live database: months that are archived leave it, when the policy says so.

In this order: an entry in each trail that ends in the month, so that none does any more; every
row held against its archived copy and the signed tree, and that copy locked from now on; an entry of the trail ``system`` that
says what goes; the drop, in which the database itself looks again and notes what left. The
drop is one transaction. What a crash leaves is the month as it was, whole, and perhaps an entry
that says what was about to go: the next run makes it go.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import date
from typing import Any, Final, NamedTuple

from ledger.archive.retention.holding import Holding
from ledger.archive.retention.locks import ObjectLocks, unprotected
from ledger.archive.targets import Target
from ledger.archive.writing.object_writer import ObjectLock
from ledger.errors import ArchiveError, DatabaseUnavailable, RetentionRefused
from ledger.keys import SigningKeyring
from ledger.storage import dropped_months
from ledger.storage.database import Database
from ledger.storage.dropped_months import DroppedRange, Month

SYSTEM: Final = "system"
"""Slug of the org whose trail holds what the server itself decided."""
DROPPED: Final = "quire.partition_dropped"
CONTINUED: Final = "quire.month_leaving"
DROP_TRIES: Final = 20
DROP_PAUSE_S: Final = 3.0


class DroppedMonth(NamedTuple):
    """A month that left the database now."""

    month: date
    entries: int
    orgs: int
    record_seq: int


class Recorder(NamedTuple):
    """Appends entries of the server's own: to the system trail (returns its seq), to an org's."""

    system: Callable[[Mapping[str, Any]], Awaitable[int]]
    org: Callable[[int, Mapping[str, Any]], Awaitable[None]]


class Retention:
    """Lets months leave one database that one target holds.

    ``policy`` is what objects are locked for, from when their month leaves; ``unlocked`` says
    that a target which locks nothing will do. ``clock`` is in POSIX seconds.

    Methods raise RetentionRefused where something keeps a month, ArchiveError, StorageError and
    AppendRefused. Run it in one process at a time.
    """

    def __init__(
        self,
        target: Target,
        database: Database,
        keyring: Callable[[bool], SigningKeyring],
        recorder: Recorder,
        policy: ObjectLock,
        *,
        unlocked: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._target = target
        self._database = database
        self._keyring = keyring
        self._recorder = recorder
        self._policy = policy
        self._unlocked = unlocked
        self._clock = clock

    async def due(self) -> list[Month]:
        """The months that the policy lets go, oldest first."""
        return [month for month in await dropped_months.months(self._database) if month.due]

    async def run(
        self, told: Callable[[DroppedMonth], None] = lambda _: None
    ) -> list[DroppedMonth]:
        """Let go of all that is due, month by month."""
        left = []
        for month in await self.due():
            if not month.sealed:
                raise RetentionRefused(
                    f"{month.month:%Y-%m} is not sealed yet; the server does that within an hour"
                )
            gone = await self.let_go(month.month)
            if gone is not None:
                told(gone)
                left.append(gone)
        return left

    async def let_go(self, month: date) -> DroppedMonth | None:
        """Let go of one month, the oldest; None where it is gone already."""
        reason = unprotected(self._target.locked, self._policy, self._unlocked)
        if reason is not None:
            raise RetentionRefused(f"{month:%Y-%m} stays: {reason}")
        held = await self._continued(month)
        for one in held:
            await self.verify(one)
        record_seq = 0
        if held:
            record_seq = await self._recorder.system(self._record(month, held))
        entries = await self._drop(month, record_seq)
        return None if entries is None else DroppedMonth(month, entries, len(held), record_seq)

    async def verify(self, one: DroppedRange) -> None:
        """Every row of a range is archived, bit for bit, in the signed tree, and stays archived."""
        if one.slug is None:
            raise RetentionRefused(f"entries of org {one.org_id} stand there, which is no org")
        locks = ObjectLocks(self._target, self._policy, self._clock())
        holding = Holding(locks, self._database, one.org_id, one.slug, self._keyring(True))
        try:
            await holding.check(one.first_seq, one.last_seq)
        except ArchiveError as error:
            raise RetentionRefused(
                f"entries {one.first_seq} to {one.last_seq} of {one.slug} stay: {error}"
            ) from error

    async def _continued(self, month: date) -> list[DroppedRange]:
        """What the month holds, once no trail ends in it."""
        held = await dropped_months.ranges(self._database, month)
        ending = [one for one in held if one.is_head]
        if not ending:
            return held
        for one in ending:
            what = {"month": f"{month:%Y-%m}", "last_seq": one.last_seq}
            event = {"event_type": CONTINUED, "actor": "quire", "action": "continue", **what}
            await self._recorder.org(one.org_id, event)
        held = await dropped_months.ranges(self._database, month)
        if any(one.is_head for one in held):
            raise RetentionRefused(f"trails end in {month:%Y-%m} although they were continued")
        return held

    def _record(self, month: date, held: Sequence[DroppedRange]) -> dict[str, Any]:
        return {
            "event_type": DROPPED,
            "actor": "quire",
            "action": "drop",
            "outcome": "success",
            "month": f"{month:%Y-%m}",
            "target": self._target.url,
            "entries": sum(one.last_seq - one.first_seq + 1 for one in held),
            "orgs": [
                {
                    "org": one.slug,
                    "org_id": one.org_id,
                    "first_seq": one.first_seq,
                    "last_seq": one.last_seq,
                    "last_hash": one.last_hash.hex(),
                }
                for one in held
            ],
        }

    async def _drop(self, month: date, record_seq: int) -> int | None:
        """Drop it, when nobody reads for a moment."""
        for tries in range(DROP_TRIES):
            try:
                return await dropped_months.drop(
                    self._database.url, month, self._target.url, record_seq
                )
            except DatabaseUnavailable as error:
                if tries == DROP_TRIES - 1:
                    raise RetentionRefused(
                        f"{month:%Y-%m} stays for now: a verification or a backup reads the trail "
                        f"({error}). Run it again later"
                    ) from error
                await asyncio.sleep(DROP_PAUSE_S)
        raise AssertionError("unreachable")
