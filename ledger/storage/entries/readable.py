"""All entries of a short span in one read, or those of them that can be read."""

from __future__ import annotations

from typing import NamedTuple

from ledger.blocks.reading import UnreadableEntries
from ledger.chain import StoredEntry
from ledger.storage.database import Database
from ledger.storage.entries.blocks import contents_of, entries_of, pages, raw_size
from ledger.storage.entries.columns import PAGE_BYTES


class Readable(NamedTuple):
    """Stored entries of a span, in the order of their blocks, and the damaged parts of it."""

    entries: list[StoredEntry]
    unreadable: list[UnreadableEntries]


async def readable(database: Database, org_id: int, first: int, last: int) -> Readable:
    """Return the stored entries of these seqs; damage costs only the entries that it is in.

    Where some are stored twice, at least one more than the seqs.
    """
    found = Readable([], [])
    most = last - first + 1
    async for page in pages(database, org_id, first, last):
        for block in await contents_of(page):
            found.entries.extend(e for e in block.entries if first <= e.seq <= last)
            found.unreadable.extend(
                what
                for what in block.unreadable
                if what.first_seq <= last and what.last_seq >= first
            )
        # An entry is in two frames: more damaged parts than that are planted.
        if len(found.entries) > most or len(found.unreadable) > 2 * most:
            break
    return found


async def small(database: Database, org_id: int, first: int, last: int) -> list[StoredEntry] | None:
    """Return the stored entries of these seqs; None where they are too large for one read.

    Raises DamagedTrail.
    """
    async for page in pages(database, org_id, first, last, limit=last - first + 2):
        stored = sum(len(block.leaves) + len(block.payloads) for block in page)
        if stored >= PAGE_BYTES or sum(map(raw_size, page)) >= PAGE_BYTES:
            return None
        return await entries_of(page, first, last)
    return []
