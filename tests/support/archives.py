"""A trail in a real database, signed in steps by the real checkpointer, and archived."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import asyncpg

from ledger.archive.targets import Target
from ledger.archive.writing.object_writer import ObjectLock
from ledger.archive.writing.writer import ArchiveWriter, WrittenArchive
from ledger.chain import EMPTY_HEAD, ChainHead, StoredEntry, extend
from ledger.entry import to_datetime
from ledger.sealing import row_key
from ledger.storage import orgs
from ledger.storage.archive_accounts import ArchiveAccount
from ledger.storage.database import Database
from ledger.storage.entries import writing
from ledger.storage.log_keys import publish_history
from ledger.storage.orgs import OrgRecord
from tests.support import blocks, clusters
from tests.support.orgs import MASTER_KEY, add_org
from tests.support.signing import checkpointer, log_keys
from tests.support.trails import KEY, NOW_US, ORG, ORG_ID, RING, draft

KEYS: Final = log_keys()
HISTORY: Final = KEYS.public()
ROW_KEY: Final = row_key(MASTER_KEY)


def account_of(database: Database, target: Target) -> ArchiveAccount:
    """The accounts of what is archived of such a trail in a target."""
    return ArchiveAccount(database, target.url, ROW_KEY)


def rows_after(
    head: ChainHead, count: int, *, payload_bytes: int = 40, now_us: int = NOW_US
) -> tuple[list[StoredEntry], ChainHead]:
    """The trail's next ``count`` rows, all different and later, and the head after them."""
    first = head.seq + 1
    drafts = [
        draft(b"payload %d " % number * (payload_bytes // 11 + 1), subject="ü")
        for number in range(first, first + count)
    ]
    # Each call is a commit: a restore finds its blocks by their times.
    return extend(ORG_ID, ORG, head, drafts, max(now_us, head.anchored_us + 1), KEY)


@dataclass
class SignedTrail:
    """The trail of org 7, with methods that append to it, sign it and archive it."""

    database: clusters.Database
    server: Database
    superuser: Any
    memory: Path
    rows: list[StoredEntry] = field(default_factory=list)
    head: ChainHead = EMPTY_HEAD

    async def grow(self, *counts: int, anchor: bool = True, **how: Any) -> None:
        """For each count append so many entries and sign a checkpoint; anchor at the end."""
        async with checkpointer(self.database.server_url, self.memory, KEYS) as signer:
            for count in counts:
                rows, self.head = rows_after(self.head, count, **how)
                self.rows += rows
                await self.put_rows(rows)
                report = await signer.round()
                assert report.stopped == []
            if anchor:
                await signer.anchor()

    async def put_rows(self, rows: Sequence[StoredEntry]) -> None:
        """Write rows as the sequencer would have written them."""
        await blocks.create_partitions(self.superuser, rows)
        await writing.add(self.superuser, rows)
        await self.superuser.execute(
            "INSERT INTO heads (org_id, seq, entry_hash, anchored_at) VALUES ($1, $2, $3, $4) "
            "ON CONFLICT (org_id) DO UPDATE SET seq = $2, entry_hash = $3, anchored_at = $4",
            ORG_ID,
            self.head.seq,
            self.head.entry_hash,
            to_datetime(self.head.anchored_us),
        )

    async def org(self) -> OrgRecord:
        record = await orgs.org_by_id(self.server, ORG_ID)
        assert record is not None
        return record

    def writer(self, target: Target, policy: ObjectLock | None = None) -> ArchiveWriter:
        return ArchiveWriter(
            target, self.server, lambda _: RING, account_of(self.server, target), policy
        )

    async def archive(self, target: Target, policy: ObjectLock | None = None) -> WrittenArchive:
        """Archive the anchor log and the trail up to their newest checkpoints."""
        writer = self.writer(target, policy)
        await writer.archive_anchors()
        return await writer.archive(await self.org())


@asynccontextmanager
async def signed_trail(database: clusters.Database, memory: Path) -> AsyncIterator[SignedTrail]:
    """An org without entries in a fresh database, with published log keys."""
    superuser = await asyncpg.connect(
        database.superuser_url, server_settings={"session_replication_role": "replica"}
    )
    server = await Database.open(database.server_url, size=4)
    try:
        await add_org(server, ORG_ID, ORG, "Acme", "plain", b"")
        await publish_history(superuser, HISTORY)
        yield SignedTrail(database, server, superuser, memory)
    finally:
        await server.close()
        await superuser.close()


def read_in(folder: Path) -> dict[str, bytes]:
    """Every object below a folder by its key."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
