"""What callers did, as rows that wait until entries of the trails tell it.

A row is removed in the transaction of the entries that tell it, so each is told once, whatever
process does it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple

from ledger.rows import DecidingTable
from ledger.storage.database import Database
from ledger.storage.trail import AppendTransaction

PENDING_ACTS: Final = DecidingTable(
    "pending_acts", ("id",), ("org_id", "kind", "at", "body"), ("at",)
)
MAX_TAKEN: Final = 2_000
"""Rows that one request tells."""
MAX_GROUPS: Final = 10_000
MAX_OF_KIND: Final = 2_000
"""Rows of a bounded kind that may wait in one org."""
_AT: Final = "CASE WHEN at BETWEEN 'epoch' AND '4253-01-01Z' THEN at ELSE 'epoch' END"
INSERT: Final = """
INSERT INTO pending_acts (id, org_id, kind, at, body, mac)
SELECT * FROM unnest($1::bytea[], $2::bigint[], $3::text[], $4::timestamptz[], $5::bytea[], $6::bytea[])
ON CONFLICT DO NOTHING"""
INSERT_BOUNDED: Final = f"""
INSERT INTO pending_acts (id, org_id, kind, at, body, mac)
SELECT $1::bytea, $2::bigint, $3::text, $4::timestamptz, $5::bytea, $6::bytea
WHERE (SELECT count(*) FROM pending_acts WHERE org_id = $2 AND kind = $3) < {MAX_OF_KIND}"""
GROUPS: Final = f"""
SELECT org_id, kind, min({_AT}) FROM pending_acts
GROUP BY org_id, kind ORDER BY 3 LIMIT {MAX_GROUPS}"""
TAKE: Final = f"""
SELECT id, org_id, kind, {_AT}, body, mac FROM pending_acts
WHERE org_id = $1 AND kind = $2 AND at < $3 ORDER BY at LIMIT {MAX_TAKEN}"""
REMOVE: Final = "DELETE FROM pending_acts WHERE id = ANY ($1::bytea[])"


class PendingAct(NamedTuple):
    """Acts of one kind in one org that began at a time; ``id`` is random."""

    id: bytes
    org_id: int
    kind: str
    at: datetime
    body: bytes


class PendingGroup(NamedTuple):
    """Acts of one kind that wait in one org, and when the oldest of them began."""

    org_id: int
    kind: str
    oldest: datetime


class PendingActs:
    """The waiting acts of a database. Methods raise DatabaseUnavailable."""

    def __init__(self, database: Database, row_key: bytes) -> None:
        self._database = database
        self._row_key = row_key

    async def add(self, acts: Sequence[PendingAct]) -> None:
        """Store acts; those that are stored already are left as they are."""
        if acts:
            macs = [PENDING_ACTS.mac(self._row_key, *act) for act in acts]
            await self._database.execute(INSERT, *map(list, zip(*acts, strict=True)), macs)

    async def add_bounded(self, act: PendingAct) -> bool:
        """Store an act; False if too many of its kind wait."""
        mac = PENDING_ACTS.mac(self._row_key, *act)
        return await self._database.execute(INSERT_BOUNDED, *act, mac) == "INSERT 0 1"

    async def groups(self) -> list[PendingGroup]:
        """Return the groups of waiting acts, the oldest first."""
        return [PendingGroup(*row) for row in await self._database.fetch(GROUPS)]

    async def take(
        self, org_id: int, kind: str, before: datetime
    ) -> tuple[list[PendingAct], list[bytes]]:
        """Return the oldest acts of a group, and the ids of rows that others wrote or changed."""
        acts: list[PendingAct] = []
        forged: list[bytes] = []
        for row in await self._database.fetch(TAKE, org_id, kind, before):
            if PENDING_ACTS.is_right(self._row_key, row[5], *row[:5]):
                acts.append(PendingAct(*row[:5]))
            else:
                forged.append(row[0])
        return acts, forged

    async def discard(self, ids: Sequence[bytes]) -> None:
        """Remove rows that tell nothing."""
        await self._database.execute(REMOVE, list(ids))

    async def remove(self, transaction: AppendTransaction, ids: Sequence[bytes]) -> bool:
        """Remove rows in the transaction of their entries; False if another process told some."""
        done = await transaction.run(transaction.connection.execute(REMOVE, list(ids)))
        return bool(done == f"DELETE {len(ids)}")
