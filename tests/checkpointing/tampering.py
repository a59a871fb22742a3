"""An org with a partly signed trail, and an attacker who can change every row of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

from ledger.core.checkpointing import RoundReport, SigningDoubt
from ledger.core.org import OrgFacts
from tests.support import blocks
from tests.support.appending import Process, new_org, process, superuser
from tests.support.clusters import Database
from tests.support.signing import checkpointer, fetch, sound_history

SIGNED = 300
LENGTH = 306
TABLES = (blocks.TABLE, "heads", "trees", "tile_parts", "checkpoints")


@dataclass
class Victim:
    """The org, another org that grows too, and a superuser for whom no trigger fires."""

    database: Database
    memory: Path
    server: Process
    org: OrgFacts
    bystander: OrgFacts
    connection: asyncpg.Connection[Any]

    async def run(self, statement: str, *args: object) -> None:
        """Run a statement, with the org's id as $1; it must change at least one row."""
        status = await self.connection.execute(statement, self.org.id, *args)
        assert not status.endswith(" 0"), f"{statement}: {status}"

    async def keep(self) -> None:
        """Copy all rows of the org into side tables."""
        for table in TABLES:
            await self.connection.execute(
                f"CREATE TEMP TABLE kept_{table} AS SELECT * FROM {table} WHERE org_id = $1",
                self.org.id,
            )

    async def repair(self) -> None:
        """Put all rows back as they were."""
        for table in TABLES:
            await self.connection.execute(f"DELETE FROM {table} WHERE org_id = $1", self.org.id)
            await self.connection.execute(f"INSERT INTO {table} SELECT * FROM kept_{table}")

    async def thaw(self) -> None:
        """Thaw the org, as an operator does who takes the trail for repaired."""
        await self.connection.execute(
            "UPDATE heads SET frozen_reason = NULL, frozen_at = NULL WHERE org_id = $1",
            self.org.id,
        )

    async def frozen(self) -> str | None:
        """Why the org is frozen; None if it is not."""
        rows = await fetch(
            self.database, "SELECT frozen_reason FROM heads WHERE org_id = $1", self.org.id
        )
        return rows[0][0] if rows else None

    async def events(self) -> list[str]:
        """The kinds of the recorded security events."""
        rows = await fetch(
            self.database,
            "SELECT detail FROM security_events WHERE org_id = $1 AND kind = 'org_frozen'",
            self.org.id,
        )
        return [row[0] for row in rows]

    async def notes(self) -> set[tuple[int, bytes]]:
        """Every checkpoint in the table."""
        rows = await fetch(
            self.database, "SELECT size, note FROM checkpoints WHERE org_id = $1", self.org.id
        )
        return {(row[0], row[1]) for row in rows}

    async def round(self) -> RoundReport:
        """Run one round and a sweep with a newly started signer."""
        async with checkpointer(self.database.server_url, self.memory) as signer:
            report = await signer.round()
            report.stopped += (await signer.sweep()).stopped
            return report

    async def stopped(self) -> SigningDoubt:
        """Run a round that signs all orgs but this one; returns why this one was stopped."""
        before = await self.notes()
        await self.server.append(self.bystander, b"grows")
        report = await self.round()
        assert await self.notes() == before, "it was signed"
        assert report.checkpoints == 1
        # If the org is not frozen, the sweep after the round may report the same again.
        (stopped,) = {(org_id, doubt.kind) for org_id, _, doubt in report.stopped}
        doubt = report.stopped[0][2]
        assert stopped == (self.org.id, doubt.kind)
        await sound_history(self.database, self.bystander, self.memory)
        return doubt


@asynccontextmanager
async def victim(database: Database, memory: Path) -> AsyncIterator[Victim]:
    """An org of 306 entries of which 300 are signed; repaired when the block ends."""
    async with process(database.server_url) as server, superuser(database) as connection:
        org, bystander = await new_org(server.database), await new_org(server.database)
        await server.append(org, *[b"signed %d" % n for n in range(SIGNED)])
        await server.append(bystander, b"signed")
        async with checkpointer(database.server_url, memory) as signer:
            assert (await signer.round()).stopped == []
        await server.append(org, *[b"new %d" % n for n in range(SIGNED, LENGTH)])
        one = Victim(database, memory, server, org, bystander, connection)
        await one.keep()
        try:
            yield one
        finally:
            await one.repair()
