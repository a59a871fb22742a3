"""Sequencers in a test, as in server processes, and the checks of the trails that they write."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import Any

import asyncpg

from ledger.chain import EMPTY_HEAD, ChainHead, StoredEntry, check_entry
from ledger.core.org import OrgFacts
from ledger.core.sealing.sealer import new_org_key
from ledger.core.sequencer import (
    AcknowledgedHeads,
    Appended,
    AppendRequest,
    BatchReport,
    SeenHead,
    Sequencer,
    SequencerHooks,
    SequencerLimits,
)
from ledger.entry import from_datetime
from ledger.keys import SigningKeyring
from ledger.sealing import row_key
from ledger.storage import partitions
from ledger.storage.database import Database
from tests.support import blocks, clusters
from tests.support.orgs import add_org
from tests.support.trails import RING, draft

MASTER_KEY = bytes(range(32))
IDENTITY = bytes(range(32, 64))
"""The identity of a database, by which a file of acknowledged heads knows it."""
PATIENCE_S = 60.0
_ids = count(1)


def system_clock_us() -> int:
    """The machine's time, µs."""
    return time.time_ns() // 1_000


@dataclass
class Process:
    """The appending part of one server process; several may share a database."""

    database: Database
    sequencer: Sequencer
    reports: list[BatchReport] = field(default_factory=list)

    async def append(self, org: OrgFacts, *payloads: bytes, **options: Any) -> Appended:
        """Append plain events and wait for their receipt."""
        return await self.sequencer.append(request(org, *payloads, **options))

    def append_in_task(
        self, org: OrgFacts, *payloads: bytes, **options: Any
    ) -> asyncio.Task[Appended]:
        """Append in a task; the request is queued after one turn of the event loop."""
        return asyncio.create_task(self.append(org, *payloads, **options))


def request(org: OrgFacts, *payloads: bytes, **options: Any) -> AppendRequest:
    """An append request for plain events."""
    return AppendRequest(org.id, org.slug, [draft(payload) for payload in payloads], **options)


@asynccontextmanager
async def process(
    url: str,
    *,
    limits: SequencerLimits | None = None,
    clock: Callable[[], int] = system_clock_us,
    keyring: SigningKeyring = RING,
    memory: AcknowledgedHeads | None = None,
    observe: Callable[[BatchReport], None] | None = None,
    on_mishap: Callable[[str], None] | None = None,
    on_head: Callable[[SeenHead], None] | None = None,
) -> AsyncIterator[Process]:
    """A started sequencer on a database; drained and closed when the block ends."""
    database = await Database.open(url, size=4)
    reports: list[BatchReport] = []
    sequencer = Sequencer(
        database,
        lambda _: keyring,
        row_key(MASTER_KEY),
        limits=limits,
        clock=clock,
        hooks=SequencerHooks(observe or reports.append, on_mishap, on_head),
        memory=memory,
    )
    sequencer.start()
    try:
        yield Process(database, sequencer, reports)
    finally:
        await sequencer.close(5)
        await database.close()


async def new_org(database: Database, *, seals: bool = False) -> OrgFacts:
    """Create an org with an empty trail, and the partitions for the current time."""
    number = next(_ids)
    org = OrgFacts(number, f"org-{number}", seals, new_org_key(MASTER_KEY, f"org-{number}"))
    privacy = "sealed" if seals else "plain"
    assert await add_org(database, org.id, org.slug, org.slug, privacy, org.wrapped_key) is None
    await partitions.prepare(database, datetime.now(UTC))
    return org


@asynccontextmanager
async def superuser(database: clusters.Database) -> AsyncIterator[asyncpg.Connection[Any]]:
    """A superuser's connection with the triggers disabled, for tampering."""
    connection = await asyncpg.connect(
        database.superuser_url, server_settings={"session_replication_role": "replica"}
    )
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def held_head(database: clusters.Database, *held: OrgFacts) -> AsyncIterator[None]:
    """Lock the head rows of these orgs, as another process does in its transaction."""
    connection = await asyncpg.connect(database.server_url)
    try:
        async with connection.transaction():
            await connection.fetch(
                "SELECT FROM heads WHERE org_id = ANY ($1::bigint[]) ORDER BY org_id FOR UPDATE",
                [org.id for org in held],
            )
            yield
    finally:
        await connection.close()


async def until(condition: Callable[[], Any], what: str, patience_s: float = PATIENCE_S) -> None:
    """Let the event loop run until the condition holds; fails after ``patience_s``."""
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, f"not in {patience_s:.0f} s: {what}"
        await asyncio.sleep(0.002)


async def rows_of(database: clusters.Database, org_id: int) -> list[StoredEntry]:
    """Every stored entry of an org, in order."""
    connection = await asyncpg.connect(database.superuser_url)
    try:
        return await blocks.stored(connection, org_id)
    finally:
        await connection.close()


async def head_of(database: clusters.Database, org_id: int) -> ChainHead:
    """The head row of an org."""
    connection = await asyncpg.connect(database.superuser_url)
    try:
        row = await connection.fetchrow(
            "SELECT seq, entry_hash, anchored_at FROM heads WHERE org_id = $1", org_id
        )
    finally:
        await connection.close()
    assert row is not None, "no head row"
    return ChainHead(row[0], row[1], from_datetime(row[2]))


async def sound_trail(
    database: clusters.Database, org: OrgFacts, keyring: SigningKeyring = RING
) -> list[bytes]:
    """Check that a trail has no fork, gap, duplicate or other fault; returns its payloads in order."""
    rows = await rows_of(database, org.id)
    at = EMPTY_HEAD
    for seq, row in enumerate(rows):
        assert row.seq == seq, f"row {seq} has seq {row.seq}"
        assert check_entry(row, org.slug, keyring, at.entry_hash) == []
        assert from_datetime(row.anchored_at) >= at.anchored_us
        at = ChainHead(row.seq, row.entry_hash, from_datetime(row.anchored_at))
    assert await head_of(database, org.id) == at
    return [row.payload for row in rows]


async def org_of(database: clusters.Database, slug: str) -> OrgFacts:
    connection = await asyncpg.connect(database.superuser_url)
    try:
        org_id = await connection.fetchval("SELECT id FROM orgs WHERE slug = $1", slug)
    finally:
        await connection.close()
    return OrgFacts(org_id, slug, True, b"")
