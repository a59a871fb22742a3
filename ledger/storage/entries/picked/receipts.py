"""What the receipts of written entries say, read from their leaves alone."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final, NamedTuple

from ledger.blocks.block import Block
from ledger.blocks.picking import EntriesUnreadable, Part, Picked, Record
from ledger.blocks.reading import previous_hash_of
from ledger.storage.database import Connection, Database
from ledger.storage.entries.blocks import EARLIEST, LATEST, LOOP_BYTES, holding, seqs_in
from ledger.storage.entries.picked import parts
from ledger.storage.entries.picked.parts import NOTHING

SEQS_AT_ONCE: Final = 1_024
PAGE_RAW_BYTES: Final = 4 << 20
"""Raw bytes of leaves that one query reads, but for the last block's."""


class WrittenEntry(NamedTuple):
    """What the receipt of an entry says."""

    seq: int
    anchored_at: datetime
    entry_hash: bytes
    previous_hash: bytes


class Written(NamedTuple):
    """Entries by seq, and the seqs of stored ones that were not read within the bound.

    ``raw_bytes`` were read, or inflated. A seq in neither is missing, or can't be read.
    """

    entries: dict[int, WrittenEntry]
    unread: set[int]
    raw_bytes: int


async def read(
    queries: Connection | Database,
    org_id: int,
    seqs: Sequence[int],
    *,
    since: datetime = EARLIEST,
    until: datetime = LATEST,
    most_raw_bytes: int | None = None,
) -> Written:
    """Return what the receipts of these entries say, which were written from since to until.

    ``seqs`` ascend. Reading ends with the page that makes it inflate ``most_raw_bytes``; None: at
    the last.
    """
    entries: dict[int, WrittenEntry] = {}
    unread: set[int] = set()
    spent = 0
    for start in range(0, len(seqs), SEQS_AT_ONCE):
        some = seqs[start : start + SEQS_AT_ONCE]
        blocks = await holding(queries, org_id, some, since=since, until=until)
        for page in _pages(blocks, some):
            if most_raw_bytes is not None and spent >= most_raw_bytes:
                unread.update(seq for picked in page for seq in picked.seqs)
                continue
            spent += sum(map(_cost, page))
            entries.update(await _read(queries, page))
    return Written(entries, unread, spent)


def _pages(blocks: Sequence[Block], seqs: Sequence[int]) -> Iterator[list[Picked]]:
    page: list[Picked] = []
    for block in blocks:
        mine = seqs_in(block, seqs)
        with contextlib.suppress(EntriesUnreadable):
            if mine:
                page.append(Picked(block, mine))
        if sum(map(_cost, page)) >= PAGE_RAW_BYTES:
            yield page
            page = []
    if page:
        yield page


def _cost(picked: Picked) -> int:
    """Return the bytes that are read, or to which they inflate if these are more."""
    return max(picked.raw_record_bytes, picked.leaves.size)


async def _read(queries: Connection | Database, page: Sequence[Picked]) -> dict[int, WrittenEntry]:
    found = await parts.fetch(queries, [(one.block, one.leaves, NOTHING) for one in page])
    if sum(map(_cost, page)) <= LOOP_BYTES:
        return _written(page, found)
    return await asyncio.to_thread(_written, page, found)


def _written(
    page: Sequence[Picked], found: Sequence[tuple[Part, Part] | None]
) -> dict[int, WrittenEntry]:
    written: dict[int, WrittenEntry] = {}
    for picked, both in zip(page, found, strict=True):
        if both is not None:
            written.update(_of_block(picked, both[0]))
    return written


def _of_block(picked: Picked, leaves: Part) -> dict[int, WrittenEntry]:
    """Return the entries of one block; those that can't be read are left out."""
    at = picked.block.anchored_at
    return {
        one.seq: WrittenEntry(one.seq, at, one.entry_hash, previous_hash_of(one.leaf))
        for one in _records(picked, leaves)
    }


def _records(picked: Picked, leaves: Part) -> list[Record]:
    try:
        return picked.records(leaves)
    except EntriesUnreadable:
        # One by one: an entry is in one frame, and the next leaf is in another at most.
        records = []
        for seq in picked.seqs:
            with contextlib.suppress(EntriesUnreadable):
                records += Picked(picked.block, [seq]).records(leaves)
        return records
