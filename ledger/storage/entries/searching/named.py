"""Entries that the search index names by seq: their blocks, found by key, and slices of these."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from typing import Final, NamedTuple

from ledger.blocks.layout import BLOCK_ENTRIES
from ledger.blocks.reading import UnreadableEntries
from ledger.blocks.slices import EntrySlice
from ledger.storage.database import Connection
from ledger.storage.entries.indexing.lookup import IndexedPart
from ledger.storage.entries.searching import block_rows
from ledger.storage.entries.searching.block_rows import TagRow

SLICES_AT_ONCE: Final = 128
"""Entries whose slices one statement reads, at most."""
NEAR_ENTRIES: Final = 2
"""Where there are more seqs in a group than that, on average, whole blocks are read."""
NEAR: Final = 16
"""Seqs this far apart are looked up together: between them are few blocks, if any."""


class SelectedEntries(NamedTuple):
    """A block and the positions of its selected entries, or a block that can't be read.

    ``slices`` hold these entries, if they are there.
    """

    row: TagRow | UnreadableEntries
    positions: Sequence[int]
    slices: Sequence[EntrySlice] = ()


async def named_entries(
    connection: Connection, part: IndexedPart, seqs: Sequence[int]
) -> list[SelectedEntries] | None:
    """Return the blocks that hold these seqs, by their last seqs; None unless each is in one.

    Where the seqs are far apart, each with its slices. Raises asyncpg's errors.
    """
    # The end of a range of times is excluded, and the last entry has the time ``part.until``.
    span = part.range._replace(since=_latest(part.range.since, part.since))
    groups = _near(seqs)
    if len(groups) * NEAR_ENTRIES < len(seqs):
        rows = await block_rows.keys(connection, span, part.until, groups)
        return _each_in_one(sorted(set(rows)), seqs)
    slices: list[EntrySlice] = []
    for at in range(0, len(seqs), SLICES_AT_ONCE):
        some = seqs[at : at + SLICES_AT_ONCE]
        slices += await block_rows.slices_of(connection, span, part.until, some)
    rows = sorted({TagRow(one.last_seq, one.anchored_at, one.first_seq, b"") for one in slices})
    return _with_slices(_each_in_one(rows, seqs), slices)


def _with_slices(
    found: list[SelectedEntries] | None, slices: Sequence[EntrySlice]
) -> list[SelectedEntries] | None:
    """Return the selections with the slices of their entries; None unless each has one."""
    if found is None:
        return None
    by_seq = {one.seq: one for one in slices}
    selections: list[SelectedEntries] = []
    for row, positions, _ in found:
        assert isinstance(row, TagRow), "blocks that were found by key"
        seqs = [row.first_seq + position for position in positions]
        if not all(map(by_seq.__contains__, seqs)):
            return None  # blocks inside this one were planted
        selections.append(SelectedEntries(row, positions, [by_seq[seq] for seq in seqs]))
    return selections


def _latest(*moments: datetime | None) -> datetime | None:
    return max((moment for moment in moments if moment is not None), default=None)


def _near(seqs: Sequence[int]) -> list[tuple[int, int]]:
    """Return first and last of each group of seqs near each other; none crosses a block's border."""
    groups = [(seqs[0], seqs[0])]
    for before, seq in pairwise(seqs):
        if seq - before <= NEAR and seq // BLOCK_ENTRIES == before // BLOCK_ENTRIES:
            groups[-1] = (groups[-1][0], seq)
        else:
            groups.append((seq, seq))
    return groups


def _each_in_one(rows: Sequence[TagRow], seqs: Sequence[int]) -> list[SelectedEntries] | None:
    """Return the positions of the seqs in their blocks; None unless each is in exactly one."""
    if any(after.first_seq <= before.last_seq for before, after in pairwise(rows)):
        return None
    found: list[SelectedEntries] = []
    at = 0
    for row in rows:
        start = at
        while at < len(seqs) and row.first_seq <= seqs[at] <= row.last_seq:
            at += 1
        if at > start:
            found.append(SelectedEntries(row, [seq - row.first_seq for seq in seqs[start:at]]))
    return found if at == len(seqs) else None
