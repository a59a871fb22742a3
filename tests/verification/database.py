"""A trail in a real database, and a superuser without triggers who tampers with it."""

from collections.abc import Sequence
from typing import Any

import asyncpg

from ledger.chain import EMPTY_HEAD, ChainHead, StoredEntry
from ledger.core.verification.run import TrailRange, verify_trail
from ledger.core.verification.work.faults import Result
from ledger.keys import SigningKeyring
from tests.support import blocks
from tests.support.blocks import Change
from tests.support.clusters import Database
from tests.support.trails import ORG, ORG_ID, RING, trail

COUNT = 3_500
ROWS, HEAD = trail(COUNT, EMPTY_HEAD)
"""Two processes verify it in segments that begin at 0, 1024, 2048 and 3072."""
PLACES = (0, 500, 1_023, 1_024, 2_049, COUNT - 1)
TREES = (
    *("trees", "tile_parts", "checkpoints", "anchor_leaves", "anchor_tokens"),
    *("anchor_cosignatures", "log_keys"),
)


class Superuser:
    """A connection for which the trail's triggers do not fire."""

    def __init__(self, connection: Any, database: Database) -> None:
        self.connection = connection
        self.database = database

    @classmethod
    async def of(cls, database: Database) -> "Superuser":
        connection = await asyncpg.connect(database.superuser_url)
        await connection.execute("SET session_replication_role = replica")
        return cls(connection, database)

    async def keep(self, *tables: str) -> None:
        """Keep copies of the tables as they are."""
        for table in tables:
            kept = f"kept_{table}"
            await self.connection.execute(f"CREATE TABLE {kept} (LIKE {table} INCLUDING STORAGE)")
            await self.connection.execute(f"INSERT INTO {kept} SELECT * FROM {table}")

    async def put_back(self, *tables: str) -> bool:
        """Fill the empty tables from their copies; return whether there are any."""
        kept = await self.connection.fetchval("SELECT to_regclass($1)", f"kept_{tables[0]}")
        if kept is None:
            return False
        for table in tables:
            await self.connection.execute(f"INSERT INTO {table} SELECT * FROM kept_{table}")
        return True

    async def replace_rows(
        self, rows: Sequence[StoredEntry] = ROWS, head: ChainHead | None = HEAD
    ) -> None:
        """Replace the org's trail by these rows and this head."""
        await self.connection.execute(f"TRUNCATE {blocks.TABLE}, heads, {', '.join(TREES)}")
        await self.connection.execute(
            "INSERT INTO orgs (id, slug, name, privacy, wrapped_key, mac) "
            f"VALUES ({ORG_ID}, '{ORG}', 'Acme', 'plain', '', '') ON CONFLICT DO NOTHING"
        )
        if rows is not ROWS or head is not HEAD:
            await self.put_rows(rows, head)
            return
        await blocks.create_partitions(self.connection, rows)
        if not await self.put_back(blocks.TABLE, "heads"):
            await self.put_rows(rows, head)
            await self.keep(blocks.TABLE, "heads")

    async def put_rows(self, rows: Sequence[StoredEntry], head: ChainHead | None) -> None:
        """Write rows and a head into an empty trail."""
        await blocks.create_partitions(self.connection, rows)
        await blocks.write(self.connection, rows)
        if head is not None:
            await self.connection.execute(
                "INSERT INTO heads (org_id, seq, entry_hash, anchored_at) VALUES ($1, $2, $3, "
                "'epoch'::timestamptz + $4 * interval '1 microsecond')",
                ORG_ID,
                *head,
            )

    async def edit(self, seq: int, **changes: Change) -> None:
        """Change the named columns of an entry of the org."""
        await blocks.edit(self.connection, ORG_ID, seq, **changes)

    async def remove(self, first: int, last: int | None = None) -> None:
        """Remove entries of the org."""
        await blocks.remove(self.connection, ORG_ID, first, last)

    async def execute(self, statement: str) -> None:
        await self.connection.execute(statement)

    async def verify(self, ring: SigningKeyring = RING, **how: Any) -> Result:
        """Verify as the server role, by default with two processes."""
        how.setdefault("processes", 2)
        seqs = {name: how.pop(name, None) for name in ("from_seq", "to_seq")}
        return await verify_trail(
            self.database.server_url, TrailRange(ORG_ID, ORG, **seqs), ring, **how
        )

    async def close(self) -> None:
        await self.connection.close()
