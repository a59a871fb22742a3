"""Subject keys: the only rows that link a ref in a trail to a person."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple, TypeVar

from ledger.pieces import piece
from ledger.storage.database import Database
from ledger.storage.trail import AppendTransaction

ROWS_AT_ONCE: Final = 500
"""Rows of one statement: to encode and decode more would hold up other requests."""
T = TypeVar("T")


class SubjectRecord(NamedTuple):
    """One person of one org: keyed hash of the name, ref, wrapped key, sealed name."""

    lookup: bytes
    ref: str
    wrapped_key: bytes
    name: bytes


ERASURES = "SELECT erasures FROM heads WHERE org_id = $1"
SELECT_MANY = """
SELECT lookup, ref, wrapped_key, name FROM subjects
WHERE org_id = $1 AND lookup = ANY ($2::bytea[])"""
SELECT_REFS = """
SELECT lookup, ref, wrapped_key, name FROM subjects
WHERE org_id = $1 AND ref = ANY ($2::text[])"""
# Two servers may meet the same new person at once: the first row wins and the
# other server reads it back. Sorted input keeps their locks in one order.
INSERT_MANY = """
INSERT INTO subjects (org_id, lookup, ref, wrapped_key, name)
SELECT $1, * FROM unnest($2::bytea[], $3::text[], $4::bytea[], $5::bytea[])
ON CONFLICT DO NOTHING"""
DELETE_ONE = "DELETE FROM subjects WHERE org_id = $1 AND lookup = $2"
COUNT_ERASURE = "UPDATE heads SET erasures = erasures + 1 WHERE org_id = $1"


async def find(
    database: Database, org_id: int, lookups: Sequence[bytes]
) -> tuple[int, list[SubjectRecord]]:
    """Return the org's erasure count, and the stored rows for these lookups.

    The count is read first, so that the rows are at least as new as the count.
    """
    async with database.connection() as connection:
        erasures = await connection.fetchval(ERASURES, org_id)
        rows = await connection.fetch(SELECT_MANY, org_id, lookups[:ROWS_AT_ONCE])
    found = [SubjectRecord(*row) for row in rows]
    for some in _parts(lookups[ROWS_AT_ONCE:]):
        await piece(org_id)  # without a connection, which others wait for
        found += map(SubjectRecord._make, await database.fetch(SELECT_MANY, org_id, some))
    return erasures or 0, found


async def by_refs(database: Database, org_id: int, refs: Sequence[str]) -> list[SubjectRecord]:
    """Return the rows of these refs; an erased ref has no row."""
    return [SubjectRecord(*row) for row in await database.fetch(SELECT_REFS, org_id, refs)]


async def create(database: Database, org_id: int, subjects: Sequence[SubjectRecord]) -> None:
    """Insert the subjects that are not stored yet; read them back with :func:`find`.

    Many are inserted in several transactions: a failure leaves some of them stored.
    """
    for some in _parts(subjects):
        if len(subjects) > ROWS_AT_ONCE:
            await piece(org_id)
        ordered = sorted(some)
        await database.execute(
            INSERT_MANY,
            org_id,
            [subject.lookup for subject in ordered],
            [subject.ref for subject in ordered],
            [subject.wrapped_key for subject in ordered],
            [subject.name for subject in ordered],
        )


def _parts(rows: Sequence[T]) -> Iterator[Sequence[T]]:
    for first in range(0, len(rows), ROWS_AT_ONCE):
        yield rows[first : first + ROWS_AT_ONCE]


async def erase(transaction: AppendTransaction, org_id: int, lookup: bytes) -> bool:
    """Delete a subject inside the append transaction that holds the org's head row.

    The new erasure count makes every append that was sealed before it seal again.
    """
    connection = transaction.connection
    if await transaction.run(connection.execute(DELETE_ONE, org_id, lookup)) != "DELETE 1":
        return False
    await transaction.run(connection.execute(COUNT_ERASURE, org_id))
    return True
