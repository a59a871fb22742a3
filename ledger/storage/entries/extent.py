"""Which seqs of a trail are stored at all, for verification. Functions raise asyncpg's errors."""

from __future__ import annotations

from typing import Final, NamedTuple

from ledger.storage.database import Connection

# An oversized value is read as NULL: no valid leaf or hash is that long.
NEWEST: Final = """
SELECT seq, CASE WHEN octet_length(entry_hash) = 32 THEN entry_hash END,
       CASE WHEN octet_length(leaf) < 65536 THEN leaf END
FROM entries WHERE org_id = $1 ORDER BY seq DESC LIMIT 1"""
BELOW: Final = """
SELECT seq FROM entries WHERE org_id = $1 AND seq < $2 ORDER BY seq LIMIT $3"""
# Rows may have been planted with the same seq: the earliest time counts.
WRITTEN: Final = """
SELECT min(CASE WHEN anchored_at BETWEEN 'epoch' AND '9999-12-31T23:59:59.999999Z'
           THEN (extract(epoch FROM anchored_at) * 1000000)::bigint END)
FROM entries WHERE org_id = $1 AND seq = $2"""
NEXT_SEQ: Final = "SELECT seq FROM entries WHERE org_id = $1 AND seq > $2 ORDER BY seq LIMIT 1"


class NewestRow(NamedTuple):
    """The entry with the highest seq, unverified."""

    seq: int
    entry_hash: bytes | None
    leaf: bytes | None


async def newest(connection: Connection, org_id: int) -> NewestRow | None:
    """Return the entry with the highest seq, or None."""
    row = await connection.fetchrow(NEWEST, org_id)
    return None if row is None else NewestRow(*row)


async def written_us(connection: Connection, org_id: int, seq: int) -> int | None:
    """Return the time at which an entry was written; None if it is not in the database."""
    written: int | None = await connection.fetchval(WRITTEN, org_id, seq)
    return written


async def seqs_below(connection: Connection, org_id: int, upper: int, limit: int) -> list[int]:
    """Return the lowest seqs of entries below ``upper``, at most ``limit``."""
    return [row[0] for row in await connection.fetch(BELOW, org_id, upper, limit)]


async def next_seq(connection: Connection, org_id: int, after: int) -> int | None:
    """Return the lowest seq of an entry above ``after``, or None."""
    seq: int | None = await connection.fetchval(NEXT_SEQ, org_id, after)
    return seq
