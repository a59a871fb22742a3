"""Rebuilds the search index of a trail: adds the rows that are missing, removes wrong ones.

A right row is added beside a wrong one, by the role of the builder. Only the owner of the database
can remove rows; wrong rows that stay hide nothing, and are reported by verifications.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import Final, NamedTuple

from ledger.storage.copy_out import Snapshot, open_snapshot, reader_of
from ledger.storage.entries.indexing.comparing import RightRow, StoredKey
from ledger.storage.indexing import IndexerConnection, remove_rows

MAX_PASSES: Final = 1_000
"""Each pass removes a bounded number of wrong rows of a stretch."""


class RebuiltIndex(NamedTuple):
    """The numbers of rows that were right, were added, were removed, and are wrong but stay."""

    right: int
    added: int
    removed: int
    kept: int


async def rebuild(database_url: str, owner_url: str, org_id: int, key: bytes) -> RebuiltIndex:
    """Rebuild the index of a trail. Raises DatabaseUnavailable; it may be run again.

    Appends, searches and the builder go on meanwhile.
    """
    total = RebuiltIndex(0, 0, 0, 0)
    for _ in range(MAX_PASSES):
        right, added, wrong = await _add_missing(database_url, org_id, key)
        removed = await remove_rows(owner_url, org_id, wrong) if wrong else 0
        total = RebuiltIndex(
            right, total.added + added, total.removed + removed, len(wrong) - removed
        )
        if not removed:
            break
    return total


async def _add_missing(
    database_url: str, org_id: int, key: bytes
) -> tuple[int, int, list[StoredKey]]:
    """Add the missing rows; return the numbers of right and of added rows, and the wrong ones."""
    right = added = 0
    wrong: list[StoredKey] = []
    async with (
        open_snapshot(database_url) as snapshot,
        reader_of(database_url, snapshot.name) as reader,
        IndexerConnection.open(database_url) as builder,
    ):
        live_from, _ = await snapshot.live_from(org_id)
        entries = await _length(snapshot, org_id)
        async for one in reader.compare_index(org_id, key, live_from=live_from, entries=entries):
            right += len(one.right)
            added += len(one.missing)
            wrong += one.wrong
            await _add(builder, one.missing)
    return right, added, wrong


async def _length(snapshot: Snapshot, org_id: int) -> int:
    """Return the number of committed entries: no more than are stored."""
    head, newest = await snapshot.head(org_id), await snapshot.newest(org_id)
    return 0 if head is None or newest is None else max(min(head.seq, newest.seq) + 1, 0)


async def _add(builder: IndexerConnection, missing: Iterable[RightRow]) -> None:
    """Add rows, those of a run or stretch together."""
    for (_, _, ended_at), rows in groupby(
        missing, lambda one: (one.row.level, one.row.stretch, one.ended_at)
    ):
        await builder.add([row for row, _ in rows], ended_at)
