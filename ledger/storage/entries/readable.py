"""All entries of a short span in one read, or those of them that can be read."""

from __future__ import annotations

from typing import NamedTuple

from ledger.blocks.reading import UnreadableEntries
from ledger.chain import StoredEntry
from ledger.storage.database import Database
from ledger.storage.entries.blocks import contents_of, entries_of, pages
from ledger.storage.entries.spans import SPAN_BYTES, TOO_LARGE, size_of


class ReadableEntries(NamedTuple):
    """Stored entries of a span, in the order of their blocks, and the damaged parts of it."""

    entries: list[StoredEntry]
    unreadable: list[UnreadableEntries]


async def readable(database: Database, org_id: int, first: int, last: int) -> ReadableEntries:
    """Return the stored entries of these seqs; damage costs only the entries that it is in.

    Where some are stored twice, at least one more than the seqs. Where they have more than
    SPAN_BYTES, none of them can be read.
    """
    found = ReadableEntries([], [])
    most, room = last - first + 1, SPAN_BYTES
    async for page in pages(database, org_id, first, last):
        for block in await contents_of(page):
            some = [entry for entry in block.entries if first <= entry.seq <= last]
            found.entries.extend(some)
            room -= size_of(some)
            found.unreadable.extend(
                what
                for what in block.unreadable
                if what.first_seq <= last and what.last_seq >= first
            )
        if room < 0:
            return ReadableEntries([], [UnreadableEntries(first, last, TOO_LARGE)])
        # An entry is in two frames: more damaged parts than that are planted.
        if len(found.entries) > most or len(found.unreadable) > 2 * most:
            break
    return found


async def small(database: Database, org_id: int, first: int, last: int) -> list[StoredEntry] | None:
    """Return the stored entries of these seqs; None where one read does not reach the last.

    Raises DamagedTrail.
    """
    async for page in pages(database, org_id, first, last, limit=last - first + 2):
        found = await entries_of(page, first, last)
        return found if found and found[-1].seq == last else None
    return None
