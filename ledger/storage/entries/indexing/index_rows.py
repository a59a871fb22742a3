"""The table of the search index: its rows at some places, added rows, how far it reaches.

What a row says is used only if its MAC is right for its place and for the entries up to its end.
Functions raise asyncpg's errors.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from ledger.blocks.postings import (
    MAX_POSTINGS_BYTES,
    RUN_BITS,
    RUN_LEVEL,
    STRETCH_BITS,
    STRETCH_LEVEL,
    IndexDamaged,
    IndexRow,
    Seal,
    require_authentic,
)
from ledger.entry import HASH_BYTES
from ledger.storage.database import Connection

ROWS_AT_PLACE: Final = 4
"""Rows that are read at one place; a right one among more is not found."""
NEWEST_ROWS: Final = 64
BITS: Final = {RUN_LEVEL: RUN_BITS, STRETCH_LEVEL: STRETCH_BITS}

_POSSIBLE: Final = "ended_at BETWEEN 'epoch' AND '4253-01-01Z'"
_POSTINGS: Final = f"CASE WHEN octet_length(postings) <= {MAX_POSTINGS_BYTES} THEN postings ELSE '' END AS postings"
_MAC: Final = "substring(mac FROM 1 FOR 33) AS mac"
# The hash of the last entry of run or stretch, if its block is where the row says.
_END_HASH: Final = f"""
LEFT JOIN LATERAL (
    SELECT substring(last_hash FROM 1 FOR {HASH_BYTES + 1}) AS end_hash FROM entries
    WHERE org_id = $1 AND last_seq = ((r.stretch + 1) << $3::integer) - 1
      AND anchored_at = r.ended_at LIMIT 1
) AS e ON true"""
AT: Final = f"""
SELECT r.stretch, r.bucket, r.postings, r.mac, r.ended_at, e.end_hash
FROM unnest($4::bigint[], $5::integer[]) AS w (stretch, bucket)
CROSS JOIN LATERAL (
    SELECT stretch, bucket, {_POSTINGS}, {_MAC}, ended_at FROM tag_runs
    WHERE org_id = $1 AND level = $2 AND stretch = w.stretch AND bucket = w.bucket AND {_POSSIBLE}
    ORDER BY mac LIMIT {ROWS_AT_PLACE}
) AS r {_END_HASH}"""
# Rows far beyond the trail were planted.
NEWEST: Final = f"""
SELECT r.stretch, r.bucket, r.postings, r.mac, r.ended_at, e.end_hash
FROM (
    SELECT stretch, bucket, {_POSTINGS}, {_MAC}, ended_at FROM tag_runs
    WHERE org_id = $1 AND level = $2 AND stretch < $4 AND {_POSSIBLE}
    ORDER BY stretch DESC, bucket DESC, mac DESC LIMIT {NEWEST_ROWS}
) AS r {_END_HASH} ORDER BY r.stretch DESC"""
REACH: Final = """
SELECT coalesce((SELECT stretch + 1 FROM tag_runs WHERE org_id = $1 AND level = 0 AND stretch < $2
                 ORDER BY stretch DESC LIMIT 1), 0),
       coalesce((SELECT stretch + 1 FROM tag_runs WHERE org_id = $1 AND level = 1 AND stretch < $3
                 ORDER BY stretch DESC LIMIT 1), 0)"""
ADD: Final = """
INSERT INTO tag_runs (org_id, level, stretch, bucket, mac, ended_at, postings)
SELECT * FROM unnest($1::bigint[], $2::smallint[], $3::bigint[], $4::integer[], $5::bytea[],
                     $6::timestamptz[], $7::bytea[])
ON CONFLICT DO NOTHING"""


class Place(NamedTuple):
    """Where a row of the index stands, below its org and level."""

    stretch: int
    bucket: int


class AuthenticRow(NamedTuple):
    """An authentic row, and the time of its last entry."""

    row: IndexRow
    ended_at: datetime


class Reach(NamedTuple):
    """How many runs and stretches the index has, if none of its rows is missing."""

    runs: int
    stretches: int


async def authentic(
    connection: Connection, org_id: int, level: int, places: Sequence[Place], key: bytes
) -> dict[Place, AuthenticRow]:
    """Return the authentic rows at these places of a level; other places are left out."""
    rows = await connection.fetch(
        AT,
        org_id,
        level,
        BITS[level],
        [place.stretch for place in places],
        [place.bucket for place in places],
    )
    found = _authentic(org_id, level, rows, key)
    return {Place(one.row.stretch, one.row.bucket): one for one in found}


async def newest(
    connection: Connection, org_id: int, level: int, below: int, key: bytes
) -> AuthenticRow | None:
    """Return an authentic row of the last run or stretch below a number, of the newest rows."""
    rows = await connection.fetch(NEWEST, org_id, level, BITS[level], below)
    return next(iter(_authentic(org_id, level, rows, key)), None)


def _authentic(org_id: int, level: int, rows: Iterable[Any], key: bytes) -> Iterable[AuthenticRow]:
    for stretch, bucket, postings, mac, ended_at, end_hash in rows:
        row = IndexRow(org_id, level, stretch, bucket, postings, mac)
        try:
            require_authentic(row, Seal(key, end_hash or b""))
        except IndexDamaged:
            continue
        yield AuthenticRow(row, ended_at)


async def reach(connection: Connection, org_id: int, entries: int) -> Reach:
    """Return how far the index reaches, by its newest rows for a trail of so many entries."""
    row = await connection.fetchrow(REACH, org_id, entries >> RUN_BITS, entries >> STRETCH_BITS)
    return Reach(0, 0) if row is None else Reach(row[0], row[1])


async def add(connection: Connection, rows: Sequence[IndexRow], ended_at: datetime) -> None:
    """Add rows of one run or stretch, all or none; those that are there already stay."""
    await connection.execute(
        ADD,
        [row.org_id for row in rows],
        [row.level for row in rows],
        [row.stretch for row in rows],
        [row.bucket for row in rows],
        [row.mac for row in rows],
        [ended_at] * len(rows),
        [row.postings for row in rows],
    )
