"""Trails as binary COPY streams of blocks, judged by the pure part of verification."""

from collections.abc import Sequence
from struct import pack as pg
from typing import Any, TypeAlias

from ledger.blocks.block import Block, pack
from ledger.chain import ChainHead, StoredEntry, TrailFault
from ledger.core.verification.rows.scan import SegmentScan
from ledger.core.verification.work.faults import Result
from ledger.core.verification.work.segments import Plan, Segment, SegmentResult
from ledger.core.verification.work.tally import Tally, check_head, find_ending
from ledger.entry import from_datetime
from ledger.keys import SigningKeyring
from ledger.storage.copy_format import COPY_SIGNATURE, COPY_TRAILER, PG_EPOCH_US
from ledger.storage.copy_out import HeadRow
from ledger.storage.entries.extent import NewestRow
from tests.support.trails import ORG, RING


def blocks(rows: Sequence[StoredEntry], entries: int = 256) -> list[Block]:
    """The rows in blocks of so many entries at most, in the order of the database."""
    made: list[Block] = []
    part: list[StoredEntry] = []
    for row in sorted(rows, key=lambda row: (row.anchored_at, row.seq)):
        follows = part and (row.seq, row.anchored_at) == (part[-1].seq + 1, part[-1].anchored_at)
        if part and (not follows or len(part) == entries or row.seq % 256 == 0):
            made.append(pack(part))
            part = []
        part.append(row)
    return sorted([*made, *([pack(part)] if part else [])], key=lambda b: b[1:3])


SentRow: TypeAlias = list[Any]
"""The columns of a block as the database sends them: times are integers; None is NULL."""


def sent(block: Block) -> SentRow:
    """The columns of a block as the database sends them."""
    at = from_datetime(block.anchored_at) - PG_EPOCH_US
    return [at if name == "anchored_at" else getattr(block, name) for name in Block._fields]


def stream(made: Sequence[Block]) -> bytes:
    """The blocks as PostgreSQL's COPY … (FORMAT binary) writes them."""
    return copied([sent(block) for block in made])


def copied(rows: Sequence[SentRow]) -> bytes:
    """The rows as PostgreSQL's COPY … (FORMAT binary) writes them."""
    parts = [COPY_SIGNATURE, bytes(8)]
    for row in rows:
        values = [pg(">q", value) if isinstance(value, int) else value for value in row]
        parts.append(pg(">h", len(values)))
        parts += [
            pg(">i", -1) if value is None else pg(">i", len(value)) + value for value in values
        ]
    return b"".join([*parts, COPY_TRAILER])


def scan(
    rows: Sequence[StoredEntry],
    segment: Segment,
    *,
    ring: SigningKeyring = RING,
    chunk_bytes: int = 1 << 20,
    entries: int = 1,
) -> SegmentResult:
    """One segment's result, its rows in blocks of so many, selected as the database would."""
    return scan_blocks(blocks(rows, entries), segment, ring=ring, chunk_bytes=chunk_bytes)


def scan_blocks(
    made: Sequence[Block],
    segment: Segment,
    *,
    ring: SigningKeyring = RING,
    chunk_bytes: int = 1 << 20,
) -> SegmentResult:
    """One segment's result."""
    return scan_rows([sent(block) for block in made], segment, ring=ring, chunk_bytes=chunk_bytes)


def scan_rows(
    rows: Sequence[SentRow],
    segment: Segment,
    *,
    ring: SigningKeyring = RING,
    chunk_bytes: int = 1 << 20,
) -> SegmentResult:
    """One segment's result of rows, selected as the database would."""
    data = copied([row for row in rows if segment.lower <= row[1] <= segment.last | 255])
    checking = SegmentScan(ORG, ring, segment)
    for start in range(0, len(data), chunk_bytes):
        checking.feed(data[start : start + chunk_bytes])
    return checking.finish()


def judge(
    rows: list[StoredEntry],
    head: ChainHead | None,
    *,
    size: int = 4,
    ring: SigningKeyring = RING,
    entries: int = 1,
) -> Result:
    """Verify a whole trail in segments of ``size``, its rows in blocks of so many entries."""
    newest = max(rows, key=lambda row: row.seq) if rows else None
    return judge_rows(
        [sent(block) for block in blocks(rows, entries)],
        None if head is None else HeadRow(*head),
        NewestRow(newest.seq, newest.entry_hash, newest.leaf) if newest else None,
        size=size,
        ring=ring,
    )


def judge_rows(
    rows: Sequence[SentRow],
    head_row: HeadRow | None,
    newest: NewestRow | None,
    *,
    size: int,
    ring: SigningKeyring = RING,
) -> Result:
    """Verify a whole trail in segments of ``size``, of these rows in the order of the database."""
    ending = find_ending(head_row, newest)
    plan = Plan(0, ending.last, 1, beyond=(ending.last + 1, None), size=size)
    tally = Tally(0, ending.last)
    while (taken := plan.take()) is not None:
        tally.add(taken[1], scan_rows(rows, taken[1], ring=ring))
    tally.close(at_tail=newest is None or newest.seq <= ending.last)
    if ending.fault:
        tally.add_fault(ending.fault)
    elif head_row and tally.last == head_row.seq:
        check_head(head_row, tally, tally.end_hashes, tally.end_time)
    return tally.result()


def blame(result: Result) -> dict[int, set[str]]:
    """The kinds of fault at each seq."""
    return blame_of(result.errors)


def blame_of(faults: Sequence[TrailFault]) -> dict[int, set[str]]:
    """The kinds of fault at each seq."""
    found: dict[int, set[str]] = {}
    for fault in faults:
        found.setdefault(fault.seq, set()).add(fault.kind)
    return found
