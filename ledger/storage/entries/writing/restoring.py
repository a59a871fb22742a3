"""What a restore asks of the table and does to it beside writing: obstacles, and sealed months."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import chain
from typing import Final

from ledger.blocks.block import cut
from ledger.chain import StoredEntry
from ledger.storage.database import Connection
from ledger.storage.entries import months, writing

# The first obstacle to restoring an org; entries are found by one probe per partition.
IN_THE_WAY: Final = """
SELECT CASE
    WHEN EXISTS (SELECT FROM orgs WHERE slug = $2 AND id <> $1) THEN 'an org of this slug'
    WHEN EXISTS (SELECT FROM orgs WHERE id = $1 AND slug <> $2) THEN 'another org with its id'
    WHEN EXISTS (SELECT FROM orgs WHERE id = $1 AND privacy <> $3) THEN 'this org with other privacy'
    WHEN EXISTS (SELECT FROM entries WHERE org_id = $1) THEN 'entries'
    WHEN EXISTS (SELECT FROM trees WHERE org_id = $1 AND size > 0) THEN 'a signed tree'
    WHEN EXISTS (SELECT FROM tile_parts WHERE org_id = $1) THEN 'tiles'
    WHEN EXISTS (SELECT FROM checkpoints WHERE org_id = $1) THEN 'checkpoints'
    WHEN EXISTS (SELECT FROM departed WHERE org_id = $1) THEN 'archived months'
END"""
SEALED: Final = """
SELECT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = to_regclass($1) AND tgname = 'sealed')"""


async def in_the_way(connection: Connection, org_id: int, slug: str, privacy: str) -> str | None:
    """Name the data of the org in the database; None: at most its row and its keys."""
    obstacle: str | None = await connection.fetchval(IN_THE_WAY, org_id, slug, privacy)
    return obstacle


class RestoredMonths:
    """Writes entries into their months, as the owner of the table; methods raise asyncpg's errors.

    ``beside`` is a connection of its own: the lock that creating a month acquires lasts until
    the transaction ends. The entries of a block that may continue wait for the next call.
    """

    def __init__(self, connection: Connection, beside: Connection) -> None:
        self._connection = connection
        self._beside = beside
        self._sealed: dict[str, bool] = {}
        self._held: list[StoredEntry] = []

    async def add(self, entries: Sequence[StoredEntry], *, timeout: float) -> None:
        """Write entries into their months, which are created if they are missing."""
        blocks = list(cut([*self._held, *entries]))
        self._held = blocks.pop() if blocks else []
        await self._write(list(chain.from_iterable(blocks)), timeout)

    async def finish(self, *, timeout: float) -> None:
        """Write the entries that wait."""
        held, self._held = self._held, []
        await self._write(held, timeout)

    async def _write(self, entries: Sequence[StoredEntry], timeout: float) -> None:
        for month in sorted({entry.anchored_at.replace(day=1, hour=0) for entry in entries}):
            await self._open(month)
        await writing.add(self._connection, entries, timeout=timeout)

    async def _open(self, month: datetime) -> None:
        part = f"entries_{month:%Y_%m}"
        if part in self._sealed:
            return
        await months.create(self._beside, month)
        self._sealed[part] = await self._connection.fetchval(SEALED, f"public.{part}")
        if self._sealed[part]:
            await self._connection.execute(f"ALTER TABLE public.{part} DISABLE TRIGGER sealed")

    async def seal_again(self) -> None:
        """Enable the triggers of sealed months again, so that they refuse entries."""
        for part, sealed in self._sealed.items():
            if sealed:
                await self._connection.execute(f"ALTER TABLE public.{part} ENABLE TRIGGER sealed")
