"""Retention of the live database: drops archived months that the policy no longer keeps.

For each month, in this order:

1. append an entry to each trail that ends in the month, so that none ends there any more;
2. compare every row with its archived copy and the signed tree, and lock the copies from now on;
3. append an entry to the trail ``system`` that lists the entries to be dropped;
4. drop the month in one transaction, in which the database checks its conditions again and adds
   the ranges to the table ``departed``. Only the login of retention may do this, and it names the
   ranges that were compared in step 2: no row of the database takes the place of the comparison.

A crash before the commit leaves the whole month in the database, and perhaps an entry of step 3:
the next run drops the month.
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
from ledger.blocks.block import SYSTEM_ORG
from ledger.errors import ArchiveError, DatabaseUnavailable, RetentionRefused
from ledger.keys import SigningKeyring
from ledger.storage.database import Database
from ledger.storage.entries import months
from ledger.storage.entries.months import DroppedRange, Month

SYSTEM: Final = SYSTEM_ORG
"""Slug of the org whose trail records the server's own decisions."""
DROPPED: Final = "quire.partition_dropped"
CONTINUED: Final = "quire.month_leaving"
DROP_TRIES: Final = 20
DROP_PAUSE_S: Final = 3.0


class DroppedMonth(NamedTuple):
    """A month that was dropped; ``record_seq`` is its entry in the trail ``system``."""

    month: date
    entries: int
    orgs: int
    record_seq: int


class Recorder(NamedTuple):
    """Appends the server's own entries: to the system trail (returning the seq), or to an org's."""

    system: Callable[[Mapping[str, Any]], Awaitable[int]]
    org: Callable[[int, Mapping[str, Any]], Awaitable[None]]


class Retention:
    """Drops months from one database once they are archived in one target.

    ``policy`` is the lock that objects get when their month is dropped; ``unlocked`` accepts a
    target without locks. ``retention_url`` is the URL of the login that may drop; ``row_key`` authenticates the rows
    that say what was dropped. ``clock`` returns
    POSIX seconds.

    Methods raise RetentionRefused where a month can't be dropped, ArchiveError, StorageError and
    AppendRefused. Run it in one process at a time.
    """

    def __init__(  # noqa: PLR0913 - each is a thing to drop with
        self,
        target: Target,
        database: Database,
        retention_url: str,
        keyring: Callable[[bool], SigningKeyring],
        recorder: Recorder,
        policy: ObjectLock,
        row_key: bytes,
        *,
        unlocked: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._target = target
        self._database = database
        self._retention_url = retention_url
        self._keyring = keyring
        self._recorder = recorder
        self._policy = policy
        self._row_key = row_key
        self._unlocked = unlocked
        self._clock = clock

    async def due(self) -> list[Month]:
        """Return the months that the policy no longer keeps, oldest first."""
        return [month for month in await months.present(self._database) if month.due]

    async def run(
        self, on_dropped: Callable[[DroppedMonth], None] = lambda _: None
    ) -> list[DroppedMonth]:
        """Drop every month that is due, oldest first; call ``on_dropped`` after each."""
        all_dropped = []
        for month in await self.due():
            if not month.sealed:
                raise RetentionRefused(
                    f"{month.month:%Y-%m} is not sealed yet: its month ended less than a day ago"
                )
            dropped = await self.drop_month(month.month)
            if dropped is not None:
                on_dropped(dropped)
                all_dropped.append(dropped)
        return all_dropped

    async def drop_month(self, month: date) -> DroppedMonth | None:
        """Drop one month, the oldest; return None where it was dropped before."""
        reason = unprotected(self._target.locked, self._policy, self._unlocked)
        if reason is not None:
            raise RetentionRefused(f"{month:%Y-%m} stays in the database: {reason}")
        ranges = await self._continued_ranges(month)
        # A crash here leaves trails continued after the month. The next run finds no trail that
        # ends in it, and appends nothing.
        for one in ranges:
            await self.verify(one)
        # A crash here leaves, on a locked target, longer locks on the archived copies.
        record_seq = 0
        if ranges:
            record_seq = await self._recorder.system(self._record(month, ranges))
        # A crash here leaves, if any org has entries in it, an entry in `system` about a month that is still in the database.
        # The next run appends another one and drops the month.
        entries = await self._drop(month, record_seq, ranges)
        # A crash here leaves the month dropped, with its ranges in `departed`: the next run does
        # not list it as due.
        return None if entries is None else DroppedMonth(month, entries, len(ranges), record_seq)

    async def verify(self, one: DroppedRange) -> None:
        """Check that a range is archived bit for bit and signed, and lock the archived copies."""
        if one.slug is None:
            raise RetentionRefused(
                f"the database has entries {one.first_seq} to {one.last_seq} of an org that does "
                f"not exist (id {one.org_id})"
            )
        if not 0 <= one.first_seq <= one.last_seq:
            raise RetentionRefused(
                f"entries {one.first_seq} to {one.last_seq} of {one.slug} stay in the database: no "
                "trail has such entries. Run a full verification of this trail"
            )
        locks = ObjectLocks(self._target, self._policy, self._clock())
        holding = Holding(locks, self._database, one.org_id, one.slug, self._keyring(True))
        try:
            await holding.check(one.first_seq, one.last_seq)
        except ArchiveError as error:
            raise RetentionRefused(
                f"entries {one.first_seq} to {one.last_seq} of {one.slug} stay in the database: "
                f"{error}"
            ) from error

    async def _continued_ranges(self, month: date) -> list[DroppedRange]:
        """Continue the trails that end in the month; return the month's ranges."""
        ranges = await months.ranges(self._database, month)
        ending = [one for one in ranges if one.is_head]
        if not ending:
            return ranges
        for one in ending:
            # A crash here leaves some trails continued; the next run continues the others.
            end = {"month": f"{month:%Y-%m}", "last_seq": one.last_seq}
            event = {"event_type": CONTINUED, "actor": "quire", "action": "continue", **end}
            await self._recorder.org(one.org_id, event)
        ranges = await months.ranges(self._database, month)
        if any(one.is_head for one in ranges):
            raise RetentionRefused(
                f"a trail still ends in {month:%Y-%m}, although an entry was appended to it"
            )
        return ranges

    def _record(self, month: date, ranges: Sequence[DroppedRange]) -> dict[str, Any]:
        return {
            "event_type": DROPPED,
            "actor": "quire",
            "action": "drop",
            "outcome": "success",
            "month": f"{month:%Y-%m}",
            "target": self._target.url,
            "entries": sum(one.last_seq - one.first_seq + 1 for one in ranges),
            "orgs": [
                {
                    "org": one.slug,
                    "org_id": one.org_id,
                    "first_seq": one.first_seq,
                    "last_seq": one.last_seq,
                    "last_hash": one.last_hash.hex(),
                }
                for one in ranges
            ],
        }

    async def _drop(self, month: date, record_seq: int, held: Sequence[DroppedRange]) -> int | None:
        """Drop the month; retry while readers lock it. None where it was dropped before."""
        for tries in range(DROP_TRIES):
            try:
                # One transaction: a crash here leaves the whole month, or none of its rows.
                # Where it was committed and the answer was lost, the next try returns None.
                return await months.drop(
                    self._retention_url, month, self._target.url, record_seq, held, self._row_key
                )
            except DatabaseUnavailable as error:
                if tries == DROP_TRIES - 1:
                    raise RetentionRefused(
                        f"{month:%Y-%m} stays in the database for now: a verification or a backup "
                        f"is reading the trail ({error}). Run retention again later"
                    ) from error
                await asyncio.sleep(DROP_PAUSE_S)
        raise AssertionError("unreachable")
