"""Entries of imported QWED rows, found in the leaves of a range of seqs."""

from __future__ import annotations

from typing import Final

from ledger.chain import StoredEntry
from ledger.storage.database import Database
from ledger.storage.entries.columns import ENTRY_COLUMNS

STRETCH_BITS: Final = 10

# A leaf is canonical JSON, where these bytes can't occur inside a string. At most two
# numbers and the closing quote follow them.
_ABOUT_ROWS: Final = """
org_id = $1 AND seq >= $2 AND seq <= $3
  AND position('"event_type":"qwed.'::bytea IN leaf) > 0
  AND position('"action":"qwed:'::bytea IN leaf) > 0"""
STRETCHES: Final = f"""
SELECT seq >> {STRETCH_BITS}, min(split_part(named, ':', 2)::bigint),
       max(split_part(named, ':', 2)::bigint)
FROM (
    SELECT seq, split_part(encode(substring(
        leaf FROM position('"action":"qwed:'::bytea IN leaf) + 15 FOR 40), 'escape'), '"', 1) AS named
    FROM entries WHERE {_ABOUT_ROWS}
) AS entry
WHERE named ~ '^[0-9]{{1,18}}:[0-9]{{1,18}}$'
GROUP BY 1 ORDER BY 1"""
NAMING: Final = f"""
SELECT {ENTRY_COLUMNS} FROM entries
WHERE {_ABOUT_ROWS} AND position($4::bytea IN leaf) > 0 ORDER BY seq"""


async def row_ids(
    database: Database, org_id: int, first: int, last: int
) -> list[tuple[int, int, int]]:
    """Return (number, lowest, highest row id) of each stretch of seqs with entries of QWED rows."""
    rows = await database.fetch(STRETCHES, org_id, first, last)
    return [(row[0], row[1], row[2]) for row in rows]


async def naming(
    database: Database, org_id: int, first: int, last: int, named: bytes
) -> list[StoredEntry]:
    """Return the entries of QWED rows whose leaves contain ``named``, oldest first."""
    rows = await database.fetch(NAMING, org_id, first, last, named)
    return [StoredEntry(*row) for row in rows]
