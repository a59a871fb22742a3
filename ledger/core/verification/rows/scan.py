"""Checks one segment: turns the bytes of a binary COPY of blocks into faults and leaf hashes.

It does no I/O and takes bounded memory. Nearly every entry of a trail is right, and ``right_rows``
accepts those at the least cost, many at once, if :func:`check_entry` would find no fault.
``single_rows`` finds the own faults of every other entry, and ``order`` those between entries.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ledger.blocks.reading import UnreadableEntries
from ledger.chain import StoredEntry, TrailFault
from ledger.core.verification.rows.borders import BlockBorders
from ledger.core.verification.rows.leaf_hashes import LeafHashes
from ledger.core.verification.rows.order import EntryOrder
from ledger.core.verification.rows.right_rows import (
    UNKNOWN,
    Link,
    RightRows,
    RunSpan,
    candidates,
    time_of,
)
from ledger.core.verification.rows.rows import CopiedBlock, CopyStream, read_block
from ledger.core.verification.rows.runs import Run, has_impossible_borders, read_run, runs_of
from ledger.core.verification.rows.single_rows import StoredEntryChecks
from ledger.core.verification.rows.windows import Windows
from ledger.core.verification.work.faults import spell_range
from ledger.core.verification.work.sealing_entries import SealingEntry
from ledger.core.verification.work.segments import Segment, SegmentResult
from ledger.entry import HASH_BYTES
from ledger.keys import SigningKeyring


class SegmentScan:
    """Checks the entries of one segment. Call feed for all bytes of its blocks, then finish.

    Raises CopyError if the bytes are not a COPY of such blocks, which says nothing about the trail.
    """

    def __init__(self, org: str, keyring: SigningKeyring, segment: Segment) -> None:
        self._segment = segment
        self._right = RightRows(org, keyring)
        self._checks = StoredEntryChecks(org, keyring)
        self._order = EntryOrder(segment, self._checks)
        self._borders = BlockBorders(org)
        self._windows = Windows(self._take_window)
        self._stream = CopyStream(read_block, self._windows.add)

    @property
    def rows(self) -> int:
        """The number of entries read so far."""
        return self._order.rows

    @property
    def leaves(self) -> LeafHashes:
        """The leaf hashes of the entries."""
        return self._order.leaves

    def sealing(self) -> Iterator[list[SealingEntry]]:
        """Yield the entries of the segment that seal security events and were not yielded before."""
        first = self._segment.first
        while taken := self._right.sealing.take():
            if not self._segment.beyond:  # else they are no entries of the trail
                yield [entry for entry in taken if entry.seq >= first]

    def feed(self, chunk: bytes) -> None:
        """Add the next bytes of the stream, cut anywhere."""
        self._stream.feed(chunk)

    def add(self, entries: Sequence[StoredEntry]) -> None:
        """Check entries that are in no block, which come before all blocks, in their order."""
        for run in runs_of(entries):
            self._scan_run(run)

    def finish(self) -> SegmentResult:
        """The result, after the whole stream was fed. Raises CopyError if the stream was cut."""
        self._stream.finish()
        self._windows.flush()
        order, segment = self._order, self._segment
        order.report_suspect()
        absent = segment.last + 1 - max(order.expected, segment.first)
        if segment.beyond:
            self._report_beyond()
            absent = 0
        ended = absent == 0
        empty = order.rows == 0
        return SegmentResult(
            rows=order.rows,
            failed_rows=order.failed,
            leading_gap=absent if empty else order.leading_gap,
            trailing_gap=0 if empty else absent,
            missing=order.missing,
            faults=order.faults.named,
            fault_count=order.faults.count,
            kinds=sorted(order.faults.kinds),
            end_hashes=list(candidates(order.link)) if ended else [],
            end_time=time_of(order.last_leaf) if ended else None,
            sealed=self._right.seals.sealed,
            unsealed_seq=self._right.seals.unsealed_seq,
        )

    def _report_beyond(self) -> None:
        order = self._order
        rows = order.rows - order.strays
        if rows:
            order.failed = order.rows
            first = self._segment.first + order.leading_gap
            order.leading_gap = 0
            reason = f"the trail has {rows} entries beyond the head row, from here on"
            order.faults.add(first, "beyond_head", reason)
            order.faults.named.sort(key=lambda fault: fault.seq)

    def _take_window(self, blocks: Sequence[CopiedBlock]) -> None:
        """Check the blocks of a window, in the order of their first seqs."""
        runs: list[tuple[CopiedBlock, int, int]] = []
        for block in blocks:
            if has_impossible_borders(block):
                self._report_borders(block)
                continue
            start, stop = self._clip(block)
            if start < stop:
                runs.append((block, start, stop))
        if self._overlap(runs):
            self._borders.skip()
            self._merge([self._read(*run) for run in runs])
        else:
            self._scan_runs(runs)

    def _report_borders(self, block: CopiedBlock) -> None:
        """Report a block with impossible seqs, in the segment of its last seq."""
        first, seq = self._segment.first, block.last_seq
        if seq <= self._segment.last and (seq >= first or self._segment.open_start):
            reason = f"a block can't have the entries from {block.first_seq} to {seq}"
            self._order.stray(seq, [TrailFault(seq, "unreadable", reason)])

    def _clip(self, block: CopiedBlock) -> tuple[int, int]:
        """The positions of the entries of a block that belong to the segment."""
        start = max(self._segment.lower - block.first_seq, 0)
        stop = min(self._segment.last - block.first_seq + 1, block.entry_count)
        return start, stop

    def _overlap(self, runs: Sequence[tuple[CopiedBlock, int, int]]) -> bool:
        expected = self._order.expected
        for block, start, stop in runs:
            if block.first_seq + start < expected and block.first_seq + start >= 0:
                return True
            expected = block.first_seq + stop
        return False

    def _read(self, block: CopiedBlock, start: int, stop: int) -> Run:
        run = read_run(block, start, stop)
        if run.is_whole:
            return run
        self._report_unreadable(run, run.unreadable, "entries")
        self._report_unreadable(run, run.without_payload, "payloads of entries")
        if run.leaves[-1] is None and run.stop == len(run.leaves):
            for fault in run.faults:  # there is no last entry to report them with
                self._order.add(fault)
        return run

    def _report_unreadable(self, run: Run, lost: Sequence[UnreadableEntries], what: str) -> None:
        """Report each range of unreadable entries, within the segment."""
        lower = max(run.block.first_seq + run.start, self._segment.first)
        upper = run.block.first_seq + run.stop - 1
        if self._segment.open_start:
            lower = run.block.first_seq
        for one in lost:
            first, last, reason = max(one.first_seq, lower), min(one.last_seq, upper), one.reason
            if first <= last:
                self._order.faults.add(first, "unreadable", _spell(what, first, last, reason))

    def _merge(self, runs: Sequence[Run]) -> None:
        """Check the entries of blocks that overlap, one by one, by their seq and time."""
        places = sorted(
            (run.block.first_seq + position, run.leaves[position] is None, run.block.anchored, n)
            for n, run in enumerate(runs)
            for position in range(run.start, run.stop)
        )
        for seq, lost, _, n in places:
            if lost:
                self._order.lose(seq, seq)
            else:
                run = runs[n]
                self._take(run, seq - run.block.first_seq)

    def _scan_runs(self, places: Sequence[tuple[CopiedBlock, int, int]]) -> None:
        """Check blocks that do not overlap, small ones together."""
        gathered: list[Run] = []
        for place in places:
            run = self._read(*place)
            follows = gathered and run.block.first_seq == gathered[-1].block.last_seq + 1
            if gathered and not (run.is_whole and follows):
                self._scan_gathered(gathered)
                gathered = []
            if run.is_whole:
                gathered.append(run)
            else:
                self._borders.skip()
                self._scan_run(run)
        if gathered:
            self._scan_gathered(gathered)

    def _scan_gathered(self, runs: Sequence[Run]) -> None:
        """Check whole blocks that follow each other, all at once; else each by itself."""
        order = self._order
        order.pass_gap(max(runs[0].block.first_seq, order.expected))
        if len(runs) > 1 and not isinstance(order.link, tuple):
            digests = self._right.digests(RunSpan.joined(runs), order.link)
            if digests is not None:
                order.accept(digests, runs[-1].leaves[-1] or b"")
                self._check_borders(runs)
                return
        for run in runs:
            before = order.failures
            self._scan_run(run)
            if order.failures == before:
                self._check_borders([run])
            else:
                self._borders.skip()

    def _check_borders(self, runs: Sequence[Run]) -> None:
        """Check where whole blocks begin whose entries are right."""
        for run in runs:
            for fault in self._borders.follow(run):
                self._order.add(fault)

    def _scan_run(self, run: Run) -> None:
        """Check the entries of a run: those that can be read many at once."""
        leaves, payloads = run.leaves, run.payloads
        position = run.start
        while position < run.stop:
            end = position + 1
            if run.is_whole:
                end = run.stop
                self._scan_readable(run, position, end)
            elif leaves[position] is None:
                while end < run.stop and leaves[end] is None:
                    end += 1
                self._lose(run, position, end)
            elif payloads[position] is None or (run.faults and end == len(leaves)):
                self._take(run, position)
            else:
                last = len(leaves) - 1 if run.faults else run.stop
                while end < min(run.stop, last) and leaves[end] and payloads[end] is not None:
                    end += 1
                self._scan_readable(run, position, end)
            position = end

    def _take(self, run: Run, position: int) -> None:
        """Check one entry by itself."""
        raw = self._checks.raw(run, position)
        self._right.seals.add_stored(raw.entry.seq, raw.entry.leaf)
        before = self._order.failures
        self._order.take(raw)
        is_right = self._order.failures == before and raw.has_payload
        self._right.sealing.add_single(raw.entry, is_right=is_right)

    def _lose(self, run: Run, start: int, stop: int) -> None:
        first, last_hash = run.block.first_seq, run.block.last_hash
        link: Link = UNKNOWN
        if stop == len(run.leaves) and len(last_hash) == HASH_BYTES:
            link = (last_hash,)
        self._order.lose(first + start, first + stop - 1, link)

    def _scan_readable(self, run: Run, start: int, stop: int) -> None:
        """Check readable entries, all at once; if one is not right, each half by itself."""
        order, first = self._order, run.block.first_seq
        if first + start > order.expected:
            order.pass_gap(first + start)
        while start < stop and isinstance(order.link, tuple):  # the link may be any of several
            self._take(run, start)
            start += 1
        if start == stop:
            return
        assert not isinstance(order.link, tuple), "the loop above ended for that"
        digests = self._right.digests(RunSpan.of(run, start, stop), order.link)
        if digests is not None:
            leaf = run.leaves[stop - 1]
            assert leaf is not None, "it is readable"
            order.accept(digests, leaf)
        elif stop - start == 1:
            self._take(run, start)
        else:
            middle = (start + stop) // 2
            self._scan_readable(run, start, middle)
            self._scan_readable(run, middle, stop)


def _spell(what: str, first: int, last: int, reason: str) -> str:
    if what == "entries":
        return spell_range(first, last, f"unreadable: {reason}")
    return f"the {what} {first} to {last} can't be read: {reason}"
