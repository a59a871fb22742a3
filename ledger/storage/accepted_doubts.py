"""The doubts of the signer that an operator accepted by thawing the org.

A row counts only with its MAC: it lets appends go on that nothing signs. It names the size at which
the tree stands, so it means nothing once the tree was signed further.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple

from ledger.rows import DecidingTable
from ledger.storage.database import Database
from ledger.storage.trail import AppendTransaction

ACCEPTED: Final = DecidingTable(
    "accepted_doubts", ("org_id", "size", "kind", "accepted_at"), ("key_id",)
)
MAX_STOPPED: Final = 10_000
"""Stopped trees that are looked at."""
MAX_ROWS: Final = 100
"""Rows of one doubt that are read; more than a few were planted."""

STOPPED: Final = """
SELECT size, split_part(stopped_reason, ':', 1) FROM trees
WHERE org_id = $1 AND stopped_at IS NOT NULL"""
ALL_STOPPED: Final = """
SELECT t.org_id, o.slug, t.size, split_part(coalesce(t.stopped_reason, ''), ':', 1),
       coalesce(t.stopped_reason, '')
FROM trees t JOIN orgs o ON o.id = t.org_id
WHERE t.stopped_at IS NOT NULL ORDER BY t.org_id LIMIT $1"""
INSERT: Final = """
INSERT INTO accepted_doubts (org_id, size, kind, accepted_at, key_id, mac)
VALUES ($1, $2, $3, $4, $5, $6)"""
SELECT: Final = f"""
SELECT a.* FROM unnest($1::bigint[], $2::bigint[], $3::text[]) AS w (org_id, size, kind)
CROSS JOIN LATERAL (
    SELECT org_id, size, kind, accepted_at, key_id, mac FROM accepted_doubts d
    WHERE d.org_id = w.org_id AND d.size = w.size AND d.kind = w.kind
      AND d.accepted_at BETWEEN 'epoch' AND '4253-01-01Z' LIMIT {MAX_ROWS}) AS a"""


class StoppedTree(NamedTuple):
    """A tree that the signer stopped: the org, the tree's size, the kind of doubt and its text."""

    org_id: int
    slug: str
    size: int
    kind: str
    reason: str


async def all_stopped(database: Database) -> list[StoppedTree]:
    """Return the trees that the signer stopped."""
    return [StoppedTree(*row) for row in await database.fetch(ALL_STOPPED, MAX_STOPPED)]


async def stopped(database: Database, org_id: int) -> bool:
    """Return whether the signer stopped the tree of an org."""
    return await database.fetchrow(STOPPED, org_id) is not None


async def accept(transaction: AppendTransaction, org_id: int, key_id: str, row_key: bytes) -> None:
    """Accept, in a thaw's transaction, the doubt by which the org's tree is stopped, if it is."""
    doubt = await transaction.run(transaction.connection.fetchrow(STOPPED, org_id))
    if doubt is None:
        return
    row = (org_id, doubt[0], doubt[1] or "", datetime.now(UTC), key_id)
    mac = ACCEPTED.mac(row_key, *row)
    await transaction.run(transaction.connection.execute(INSERT, *row, mac))


async def accepted(
    database: Database, doubts: Sequence[tuple[int, int, str]], row_key: bytes
) -> set[int]:
    """Return the orgs of those (org_id, size, kind) that an operator accepted."""
    rows = await database.fetch(
        SELECT,
        [org_id for org_id, _, _ in doubts],
        [size for _, size, _ in doubts],
        [kind for _, _, kind in doubts],
    )
    return {row[0] for row in rows if ACCEPTED.is_right(row_key, row[5], *row[:5])}
