"""Checks one segment: turns the bytes of a binary COPY into faults and leaf hashes.

It does no I/O and takes constant memory. Nearly every row of a trail is right, and ``right_rows``
accepts those at the least cost, if :func:`check_entry` would find no fault.
Every other row is checked by :func:`check_entry`, which finds the row's own
faults, and by the code here, which finds the faults between rows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

from ledger.chain import StoredEntry, TrailFault, check_entry
from ledger.core.verification.rows.right_rows import (
    MAX_LINKS,
    UNKNOWN,
    Link,
    RightRows,
    as_second,
    candidates,
    link_of,
    links_from,
    time_of,
)
from ledger.core.verification.rows.rows import (
    CopyError,
    RawRow,
    read_loose,
    skip_header,
)
from ledger.core.verification.trees.blocks import SegmentLeaves
from ledger.core.verification.work.faults import MAX_FAULTS, MAX_REASON_CHARS, spell_range
from ledger.core.verification.work.segments import Segment, SegmentResult
from ledger.entry import entry_hash
from ledger.keys import SigningKeyring
from ledger.storage.copy_format import COPY_TRAILER


class LeafHashes:
    """Collects the leaf hashes of a segment's rows, if the segment's tree is checked."""

    def __init__(self, segment: Segment) -> None:
        self._segment = segment
        self._collects = (segment.tree or segment.proven) and not segment.beyond
        self._hashes: list[bytes | None] = []
        self._wrong: dict[int, bytes] = {}
        self.keep: Callable[[bytes], object] = (
            self._hashes.append if self._collects else deque[bytes](maxlen=0).append
        )
        """Call it with the leaf hash of the next row, if that row is right."""

    def miss(self, count: int) -> None:
        """Note that the next ``count`` rows are missing."""
        if self._collects:
            self._hashes += [None] * count

    def doubt(self, entry: StoredEntry) -> None:
        """Note that the next row has a fault: its leaf has a place in the tree, but may be wrong."""
        if self._collects:
            self._hashes.append(None)
            self._wrong[entry.seq] = entry_hash(entry.leaf)

    def correct(self, entry: StoredEntry) -> None:
        """Replace the last row's leaf hash: another row at its seq is the right one."""
        if self._collects:
            self._wrong.pop(entry.seq, None)
            self._hashes[-1] = entry.entry_hash

    def rows(self) -> SegmentLeaves:
        """The leaf hashes of the segment, without the context row, after all rows were read."""
        segment = self._segment
        leaves = self._hashes[segment.context :]
        leaves += [None] * (segment.last + 1 - segment.first - len(leaves))
        return SegmentLeaves(segment.first, leaves, self._wrong)


GATHERED_BYTES: Final = 128 * 1024
"""Bytes that are scanned at a time: PostgreSQL sends a dozen rows at once, too few for the
fixed cost of a scan."""


class _SuspectRow(NamedTuple):
    """The last row, which has faults: a later row with its seq may be the right one."""

    entry: StoredEntry
    faults: list[TrailFault]
    before: Link


class SegmentScan:
    """Checks the rows of one segment, ordered by seq. Call feed for all bytes, then finish.

    Raises CopyError if the bytes are not a COPY of such rows, which says nothing about the trail.
    """

    def __init__(self, org_id: int, org: str, keyring: SigningKeyring, segment: Segment) -> None:
        self.rows = 0
        self._org = org
        self._keyring = keyring
        self._segment = segment
        self._right = RightRows(org_id, org, keyring)
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._rest = b""
        self._started = False
        self._expected = segment.first - segment.context
        self._link: Link = UNKNOWN if segment.context or segment.first > 0 else None
        self._last_leaf: bytes | None = None
        self._suspect: _SuspectRow | None = None
        self._strays = 0
        self._failed = 0
        self._leading_gap = 0
        self._missing = 0
        self._faults: list[TrailFault] = []
        self._fault_count = 0
        self._kinds: set[str] = set()
        self.leaves = LeafHashes(segment)

    def feed(self, chunk: bytes) -> None:
        """Add the next bytes of the stream, cut anywhere."""
        self._waiting.append(chunk)
        self._waiting_bytes += len(chunk)
        if self._waiting_bytes >= GATHERED_BYTES:
            self._scan_gathered()

    def _scan_gathered(self) -> None:
        """Scan the bytes that were collected since the last scan."""
        buffer = b"".join((self._rest, *self._waiting))
        self._waiting.clear()
        self._waiting_bytes = 0
        start: int | None = 0
        if not self._started:
            start = skip_header(buffer)
            self._started = start is not None and start <= len(buffer)
        self._rest = buffer[self._scan(buffer, start or 0) :] if self._started else buffer

    def finish(self) -> SegmentResult:
        """The result, after the whole stream was fed. Raises CopyError if the stream was cut."""
        self._scan_gathered()
        if self._rest != COPY_TRAILER:
            raise CopyError("the database's stream of rows ended early")
        self._report_suspect()
        segment = self._segment
        absent = segment.last + 1 - max(self._expected, segment.first)
        if segment.beyond:
            self._report_beyond()
            absent = 0
        ended = absent == 0
        empty = self.rows == 0
        return SegmentResult(
            rows=self.rows,
            failed_rows=self._failed,
            leading_gap=absent if empty else self._leading_gap,
            trailing_gap=0 if empty else absent,
            missing=self._missing,
            faults=self._faults,
            fault_count=self._fault_count,
            kinds=sorted(self._kinds),
            end_hashes=list(candidates(self._link)) if ended else [],
            end_time=time_of(self._last_leaf) if ended else None,
        )

    def _scan(self, buffer: bytes, position: int) -> int:
        """Check all complete rows; returns the position of the first incomplete one."""
        while True:
            passed = self._right.pass_over(
                buffer, position, self._expected, self._link, self.leaves.keep
            )
            self.rows += passed.expected - self._expected
            position, self._expected, self._link, last_leaf = passed
            self._last_leaf = last_leaf or self._last_leaf
            loose = read_loose(buffer, position)
            if loose is None:
                return position
            row, position = loose
            self._check_row(row)

    def _check_row(self, row: RawRow) -> None:
        """Check a row that the fast path did not accept."""
        seq = row.entry.seq
        if seq < self._segment.first - self._segment.context:
            self._check_stray(row)
        elif seq == self._expected - 1:
            self._check_second(row)
        elif seq < self._expected or seq > self._segment.last:
            raise CopyError(
                f"the database sent row {seq} out of order: an index of the table entries may be "
                "damaged"
            )
        else:
            self._report_suspect()
            self._pass_gap(seq)
            before = self._link
            faults = self._check(row, before)
            self._count_row(seq)
            self._expected = seq + 1
            self._link = links_from(row.entry, faults) if faults else row.entry.entry_hash.hex()
            self._last_leaf = row.entry.leaf
            if faults:
                self._suspect = _SuspectRow(row.entry, faults, before)
                self.leaves.doubt(row.entry)
            else:
                self.leaves.keep(row.entry.entry_hash)

    def _check_stray(self, row: RawRow) -> None:
        """Report a row below the lowest possible seq."""
        self.rows += 1
        self._strays += 1
        seq = row.entry.seq
        stray = TrailFault(seq, "genesis", "the trail has a row before entry 0")
        self._report(seq, [stray, *self._check(row, UNKNOWN)])

    def _check_second(self, row: RawRow) -> None:
        """Check another row with the seq of the last one: the wrong one of the two has the fault."""
        entry, suspect = row.entry, self._suspect
        self._count_row(entry.seq)
        if suspect and suspect.entry.seq != entry.seq:
            suspect = None
        faults = self._check(row, suspect.before if suspect else link_of(self._last_leaf))
        links = links_from(entry, faults)
        last_leaf = self._last_leaf or b""
        if suspect and not faults:
            self._suspect = None
            self._last_leaf = entry.leaf
            self._link = entry.entry_hash.hex()
            self.leaves.correct(entry)
            self._report(entry.seq, as_second(suspect.entry, suspect.faults, entry.leaf))
            return
        if faults and not suspect:
            links = ()
        self._link = tuple(dict.fromkeys(candidates(self._link) + links))[:MAX_LINKS]
        self._report(entry.seq, as_second(entry, faults, last_leaf))

    def _count_row(self, seq: int) -> None:
        if seq >= self._segment.first:
            self.rows += 1

    def _pass_gap(self, seq: int) -> None:
        """Report the entries that are missing before this row."""
        if seq == self._expected:
            return
        self._link = UNKNOWN
        self.leaves.miss(seq - self._expected)
        first = max(self._expected, self._segment.first)
        missing = seq - first
        if missing and not self.rows:
            self._leading_gap = missing
        elif missing and not self._segment.beyond:
            self._missing += missing
            self._add(TrailFault(first, "missing", spell_range(first, seq - 1, "missing")))

    def _check(self, row: RawRow, before: Link) -> list[TrailFault]:
        """All faults of one row, with its link to the row before."""
        entry = row.entry
        if row.absent:
            columns = ", ".join(row.absent)
            reason = f"these columns are NULL or too large: {columns}"
            return [TrailFault(entry.seq, "unreadable", reason)]
        faults = self._check_links(entry, candidates(before))
        kinds = {fault.kind for fault in faults}
        if "seq_mismatch" in kinds:  # it was moved here: its link belongs to its own seq
            faults = [fault for fault in faults if fault.kind != "link_broken"]
        if row.anchored_us is None and "leaf_malformed" not in kinds:
            faults = [fault for fault in faults if "anchored_at" not in fault.reason]
            reason = "the column anchored_at has an impossible time"
            faults.append(TrailFault(entry.seq, "column_mismatch", reason))
        return faults

    def _check_links(self, entry: StoredEntry, before: tuple[bytes, ...]) -> list[TrailFault]:
        faults = check_entry(entry, self._org, self._keyring, None)
        for candidate in before:
            faults = check_entry(entry, self._org, self._keyring, candidate)
            if all(fault.kind != "link_broken" for fault in faults):
                break
        return faults

    def _report_suspect(self) -> None:
        """Report the last row's faults: no other row with its seq follows."""
        if self._suspect:
            self._report(self._suspect.entry.seq, self._suspect.faults)
            self._suspect = None

    def _report(self, seq: int, faults: list[TrailFault]) -> None:
        """Add one row's faults; those of the context row belong to the segment before."""
        if self._segment.context and seq == self._segment.first - 1:
            return
        self._failed += 1
        for fault in faults:
            self._add(fault)

    def _add(self, fault: TrailFault) -> None:
        self._fault_count += 1
        self._kinds.add(fault.kind)
        if len(self._faults) < MAX_FAULTS:
            self._faults.append(TrailFault(fault.seq, fault.kind, fault.reason[:MAX_REASON_CHARS]))

    def _report_beyond(self) -> None:
        rows = self.rows - self._strays
        if rows:
            self._failed = self.rows
            first = self._segment.first + self._leading_gap
            self._leading_gap = 0
            reason = f"the trail has {rows} entries beyond the head row, from here on"
            self._add(TrailFault(first, "beyond_head", reason))
            self._faults.sort(key=lambda fault: fault.seq)
