"""Idempotency keys, written in the append transaction and kept for some days."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any, Final, NamedTuple

from ledger.rows import DecidingTable
from ledger.storage.entries.blocks import EARLIEST, LATEST
from ledger.storage.entries.picked import receipts
from ledger.storage.entries.picked.receipts import Written
from ledger.storage.trail import AppendTransaction

USES: Final = DecidingTable(
    "idempotency",
    ("org_id", "key", "day"),
    ("body", "first_seq", "count", "seqs", "anchored_at", "first_hash"),
)


class KeyUse(NamedTuple):
    """One use of a key: digests of key and body, and the seqs of the answer.

    ``seqs`` is None if they are ``first_seq`` and the following ``events - 1``. No entry of the
    answer is newer than ``anchored_at``, and without ``seqs`` none is older; None: any time.
    ``first_hash`` is the hash of the entry at ``first_seq``, b"" if it was not read. A stored use
    that is not ``is_authentic`` was changed or made in the database.
    """

    org_id: int
    key: bytes
    body: bytes
    first_seq: int
    events: int
    seqs: list[int] | None
    anchored_at: datetime | None
    first_hash: bytes = b""
    is_authentic: bool = True

    def mac(self, row_key: bytes, day: date) -> bytes:
        """Return the MAC of its row, which is stored under this day."""
        return USES.mac(row_key, *self.row(day))

    def row(self, day: date) -> tuple[Any, ...]:
        """Return the columns that the MAC covers."""
        return (
            self.org_id, self.key, day, self.body, self.first_seq, self.events, self.seqs,
            self.anchored_at, self.first_hash,
        )  # fmt: skip

    def all_seqs(self) -> Sequence[int]:
        """Return every seq of the first answer, in its order."""
        return self.seqs or range(self.first_seq, self.first_seq + self.events)


# A time that Python's datetime can't hold was not written by Quire.
FIND = """
SELECT i.org_id, i.key, i.body, i.first_seq, i.count, i.seqs,
       CASE WHEN i.anchored_at BETWEEN 'epoch' AND '4253-01-01Z' THEN i.anchored_at END,
       i.first_hash, i.day, i.mac
FROM unnest($1::bigint[], $2::bytea[]) AS wanted (org_id, key)
JOIN idempotency i ON i.org_id = wanted.org_id AND i.key = wanted.key"""


async def find(
    transaction: AppendTransaction, keys: Sequence[tuple[int, bytes]], row_key: bytes
) -> dict[tuple[int, bytes], KeyUse]:
    """Return earlier uses of these (org_id, key) pairs; the orgs' heads must be locked."""
    rows = await transaction.run(
        transaction.connection.fetch(FIND, [org_id for org_id, _ in keys], [key for _, key in keys])
    )
    return {(row[0], row[1]): _use(row, row_key) for row in rows}


def _use(row: Any, row_key: bytes) -> KeyUse:
    *values, day, mac = row
    use = KeyUse(*values)
    return use._replace(is_authentic=USES.is_right(row_key, mac, *use.row(day)))


async def record(
    transaction: AppendTransaction, day: date, uses: Sequence[KeyUse], row_key: bytes
) -> None:
    """Store these uses under the given day."""
    await transaction.run(
        transaction.connection.copy_records_to_table(
            "idempotency",
            records=[(*use.row(day), use.mac(row_key, day)) for use in uses],
            columns=[*USES.columns, "mac"],
        )
    )


async def entries_of(
    transaction: AppendTransaction, org_id: int, uses: Sequence[KeyUse], most_raw_bytes: int
) -> Written:
    """Return the entries of these answers of one org; inflates leaves up to the bound."""
    seqs = sorted({seq for use in uses for seq in use.all_seqs()})
    since = min((_since(use) for use in uses), default=EARLIEST)
    until = max((use.anchored_at or LATEST for use in uses), default=LATEST)
    return await transaction.run(
        receipts.read(
            transaction.connection, org_id, seqs, since=since, until=until,
            most_raw_bytes=most_raw_bytes,
        )
    )  # fmt: skip


def _since(use: KeyUse) -> datetime:
    return EARLIEST if use.seqs or use.anchored_at is None else use.anchored_at
