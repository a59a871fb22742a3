"""Stored entries, as tests read them and change them behind the server's back.

Callers speak of entries, by org and seq, not of rows. A change rewrites the blocks that hold
the entries, and splits a block only where it must. It is computed in Python and written by a
superuser without triggers, in one transaction that checks that exactly the named entries
changed, or else changes nothing. One thing more can change: an entry inside a block has the
hash that the next leaf names. `recut`, `column` and `raw_bit` change blocks themselves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from ledger.chain import EMPTY_HEAD, StoredEntry
from ledger.entry import to_datetime
from tests.support.block_format import Row, decode, encode, is_raw
from tests.support.block_table import (
    LAST_SEQ,
    TABLE,
    WORM_CHANGES,
    WORM_INSERT,
    Connection,
    column,
    create_partitions,
    entries_of,
    filled_partitions,
    isolate,
    lock_out,
    newest_seq,
    partition,
    partitions,
    raw_bit,
    recut,
    replace_rows,
    rewrite,
    rows_between,
    rows_of_all,
    set_wild_time,
    wild_partition,
    without_triggers,
    write_rows,
)
from tests.support.changes import Change, changed, flipped, with_values
from tests.support.repacking import changed_groups, check_exchange, grouped, place_of

__all__ = (
    "BYTES", "LAST_SEQ", "TABLE", "WORM_CHANGES", "WORM_INSERT", "Change", "Connection",
    "column", "create_partitions", "cut", "duplicate", "edit", "edit_large", "exchange",
    "filled_partitions", "flip", "flip_link", "insert", "isolate", "lock_out", "move",
    "newest_seq", "partition", "partitions", "point_head_at", "raw_bit", "recut", "remove",
    "rewrite", "rows_between", "set_wild_time", "stored", "stored_at", "stored_of_all", "swap",
    "swap_columns", "wild_partition", "withdraw", "write", "write_rows",
)  # fmt: skip

BYTES: Final = ("entry_hash", "signature", "leaf", "payload")
"""The fields of an entry that are bytes."""


async def stored(
    connection: Connection, org_id: int, first: int = -LAST_SEQ, last: int = LAST_SEQ
) -> list[StoredEntry]:
    """Read the org's stored entries from seq ``first`` to ``last``, by seq, then by time."""
    entries = entries_of(await rows_between(connection, org_id, first, last))
    found = [entry for entry in entries if first <= entry.seq <= last]
    return sorted(found, key=lambda entry: (entry.seq, entry.anchored_at))


async def stored_at(connection: Connection, org_id: int, seq: int) -> StoredEntry:
    """Read the org's only stored entry with this seq."""
    (entry,) = await stored(connection, org_id, seq, seq)
    return entry


async def stored_of_all(connection: Connection) -> list[StoredEntry]:
    """Read the stored entries of all orgs, by seq, org and time."""
    entries = entries_of(await rows_of_all(connection))
    return sorted(entries, key=lambda entry: (entry.seq, entry.org_id, entry.anchored_at))


async def write(connection: Connection, entries: Sequence[StoredEntry]) -> None:
    """Write entries as they are, under the triggers and rights of the connection.

    Entries that follow one another share blocks, as if one transaction had written them.
    """
    await write_rows(connection, [encode(group) for group in grouped(entries, set(entries))])


async def exchange(
    connection: Connection,
    old: Sequence[StoredEntry],
    new: Sequence[StoredEntry],
    *,
    raw: bool = False,
) -> None:
    """Replace exactly the old stored entries by the new ones; ``raw``: compress no new frame.

    An entry that keeps org, seq and time stays in its block; any other new one is in new blocks.
    """
    assert sorted(old) != sorted(new), "nothing would change"
    async with without_triggers(connection):
        before = await _rows_of(connection, old)
        missing, added = Counter(old), {place_of(entry): entry for entry in new}
        extra = list((Counter(new) - Counter(added.values())).elements())
        after = [
            encode(group, raw=raw or is_raw(row))
            for row in before
            for group in changed_groups(decode(row), missing, added)
        ]
        assert missing.total() == 0, "some entries are not stored as they are named"
        beside = sorted([*added.values(), *extra], key=lambda e: (e.org_id, e.anchored_at, e.seq))
        after += [encode(group, raw=raw) for group in grouped(beside, set(beside))]
        await replace_rows(connection, before, after)
        check_exchange(entries_of(before), entries_of(after), old, new)


async def edit(connection: Connection, org_id: int, seq: int, /, **changes: Change) -> None:
    """Change the named fields of the only entry with this seq, each to another value.

    Where the next entry's leaf names another hash than the new ``entry_hash``, the block is cut
    between them: the new hash is the ``last_hash`` of the first part.
    """
    old = await stored_at(connection, org_id, seq)
    await exchange(connection, [old], [changed(old, changes)])


async def flip(connection: Connection, org_id: int, seq: int, column: str, bit: int) -> None:
    """Flip one bit of a field's bytes, numbered modulo their length as PostgreSQL numbers them."""
    await edit(connection, org_id, seq, **{column: lambda value: flipped(value, bit)})


async def flip_link(connection: Connection, org_id: int, seq: int, digit: int) -> None:
    """Let the leaf after this entry name another hash of it: one hex digit differs."""
    entry, following = await _both(connection, org_id, seq, seq + 1)
    named = entry.entry_hash.hex()
    other = f"{named[:digit]}{int(named[digit], 16) ^ 1:x}{named[digit + 1 :]}"
    leaf = following.leaf.replace(named.encode(), other.encode())
    await edit(connection, org_id, seq + 1, leaf=leaf)


async def edit_large(
    connection: Connection, org_id: int, seq: int, column: str, size_bytes: int
) -> None:
    """Replace a field's bytes by another number of ``x``, not compressed, in a block of its own."""
    assert column in BYTES
    await isolate(connection, org_id, seq)
    old = await stored_at(connection, org_id, seq)
    assert len(getattr(old, column)) != size_bytes, f"seq {seq}: {column} would not change"
    new = changed(old, {column: b"x" * size_bytes})
    await exchange(connection, [old], [new], raw=True)


async def insert(connection: Connection, *entries: StoredEntry) -> None:
    """Insert entries beside the stored ones."""
    await exchange(connection, [], entries)


async def duplicate(connection: Connection, org_id: int, seq: int, /, **changes: Change) -> None:
    """Insert a copy of the only entry with this seq, with the named fields set."""
    await insert(connection, with_values(await stored_at(connection, org_id, seq), changes))


async def withdraw(connection: Connection, *entries: StoredEntry) -> None:
    """Remove exactly these stored entries, also where others have the same seqs."""
    await exchange(connection, entries, [])


async def remove(connection: Connection, org_id: int, first: int, last: int | None = None) -> None:
    """Remove the entries of all seqs from ``first`` to ``last``, by default of one; all exist."""
    seqs = range(first, (first if last is None else last) + 1)
    found = await stored(connection, org_id, seqs[0], seqs[-1])
    assert [entry.seq for entry in found] == list(seqs), "some are missing or stored twice"
    await withdraw(connection, *found)


async def cut(connection: Connection, org_id: int, first: int) -> None:
    """Remove all entries from a seq on; there is at least one."""
    await withdraw(connection, *await stored(connection, org_id, first))


async def move(connection: Connection, org_id: int, seq: int, to: int) -> None:
    """Give the only entry with this seq another seq."""
    await edit(connection, org_id, seq, seq=to)


async def swap(connection: Connection, org_id: int, a: int, b: int) -> None:
    """Exchange the seqs of two entries."""
    one, other = await _both(connection, org_id, a, b)
    await exchange(connection, [one, other], [one._replace(seq=b), other._replace(seq=a)])


async def swap_columns(connection: Connection, org_id: int, a: int, b: int, *columns: str) -> None:
    """Exchange the named fields of two entries, in which they differ."""
    one, other = await _both(connection, org_id, a, b)
    ones, others = (
        {column: getattr(entry, column) for column in columns} for entry in (one, other)
    )
    assert all(ones[column] != others[column] for column in columns), "a column is the same"
    await exchange(connection, [one, other], [one._replace(**others), other._replace(**ones)])


async def point_head_at(connection: Connection, org_id: int, seq: int) -> None:
    """Set the head row, which differs, as it was when this entry was the newest; -1: none was."""
    at: tuple[int, bytes, datetime]
    if seq == EMPTY_HEAD.seq:
        at = (seq, b"", to_datetime(EMPTY_HEAD.anchored_us))
    else:
        entry = await stored_at(connection, org_id, seq)
        at = (seq, entry.entry_hash, entry.anchored_at)
    tag = await connection.execute(
        "UPDATE heads SET seq = $2, entry_hash = $3, anchored_at = $4 WHERE org_id = $1 "
        "AND (seq, entry_hash, anchored_at) IS DISTINCT FROM ($2, $3, $4)",
        org_id,
        *at,
    )
    assert tag == "UPDATE 1", tag


async def _rows_of(connection: Connection, entries: Sequence[StoredEntry]) -> list[Row]:
    """Read the blocks that hold any of these entries."""
    found: list[Row] = []
    for org_id in sorted({entry.org_id for entry in entries}):
        seqs = [entry.seq for entry in entries if entry.org_id == org_id]
        found += await rows_between(connection, org_id, min(seqs), max(seqs))
    wanted = set(entries)
    return [row for row in found if not wanted.isdisjoint(decode(row))]


async def _both(
    connection: Connection, org_id: int, a: int, b: int
) -> tuple[StoredEntry, StoredEntry]:
    return await stored_at(connection, org_id, a), await stored_at(connection, org_id, b)
