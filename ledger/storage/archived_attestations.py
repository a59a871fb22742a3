"""The accounts of archived tokens and cosignatures, which arrive after their anchor, in any order."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from ledger.errors import ArchiveRefused
from ledger.rows import DecidingTable, Value
from ledger.storage.database import Database
from ledger.storage.tree_out import MAX_NOTE_BYTES, MAX_TOKEN_BYTES
from ledger.storage.trees import ANCHOR_LOG

ATTESTATION_ROWS: Final = DecidingTable(
    "archived_attestations",
    ("target", "kind", "size", "witness", "added_at"),
    (),
    times=("added_at",),
)
MAX_FORGED: Final = 10_000
"""Rows that no archiver wrote, of which one archiver leaves aside so many."""
SWEEP_S: Final = 3_600.0
"""How often an archiver judges all rows."""
ROWS_AT_ONCE: Final = 500

ALL: Final = f"""
SELECT {ATTESTATION_ROWS.selected()}, mac FROM archived_attestations WHERE target = $1"""
_FORGED: Final = """
      AND NOT EXISTS (
          SELECT FROM unnest($4::text[], $5::bigint[], $6::text[], $7::timestamptz[], $8::bytea[])
              AS f (kind, size, witness, added_at, mac)
          WHERE f.kind = a.kind AND f.size = a.size AND f.witness = a.witness
            AND f.added_at = a.added_at AND f.mac = a.mac)"""
NEW_TOKENS: Final = f"""
SELECT t.size, t.added_at, CASE WHEN octet_length(t.token) <= {MAX_TOKEN_BYTES} THEN t.token END
FROM anchor_tokens t
WHERE t.size <= $2 AND NOT EXISTS (
    SELECT FROM archived_attestations a
    WHERE a.target = $1 AND a.kind = 'token' AND a.size = t.size AND a.witness = ''
      AND a.added_at = t.added_at{_FORGED})
ORDER BY t.size, t.added_at LIMIT $3"""
NEW_COSIGNATURES: Final = f"""
SELECT c.size, c.added_at, c.witness,
       CASE WHEN octet_length(c.line) <= {MAX_NOTE_BYTES} THEN c.line END
FROM anchor_cosignatures c
WHERE c.size <= $2 AND NOT EXISTS (
    SELECT FROM archived_attestations a
    WHERE a.target = $1 AND a.kind = 'cosignature' AND a.size = c.size AND a.witness = c.witness
      AND a.added_at = c.added_at{_FORGED})
ORDER BY c.size, c.added_at LIMIT $3"""
ADD_ATTESTATION: Final = """
INSERT INTO archived_attestations (target, kind, size, witness, added_at, mac)
VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING"""


class AttestedRow(NamedTuple):
    """A token (``witness`` empty) or signature line; ``data`` is None if too long to be valid."""

    size: int
    added_at: datetime
    witness: str
    data: bytes | None

    @property
    def kind(self) -> str:
        """The kind, as the table names it."""
        return "cosignature" if self.witness else "token"


def with_mac(target: str, row: tuple[str, int, str, datetime], row_key: bytes) -> tuple[Any, ...]:
    """Return a new row (kind, size, witness, added_at) of a target, with its MAC."""
    return (target, *row, ATTESTATION_ROWS.mac(row_key, target, *row))


class AttestationAccount:
    """Which tokens and cosignatures are archived in a target; ``row_key`` authenticates the rows.

    A row that no archiver wrote is left aside, and ``report`` is called. Methods raise
    DatabaseUnavailable.
    """

    def __init__(
        self, database: Database, target: str, row_key: bytes, report: Callable[[int, str], None]
    ) -> None:
        self._database = database
        self._target = target
        self._row_key = row_key
        self._report = report
        self._forged: list[tuple[Value, ...]] = []
        self._swept_s = float("-inf")

    async def new(self, size: int, limit: int) -> list[AttestedRow]:
        """Return the attestations of anchors up to ``size`` that are not archived yet.

        Raises ArchiveRefused if too many rows were planted.
        """
        if time.monotonic() - self._swept_s >= SWEEP_S:
            await self._sweep()
        forged = [[row[at] for row in self._forged] for at in range(1, 6)]
        tokens = await self._database.fetch(NEW_TOKENS, self._target, size, limit, *forged)
        lines = await self._database.fetch(NEW_COSIGNATURES, self._target, size, limit, *forged)
        return [AttestedRow(row[0], row[1], "", row[2]) for row in tokens] + [
            AttestedRow(*row) for row in lines
        ]

    async def add(self, row: AttestedRow) -> None:
        """Record that a token or cosignature is archived."""
        covered = (row.kind, row.size, row.witness, row.added_at)
        await self._database.execute(
            ADD_ATTESTATION, *with_mac(self._target, covered, self._row_key)
        )

    async def _sweep(self) -> None:
        """Find the rows that no archiver wrote."""
        self._forged = []
        async with self._database.transaction() as connection:
            cursor = await connection.cursor(ALL, self._target)
            while rows := await cursor.fetch(ROWS_AT_ONCE):
                self._forged += await asyncio.to_thread(self._judged, rows)
                if len(self._forged) > MAX_FORGED:
                    raise ArchiveRefused(
                        f"over {MAX_FORGED:,} rows of table archived_attestations were made in the "
                        "database: as its owner, remove the rows of the table"
                    )
        self._swept_s = time.monotonic()
        if self._forged:
            self._report(
                ANCHOR_LOG,
                "rows of table archived_attestations were changed or made in the database: they are "
                "left aside, and what they stand for is archived. Run a full verification",
            )

    def _judged(self, rows: Sequence[Any]) -> list[tuple[Value, ...]]:
        return [
            tuple(row)
            for row in rows
            if not ATTESTATION_ROWS.is_right(self._row_key, row[-1], *row[:-1])
        ]
