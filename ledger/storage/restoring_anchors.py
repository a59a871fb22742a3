"""The rows of the anchor log in a restore: its leaves, their orgs, tokens and cosignatures."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from ledger.storage.archive_accounts import ADD_ARCHIVED, ARCHIVED_ROWS, account_row
from ledger.storage.archived_attestations import ADD_ATTESTATION, with_mac
from ledger.storage.database import Connection
from ledger.storage.trees import ANCHOR_LOG

BATCH_TIMEOUT_S: Final = 600.0
UNKNOWN_ORG: Final = -1
"""The org id of leaves of the anchor log whose org was not restored."""

# The signer adds leaves to this table; the lock keeps it out while old leaves are restored.
HOLD_ANCHORS: Final = "LOCK TABLE anchor_leaves IN SHARE ROW EXCLUSIVE MODE"
ANCHORS: Final = """
SELECT coalesce((SELECT size FROM trees WHERE org_id = 0), 0),
       coalesce((SELECT root FROM trees WHERE org_id = 0), ''),
       EXISTS (SELECT FROM anchor_leaves) OR EXISTS (SELECT FROM tile_parts WHERE org_id = 0)"""
NOTE_AT: Final = "SELECT note FROM checkpoints WHERE org_id = $1 AND size = $2"
LEAVES_AT: Final = """
SELECT a.idx, a.org_id, a.size, a.nonce, a.leaf, w.size, c.note
FROM unnest($2::bigint[], $3::bigint[]) AS w (idx, size)
JOIN anchor_leaves a ON a.idx = w.idx
JOIN checkpoints c ON c.org_id = $1 AND c.size = w.size"""
CLAIM: Final = """
UPDATE anchor_leaves a SET org_id = $1, size = w.size, nonce = w.nonce
FROM unnest($2::bigint[], $3::bigint[], $4::bytea[]) AS w (idx, size, nonce)
WHERE a.idx = w.idx AND a.org_id = -1"""
ANCHOR_ANEW: Final = """
UPDATE trees t SET signed_at = 'epoch'
WHERE org_id = ANY ($1::bigint[]) AND NOT EXISTS (
    SELECT FROM anchor_leaves a WHERE a.org_id = t.org_id AND a.size = t.size)"""
SIGNED: Final = "SELECT size, root FROM trees WHERE org_id = $1 AND size > 0"
ATTESTED: Final = """
SELECT 'token', size, '', added_at FROM anchor_tokens
UNION ALL SELECT 'cosignature', size, witness, added_at FROM anchor_cosignatures"""
ATTESTED_AT_ONCE: Final = 1_000
ADD_TOKENS: Final = """
INSERT INTO anchor_tokens (size, added_at, gen_time, token) VALUES ($1, $2, $3, $4)
ON CONFLICT DO NOTHING"""
ADD_COSIGNATURES: Final = """
INSERT INTO anchor_cosignatures (size, witness, added_at, line) VALUES ($1, $2, $3, $4)
ON CONFLICT DO NOTHING"""


class StoredLeaf(NamedTuple):
    """One row of the table ``anchor_leaves``."""

    idx: int
    org_id: int
    size: int
    nonce: bytes
    leaf: bytes


class AnchorRows:
    """Reads and writes rows of the anchor log, in the transaction of a restore."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def begun(self) -> tuple[int, bytes, bool]:
        """Return size and root of the stored anchor log, and whether it has any rows."""
        await self._connection.execute(HOLD_ANCHORS)
        row: Any = await self._connection.fetchrow(ANCHORS)
        return row[0], row[1], row[2]

    async def anew(self, org_ids: Sequence[int]) -> None:
        """Make the signer add the newest checkpoints of these orgs if the anchor log lacks them."""
        await self._connection.execute(ANCHOR_ANEW, list(org_ids))

    async def add_account(self, target: str, org_id: int, leaves: int, row_key: bytes) -> None:
        """Record that the data restored from a target is archived there."""
        signed = await self._connection.fetchrow(SIGNED, org_id)
        if signed is not None:
            row = account_row(target, org_id, (signed[0], leaves, signed[1]), (0, 0))
            mac = ARCHIVED_ROWS.mac(row_key, *row)
            await self._connection.execute(ADD_ARCHIVED, *row, mac)

    async def add_attested(self, target: str, row_key: bytes) -> None:
        """Record that the restored tokens and cosignatures are archived in a target."""
        cursor = await self._connection.cursor(ATTESTED)
        while rows := await cursor.fetch(ATTESTED_AT_ONCE):
            await self._connection.executemany(
                ADD_ATTESTATION, [with_mac(target, tuple(row), row_key) for row in rows]
            )

    async def note(self, size: int) -> bytes | None:
        """Return the note of the stored anchor of this size, or None."""
        note: bytes | None = await self._connection.fetchval(NOTE_AT, ANCHOR_LOG, size)
        return note

    async def add_leaves(self, leaves: Sequence[StoredLeaf]) -> None:
        """Add leaves of the anchor log."""
        await self._connection.copy_records_to_table(
            "anchor_leaves", records=leaves, columns=StoredLeaf._fields, timeout=BATCH_TIMEOUT_S
        )

    async def leaves_at(
        self, org_id: int, places: Sequence[tuple[int, int]]
    ) -> list[tuple[StoredLeaf, int, bytes]]:
        """Return the leaves at these (idx, size), each with the size and the org's note of it."""
        rows = await self._connection.fetch(
            LEAVES_AT, org_id, [idx for idx, _ in places], [size for _, size in places]
        )
        return [(StoredLeaf(*row[:5]), row[5], row[6]) for row in rows]

    async def claim(self, org_id: int, leaves: Sequence[tuple[int, int, bytes]]) -> None:
        """Assign leaves (idx, size, nonce) to an org, if their org is unknown."""
        await self._connection.execute(CLAIM, org_id, *map(list, zip(*leaves, strict=True)))

    async def add_tokens(self, rows: Sequence[tuple[int, datetime, datetime, bytes]]) -> None:
        """Add timestamps (size, added_at, gen_time, token) of anchors."""
        await self._connection.executemany(ADD_TOKENS, rows)

    async def add_cosignatures(self, rows: Sequence[tuple[int, str, datetime, bytes]]) -> None:
        """Add cosignatures (size, witness, added_at, line) of anchors."""
        await self._connection.executemany(ADD_COSIGNATURES, rows)
