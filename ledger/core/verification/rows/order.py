"""Follows the entries of a segment from seq to seq: gaps, links, repeats, and what each counts as."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ledger.chain import StoredEntry, TrailFault
from ledger.core.verification.rows.leaf_hashes import LeafHashes
from ledger.core.verification.rows.right_rows import (
    MAX_LINKS,
    UNKNOWN,
    Link,
    as_second,
    candidates,
    link_of,
    links_from,
)
from ledger.core.verification.rows.single_rows import RawEntry, StoredEntryChecks
from ledger.core.verification.work.faults import spell_range
from ledger.core.verification.work.segments import FaultList, Segment


class _Suspect(NamedTuple):
    """The last entry, which has faults: a later one with its seq may be the right one."""

    entry: StoredEntry
    faults: list[TrailFault]
    before: Link


class EntryOrder:
    """The state between two entries of a segment, and the faults so far.

    ``expected`` is the seq that must follow, ``link`` the hash that it must name.
    """

    def __init__(self, segment: Segment, checks: StoredEntryChecks) -> None:
        self.rows = 0
        self.strays = 0
        self.failed = 0
        self.leading_gap = 0
        self.missing = 0
        self.expected = segment.first - segment.context
        self.link: Link = UNKNOWN if segment.context or segment.first > 0 else None
        self.last_leaf: bytes | None = None
        self.faults = FaultList()
        self.leaves = LeafHashes(segment)
        self._segment = segment
        self._checks = checks
        self._suspect: _Suspect | None = None

    @property
    def failures(self) -> tuple[int, int]:
        """How many faults were found so far, and whether the last entry has one."""
        return self.faults.count, self._suspect is not None

    def accept(self, digests: Sequence[bytes], last_leaf: bytes) -> None:
        """Pass the next entries, which are right; ``last_leaf`` is that of the last of them."""
        self.report_suspect()
        self.expected += len(digests)
        self.rows += min(len(digests), max(self.expected - self._segment.first, 0))
        self.link = digests[-1].hex()
        self.last_leaf = last_leaf
        self.leaves.keep(digests)

    def take(self, raw: RawEntry) -> None:
        """Check an entry that the fast path did not accept."""
        seq = raw.entry.seq
        if seq < self._segment.first - self._segment.context:
            stray = TrailFault(seq, "genesis", "the trail has a row before entry 0")
            self.stray(seq, [stray, *self._checks.faults(raw, UNKNOWN)])
        elif seq == self.expected - 1:
            self._take_second(raw)
        elif seq < self.expected:
            self._count(seq)
            reason = "the trail has several entries at this seq"
            repeated = TrailFault(seq, "duplicate_seq", reason)
            self._report(seq, [repeated, *self._checks.faults(raw, UNKNOWN)])
        else:
            self._take_next(raw)

    def _take_next(self, raw: RawEntry) -> None:
        self.pass_gap(raw.entry.seq)
        entry, before = raw.entry, self.link
        faults = self._checks.faults(raw, candidates(before))
        self._count(entry.seq)
        self.expected = entry.seq + 1
        self.link = links_from(entry, faults) if faults else entry.entry_hash.hex()
        self.last_leaf = entry.leaf
        if faults or not raw.has_payload:
            self._suspect = _Suspect(entry, faults, before)
        if faults:
            self.leaves.doubt(entry)
        else:
            self.leaves.keep([entry.entry_hash])

    def _take_second(self, raw: RawEntry) -> None:
        """Check another entry with the last one's seq: the wrong one of the two has the fault."""
        entry, suspect = raw.entry, self._suspect
        self._count(entry.seq)
        if suspect and suspect.entry.seq != entry.seq:
            suspect = None
        before = suspect.before if suspect else link_of(self.last_leaf)
        faults = self._checks.faults(raw, candidates(before))
        links = links_from(entry, faults)
        last_leaf = self.last_leaf or b""
        if suspect and not faults and raw.has_payload:
            self._suspect = None
            self.last_leaf = entry.leaf
            self.link = entry.entry_hash.hex()
            self.leaves.correct(entry)
            self._report(entry.seq, as_second(suspect.entry, suspect.faults, entry.leaf))
            return
        if faults and not suspect:
            links = ()
        self.link = tuple(dict.fromkeys(candidates(self.link) + links))[:MAX_LINKS]
        self._report(entry.seq, as_second(entry, faults, last_leaf))

    def lose(self, first: int, last: int, link: Link = UNKNOWN) -> None:
        """Pass entries whose leaves can't be read; ``link`` is what the entry after may name."""
        if first >= self.expected:
            self.pass_gap(first)
            self.expected, self.link, self.last_leaf = last + 1, link, None
            self.leaves.miss(last - first + 1)
        count = last + 1 - max(first, self._segment.first)
        if count > 0:
            self.rows += count
            self.failed += count

    def stray(self, seq: int, faults: Sequence[TrailFault]) -> None:
        """Report an entry or a block whose seq can't be in a trail."""
        self.rows += 1
        self.strays += 1
        self._report(seq, faults)

    def pass_gap(self, seq: int) -> None:
        """Report the entries that are missing before this one, and the last one's faults."""
        self.report_suspect()
        if seq == self.expected:
            return
        self.link = UNKNOWN
        self.leaves.miss(seq - self.expected)
        first = max(self.expected, self._segment.first)
        missing = seq - first
        if missing and not self.rows:
            self.leading_gap = missing
        elif missing and not self._segment.beyond:
            self.missing += missing
            self.faults.add(first, "missing", spell_range(first, seq - 1, "missing"))
        self.expected = seq

    def report_suspect(self) -> None:
        """Report the last entry's faults: no other entry with its seq follows."""
        if self._suspect:
            self._report(self._suspect.entry.seq, self._suspect.faults)
            self._suspect = None

    def _count(self, seq: int) -> None:
        if seq >= self._segment.first:
            self.rows += 1

    def _report(self, seq: int, faults: Sequence[TrailFault]) -> None:
        """Add one entry's faults; those of the context entry belong to the segment before."""
        if self._is_context(seq):
            return
        self.failed += 1
        for fault in faults:
            self.add(fault)

    def add(self, fault: TrailFault) -> None:
        """Add a fault, unless it belongs to the segment before."""
        if not self._is_context(fault.seq):
            self.faults.add(fault.seq, fault.kind, fault.reason)

    def _is_context(self, seq: int) -> bool:
        return self._segment.context and seq == self._segment.first - 1
