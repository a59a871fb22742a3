"""Restores in tests: an operator's inputs, and the contents of a database before and after."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg

from ledger.archive.restore.run import Restore, RestoreInputs, RestoreResult
from ledger.archive.targets import Target
from ledger.checkpoint import SignedTreeHead
from ledger.core.checkpointing import recall
from ledger.core.sealing.sealer import new_org_key
from ledger.core.verification.run import TrailRange as Verified
from ledger.core.verification.run import verify_trail
from ledger.core.verification.work.trust import TrailTrust
from ledger.sealing import row_key
from ledger.storage import database as storage
from ledger.storage.trees import ANCHOR_LOG
from tests.support import blocks, signed_trees
from tests.support.appending import superuser
from tests.support.archives import HISTORY, ROW_KEY, SignedTrail
from tests.support.clusters import Database
from tests.support.orgs import adopt
from tests.support.serving import MASTER_KEY, Server
from tests.support.trails import ORG, ORG_ID, RING

TABLES = {
    "orgs": "id, slug, name, privacy, created_at, log_public",
    "heads": "org_id, seq, entry_hash, anchored_at, frozen_at, frozen_reason",
    blocks.TABLE: "*",
    "trees": "org_id, size, root, anchored_at, stopped_at, stopped_reason",
    "tile_parts": "*",
    "checkpoints": "*",
    "anchor_leaves": "*",
    "anchor_tokens": "*",
    "anchor_cosignatures": "*",
    "log_keys": "position, statement",
}
"""Restored columns, without keys and the counters that a restore raises so that processes reread."""

SYSTEM = "(SELECT id FROM orgs WHERE slug = 'system')"
OF_ORG = {
    "orgs": "slug <> 'system'",
    "heads": f"org_id IS DISTINCT FROM {SYSTEM}",
    blocks.TABLE: f"org_id IS DISTINCT FROM {SYSTEM}",
}
"""Without the server's own trail, which a restore begins or goes on with."""


async def contents(database: Database) -> dict[str, bytes]:
    """A COPY of each table, ordered by its columns."""
    connection = await asyncpg.connect(database.superuser_url, server_settings={"timezone": "UTC"})
    copies = {}
    try:
        for table, columns in TABLES.items():
            data = bytearray()

            async def keep(chunk: bytes, data: bytearray = data) -> None:
                data += chunk

            of_org = OF_ORG.get(table, "true")
            rows = f"SELECT {columns} FROM {table} WHERE {of_org}"
            query = f"SELECT * FROM ({rows}) AS t ORDER BY t::text"
            await connection.copy_from_query(query, output=keep, format="binary")
            copies[table] = bytes(data)
    finally:
        await connection.close()
    return copies


def restore_inputs(memory: Path | None = None) -> RestoreInputs:
    """The inputs of an operator who kept the keys, and optionally the signer's memory."""
    return RestoreInputs(
        RING,
        HISTORY.pins(),
        lambda _: b"",
        ROW_KEY,
        (lambda org_ids: recall(memory, org_ids)) if memory else (lambda _: {}),
    )


@asynccontextmanager
async def signed_trail_of(database: Database, before: SignedTrail) -> AsyncIterator[SignedTrail]:
    """The trail in the database that it was restored into."""
    server = await storage.Database.open(database.server_url, size=4)
    try:
        async with superuser(database) as connection:
            yield SignedTrail(
                database, server, connection, before.memory, list(before.rows), before.head
            )
    finally:
        await server.close()


async def verified(database: Database, memory: Path) -> list[str]:
    """The kinds of fault found by a full verification with the log's keys and the signer's memory."""
    heads = {
        org_id: [SignedTreeHead(*head)]
        for org_id, head in recall(memory, (ORG_ID, ANCHOR_LOG)).items()
    }
    trust = TrailTrust.of(
        HISTORY, ORG, trail=heads.get(ORG_ID, []), anchors=heads.get(ANCHOR_LOG, [])
    )
    result = await verify_trail(
        database.server_url, Verified(ORG_ID, ORG), RING, trust=trust, processes=2
    )
    if result.valid:
        assert (result.checks.tree, result.checks.anchors, result.checks.pq_signature) == (
            True,
        ) * 3
    return [f"{fault.kind}: {fault.reason}" for fault in result.errors]


async def restored(server: Server, folder: Target, database: Database) -> RestoreResult:
    assert server.services is not None
    inputs = RestoreInputs(
        server.services.keyring(False),
        signed_trees.KEYS.public().pins(),
        lambda slug: new_org_key(bytes.fromhex(MASTER_KEY), slug),
        row_key(bytes.fromhex(MASTER_KEY)),
    )
    (one,) = await Restore(folder, database.owner_url, inputs).run([server.org])
    await adopt(database, server.org, keyring=server.services.keyring)
    return one
