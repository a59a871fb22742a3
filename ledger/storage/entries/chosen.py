"""Entries that a caller names by their seqs or places."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from ledger.chain import StoredEntry
from ledger.entry import RecordId, to_datetime
from ledger.storage.database import Connection, Database
from ledger.storage.entries.columns import ENTRY_COLUMNS, PAGE_BYTES

# LATERAL with LIMIT pins the plan: one primary key probe for each (seq, time).
PRESENT: Final = """
SELECT w.seq FROM unnest($2::bigint[], $3::timestamptz[]) AS w (seq, anchored_at)
CROSS JOIN LATERAL (
    SELECT FROM entries e
    WHERE e.org_id = $1 AND e.seq = w.seq AND e.anchored_at = w.anchored_at LIMIT 1
) AS present"""
# OFFSET pins the plan too, and returns both rows if two have the same seq. Before version 17
# PostgreSQL may read all entries of an org to find a few by `seq = ANY (...)`.
TIMES: Final = """
SELECT e.seq, e.anchored_at FROM (SELECT DISTINCT unnest($2::bigint[]) AS seq) AS w
CROSS JOIN LATERAL (
    SELECT seq, anchored_at FROM entries WHERE org_id = $1 AND seq = w.seq OFFSET 0
) AS e"""
# The times limit the partitions to search. The sizes of payloads are known without
# reading them, so that large payloads end a batch before they are in memory.
PAGE: Final = f"""
SELECT {ENTRY_COLUMNS} FROM (
    SELECT e.*, sum(octet_length(payload)) OVER (ORDER BY w.seq) - octet_length(payload) AS bytes
    FROM (SELECT DISTINCT unnest($2::bigint[]) AS seq) AS w
    CROSS JOIN LATERAL (
        SELECT * FROM entries
        WHERE org_id = $1 AND seq = w.seq AND anchored_at >= $3 AND anchored_at <= $4 OFFSET 0
    ) AS e
) AS sized WHERE bytes < {PAGE_BYTES} ORDER BY seq"""
ALL: Final = f"SELECT {ENTRY_COLUMNS} FROM entries WHERE org_id = $1 AND seq = ANY ($2::bigint[])"


async def present(database: Database, org_id: int, places: Sequence[RecordId]) -> set[int]:
    """Return the seqs of the given places at which an entry is stored."""
    times = [to_datetime(place.anchored_us) for place in places]
    rows = await database.fetch(PRESENT, org_id, [place.seq for place in places], times)
    return {row[0] for row in rows}


async def times(database: Database, org_id: int, seqs: Sequence[int]) -> dict[int, datetime]:
    """Return the anchoring times of the entries with these few seqs; missing ones are left out."""
    return {row[0]: row[1] for row in await database.fetch(TIMES, org_id, list(seqs))}


async def page(
    database: Database, org_id: int, seqs: Sequence[int], since: datetime, until: datetime
) -> list[StoredEntry]:
    """Return the first of these entries by ascending seq; fewer of them if they are large.

    All must have been anchored between ``since`` and ``until``, both included.
    """
    rows = await database.fetch(PAGE, org_id, list(seqs), since, until)
    return [StoredEntry(*row) for row in rows]


async def by_seq(
    connection: Connection, org_id: int, seqs: Sequence[int]
) -> dict[int, StoredEntry]:
    """Return these entries by seq, however large. Raises asyncpg's errors."""
    rows = await connection.fetch(ALL, org_id, list(seqs))
    return {row[1]: StoredEntry(*row) for row in rows}
