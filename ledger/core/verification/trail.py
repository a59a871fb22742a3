"""Verification of a whole trail, or a range of it, by several processes under one snapshot."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

import msgspec

from ledger.chain import Fault
from ledger.core.verification.archive_at import ArchiveAt
from ledger.core.verification.crew import CrewMember
from ledger.core.verification.faults import Result, VerificationFailed
from ledger.core.verification.head import Ending, check_head, find_ending
from ledger.core.verification.plan import Plan
from ledger.core.verification.segment import SegmentResult
from ledger.core.verification.signed_run import SignedRun
from ledger.core.verification.signed_sizes import find_signed
from ledger.core.verification.tally import Tally
from ledger.core.verification.trust import Trust
from ledger.core.verification.wire import Order, Signed
from ledger.keys import SigningKeyring
from ledger.storage.copy_out import HeadRow, Snapshot, open_snapshot

START_TIMEOUT_S: Final = 60.0
MAX_PLANTED: Final = 100
"""Rows below the live entries that are named."""


class Progress(NamedTuple):
    """How far a verification is: entries read of those expected, and faults so far by seq."""

    processed: int
    total: int
    fault_count: int
    faults: list[Fault]


class Target(NamedTuple):
    """What to verify; None: from the first entry, or up to the head and whatever is beyond it."""

    org_id: int
    org: str
    from_seq: int | None = None
    to_seq: int | None = None


Watcher = Callable[[Progress], None]


async def verify_trail(
    database_url: str,
    target: Target,
    keyring: SigningKeyring,
    *,
    trust: Trust | None = None,
    archive: ArchiveAt | None = None,
    processes: int | None = None,
    watch: Watcher | None = None,
) -> Result:
    """Verify a trail as it is at this moment; appends may go on meanwhile.

    ``trust`` is what is believed of its signed log, from outside the database;
    without it, and in ranges that do not begin with the trail, trees, checkpoints
    and anchors are not checked. ``archive`` is where entries are that left the
    database: they are read from there and checked as the others. ``processes`` defaults to the number of cores.
    ``watch`` is called in this event loop as entries are read. Cancelling the task
    ends the processes. Raises VerificationFailed or DatabaseUnavailable where the
    work can't be carried through, which says nothing of the trail.
    """
    if not 0 <= (target.from_seq or 0) <= (target.to_seq or target.from_seq or 0):
        raise VerificationFailed("from_seq must be 0 or more, and to_seq not below it")
    async with open_snapshot(database_url) as snapshot:
        head = await snapshot.head(target.org_id)
        newest = await snapshot.newest(target.org_id)
        signed: Signed | None = None
        if trust is not None and not target.from_seq:
            async with snapshot.trees() as trees:
                signed = await find_signed(trees, target.org_id, trust)
        archive = await _found(snapshot, target, archive)
        ending = find_ending(head, newest, signed.trail.signed if signed else 0)
        order = Order(
            database_url,
            snapshot.name,
            target.org_id,
            target.org,
            [(key.key_id, key.secret) for key in keyring.keys()],
            keyring.active.key_id,
            signed,
            archive,
        )
        live_from = archive.live_from if archive else 0
        run = _Run(
            snapshot, target, ending, signed, live_from, processes or os.cpu_count() or 1, watch
        )
        await run.work(order)
        return await run.conclude(head, newest.seq if newest else -1)


async def _found(snapshot: Snapshot, target: Target, archive: ArchiveAt | None) -> ArchiveAt | None:
    """Where what left of this trail is; None where nothing did."""
    live_from, url = await snapshot.live_from(target.org_id)
    if not live_from:
        return None
    if archive is None:
        raise VerificationFailed(
            f"the entries of {target.org} before {live_from} are archived in {url} and not in the "
            "database any more; name the archive (QUIRE_ARCHIVE_URL)"
        )
    return msgspec.structs.replace(archive, live_from=live_from)


class _Run:
    """One verification under way."""

    def __init__(
        self,
        snapshot: Snapshot,
        target: Target,
        ending: Ending,
        signed: Signed | None,
        live_from: int,
        processes: int,
        watch: Watcher | None,
    ) -> None:
        self._snapshot = snapshot
        self._target = target
        self._ending = ending
        self._live_from = live_from
        self._watch = watch
        first = target.from_seq or 0
        self._to_end = target.to_seq is None or target.to_seq >= ending.last
        last = ending.last if target.to_seq is None else min(target.to_seq, ending.last)
        self.plan = Plan(
            first,
            max(last, first - 1),
            processes,
            beyond=self._beyond(first),
            tree=signed is not None,
        )
        self._logs = signed and SignedRun(snapshot, target.org_id, signed, whole=self._to_end)
        self._processes = processes
        self._tally = Tally(self.plan.first, self.plan.last)
        self._done: dict[int, SegmentResult] = {}
        self._added = 0
        self._processed = 0

    def _beyond(self, first: int) -> tuple[int, int | None] | None:
        """The entries that should not exist, within what was asked for."""
        if not self._to_end:
            return None
        return max(self._ending.last + 1, first), self._target.to_seq

    async def work(self, order: Order) -> None:
        """Check all segments; returns when every one is tallied."""
        self._tell()
        segments = self.plan.count
        if self._logs:
            segments += await self._logs.prepare(self._processes)
        async with _crew(min(self._processes, segments), order) as crew:
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
            result = await member.check(segment, self._advance)
            if result.rows == 0 and not segment.beyond:
                await self._skip_gap(segment.last)
            self._finish(index, result)
            if self._logs:
                await self._logs.trail.settle()
        if self._logs:
            await self._logs.drive(member)

    async def _skip_gap(self, after: int) -> None:
        """Nothing stood in a segment: do not ask for each one of a gap that may be huge."""
        if self._logs and after < self._logs.signed.trail.needed:
            return  # what was signed is no huge gap, and its tiles stand
        if after < self._live_from:
            return  # the next row is in the archive
        found = await self._snapshot.next_seq(self._target.org_id, after)
        skipped = self.plan.skip_to(found)
        if skipped is not None:
            index, segment = skipped
            size = segment.last - segment.first + 1
            self._finish(index, SegmentResult(0, 0, size, 0, 0, [], 0, []))

    def _finish(self, index: int, result: SegmentResult) -> None:
        """Tally whatever is complete from the start of the trail."""
        self._done[index] = result
        while self._added in self._done:
            segment = self.plan.segments.pop(self._added)
            tallied = self._done.pop(self._added)
            self._tally.add(segment, tallied)
            if self._logs:
                self._logs.trail.put(tallied.tree)
            self._processed += tallied.leading_gap + tallied.trailing_gap + tallied.missing
            self._added += 1
        self._tell()

    def _advance(self, rows: int) -> None:
        self._processed += rows
        self._tell()

    def _tell(self) -> None:
        if self._watch is not None:
            tally = self._tally
            total = self.plan.last - self.plan.first + 1
            self._watch(Progress(self._processed, total, tally.fault_count, tally.faults))

    async def conclude(self, head: HeadRow | None, newest_seq: int) -> Result:
        """The verdict, with the head row's part in it and that of the signed logs."""
        tally = self._tally
        tally.close(at_tail=newest_seq <= tally.last)
        for seq in await self._planted():
            reason = "a row stands in the database although the archive has this entry"
            tally.add_fault(Fault(seq, "inserted", reason))
        if self._to_end:
            if self._ending.fault is not None:
                tally.add_fault(self._ending.fault)
            elif head is not None and tally.last == head.seq:
                check_head(head, tally)
        if self._logs:
            await self._logs.conclude(tally)
        return tally.result()

    async def _planted(self) -> list[int]:
        """Seqs of rows that were put where all entries left for the archive."""
        if not self._live_from:
            return []
        return await self._snapshot.planted(self._target.org_id, self._live_from, MAX_PLANTED)


@asynccontextmanager
async def _crew(size: int, order: Order) -> AsyncIterator[list[CrewMember]]:
    """Processes that have the trail before them; none is left when the block ends."""
    crew: list[CrewMember] = []
    try:
        for _ in range(size):
            crew.append(await CrewMember.start())  # noqa: PERF401 - each must be ended
        await _enlist(crew, order)
        yield crew
    finally:
        await asyncio.shield(asyncio.gather(*(member.end() for member in crew)))


async def _enlist(crew: list[CrewMember], order: Order) -> None:
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            await asyncio.gather(*(member.enlist(order) for member in crew))
    except TimeoutError:
        raise VerificationFailed("the verification workers did not start in time") from None
