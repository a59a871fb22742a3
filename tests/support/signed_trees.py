"""Signed trees in a test's database: real tiles, real notes, written when the test says so.

What the signer does by itself and in time, one call of these does at once, for
tests of what is served from the tables.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any

import asyncpg

from ledger import merkle
from ledger.anchor import blind
from ledger.checkpoint import Checkpoint
from ledger.entry import entry_hash
from ledger.log_keys import KeySeeds, LogKeys, anchor_origin, generate, org_origin
from ledger.note import Signer, sign_note
from ledger.storage.trees import ANCHOR_LOG
from tests.support.clusters import Database, blocking

ORIGIN = "quire.test/ledger"
KEYS = generate(ORIGIN, KeySeeds(b"\x01" * 32, b"\x02" * 32), 1_767_268_800_000_000)
TIME_S = 1_767_268_800


@dataclass(frozen=True)
class SignedTrees:
    """Signs what is in one database, with keys of its own."""

    database: Database
    keys: LogKeys = KEYS

    def sign(self, slug: str) -> int:
        """Sign a checkpoint of all entries of an org; returns its size."""
        return blocking(self._sign(slug))

    def anchor(self, *slugs: str) -> int:
        """Sign an anchor that commits to the newest checkpoints of these orgs; returns its size."""
        return blocking(self._anchor(slugs))

    def execute(self, statement: str, *arguments: object) -> None:
        """Run a statement as the server's role."""
        blocking(self._execute(statement, *arguments))

    async def _execute(self, statement: str, *arguments: object) -> None:
        connection = await asyncpg.connect(self.database.server_url)
        try:
            await connection.execute(statement, *arguments)
        finally:
            await connection.close()

    async def _sign(self, slug: str) -> int:
        connection = await asyncpg.connect(self.database.server_url)
        try:
            async with connection.transaction():
                org_id = await connection.fetchval("SELECT id FROM orgs WHERE slug = $1", slug)
                rows = await connection.fetch(
                    "SELECT leaf FROM entries WHERE org_id = $1 ORDER BY seq", org_id
                )
                signers = self.keys.org_signers(slug)
                origin = org_origin(ORIGIN, slug)
                return await _grow(connection, org_id, origin, [row[0] for row in rows], signers)
        finally:
            await connection.close()

    async def _anchor(self, slugs: tuple[str, ...]) -> int:
        connection = await asyncpg.connect(self.database.server_url)
        try:
            async with connection.transaction():
                await self._publish_keys(connection)
                for slug in slugs:
                    await _add_anchor_leaf(connection, slug)
                rows = await connection.fetch("SELECT leaf FROM anchor_leaves ORDER BY idx")
                return await _grow(
                    connection,
                    ANCHOR_LOG,
                    anchor_origin(ORIGIN),
                    [row[0] for row in rows],
                    self.keys.anchor_signers(),
                )
        finally:
            await connection.close()

    async def _publish_keys(self, connection: asyncpg.Connection[Any]) -> None:
        await connection.executemany(
            "INSERT INTO log_keys (position, statement) VALUES ($1, $2) ON CONFLICT DO NOTHING",
            list(enumerate(self.keys.public().encoded_statements())),
        )


async def _add_anchor_leaf(connection: asyncpg.Connection[Any], slug: str) -> None:
    row = await connection.fetchrow(
        "SELECT c.org_id, c.size, c.note FROM checkpoints c JOIN orgs o ON o.id = c.org_id "
        "WHERE o.slug = $1 ORDER BY c.size DESC LIMIT 1",
        slug,
    )
    assert row is not None, f"{slug} has no checkpoint"
    org_id, size, note = row
    nonce = secrets.token_bytes(32)
    await connection.execute(
        "INSERT INTO anchor_leaves (idx, org_id, size, nonce, leaf) "
        "SELECT coalesce(max(idx) + 1, 0), $1, $2, $3, $4 FROM anchor_leaves",
        org_id,
        size,
        nonce,
        blind(nonce, note),
    )


async def _grow(
    connection: asyncpg.Connection[Any],
    org_id: int,
    origin: str,
    leaves: list[bytes],
    signers: tuple[Signer, ...],
) -> int:
    """Store what a tree gained, and its checkpoint; returns its size."""
    before = await connection.fetchval("SELECT size FROM trees WHERE org_id = $1", org_id) or 0
    hashes = [entry_hash(leaf) for leaf in leaves]
    edge = merkle.Edge()
    edge.extend(hashes[:before])
    parts = [
        (org_id, level, tile, start, b"".join(piece))
        for level, new in edge.extend(hashes[before:]).items()
        for tile, start, piece in _pieces(before >> 8 * level, new)
    ]
    await connection.copy_records_to_table(
        "tile_parts", records=parts, columns=("org_id", "level", "tile", "start", "hashes")
    )
    checkpoint = Checkpoint(origin, edge.size, edge.root())
    note = sign_note(checkpoint.text(), signers, time_s=TIME_S)
    await connection.execute(
        "INSERT INTO checkpoints (org_id, size, root, note) VALUES ($1, $2, $3, $4)",
        org_id,
        edge.size,
        edge.root(),
        note,
    )
    await connection.execute(
        "INSERT INTO trees (org_id, size, root) VALUES ($1, $2, $3) "
        "ON CONFLICT (org_id) DO UPDATE SET size = excluded.size, root = excluded.root",
        org_id,
        edge.size,
        edge.root(),
    )
    await connection.execute("NOTIFY quire_checkpoints")
    return edge.size


def _pieces(first: int, hashes: list[bytes]) -> list[tuple[int, int, list[bytes]]]:
    """New hashes of a level from position ``first`` on: tile, start in it, hashes."""
    pieces = []
    at = 0
    while at < len(hashes):
        tile, start = divmod(first + at, 256)
        count = min(256 - start, len(hashes) - at)
        pieces.append((tile, start, hashes[at : at + count]))
        at += count
    return pieces
