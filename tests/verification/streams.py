"""Trails as binary COPY streams, judged by the pure part of verification."""

from collections.abc import Sequence
from struct import pack
from typing import Any

from ledger.chain import ChainHead, StoredEntry
from ledger.core.verification.rows.scan import SegmentScan
from ledger.core.verification.work.faults import Result
from ledger.core.verification.work.segments import Plan, Segment, SegmentResult
from ledger.core.verification.work.tally import Tally, check_head, find_ending
from ledger.entry import from_datetime
from ledger.keys import SigningKeyring
from ledger.storage.copy_format import COPY_SIGNATURE, COPY_TRAILER, PG_EPOCH_US
from ledger.storage.copy_out import HeadRow
from ledger.storage.entries.extent import NewestRow
from tests.support.trails import ORG, ORG_ID, RING


def stream(rows: Sequence[Any]) -> bytes:
    """The rows as PostgreSQL's COPY … (FORMAT binary) writes them; None is NULL."""
    parts = [COPY_SIGNATURE, bytes(8)]
    for row in rows:
        values = [
            pack(">q", row.org_id),
            pack(">q", row.seq),
            pack(">q", from_datetime(row.anchored_at) - PG_EPOCH_US),
            pack(">q", row.actor_tag),
            pack(">q", row.subject_tag),
            *row[5:],
        ]
        parts.append(pack(">h", len(values)))
        parts += [
            pack(">i", -1) if value is None else pack(">i", len(value)) + value for value in values
        ]
    return b"".join([*parts, COPY_TRAILER])


def scan(
    rows: list[StoredEntry],
    segment: Segment,
    *,
    ring: SigningKeyring = RING,
    chunk_bytes: int = 1 << 20,
) -> SegmentResult:
    """One segment's result, its rows selected and ordered as the database would."""
    chosen = sorted(
        (row for row in rows if segment.lower <= row.seq <= segment.last),
        key=lambda row: (row.seq, row.anchored_at),
    )
    data = stream(chosen)
    checking = SegmentScan(ORG_ID, ORG, ring, segment)
    for start in range(0, len(data), chunk_bytes):
        checking.feed(data[start : start + chunk_bytes])
    return checking.finish()


def judge(
    rows: list[StoredEntry], head: ChainHead | None, *, size: int = 4, ring: SigningKeyring = RING
) -> Result:
    """Verify a whole trail in segments of ``size``."""
    newest = max(rows, key=lambda row: row.seq) if rows else None
    head_row = None if head is None else HeadRow(*head)
    ending = find_ending(
        head_row, NewestRow(newest.seq, newest.entry_hash, newest.leaf) if newest else None
    )
    plan = Plan(0, ending.last, 1, beyond=(ending.last + 1, None), size=size)
    tally = Tally(0, ending.last)
    while (taken := plan.take()) is not None:
        tally.add(taken[1], scan(rows, taken[1], ring=ring))
    tally.close(at_tail=newest is None or newest.seq <= ending.last)
    if ending.fault:
        tally.add_fault(ending.fault)
    elif head_row and tally.last == head_row.seq:
        check_head(head_row, tally, tally.end_hashes, tally.end_time)
    return tally.result()


def blame(result: Result) -> dict[int, set[str]]:
    """The kinds of fault at each seq."""
    found: dict[int, set[str]] = {}
    for fault in result.errors:
        found.setdefault(fault.seq, set()).add(fault.kind)
    return found
