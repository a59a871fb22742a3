"""The table of blocks, as tests read and change it: rows, partitions, locks, and its tampering.

No other module of the tests names the table; most of them speak of entries, by `blocks.py`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Final, TypeAlias

import asyncpg

from ledger.chain import StoredEntry
from tests.support.block_format import Row, decode, encode
from tests.support.changes import Change, bit_flipped, changed

Connection: TypeAlias = "asyncpg.Connection[Any]"

TABLE: Final = "entries"
"""The table's name, for statements about it as a whole: rights, locks, copies of all tables."""
LAST_SEQ: Final = 2**63 - 1
WORM_CHANGES: Final = (
    "UPDATE {} SET payloads = ''",
    "UPDATE {} SET anchored_at = anchored_at + interval '1 month'",  # to another partition
    "DELETE FROM {}",
    "TRUNCATE {}",
    "INSERT INTO {0} SELECT * FROM {0} ON CONFLICT (org_id, last_seq, anchored_at)"
    " DO UPDATE SET payloads = ''",
    "MERGE INTO {} e USING heads h ON e.org_id = h.org_id WHEN MATCHED THEN DELETE",
)
"""Statements that change blocks of the table, or of the partition, that replaces ``{}``."""

_COLUMNS: Final = ", ".join(Row._fields)
_SHIFTED: Final = _COLUMNS.replace("_seq", "_seq + 256")
WORM_INSERT: Final = f"INSERT INTO {{}} SELECT {_SHIFTED} FROM {TABLE}"
"""A statement that copies all entries to other seqs of the table or partition ``{}``."""
_KEYS: Final = "unnest($1::bigint[], $2::bigint[], $3::timestamptz[]) AS k (org_id, seq, at)"
_OF_KEYS: Final = "e.org_id = k.org_id AND e.last_seq = k.seq AND e.anchored_at = k.at"
_BORDERS: Final = "entries_borders"


async def rows_between(
    connection: Connection, org_id: int, first: int = -LAST_SEQ, last: int = LAST_SEQ
) -> list[Row]:
    """Read the org's blocks that hold any seq from ``first`` to ``last``, by their last seq."""
    rows = await connection.fetch(
        f"SELECT {_COLUMNS} FROM {TABLE} WHERE org_id = $1 AND last_seq >= $2 AND first_seq <= $3 "
        "ORDER BY last_seq, anchored_at",
        org_id,
        first,
        last,
    )
    return [Row(*row) for row in rows]


async def rows_of_all(connection: Connection) -> list[Row]:
    """Read the blocks of all orgs."""
    return [Row(*row) for row in await connection.fetch(f"SELECT {_COLUMNS} FROM {TABLE}")]


async def recut(connection: Connection, org_id: int, first: int, last: int, *ends: int) -> None:
    """Store the same entries in other blocks: between ``first`` and ``last`` they end at ``ends``.

    Other borders stay. Entries of two times, or that no hash joins, can't be in one block.
    """
    before = await rows_between(connection, org_id, first, last)
    entries = entries_of(before)
    borders = {row.last_seq for row in before if not first <= row.last_seq < last} | set(ends)
    groups: list[list[StoredEntry]] = [[]]
    for entry in entries:
        groups[-1].append(entry)
        if entry.seq in borders:
            groups.append([])
    after = [encode(group) for group in groups if group]
    assert [row.last_seq for row in after] != [row.last_seq for row in before], "nothing changes"
    assert entries_of(after) == entries, "a hash would be lost"
    async with without_triggers(connection):
        await replace_rows(connection, before, after)


async def isolate(connection: Connection, org_id: int, seq: int) -> None:
    """Give the only entry with this seq a block of its own, if it has none."""
    (row,) = await rows_between(connection, org_id, seq, seq)
    if row.first_seq < row.last_seq:
        ends = {seq - 1, seq} & set(range(row.first_seq, row.last_seq))
        await recut(connection, org_id, row.first_seq, row.last_seq, *ends)


async def column(connection: Connection, org_id: int, seq: int, /, **changes: Change) -> None:
    """Change the named columns of the only block with this seq, each to another value."""
    (old,) = await rows_between(connection, org_id, seq, seq)
    async with without_triggers(connection):
        await replace_rows(connection, [old], [changed(old, changes)])


async def rewrite(
    connection: Connection, org_id: int, seq: int, change: Callable[[Row], list[Row]]
) -> None:
    """Replace the only block with this seq by others."""
    (old,) = await rows_between(connection, org_id, seq, seq)
    async with without_triggers(connection):
        await replace_rows(connection, [old], change(old))


async def raw_bit(connection: Connection, org_id: int, seq: int, name: str, bit: int) -> None:
    """Flip one stored bit of a column of the only block with this seq.

    It is numbered modulo the length of bytes, the 64 bits of an integer, the lower 50 of a time.
    """
    await column(connection, org_id, seq, **{name: lambda value: bit_flipped(value, bit)})


async def set_wild_time(connection: Connection, org_id: int, seq: int, time: str) -> None:
    """Set an entry's time to one that Python can't hold, in PostgreSQL's notation.

    The entry is alone in its block then.
    """
    await isolate(connection, org_id, seq)
    await set_time(connection, org_id, seq, time)


def entries_of(rows: Sequence[Row]) -> list[StoredEntry]:
    """Return the entries of some blocks."""
    return [entry for row in rows for entry in decode(row)]


async def newest_seq(connection: Connection, org_id: int) -> int:
    """Return the largest seq of the org's stored entries."""
    newest = await connection.fetchval(
        f"SELECT max(last_seq) FROM {TABLE} WHERE org_id = $1", org_id
    )
    assert newest is not None, f"org {org_id} has no entry"
    return int(newest)


async def replace_rows(connection: Connection, before: Sequence[Row], after: Sequence[Row]) -> None:
    """Replace blocks by others, and check that the others are stored as they are."""
    async with _without_borders(connection, after):
        tag = await connection.execute(
            f"DELETE FROM {TABLE} e USING {_KEYS} WHERE {_OF_KEYS}", *_keys(before)
        )
        assert tag == f"DELETE {len(before)}", tag
        await write_rows(connection, after)
        columns = ", ".join(f"e.{name}" for name in Row._fields)
        rows = await connection.fetch(
            f"SELECT {columns} FROM {TABLE} e JOIN {_KEYS} ON {_OF_KEYS}", *_keys(after)
        )
        assert sorted(Row(*row) for row in rows) == sorted(after)


async def write_rows(connection: Connection, rows: Sequence[Row]) -> None:
    """Write blocks as they are, under the triggers and rights of the connection."""
    tag = await connection.copy_records_to_table(TABLE, records=rows, columns=Row._fields)
    assert tag == f"COPY {len(rows)}", tag


async def store_outside(connection: Connection, *columns: str) -> None:
    """Let values of these columns be of any size, as the owner of the table can."""
    for name in columns:
        await connection.execute(f"ALTER TABLE {TABLE} ALTER COLUMN {name} SET STORAGE EXTERNAL")


@asynccontextmanager
async def without_triggers(connection: Connection) -> AsyncIterator[None]:
    """Run the block in a transaction in which no trigger fires, also not those of WORM."""
    async with connection.transaction():
        await connection.execute("SET LOCAL session_replication_role = replica")
        yield


@asynccontextmanager
async def _without_borders(connection: Connection, rows: Sequence[Row]) -> AsyncIterator[None]:
    """Let rows that the constraint on borders refuses be written while the block runs."""
    if all(row.has_possible_borders for row in rows):
        yield
        return
    definition = await connection.fetchval(
        f"SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = '{_BORDERS}' LIMIT 1"
    )
    for table in (TABLE, *await partitions(connection)):
        await connection.execute(f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {_BORDERS}")
    yield
    added = f"ADD CONSTRAINT {_BORDERS} {definition.removesuffix(' NOT VALID')} NOT VALID"
    await connection.execute(f"ALTER TABLE {TABLE} {added}")


@asynccontextmanager
async def wild_partition(connection: Connection) -> AsyncIterator[None]:
    """A partition for times that belong to no month, while the block runs."""
    await connection.execute(f"CREATE TABLE {TABLE}_wild PARTITION OF {TABLE} DEFAULT")
    try:
        yield
    finally:
        await connection.execute(f"DROP TABLE {TABLE}_wild")


async def set_time(connection: Connection, org_id: int, last_seq: int, time: str) -> None:
    """Set the time of the block with this last seq, in PostgreSQL's notation, to another."""
    async with without_triggers(connection):
        tag = await connection.execute(
            f"UPDATE {TABLE} SET anchored_at = $3::text::timestamptz "
            "WHERE org_id = $1 AND last_seq = $2 AND anchored_at <> $3::text::timestamptz",
            *(org_id, last_seq, time),
        )
        assert tag == "UPDATE 1", tag


async def lock_out(connection: Connection) -> None:
    """Lock out all readers and writers of entries until the connection's transaction ends."""
    await connection.execute(f"LOCK TABLE {TABLE} IN ACCESS EXCLUSIVE MODE")


def partition(year: int, month: int) -> str:
    """Return the name of the partition of a month."""
    return f"{TABLE}_{year:04}_{month:02}"


async def create_partitions(connection: Connection, entries: Sequence[StoredEntry]) -> None:
    """Create the partitions in which these entries belong, where they are missing."""
    for month in {entry.anchored_at.replace(day=1, hour=0) for entry in entries}:
        await connection.execute("SELECT quire_create_entries_partition($1)", month)


async def partitions(connection: Connection) -> list[str]:
    """Return the names of all monthly partitions, in order."""
    rows = await connection.fetch(
        "SELECT relname FROM pg_class WHERE relkind = 'r' AND relname ~ $1 ORDER BY 1",
        rf"^{TABLE}_\d{{4}}_\d\d$",
    )
    return [row[0] for row in rows]


async def filled_partitions(connection: Connection) -> list[str]:
    """Return the names of the partitions that have entries, in order."""
    rows = await connection.fetch(f"SELECT DISTINCT tableoid::regclass::text FROM {TABLE}")
    return sorted(row[0] for row in rows)


def _keys(rows: Sequence[Row]) -> tuple[list[int], list[int], list[datetime]]:
    return (
        [row.org_id for row in rows],
        [row.last_seq for row in rows],
        [row.anchored_at for row in rows],
    )
