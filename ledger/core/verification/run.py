"""Verifies a whole trail, or a range of it, with several processes under one snapshot."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec

from ledger.chain import ChainHead, TrailFault
from ledger.core.verification.trees.range_run import RangeRun
from ledger.core.verification.trees.signed_run import SignedRun
from ledger.core.verification.work.crew import ArchiveAt, CrewMember, VerificationSetup, crew_of
from ledger.core.verification.work.event_check import CHECK as EVENTS
from ledger.core.verification.work.event_check import EventCheck, EventTrust
from ledger.core.verification.work.extent import (
    CoveredSizes,
    Extent,
    SigningLimits,
    TrailRange,
    await_checkpoint,
    find_extent,
    require_coverage,
)
from ledger.core.verification.work.faults import Result, VerificationFailed, spell_range
from ledger.core.verification.work.index_check import IndexCheck, check_index
from ledger.core.verification.work.row_check import RowCheck, RowTrust, check_rows
from ledger.core.verification.work.sealing_entries import SealingEntry
from ledger.core.verification.work.segments import Plan, Segment, SegmentResult
from ledger.core.verification.work.tally import Tally, check_head
from ledger.core.verification.work.trust import TrailTrust
from ledger.keys import SigningKeyring
from ledger.storage.copy_out import Snapshot, open_snapshot
from ledger.storage.entries.blocks import DamagedTrail

__all__ = ["Progress", "TrailRange", "Watcher", "verify_trail"]

MAX_PLANTED: Final = 100
"""Rows below the live entries that are reported at most."""


class Progress(NamedTuple):
    """The progress of a verification: entries read, entries expected, and faults found so far."""

    processed: int
    total: int
    fault_count: int
    faults: list[TrailFault]


Watcher = Callable[[Progress], None]


async def verify_trail(  # noqa: PLR0913 - each is a thing to verify with, most have defaults
    database_url: str,
    target: TrailRange,
    keyring: SigningKeyring,
    *,
    trust: TrailTrust | None = None,
    archive: ArchiveAt | None = None,
    processes: int | None = None,
    watch: Watcher | None = None,
    limits: SigningLimits | None = None,
    acknowledged: ChainHead | None = None,
    index_key: bytes | None = None,
    rows: RowTrust | None = None,
    events: EventTrust | None = None,
) -> Result:
    """Verify a trail as it is at this moment; appends may continue meanwhile.

    ``trust`` has the keys and heads of the signed logs, from outside the database; without
    it trees, checkpoints and anchors are not checked. ``limits`` say how long entries may
    wait for them before the verdict is incomplete; without trust and limits they are not
    required. ``acknowledged`` is the newest
    head that this machine acknowledged before now, with which a whole trail is compared. ``archive`` is the archive of entries that were dropped from the
    database: they are read from it and checked like the others. ``processes`` defaults to the
    number of cores. ``watch`` is called in this event loop as entries are read. ``index_key`` is the key
    of the search index, which is compared with the entries of a whole trail; ``rows`` has the keys
    of the rows that decide, which are judged with a whole trail; with ``events`` the security
    events are compared with the entries of a whole trail that seal them. Cancelling the task
    ends the processes. Raises RangeRefused for a range beyond the trail, and
    VerificationFailed or DatabaseUnavailable if the verification can't be completed,
    which says nothing about the trail.
    """
    await await_checkpoint(database_url, target, trust)
    async with open_snapshot(database_url) as snapshot:
        extent = await find_extent(snapshot, target, trust)
        archive = await _archive_in(snapshot, target, archive)
        setup = VerificationSetup(
            database_url,
            snapshot.name,
            target.org_id,
            target.org,
            [(key.key_id, key.secret) for key in keyring.keys()],
            keyring.active.key_id,
            extent.signed,
            archive,
        )
        live_from = archive.live_from if archive else 0
        run = _Run(snapshot, target, extent, live_from, processes or os.cpu_count() or 1, watch)
        await run.work_beside(
            setup, index_key, rows if extent.whole else None, events if extent.whole else None
        )
        if extent.whole and acknowledged is not None:
            await run.compare(acknowledged)
        if limits is None and trust is not None:
            limits = SigningLimits()
        return await run.conclude(limits)


async def _archive_in(
    snapshot: Snapshot, target: TrailRange, archive: ArchiveAt | None
) -> ArchiveAt | None:
    """The archive with this trail's first live seq; None if all entries are in the database."""
    live_from, url = await snapshot.live_from(target.org_id)
    if not live_from:
        return None
    if archive is None:
        raise VerificationFailed(
            f"the entries of org {target.org} before {live_from} are in the archive {url} and no "
            "longer in the database; set QUIRE_ARCHIVE_URL to it"
        )
    return msgspec.structs.replace(archive, live_from=live_from)


class _Run:
    """One verification under way."""

    def __init__(
        self,
        snapshot: Snapshot,
        target: TrailRange,
        extent: Extent,
        live_from: int,
        processes: int,
        watch: Watcher | None,
    ) -> None:
        self._snapshot = snapshot
        self._target = target
        self._extent = extent
        self._ending = ending = extent.ending
        self._live_from = live_from
        self._watch = watch
        first, signed = target.from_seq or 0, extent.signed
        self._to_end = target.to_seq is None or target.to_seq >= ending.last
        last = ending.last if target.to_seq is None else min(target.to_seq, ending.last)
        self.plan = Plan(
            first,
            max(last, first - 1),
            processes,
            beyond=self._beyond(first),
            tree=signed is not None and extent.whole,
            proven=signed is not None and not extent.whole,
        )
        self._logs: SignedRun | None = None
        self._range: RangeRun | None = None
        if signed is not None and extent.whole:
            self._logs = SignedRun(snapshot, target.org_id, signed)
        elif signed is not None:
            length = extent.head.seq + 1 if extent.head else 0
            self._range = RangeRun(snapshot, target.org_id, signed, length)
        self._last_row: Segment | None = None
        if not self._to_end and ending.last >= 0:
            self._last_row = Segment(ending.last, ending.last)
        self._end: SegmentResult | None = None
        self._processes = processes
        self._tally = Tally(self.plan.first, self.plan.last)
        self._done: dict[int, SegmentResult] = {}
        self._added = 0
        self._processed = 0
        self._events: EventCheck | None = None

    async def work_beside(
        self,
        setup: VerificationSetup,
        index_key: bytes | None,
        rows: RowTrust | None,
        events: EventTrust | None,
    ) -> None:
        """Check all segments and, where there are keys, index, deciding rows and security events."""
        self._events = None if events is None else EventCheck(events)
        where = setup.database_url, setup.snapshot, setup.org_id
        beside: list[asyncio.Task[IndexCheck] | asyncio.Task[RowCheck]] = []
        if index_key is not None and self._extent.whole:
            live_from, extent = self._live_from, self._extent
            index = check_index(*where, index_key, live_from=live_from, extent=extent)
            beside.append(asyncio.create_task(index))
        if rows is not None:
            beside.append(asyncio.create_task(check_rows(*where, setup.org, rows)))
        try:
            await self.work(setup)
            if not self._extent.whole:
                self._tally.reasons[EVENTS] = "they are compared with a whole trail only"
            if self._events is not None:
                await self._events.compare(*where)
                self._events.add_to(self._tally)
            for checking in beside:
                (await checking).add_to(self._tally)
        finally:
            for checking in beside:
                checking.cancel()
            await asyncio.gather(*beside, return_exceptions=True)

    def _beyond(self, first: int) -> tuple[int, None] | None:
        """The range in which no entry should exist, or None if the range ends before."""
        if not self._to_end:
            return None
        return max(self._ending.last + 1, first), None

    async def work(self, setup: VerificationSetup) -> None:
        """Check all segments; returns when every segment is tallied."""
        self._report_progress()
        segments = self.plan.count
        if self._logs:
            segments += await self._logs.prepare(self._processes)
        async with crew_of(min(self._processes, segments), setup) as crew:
            drives = [asyncio.create_task(self._drive(member)) for member in crew]
            try:
                await asyncio.gather(*drives)
            finally:
                for drive in drives:
                    drive.cancel()
                await asyncio.gather(*drives, return_exceptions=True)
        if self._added != self.plan.taken or not self.plan.finished:
            raise VerificationFailed("the verification ended before every segment was checked")

    async def _drive(self, member: CrewMember) -> None:
        while (task := self.plan.take()) is not None:
            index, segment = task
            result = await member.check(segment, self._advance, self._take_sealing)
            if result.rows == 0 and not segment.beyond:
                await self._skip_gap(segment.last)
            self._finish(index, result)
            if self._logs:
                await self._logs.trail.settle()
        if self._logs:
            await self._logs.drive(member)
        if self._last_row is not None:
            segment, self._last_row = self._last_row, None
            self._end = await member.check(segment, lambda _rows: None)

    async def _skip_gap(self, after: int) -> None:
        """Skip the rest of a gap, which may be huge, after a segment without rows."""
        signed = self._extent.signed
        if signed and after < signed.trail.needed:
            return  # signed entries are never a huge gap, and their tiles must be checked
        if after < self._live_from:
            return  # the next row is in the archive
        found = await self._snapshot.next_seq(self._target.org_id, after)
        skipped = self.plan.skip_to(found)
        if skipped is not None:
            index, segment = skipped
            size = segment.last - segment.first + 1
            self._finish(index, SegmentResult(0, 0, size, 0, 0, [], 0, []))

    def _finish(self, index: int, result: SegmentResult) -> None:
        """Tally the results that are complete from the start of the trail on."""
        self._done[index] = result
        while self._added in self._done:
            segment = self.plan.segments.pop(self._added)
            tallied = self._done.pop(self._added)
            self._tally.add(segment, tallied)
            if self._logs:
                self._logs.trail.put(tallied.tree)
            if self._range:
                self._range.put(tallied.tree)
            self._processed += tallied.leading_gap + tallied.trailing_gap + tallied.missing
            self._added += 1
        self._report_progress()

    def _take_sealing(self, entries: list[SealingEntry]) -> None:
        if self._events is not None:
            self._events.take(entries)

    def _advance(self, rows: int) -> None:
        self._processed += rows
        self._report_progress()

    def _report_progress(self) -> None:
        if self._watch is not None:
            tally = self._tally
            total = self.plan.last - self.plan.first + 1
            self._watch(Progress(self._processed, total, tally.fault_count, tally.faults))

    async def compare(self, acknowledged: ChainHead) -> None:
        """Compare the trail with the newest head that was acknowledged before the snapshot."""
        head, seq = self._extent.head, acknowledged.seq
        end = -1 if head is None else head.seq
        if end < seq:
            reason = f"the trail ends at seq {end}, but entries up to {seq} were acknowledged"
            self._tally.add_fault(TrailFault(end + 1, "below_acknowledged", reason))
        elif seq >= self._live_from and await self._differs(acknowledged):
            reason = "it is not the entry that was acknowledged at this seq"
            self._tally.add_fault(TrailFault(seq, "acknowledged_differs", reason))

    async def _differs(self, acknowledged: ChainHead) -> bool:
        """Return whether another entry has the seq; one that is missing has a fault already."""
        try:
            found = await self._snapshot.hash_at(self._target.org_id, acknowledged)
        except DamagedTrail:
            return False
        return found is not None and found != acknowledged.entry_hash

    async def conclude(self, limits: SigningLimits | None) -> Result:
        """Returns the verdict, after the checks of the head row and of the signed logs."""
        tally = self._tally
        newest_seq = self._extent.newest.seq if self._extent.newest else -1
        tally.close(at_tail=newest_seq <= tally.last)
        tally.sealed = tally.sealed or await self._snapshot.seals(self._target.org_id)
        tally.close_seals()
        for seq in await self._planted():
            reason = "the database has a row although this entry was archived and dropped"
            tally.add_fault(TrailFault(seq, "inserted", reason))
        self._conclude_head(newest_seq)
        covered = CoveredSizes()
        if self._logs:
            await self._logs.conclude(tally)
            covered = await self._logs.covered_sizes()
        elif self._range:
            await self._range.conclude(tally, to_end=self._to_end)
            covered = await self._range.covered_sizes()
        if limits is not None:
            await require_coverage(self._snapshot, self._target.org_id, covered, limits, tally)
        return tally.result()

    def _conclude_head(self, newest_seq: int) -> None:
        """Compare the head row with the last entry, even if the range ends before."""
        tally, ending, head = self._tally, self._ending, self._extent.head
        if ending.fault is not None:
            tally.add_fault(ending.fault)
            return
        assert head is not None, "a missing head row is a fault of the ending"
        if head.seq < ending.last:
            if newest_seq > head.seq or tally.gap_at_tail is None:
                tally.add_fault(_set_back(head.seq, newest_seq, ending.last))
        elif self._to_end:
            check_head(head, tally, tally.end_hashes, tally.end_time)
        elif newest_seq > head.seq:
            reason = "the trail has entries beyond the head row, from here on"
            tally.add_fault(TrailFault(head.seq + 1, "beyond_head", reason))
        elif self._end is not None and self._end.rows:
            check_head(head, tally, self._end.end_hashes, self._end.end_time)
            if self._end.fault_count:
                tally.doubted["head"] = "the last entry has faults; verify the whole trail"
        elif tally.gap_at_tail is None:
            first = max(newest_seq, tally.last) + 1
            reason = spell_range(first, head.seq, "missing: the tail was cut")
            tally.add_fault(TrailFault(first, "truncated", reason))

    async def _planted(self) -> list[int]:
        """Seqs of rows where all entries were archived and dropped: these rows were planted."""
        if not self._live_from:
            return []
        return await self._snapshot.planted(self._target.org_id, self._live_from, MAX_PLANTED)


def _set_back(seq: int, newest: int, last: int) -> TrailFault:
    """The fault of a head row at ``seq``, before ``last``, the last signed entry."""
    if newest > seq:
        reason = f"the head row says seq {seq}, but entries up to {last} were signed"
        return TrailFault(seq + 1, "beyond_head", reason)
    reason = f"the head row says seq {seq}, but {last + 1} entries were signed"
    return TrailFault(seq + 1, "below_signed", reason)
