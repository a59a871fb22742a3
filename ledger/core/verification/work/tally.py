"""Combines segment results, in the order of the trail, into a verdict: joins gaps, bounds faults.

The head row is compared with the end of the trail.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ledger.chain import EMPTY_SEQ, UNKNOWN_KEY, TrailFault
from ledger.core.verification.work.faults import (
    ALWAYS_REQUIRED,
    CHECKS,
    CHECKS_OF_ENTRIES,
    CHECKS_OF_KIND,
    LEAVES_UNCHECKED,
    MAX_FAULTS,
    Checks,
    Result,
    spell_range,
)
from ledger.core.verification.work.segments import Segment, SegmentResult
from ledger.entry import decode_leaf, format_time
from ledger.errors import MalformedLeaf
from ledger.storage.copy_out import HeadRow
from ledger.storage.entries.extent import NewestRow
from ledger.verdict import NOT_CHECKED, Check, combine


class Tally:
    """The combined result of a range so far. Segments are added in order, each once."""

    def __init__(self, first: int, last: int) -> None:
        self.first = first
        self.last = last
        self.faults: list[TrailFault] = []
        self.fault_count = 0
        self.head: Check = NOT_CHECKED
        self.end_hashes: list[bytes] = []
        self.end_time: str | None = None
        self.gap_at_tail: int | None = None
        """The first of the entries that are missing at the end of the trail, or None."""
        self.passed: set[str] = set()
        """Checks, except those of entries, that at least one object passed."""
        self.doubted: dict[str, str] = {}
        """Checks that could not be made for all objects, and why."""
        self.required: set[str] = set(ALWAYS_REQUIRED)
        """Required checks: without them the verdict is incomplete."""
        self.unsigned_entries = 0
        self.reasons: dict[str, str] = {}
        """Why a check was not made, unless a more specific reason is known."""
        self.contradicted: set[str] = set()
        """Checks that fail because of faults whose kinds belong to other checks."""
        self._rows = 0
        self._missing = 0
        self._failed = 0
        self._kinds: set[str] = set()
        self._gap_from: int | None = None
        self.sealed = False
        """An entry is sealed, or the org says that it seals."""
        self._unsealed_seq: int | None = None

    def add(self, segment: Segment, result: SegmentResult) -> None:
        """Add the next segment's result."""
        self._rows += result.rows
        self._failed += result.failed_rows
        self._missing += result.missing
        if not segment.beyond:  # beyond the end no entry is missing, and none closes a gap
            if result.leading_gap:
                self._open_gap(segment.first)
            if result.leading_gap <= segment.last - segment.first:
                self._close_gap(segment.first + result.leading_gap)
        for fault in result.faults:
            self._name(fault)
        self.fault_count += result.fault_count
        self._kinds.update(result.kinds)
        self.sealed = self.sealed or result.sealed
        if self._unsealed_seq is None:
            self._unsealed_seq = result.unsealed_seq
        if result.trailing_gap:
            self._open_gap(segment.last + 1 - result.trailing_gap)
        if segment.last == self.last:
            self.end_hashes, self.end_time = result.end_hashes, result.end_time

    def add_fault(self, fault: TrailFault) -> None:
        """Add a fault of the trail as a whole; it is listed even if the list is full."""
        del self.faults[MAX_FAULTS - 1 :]
        self._count(fault)

    def add_faults(self, faults: Sequence[TrailFault], count: int, kinds: set[str]) -> None:
        """Add ``count`` faults of a signed log; ``faults`` are the first of them."""
        del self.faults[max(MAX_FAULTS - len(faults), MAX_FAULTS // 2) :]
        for fault in faults:
            self._name(fault)
        self.fault_count += count
        self._kinds.update(kinds)

    def count_failed(self, entries: int) -> None:
        """Count this many more entries as failed, which had no fault so far."""
        self._failed += entries

    def close_seals(self) -> None:
        """Add a fault for the first entry that is not sealed in a trail that is."""
        if self.sealed and self._unsealed_seq is not None:
            reason = (
                "the entry is not sealed, and the trail's entries are: it is the first such one"
            )
            self.add_fault(TrailFault(self._unsealed_seq, "unsealed", reason))

    def close(self, *, at_tail: bool) -> None:
        """Close the last gap after all segments; ``at_tail``: the trail has no entry after the range."""
        start = self._gap_from
        if start is None:
            return
        if not at_tail:
            self._close_gap(self.last + 1)
            return
        self._gap_from, self.gap_at_tail = None, start
        self._count_missing(start, self.last)
        kind = "wiped" if start == 0 else "truncated"
        state = (
            "missing: the whole trail was removed" if start == 0 else "missing: the tail was cut"
        )
        self.add_fault(TrailFault(start, kind, spell_range(start, self.last, state)))

    @property
    def is_damaged(self) -> bool:
        """True if entries are missing or have faults, as far as they were added."""
        return self._failed > 0 or self._missing > 0 or self._gap_from is not None

    def result(self) -> Result:
        """The verdict."""
        total = self._rows + self._missing
        failed = self._failed + self._missing
        checks = self._checks()
        answers = {name: getattr(checks, name) for name in CHECKS}
        refuting = self.fault_count if self._kinds - {UNKNOWN_KEY} else 0
        verdict = combine(answers, sorted(self.required), fault_count=refuting)
        return Result(
            valid=verdict.valid,
            total_entries=total,
            verified_entries=total - failed,
            failed_entries=failed,
            errors=sorted(self.faults, key=lambda fault: fault.seq),
            fault_count=self.fault_count,
            first_seq=self.first,
            last_seq=self.last,
            checks=checks,
            verdict=verdict,
            unsigned_entries=self.unsigned_entries,
            reasons={name: self._why(name) for name in CHECKS if answers[name] == NOT_CHECKED},
        )

    def _count(self, fault: TrailFault) -> None:
        self._name(fault)
        self.fault_count += 1
        self._kinds.add(fault.kind)

    def _name(self, fault: TrailFault) -> None:
        if len(self.faults) < MAX_FAULTS:
            self.faults.append(fault)

    def _open_gap(self, seq: int) -> None:
        if self._gap_from is None:
            self._gap_from = seq

    def _close_gap(self, before: int) -> None:
        """Close an open gap before the entry at ``before``."""
        if self._gap_from is not None:
            start, self._gap_from = self._gap_from, None
            self._count_missing(start, before - 1)
            self._count(TrailFault(start, "missing", spell_range(start, before - 1, "missing")))

    def _count_missing(self, first: int, last: int) -> None:
        self._missing += last - first + 1

    def _checks(self) -> Checks:
        failed = {check for kind in self._kinds for check in CHECKS_OF_KIND[kind]}
        failed |= self.contradicted
        holds = set(self.passed)
        if self._rows:
            holds.update(CHECKS_OF_ENTRIES)
        if self.head is True:
            holds.add("head")
        holds -= self._unmade().keys() | self.doubted.keys()
        answers: dict[str, Check] = dict.fromkeys(holds, True)
        answers.update(dict.fromkeys(failed, False))
        return Checks(**answers)

    def _unmade(self) -> dict[str, str]:
        """Checks that a fault prevented for some objects, with the fault's kind."""
        return {
            check: kind for kind in sorted(self._kinds) for check in LEAVES_UNCHECKED.get(kind, ())
        }

    def _why(self, check: str) -> str:
        """Why a check was not made."""
        if check in self.doubted:
            return self.doubted[check]
        kind = self._unmade().get(check)
        if kind == UNKNOWN_KEY:
            return "this machine's keyring lacks a key: quire keys signing add --import adds it"
        if kind is not None:
            return f"a fault of the kind {kind} prevents it"
        if check in CHECKS_OF_ENTRIES and not self._rows:
            return "no entry was read"
        return self.reasons.get(check, "there is nothing to check")


class Ending(NamedTuple):
    """The seq of the last entry that a trail should have, and the fault of its head row or None."""

    last: int
    fault: TrailFault | None


def find_ending(head: HeadRow | None, newest: NewestRow | None, signed: int = 0) -> Ending:
    """Find the last entry that should exist (-1: none), from the head row and the newest entry.

    ``signed`` is the number of entries under the largest checkpoint.
    """
    last, fault = _by_rows(head, newest)
    return Ending(max(last, signed - 1), fault)


def _by_rows(head: HeadRow | None, newest: NewestRow | None) -> Ending:
    newest_seq = newest.seq if newest else EMPTY_SEQ
    if head is None:
        fault = TrailFault(max(newest_seq, 0), "head_missing", "the org has no head row")
        return Ending(max(newest_seq, EMPTY_SEQ), fault)
    if head.seq < EMPTY_SEQ:
        fault = TrailFault(head.seq, "head_mismatch", "the head row has an impossible seq")
        return Ending(max(newest_seq, EMPTY_SEQ), fault)
    if newest and newest_seq != head.seq and _is_named(newest, head):
        # After a cut or an added entry the newest entry would not have the head's hash.
        reason = f"the head row says seq {head.seq} but names the hash of entry {newest_seq}"
        return Ending(newest_seq, TrailFault(head.seq, "head_mismatch", reason))
    return Ending(head.seq, None)


def _is_named(newest: NewestRow, head: HeadRow) -> bool:
    """True if the newest row is in its own place and has the head row's hash."""
    if newest.entry_hash != head.entry_hash or newest.leaf is None:
        return False
    try:
        return decode_leaf(newest.leaf).seq == newest.seq
    except MalformedLeaf:
        return False


def check_head(
    head: HeadRow, tally: Tally, end_hashes: Sequence[bytes], end_time: str | None
) -> None:
    """Compare the head row with the last entry read; both must name the same hash and time."""
    if head.seq == EMPTY_SEQ:
        if head.entry_hash != b"":
            _fault(tally, head, "the head row of an empty trail has a hash")
        else:
            tally.head = True
        return
    if not end_hashes:
        return
    if head.entry_hash not in end_hashes:
        _fault(tally, head, "the head row does not have the hash of the last entry")
    elif end_time is not None and end_time != _text(head.anchored_us):
        _fault(tally, head, "the head row does not have the time of the last entry")
    elif end_time is not None:
        tally.head = True


def _fault(tally: Tally, head: HeadRow, reason: str) -> None:
    tally.add_fault(TrailFault(head.seq, "head_mismatch", reason))


def _text(time_us: int | None) -> str | None:
    return None if time_us is None else format_time(time_us)
