"""The append transaction: lock the heads, COPY the entries, move the heads, commit.

A crash before COMMIT leaves nothing; a crash after it leaves everything. An error
before COMMIT was sent means that nothing was written (:class:`NotWritten`). An
error during COMMIT means that its outcome is unknown (:class:`CommitUnknown`);
:func:`settle` reads the outcome back.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

import asyncpg

from ledger.chain import ChainHead, StoredEntry
from ledger.entry import to_datetime
from ledger.errors import QuireError
from ledger.storage import dropped_months, row_changes, security_events
from ledger.storage.database import (
    CONNECTION_LOST,
    Connection,
    Database,
    connect,
    explain,
    explained,
)
from ledger.storage.entries import heads, writing
from ledger.storage.entries.heads import KnownEnd, LockedHead
from ledger.storage.entries.picked import single
from ledger.storage.entries.writing import with_change
from ledger.storage.entries.writing.with_change import WrittenAtOnce
from ledger.storage.row_changes import RowChange
from ledger.storage.security_events import storable

_Result = TypeVar("_Result")

# The compare-and-set that makes (org_id, seq) unique.
MOVE_HEADS = """
UPDATE heads h SET seq = n.seq, entry_hash = n.entry_hash, anchored_at = n.anchored_at
FROM unnest($1::bigint[], $2::bigint[], $3::bytea[], $4::bigint[], $5::bytea[], $6::timestamptz[])
     AS n (org_id, old_seq, old_hash, seq, entry_hash, anchored_at)
WHERE h.org_id = n.org_id AND h.seq = n.old_seq AND h.entry_hash = n.old_hash"""
_NOW_US = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
# A removed head row is created again with counts of erasures and revocations that no process has
# seen, so that all events sealed before are sealed again, and all keys are looked up again.
FREEZE = f"""
INSERT INTO heads (org_id, erasures, revocations, frozen_at, frozen_reason)
VALUES ($1, {_NOW_US}, {_NOW_US}, now(), $2)
ON CONFLICT (org_id) DO UPDATE
SET frozen_at = excluded.frozen_at, frozen_reason = excluded.frozen_reason
WHERE heads.frozen_reason IS NULL"""
THAW = f"""
INSERT INTO heads (org_id, seq, entry_hash, anchored_at, erasures, revocations, thawed_us)
VALUES ($1, $2, $3, $4, {_NOW_US}, {_NOW_US}, {_NOW_US})
ON CONFLICT (org_id) DO UPDATE
SET seq = excluded.seq, entry_hash = excluded.entry_hash, anchored_at = excluded.anchored_at,
    erasures = greatest(heads.erasures + 1, excluded.erasures),
    thawed_us = greatest(heads.thawed_us + 1, excluded.thawed_us),
    frozen_at = NULL, frozen_reason = NULL
RETURNING thawed_us"""


RAISE_ERASURES = "UPDATE heads SET erasures = erasures + 1 WHERE org_id = ANY ($1::bigint[])"


class NotWritten(QuireError):
    """The transaction failed before COMMIT was sent: nothing was written.

    ``connection_lost`` states whether the connection was lost, ``missing_partition``
    whether the only cause was a missing partition.
    """

    def __init__(self, error: BaseException) -> None:
        super().__init__(str(explain(error)))
        self.connection_lost = isinstance(error, CONNECTION_LOST)
        # The message can't be used: the database may write it in any language.
        self.missing_partition = (
            isinstance(error, asyncpg.CheckViolationError) and error.constraint_name is None
        )


class CommitUnknown(QuireError):
    """The connection broke during COMMIT: its outcome is unknown."""


class HeadConflict(QuireError):
    """A head moved although its row was locked: the database did not keep the lock."""


class HeadMove(NamedTuple):
    """One org's head before and after a batch."""

    org_id: int
    old: ChainHead
    new: ChainHead


class AppendTransaction:
    """One transaction on one connection: call begin, other methods, then commit or rollback.

    Every method except :meth:`commit` raises NotWritten on any database error.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    async def begin(self) -> None:
        """Open the transaction."""
        await self.run(self.connection.execute("BEGIN"))

    async def lock_heads(
        self, org_ids: Sequence[int], is_known: Callable[[int, LockedHead], bool] = heads.unknown
    ) -> dict[int, LockedHead]:
        """Lock the head rows of these orgs, in the order of their ids.

        The entry of a head that ``is_known`` is not decoded.
        """
        return await self.run(heads.lock(self.connection, org_ids, is_known))

    async def with_payload(self, locked: LockedHead) -> LockedHead:
        """Return a locked head whose entry has its payload, however large."""
        return await self.run(heads.with_payload(self.connection, locked))

    async def stored_hash(self, org_id: int, head: ChainHead) -> bytes | None:
        """Return the stored hash of the entry at a head's seq and time, read in a new snapshot.

        Raises DamagedTrail.
        """
        at = to_datetime(head.anchored_us)
        return await self.run(single.stored_hash(self.connection, org_id, head.seq, at))

    async def departed(self, org_id: int) -> ChainHead | None:
        """Return the newest dropped entry of an org, None if none was dropped."""
        return await self.run(dropped_months.last(self.connection, org_id))

    async def thaw(self, org_id: int, head: ChainHead) -> int:
        """Unfreeze an org and set its head; return the new ``thawed_us``."""
        thawed_us: int = await self.run(
            self.connection.fetchval(
                THAW, org_id, head.seq, head.entry_hash, to_datetime(head.anchored_us)
            )
        )
        return thawed_us

    async def entries_between(
        self, org_id: int, after: ChainHead, upto: ChainHead, limit: int
    ) -> AsyncIterator[list[StoredEntry]]:
        """Yield the entries after one head up to another, oldest first, in pages.

        Raises DamagedTrail.
        """
        pages = heads.between(self.connection, org_id, after, upto, limit)
        while page := await self.run(anext(pages, [])):
            yield page

    async def holds(self, org_id: int, seq: int) -> bool:
        """Return whether any entry at a seq is stored."""
        return await self.run(single.count_at(self.connection, org_id, seq)) > 0

    async def orgs_beyond(self, places: Sequence[tuple[int, int]]) -> set[int]:
        """Return the orgs of those (org_id, seq) pairs that have entries after the seq."""
        return await self.run(heads.orgs_beyond(self.connection, places))

    async def newest(self, org_id: int) -> ChainHead | None:
        """Return seq, hash and time of the stored entry with the highest valid seq, or None."""
        return await self.run(heads.newest(self.connection, org_id))

    async def copy_entries(self, entries: Iterable[StoredEntry]) -> dict[int, bytes | None]:
        """Write the entries by binary COPY; return the mark of each org's last block, by its id."""
        return await self.run(writing.add(self.connection, entries))

    async def move_heads(self, moves: Sequence[HeadMove]) -> None:
        """Compare-and-set the heads. Raises HeadConflict if one has changed."""
        status = await self.run(
            self.connection.execute(
                MOVE_HEADS,
                [move.org_id for move in moves],
                [move.old.seq for move in moves],
                [move.old.entry_hash for move in moves],
                [move.new.seq for move in moves],
                [move.new.entry_hash for move in moves],
                [to_datetime(move.new.anchored_us) for move in moves],
            )
        )
        if status != f"UPDATE {len(moves)}":
            raise HeadConflict(
                f"{len(moves)} heads were to be moved, but the database reports {status}"
            )

    async def change_rows(self, changes: Sequence[RowChange]) -> list[datetime | None]:
        """Make changes of rows; return when each row was created, None for a refused change.

        Raises RowImpossible: the transaction must be rolled back.
        """
        return await self.run(row_changes.make(self.connection, changes))

    async def change_at_once(
        self, change: RowChange, end: KnownEnd, entry: StoredEntry
    ) -> WrittenAtOnce | None:
        """Make a change of a row and write its entry after a known end, as a whole transaction.

        None: nothing was written, whatever the reason. Raises CommitUnknown.
        """
        try:
            # A crash after this line leaves the row, its entry and the moved head, or none of them.
            return await self._committing(
                lambda: with_change.write(self.connection, change, end, entry)
            )
        except NotWritten:
            return None

    async def freeze(self, org_id: int, reason: str) -> bool:
        """Freeze an org in this transaction and store the security event.

        Returns False if the org is frozen already.
        """
        return await self.run(_freeze(self.connection, org_id, reason))

    async def commit(self) -> None:
        """Commit. Raises NotWritten, or CommitUnknown if the outcome is unknown.

        If the wait for a synchronous standby was cut short, PostgreSQL answers COMMIT
        with a warning only: the entries are then on one machine.
        """
        # A crash before this line leaves nothing. A crash after it leaves all entries or
        # none; a retry under the same idempotency key finds out.
        status = await self._committing(lambda: self.connection.execute("COMMIT"))
        if status != "COMMIT":
            raise NotWritten(asyncpg.InFailedSQLTransactionError(f"COMMIT answered {status}"))

    async def _committing(self, operation: Callable[[], Awaitable[_Result]]) -> _Result:
        """Await a statement that commits. Raises as :meth:`commit` does."""
        warnings: list[str] = []

        def collect_warning(_: object, message: Any) -> None:
            if message.severity_en == "WARNING":
                warnings.append(message.message)

        try:
            self.connection.add_log_listener(collect_warning)
            result = await operation()
        except Exception as error:
            if _is_refusal(error):
                raise NotWritten(error) from error
            self.connection.terminate()
            raise CommitUnknown(str(explain(error))) from error
        finally:
            self.connection.remove_log_listener(collect_warning)
        if warnings:
            raise CommitUnknown(f"COMMIT was answered with a warning: {warnings[0]}")
        return result

    async def rollback(self) -> None:
        """Roll back; a connection that can't is closed, which has the same effect."""
        try:
            await self.connection.execute("ROLLBACK", timeout=5)
        except (*CONNECTION_LOST, asyncpg.PostgresError):
            self.connection.terminate()

    async def run(self, operation: Awaitable[_Result]) -> _Result:
        """Await one database operation, turning its errors into NotWritten."""
        try:
            return await operation
        except (*CONNECTION_LOST, asyncpg.PostgresError) as error:
            if isinstance(error, CONNECTION_LOST):
                self.connection.terminate()
            raise NotWritten(error) from error


async def freeze_alone(database: Database, org_id: int, reason: str) -> None:
    """Freeze an org and store the security event, unless it is frozen already.

    Raises DatabaseUnavailable.
    """
    async with database.transaction() as connection:
        await _freeze(connection, org_id, reason)


async def _freeze(connection: Connection, org_id: int, reason: str) -> bool:
    if await connection.execute(FREEZE, org_id, storable(reason)) != "INSERT 0 1":
        return False
    await security_events.add(connection, org_id, "org_frozen", storable(reason))
    return True


def _is_refusal(error: Exception) -> bool:
    """Return whether an error of COMMIT is the server's confirmation that it rolled back.

    FATAL and PANIC are not: the commit record may already be on disk.
    """
    return (
        isinstance(error, asyncpg.PostgresError)
        and not isinstance(error, CONNECTION_LOST)
        and getattr(error, "severity_en", None) == "ERROR"
    )


async def prepare_connection(connection: Connection) -> None:
    """Apply the settings of a connection that appends.

    Plans are pinned to primary key probes, even if the statistics still describe an
    empty table.
    """
    async with explained():
        await connection.execute(
            "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off;"
            "SET lock_timeout = '30s'; SET idle_in_transaction_session_timeout = '60s'"
        )


async def settle(url: str, moves: Sequence[HeadMove], *, may_arrive: bool = False) -> bool:
    """Return whether a commit of unknown outcome took effect, read under the heads' locks.

    Acquiring the locks waits until the lost backend has ended its transaction, so the
    answer is final. If the wait of its COMMIT for a synchronous standby was cut short,
    the entries may still be on one machine only: committing the locks, which come later
    in the WAL, waits for the standby again. A single statement ``may_arrive`` after the locks were
    released: if it did not take effect, the erasure counts are raised, which it finds then, and
    writes nothing. Raises DatabaseUnavailable if the outcome
    can't be read yet, HeadConflict if some moves took effect and others did not.
    """
    connection = await connect(url)
    try:
        await prepare_connection(connection)
        transaction = AppendTransaction(connection)
        await transaction.begin()
        await transaction.lock_heads([move.org_id for move in moves])
        outcomes = {await _is_persisted(transaction, move) for move in moves}
        if may_arrive and True not in outcomes:
            await transaction.run(
                connection.execute(RAISE_ERASURES, [move.org_id for move in moves])
            )
        await transaction.commit()
    except (NotWritten, CommitUnknown) as error:
        raise explain(error) from error
    finally:
        await asyncio.shield(_close(connection))
    if len(outcomes) != 1:
        raise HeadConflict("one transaction is persisted for some orgs and absent for others")
    return outcomes.pop()


async def _is_persisted(transaction: AppendTransaction, move: HeadMove) -> bool:
    return await transaction.stored_hash(move.org_id, move.new) == move.new.entry_hash


async def _close(connection: Connection) -> None:
    try:
        await connection.close(timeout=5)
    except (*CONNECTION_LOST, asyncpg.PostgresError):
        connection.terminate()
