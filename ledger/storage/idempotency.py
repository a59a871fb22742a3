"""Idempotency keys, written in the append transaction and kept for some days."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import NamedTuple

from ledger.chain import StoredEntry
from ledger.storage.entries import chosen
from ledger.storage.trail import AppendTransaction


class KeyUse(NamedTuple):
    """One use of a key: digests of key and body, and the seqs of the answer.

    ``seqs`` is None if they are ``first_seq`` and the following ``events - 1``.
    """

    org_id: int
    key: bytes
    body: bytes
    first_seq: int
    events: int
    seqs: list[int] | None

    def all_seqs(self) -> Sequence[int]:
        """Return every seq of the first answer, in its order."""
        return self.seqs or range(self.first_seq, self.first_seq + self.events)


FIND = """
SELECT i.org_id, i.key, i.body, i.first_seq, i.count, i.seqs
FROM unnest($1::bigint[], $2::bytea[]) AS wanted (org_id, key)
JOIN idempotency i ON i.org_id = wanted.org_id AND i.key = wanted.key"""


async def find(
    transaction: AppendTransaction, keys: Sequence[tuple[int, bytes]]
) -> dict[tuple[int, bytes], KeyUse]:
    """Return earlier uses of these (org_id, key) pairs; the orgs' heads must be locked."""
    rows = await transaction.run(
        transaction.connection.fetch(FIND, [org_id for org_id, _ in keys], [key for _, key in keys])
    )
    return {(row[0], row[1]): KeyUse(*row) for row in rows}


async def record(transaction: AppendTransaction, day: date, uses: Sequence[KeyUse]) -> None:
    """Store these uses under the given day."""
    await transaction.run(
        transaction.connection.copy_records_to_table(
            "idempotency",
            records=[(day, *use) for use in uses],
            columns=["day", "org_id", "key", "body", "first_seq", "count", "seqs"],
        )
    )


async def entries_of(
    transaction: AppendTransaction, org_id: int, seqs: Sequence[int]
) -> dict[int, StoredEntry]:
    """Return the stored entries by seq; without seqs there is no query."""
    if not seqs:
        return {}
    return await transaction.run(chosen.by_seq(transaction.connection, org_id, seqs))
