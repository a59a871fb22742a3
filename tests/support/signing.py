"""Checkpointers in tests, as in the signer's process, and the checks of the history they sign."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import asyncpg

from ledger import merkle
from ledger.anchor import blind
from ledger.core.checkpointing import Checkpointer, RoundLimits, SignerMemory
from ledger.core.org import OrgFacts
from ledger.entry import entry_hash
from ledger.keys import SigningKeyring
from ledger.log_keys import (
    KeySeeds,
    LogKeyHistory,
    LogKeys,
    generate,
    open_anchor,
    open_org_checkpoint,
)
from ledger.storage.database import SIGNER_ROLE, Database
from ledger.storage.provision import LOGINS
from ledger.storage.signing import SignerConnection
from ledger.storage.trees import ANCHOR_LOG, join_parts
from tests.support import clusters
from tests.support.appending import rows_of
from tests.support.clusters import as_role
from tests.support.trails import NOW_US, RING

ORIGIN = "quire.test/ledger"


def log_keys(number: int = 1) -> LogKeys:
    """Log keys for tests; equal numbers give equal keys."""
    return generate(ORIGIN, KeySeeds(bytes([number]) * 32, bytes([number + 100]) * 32), NOW_US)


@asynccontextmanager
async def checkpointer(
    url: str,
    memory: Path,
    keys: LogKeys | None = None,
    *,
    keyring: SigningKeyring = RING,
    pace: RoundLimits | None = None,
    clock: Callable[[], float] = time.time,
) -> AsyncIterator[Checkpointer]:
    """A checkpointer that has the leadership, by the signer's login to this database."""
    with contextlib.closing(SignerMemory(memory)) as remembered:
        async with SignerConnection.open(as_role(url, SIGNER_ROLE)) as connection:
            deadline = time.monotonic() + 30  # a session that was cut ends a moment later
            while not await connection.lead():
                assert time.monotonic() < deadline, "another signer leads this database"
            pace = pace or RoundLimits(retry_s=0)
            keys = keys or log_keys()
            yield Checkpointer(connection, keys, lambda _: keyring, remembered, pace, clock)


@asynccontextmanager
async def copied(
    cluster: clusters.Cluster, database: clusters.Database
) -> AsyncIterator[clusters.Database]:
    """A copy of a whole database in its present state, as a backup to be restored later."""
    copy = cluster.named(f"t_{uuid4().hex}")
    connection = await asyncpg.connect(cluster.superuser_url)
    try:
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1",
            database.name,
        )
        await connection.execute(f"CREATE DATABASE {copy.name} TEMPLATE {database.name}")
        await connection.execute(f"GRANT CONNECT ON DATABASE {copy.name} TO {', '.join(LOGINS)}")
        yield copy
        await connection.execute(f"DROP DATABASE {copy.name} WITH (FORCE)")
    finally:
        await connection.close()


@asynccontextmanager
async def signer_pool(database: clusters.Database) -> AsyncIterator[Database]:
    """A pool of the signer's login, as the one that stores tokens and cosignatures."""
    pool = await Database.open(database.signer_url, size=2, role=SIGNER_ROLE)
    try:
        yield pool
    finally:
        await pool.close()


async def checkpoints_of(database: clusters.Database, org_id: int) -> dict[int, bytes]:
    """The notes of all checkpoints of a tree by size."""
    rows = await fetch(database, "SELECT size, note FROM checkpoints WHERE org_id = $1", org_id)
    return {row[0]: row[1] for row in rows}


async def fetch(database: clusters.Database, query: str, *args: object) -> list[asyncpg.Record]:
    """Run a query as the superuser."""
    connection = await asyncpg.connect(database.superuser_url)
    try:
        return await connection.fetch(query, *args)
    finally:
        await connection.close()


async def sound_history(
    database: clusters.Database,
    org: OrgFacts,
    memory: Path | None = None,
    history: LogKeyHistory | None = None,
) -> list[int]:
    """Check all checkpoints of an org; returns their sizes.

    Each is signed and has the root of the trail's first leaves, so all are consistent. The tree
    row equals the newest one, the tiles contain the tree, and the signer's memory equals the newest.
    """
    history = history or log_keys().public()
    hashes = [entry_hash(row.leaf) for row in await rows_of(database, org.id)]
    notes = await checkpoints_of(database, org.id)
    for size, note in notes.items():
        opened = open_org_checkpoint(note, org.slug, history).checkpoint
        assert (opened.size, opened.root) == (size, merkle.root(hashes[:size]))
    sizes = sorted(notes)
    if sizes:
        await _sound_tree(database, org.id, hashes[: sizes[-1]])
    leaves = await fetch(
        database, "SELECT size, nonce, leaf FROM anchor_leaves WHERE org_id = $1", org.id
    )
    anchored = set(sizes) - {0}  # the tree without leaves is not anchored
    assert {row[0] for row in leaves} == anchored, "a checkpoint that the anchor log lacks"
    assert all(blind(nonce, notes[size]) == leaf for size, nonce, leaf in leaves)
    _remembered(memory, org.id, notes)
    return sizes


async def sound_anchors(
    database: clusters.Database, memory: Path | None = None, history: LogKeyHistory | None = None
) -> list[int]:
    """Check all anchors as :func:`sound_history` checks checkpoints; returns their sizes."""
    history = history or log_keys().public()
    rows = await fetch(database, "SELECT idx, leaf FROM anchor_leaves ORDER BY idx")
    assert [row[0] for row in rows] == list(range(len(rows))), "the anchor log has a gap"
    hashes = [merkle.leaf_hash(row[1]) for row in rows]
    notes = await checkpoints_of(database, ANCHOR_LOG)
    for size, note in notes.items():
        opened = open_anchor(note, history).checkpoint
        assert (opened.size, opened.root) == (size, merkle.root(hashes[:size]))
    sizes = sorted(notes)
    if sizes:
        await _sound_tree(database, ANCHOR_LOG, hashes[: sizes[-1]])
    _remembered(memory, ANCHOR_LOG, notes)
    return sizes


async def _sound_tree(database: clusters.Database, org_id: int, hashes: list[bytes]) -> None:
    tree = await fetch(database, "SELECT size, root FROM trees WHERE org_id = $1", org_id)
    assert [tuple(row) for row in tree] == [(len(hashes), merkle.root(hashes))]
    parts = await fetch(
        database,
        "SELECT level, tile, start, hashes FROM tile_parts WHERE org_id = $1 "
        "ORDER BY level, tile, start",
        org_id,
    )
    stored: dict[int, bytes] = {}
    for (level, _), tile in sorted(join_parts([tuple(part) for part in parts]).items()):
        stored[level] = stored.get(level, b"") + tile
    wanted = merkle.Edge().extend(hashes)
    assert stored == {level: b"".join(some) for level, some in wanted.items()}


def _remembered(memory: Path | None, org_id: int, notes: dict[int, bytes]) -> None:
    if memory is None:
        return
    with contextlib.closing(SignerMemory(memory)) as remembered:
        known = remembered.get(org_id)
    if known is None:
        assert not notes
        return
    assert known.size == max(notes), "what is remembered and the newest checkpoint"
