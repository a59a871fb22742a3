"""Finds the entries of imported QWED rows in an org's trail, by QWED's own row ids.

The database has no index of them, so that appends do not pay for it. Instead each
process keeps a coarse index in memory: for each stretch of 2**STRETCH_BITS seqs the
lowest and highest row id of its entries. It is read from the leaves once and only
extended, as a trail is append-only. A row is then found by reading few stretches.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from ledger.bounded import BoundedCache
from ledger.chain import StoredEntry
from ledger.storage.database import Database
from ledger.storage.entries import heads
from ledger.storage.entries.searching import qwed_rows
from ledger.storage.entries.searching.qwed_rows import STRETCH_BITS

WINDOW_SEQS: Final = 100_000
"""Number of seqs whose leaves one statement reads."""
MAX_ORGS: Final = 256
"""Number of orgs with an index in memory; the least recently used one is dropped."""
MAX_ROW_DIGITS: Final = 18
"""Longer ids do not fit a bigint, and QWED does not assign any."""


class _RowRange(NamedTuple):
    number: int
    lowest: int
    highest: int


@dataclass(slots=True)
class _Index:
    next_seq: int = 0
    stretches: list[_RowRange] = field(default_factory=list)
    growing: asyncio.Lock = field(default_factory=asyncio.Lock)

    def add(self, new: _RowRange) -> None:
        """Add a stretch, or a further part of the last stretch."""
        last = self.stretches[-1] if self.stretches else None
        if last is not None and last.number == new.number:
            self.stretches.pop()
            lowest, highest = min(last.lowest, new.lowest), max(last.highest, new.highest)
            new = _RowRange(new.number, lowest, highest)
        self.stretches.append(new)


class QwedRows:
    """Finds entries by the QWED row that they import or correct. Methods raise StorageError."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._indexes: BoundedCache[int, _Index] = BoundedCache(MAX_ORGS)

    async def naming(self, org_id: int, row_id: int) -> list[StoredEntry]:
        """Return the live entries that may concern rows of this id, oldest first.

        The rows may be of any organization. The entries' leaves hold the id at the end of
        a string; the caller checks which string.
        """
        index = self._index(org_id)
        async with index.growing:
            await self._grow(org_id, index)
        found: list[StoredEntry] = []
        for stretch in list(index.stretches):
            if stretch.lowest <= row_id <= stretch.highest:
                first = stretch.number << STRETCH_BITS
                last = first + (1 << STRETCH_BITS) - 1
                named = named_by(row_id)
                found += await qwed_rows.naming(self._database, org_id, first, last, named)
        return found

    def _index(self, org_id: int) -> _Index:
        index = self._indexes.get(org_id)
        if index is None:
            index = _Index()
            self._indexes.put(org_id, index)
        return index

    async def _grow(self, org_id: int, index: _Index) -> None:
        """Index the entries appended since; progress is kept if the caller is cancelled."""
        newest, _hash, _time = await heads.head(self._database, org_id)
        while index.next_seq <= newest:
            last = min(newest, index.next_seq + WINDOW_SEQS - 1)
            for stretch in await qwed_rows.row_ids(self._database, org_id, index.next_seq, last):
                index.add(_RowRange(*stretch))
            index.next_seq = last + 1


def named_by(row_id: int) -> bytes:
    """Return the bytes that every leaf about a row of this id contains."""
    return f':{row_id}"'.encode()
