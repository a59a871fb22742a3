"""Stored entries, as tests read them and change them behind the server's back.

No other module of the tests names the table of entries, and callers speak of entries, by org
and seq, never of rows: when entries are stored otherwise, only this module changes. A change
is computed in Python from the stored entries. It is written by a superuser without triggers,
in one transaction that checks that exactly the named entries changed, or else changes nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Final, TypeAlias

import asyncpg

from ledger.chain import EMPTY_HEAD, StoredEntry
from ledger.entry import to_datetime

Connection: TypeAlias = "asyncpg.Connection[Any]"
Value: TypeAlias = bytes | int | datetime
Change: TypeAlias = Value | Callable[[Any], Value]
"""A column's new value, or a function that makes it of the old value."""

TABLE: Final = "entries"
"""The table's name, for statements about it as a whole: rights, locks, copies of all tables."""
BYTES: Final = ("entry_hash", "signature", "leaf", "payload")
LAST_SEQ: Final = 2**63 - 1
WORM_CHANGES: Final = (
    "UPDATE {} SET payload = ''",
    "UPDATE {} SET anchored_at = anchored_at + interval '1 month'",  # to another partition
    "DELETE FROM {}",
    "TRUNCATE {}",
    "INSERT INTO {0} SELECT * FROM {0} ON CONFLICT (org_id, seq, anchored_at)"
    " DO UPDATE SET payload = ''",
    "MERGE INTO {} e USING heads h ON e.org_id = h.org_id WHEN MATCHED THEN DELETE",
)
"""Statements that change entries of the table, or of the partition, that replaces ``{}``."""

_COLUMNS: Final = ", ".join(StoredEntry._fields)
WORM_INSERT: Final = f"INSERT INTO {{}} SELECT {_COLUMNS.replace('seq', 'seq + 7', 1)} FROM {TABLE}"
"""A statement that copies all entries to other seqs of the table or partition ``{}``."""
_KEYS: Final = "unnest($1::bigint[], $2::bigint[], $3::timestamptz[]) AS k (org_id, seq, at)"
_OF_KEYS: Final = "e.org_id = k.org_id AND e.seq = k.seq AND e.anchored_at = k.at"


async def stored(
    connection: Connection, org_id: int, first: int = -LAST_SEQ, last: int = LAST_SEQ
) -> list[StoredEntry]:
    """Read the org's stored entries from seq ``first`` to ``last``, by seq, then by time."""
    rows = await connection.fetch(
        f"SELECT {_COLUMNS} FROM {TABLE} WHERE org_id = $1 AND seq BETWEEN $2 AND $3 "
        "ORDER BY seq, anchored_at",
        org_id,
        first,
        last,
    )
    return [StoredEntry(*row) for row in rows]


async def stored_at(connection: Connection, org_id: int, seq: int) -> StoredEntry:
    """Read the org's only stored entry with this seq."""
    (entry,) = await stored(connection, org_id, seq, seq)
    return entry


async def stored_of_all(connection: Connection) -> list[StoredEntry]:
    """Read the stored entries of all orgs, by seq, org and time."""
    rows = await connection.fetch(
        f"SELECT {_COLUMNS} FROM {TABLE} ORDER BY seq, org_id, anchored_at"
    )
    return [StoredEntry(*row) for row in rows]


async def newest_seq(connection: Connection, org_id: int) -> int:
    """Return the largest seq of the org's stored entries."""
    newest = await connection.fetchval(f"SELECT max(seq) FROM {TABLE} WHERE org_id = $1", org_id)
    assert newest is not None, f"org {org_id} has no entry"
    return int(newest)


async def write(connection: Connection, entries: Sequence[StoredEntry]) -> None:
    """Write entries as they are, under the triggers and rights of the connection."""
    tag = await connection.copy_records_to_table(
        TABLE, records=entries, columns=StoredEntry._fields
    )
    assert tag == f"COPY {len(entries)}", tag


async def exchange(
    connection: Connection, old: Sequence[StoredEntry], new: Sequence[StoredEntry]
) -> None:
    """Replace exactly the old stored entries by the new ones."""
    assert sorted(old) != sorted(new), "nothing would change"
    async with _without_triggers(connection):
        await _delete(connection, old)
        await write(connection, new)
        rows = await connection.fetch(
            f"SELECT {', '.join(f'e.{column}' for column in StoredEntry._fields)} "
            f"FROM {TABLE} e JOIN {_KEYS} ON {_OF_KEYS}",
            *_keys(new),
        )
        assert sorted(StoredEntry(*row) for row in rows) == sorted(new)


async def edit(connection: Connection, org_id: int, seq: int, /, **changes: Change) -> None:
    """Change the named columns of the only entry with this seq, each to another value."""
    old = await stored_at(connection, org_id, seq)
    new = _changed(old, changes)
    kept = [column for column in changes if getattr(old, column) == getattr(new, column)]
    assert not kept, f"seq {seq}: {kept} would not change"
    await exchange(connection, [old], [new])


async def flip(connection: Connection, org_id: int, seq: int, column: str, bit: int) -> None:
    """Flip one bit of a column's bytes, numbered modulo their length as PostgreSQL numbers them."""
    await edit(connection, org_id, seq, **{column: lambda value: _flipped(value, bit)})


async def edit_large(
    connection: Connection, org_id: int, seq: int, column: str, size_bytes: int
) -> None:
    """Replace a column's bytes by another number of ``x``, made by PostgreSQL."""
    assert column in BYTES
    await _update(
        connection,
        f"{column} = convert_to(repeat('x', $3), 'UTF8')",
        f"octet_length({column}) <> $3",
        *(org_id, seq, size_bytes),
    )


async def insert(connection: Connection, *entries: StoredEntry) -> None:
    """Insert entries beside the stored ones."""
    await exchange(connection, [], entries)


async def duplicate(connection: Connection, org_id: int, seq: int, /, **changes: Change) -> None:
    """Insert a copy of the only entry with this seq, with the named columns changed."""
    await insert(connection, _changed(await stored_at(connection, org_id, seq), changes))


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
    """Exchange the named columns of two entries, in which they differ."""
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


@asynccontextmanager
async def wild_partition(connection: Connection) -> AsyncIterator[None]:
    """A partition for times that belong to no month, while the block runs."""
    await connection.execute(f"CREATE TABLE {TABLE}_wild PARTITION OF {TABLE} DEFAULT")
    try:
        yield
    finally:
        await connection.execute(f"DROP TABLE {TABLE}_wild")


async def set_wild_time(connection: Connection, org_id: int, seq: int, time: str) -> None:
    """Set an entry's time to one that Python can't hold, in PostgreSQL's notation."""
    at = "$3::text::timestamptz"
    await _update(connection, f"anchored_at = {at}", f"anchored_at <> {at}", org_id, seq, time)


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


@asynccontextmanager
async def _without_triggers(connection: Connection) -> AsyncIterator[None]:
    """Run the block in a transaction in which no trigger fires, also not those of WORM."""
    async with connection.transaction():
        await connection.execute("SET LOCAL session_replication_role = replica")
        yield


async def _update(connection: Connection, assignment: str, differs: str, *values: object) -> None:
    """Update one entry, of which the condition holds; the values are org id, seq, and a third."""
    async with _without_triggers(connection):
        tag = await connection.execute(
            f"UPDATE {TABLE} SET {assignment} WHERE org_id = $1 AND seq = $2 AND {differs}",
            *values,
        )
        assert tag == "UPDATE 1", tag


async def _delete(connection: Connection, entries: Sequence[StoredEntry]) -> None:
    tag = await connection.execute(
        f"DELETE FROM {TABLE} e USING {_KEYS} WHERE {_OF_KEYS}", *_keys(entries)
    )
    assert tag == f"DELETE {len(entries)}", tag


def _keys(entries: Sequence[StoredEntry]) -> tuple[list[int], list[int], list[datetime]]:
    return (
        [entry.org_id for entry in entries],
        [entry.seq for entry in entries],
        [entry.anchored_at for entry in entries],
    )


async def _both(
    connection: Connection, org_id: int, a: int, b: int
) -> tuple[StoredEntry, StoredEntry]:
    return await stored_at(connection, org_id, a), await stored_at(connection, org_id, b)


def _changed(entry: StoredEntry, changes: dict[str, Change]) -> StoredEntry:
    """Return the entry with the named columns changed."""
    new = {
        column: change(getattr(entry, column)) if callable(change) else change
        for column, change in changes.items()
    }
    return entry._replace(**new)  # type: ignore[arg-type]


def _flipped(value: bytes, bit: int) -> bytes:
    at, shift = divmod(bit % (8 * len(value)), 8)
    return value[:at] + bytes([value[at] ^ 1 << shift]) + value[at + 1 :]
