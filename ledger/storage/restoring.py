"""The transaction that restores orgs, all or nothing, as the owner of the tables.

Other sessions see nothing of it before it commits. A restore only adds rows: the triggers that
refuse changes stay active, except that sealed months accept the rows that they had.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Final, NamedTuple

import asyncpg

from ledger.chain import ChainHead, StoredEntry
from ledger.entry import to_datetime
from ledger.errors import RestoreRefused
from ledger.storage.database import CONNECTION_LOST, Connection, connect_as_owner, explain
from ledger.storage.entries.writing.restoring import RestoredMonths, in_the_way
from ledger.storage.orgs import OrgRow
from ledger.storage.restoring_anchors import BATCH_TIMEOUT_S, AnchorRows
from ledger.storage.signing_transaction import TilePart

_LOCK: Final = 7_305_804_405

HEAD_SEQ: Final = "SELECT coalesce(max(seq), -1) FROM heads WHERE org_id = $1"
ADD_ORG: Final = """
INSERT INTO orgs (id, slug, name, privacy, wrapped_key, log_public, keys_lost_below,
                  entries_a_day, bytes_a_day, max_key_age_days, created_at, mac)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT (id) DO NOTHING"""
_NOW_US: Final = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
# Processes that have an older state of this trail in memory discard it.
SET_HEAD: Final = f"""
INSERT INTO heads (org_id, seq, entry_hash, anchored_at, erasures, revocations, thawed_us)
VALUES ($1, $2, $3, $4, {_NOW_US}, {_NOW_US}, {_NOW_US})
ON CONFLICT (org_id) DO UPDATE
SET seq = excluded.seq, entry_hash = excluded.entry_hash, anchored_at = excluded.anchored_at,
    erasures = greatest(heads.erasures + 1, excluded.erasures),
    revocations = greatest(heads.revocations + 1, excluded.revocations),
    thawed_us = greatest(heads.thawed_us + 1, excluded.thawed_us)"""
SET_TREE: Final = """
INSERT INTO trees (org_id, size, root, anchored_at, signed_at) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (org_id) DO UPDATE
SET size = excluded.size, root = excluded.root, anchored_at = excluded.anchored_at,
    signed_at = excluded.signed_at"""
STATEMENTS: Final = "SELECT statement FROM log_keys ORDER BY position"
ADD_STATEMENT: Final = "INSERT INTO log_keys (position, statement) VALUES ($1, $2)"


class RestoredCheckpoint(NamedTuple):
    """One row of the table ``checkpoints``."""

    org_id: int
    size: int
    root: bytes
    note: bytes
    signed_at: datetime


class RestoreTransaction:
    """The reads and writes of a restore. Methods raise DatabaseUnavailable and RestoreRefused."""

    def __init__(self, connection: Connection, beside: Connection) -> None:
        self._connection = connection
        self._months = RestoredMonths(connection, beside)
        self.anchors = AnchorRows(connection)

    async def in_the_way(self, org_id: int, slug: str, privacy: str) -> str | None:
        """Name the data of the org in the database; None: at most its row and its keys."""
        return await in_the_way(self._connection, org_id, slug, privacy)

    async def head_seq(self, org_id: int) -> int:
        """Return the seq of a head row that a backup brought back; -1 if there is none."""
        seq: int = await self._connection.fetchval(HEAD_SEQ, org_id)
        return seq

    async def statements(self) -> list[bytes]:
        """Return the key history in the database."""
        return [row[0] for row in await self._connection.fetch(STATEMENTS)]

    async def add_statements(self, first: int, statements: Sequence[bytes]) -> None:
        """Add key statements, from position ``first`` on."""
        await self._connection.executemany(ADD_STATEMENT, list(enumerate(statements, first)))

    async def add_org(self, org: OrgRow, created_at: datetime, mac: bytes) -> bool:
        """Add the org's row; False if the row exists, with its keys."""
        tag = await self._connection.execute(ADD_ORG, *org, created_at, mac)
        return bool(tag == "INSERT 0 1")

    async def add_entries(self, entries: Sequence[StoredEntry]) -> None:
        """Add entries to their months, which are created if they are missing."""
        await self._months.add(entries, timeout=BATCH_TIMEOUT_S)

    async def seal_again(self) -> None:
        """Enable the triggers of sealed months again, so that they refuse rows."""
        await self._months.seal_again()

    async def add_tree(
        self, parts: Sequence[TilePart], checkpoints: Sequence[RestoredCheckpoint]
    ) -> None:
        """Add parts of tiles, and checkpoints."""
        await self._copy("tile_parts", TilePart._fields, parts)
        await self._copy("checkpoints", RestoredCheckpoint._fields, checkpoints)

    async def set_head(self, org_id: int, head: ChainHead) -> None:
        """Set the head of the trail, after its last entries."""
        await self._months.finish(timeout=BATCH_TIMEOUT_S)
        at = to_datetime(head.anchored_us)
        await self._connection.execute(SET_HEAD, org_id, head.seq, head.entry_hash, at)

    async def set_tree(
        self, org_id: int, size: int, root: bytes, anchored_at: datetime, signed_at: datetime
    ) -> None:
        """Set size and root of a tree."""
        await self._connection.execute(SET_TREE, org_id, size, root, anchored_at, signed_at)

    async def _copy(self, table: str, columns: Sequence[str], rows: Sequence[Any]) -> None:
        if rows:
            await self._connection.copy_records_to_table(
                table, records=rows, columns=columns, timeout=BATCH_TIMEOUT_S
            )


@asynccontextmanager
async def restoring(owner_url: str) -> AsyncIterator[RestoreTransaction]:
    """Open one transaction, committed at the end of the block and rolled back if it raises.

    Raises RestoreRefused if another restore is running or this role does not own the tables.
    """
    # A crash before the commit leaves nothing but empty months.
    try:
        async with _connected(owner_url) as connection, _connected(owner_url) as beside:
            if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", _LOCK):
                raise RestoreRefused("another restore is running in this database")
            async with connection.transaction():
                yield RestoreTransaction(connection, beside)
    except asyncpg.InsufficientPrivilegeError as error:
        raise RestoreRefused(
            f"only the owner of the database can restore, and this login is not it: {error}. "
            "Give the owner's URL as QUIRE_DATABASE_OWNER_URL"
        ) from error
    except asyncpg.UniqueViolationError as error:
        raise RestoreRefused(
            f"the table {error.table_name} has other rows in the place of restored ones: {error}"
        ) from error
    except (*CONNECTION_LOST, asyncpg.PostgresError) as error:
        raise explain(error) from error


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator[Connection]:
    connection = await connect_as_owner(url, name="quire restore", command_timeout=BATCH_TIMEOUT_S)
    try:
        yield connection
    finally:
        connection.terminate()
