"""The change of a row and its entry in one statement, which is a transaction of its own.

It writes nothing unless the head of the trail, and the block at it, are byte for byte those that
this process wrote or checked last. Then it would learn nothing from reading them first.
"""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache
from typing import Final, NamedTuple

from ledger.blocks.block import Block
from ledger.chain import StoredEntry
from ledger.entry import to_datetime
from ledger.storage.database import Connection
from ledger.storage.entries.columns import BLOCK_COLUMNS
from ledger.storage.entries.heads import KnownEnd
from ledger.storage.entries.writing.copy_in import packed
from ledger.storage.entries.writing.marks import MARK
from ledger.storage.row_changes import SOURCE, RowChange

_BLOCK_VALUES: Final = len(Block._fields)
# The lock waits for another process that extends the trail; the condition is then checked again on
# the head that it left.
_STATEMENT: Final = f"""
WITH head AS (
    SELECT h.org_id FROM heads h
    JOIN entries e ON e.org_id = h.org_id AND e.last_seq = h.seq AND e.anchored_at = h.anchored_at
    WHERE h.org_id = {{org_id}} AND h.seq = {{seq}} AND h.entry_hash = {{hash}}
      AND h.anchored_at = {{at}} AND h.thawed_us = {{thawed_us}} AND h.erasures = {{erasures}}
      AND h.revocations = {{revocations}}
      AND h.frozen_reason IS NULL AND {MARK} = {{mark}}
    FOR UPDATE OF h
), {{changed}}, block AS (
    INSERT INTO entries ({BLOCK_COLUMNS}) SELECT {{block}} FROM changed
), moved AS (
    UPDATE heads h SET seq = {{last_seq}}, entry_hash = {{last_hash}}, anchored_at = {{last_at}}
    FROM changed WHERE h.org_id = {{org_id}}
)
SELECT created_at FROM changed"""
_TYPES: Final = {
    "org_id": "bigint", "seq": "bigint", "hash": "bytea", "at": "timestamptz",
    "thawed_us": "bigint", "erasures": "bigint", "revocations": "bigint", "mark": "bytea",
}  # fmt: skip
_BLOCK_TYPES: Final = (
    "bigint", "bigint", "timestamptz", "bigint", "bytea", "bigint", *["bytea"] * 4,
)  # fmt: skip


class WrittenAtOnce(NamedTuple):
    """When the changed row was created, and the mark of the block with the change's entry."""

    created_at: datetime
    mark: bytes | None


async def write(
    connection: Connection, change: RowChange, end: KnownEnd, entry: StoredEntry
) -> WrittenAtOnce | None:
    """Change the row, write the entry and move the head to it.

    None: nothing was written, as the change is refused or the trail does not end as it did. Raises
    asyncpg's errors.
    """
    block, mark = await packed([entry])
    head = end.head
    values = (
        *change.values, end.org_id, head.seq, head.entry_hash, to_datetime(head.anchored_us),
        end.thawed_us, *end.counts, end.mark, *block,
    )  # fmt: skip
    created: datetime | None = await connection.fetchval(
        _statement(change.statements, len(change.values)), *values
    )
    return None if created is None else WrittenAtOnce(created, mark)


@lru_cache(maxsize=64)
def _statement(changed: str, values: int) -> str:
    """Return the statement; the parameters of the change come first."""
    names = list(_TYPES)
    places = {name: f"${values + at}::{_TYPES[name]}" for at, name in enumerate(names, start=1)}
    first = values + len(names) + 1
    block = [f"${first + at}::{kind}" for at, kind in enumerate(_BLOCK_TYPES)]
    return _STATEMENT.format(
        **places,
        changed=changed.replace(SOURCE, "FROM head"),
        block=", ".join(block),
        last_seq=block[1],
        last_at=block[2],
        last_hash=block[4],
    )
