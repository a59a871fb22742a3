"""Compares a trail's entries in the database with its archive and with the signed tree.

Where the target locks objects, the locks of the objects that were read are extended.
"""

from __future__ import annotations

import asyncio
from itertools import islice
from typing import Final

from ledger.archive.format.layout import (
    CHECKPOINT,
    HISTORY,
    LOG_KEYS,
    ORG,
    CheckpointAt,
    Span,
    place_of,
)
from ledger.archive.format.rows import entry_of
from ledger.archive.reading.reader import ArchiveReader
from ledger.archive.retention.locks import ObjectLocks
from ledger.chain import StoredEntry, check_entry
from ledger.checkpoint import TreeHead
from ledger.entry import entry_hash
from ledger.errors import ArchiveMismatch, FormatError, MerkleError
from ledger.keys import SigningKeyring
from ledger.log_keys import LogKeyHistory
from ledger.storage import log_keys, trees
from ledger.storage.database import Database
from ledger.storage.entries import spans
from ledger.storage.entries.blocks import DamagedTrail
from ledger.tiles import TILE_WIDTH, EntryTile, Tile, TileProofs, by_tile, tile_in, tiles_for_proofs

BUNDLES_AT_ONCE: Final = 8
CHECKED_AT_ONCE: Final = 100
"""Objects whose locks are checked before the short ones among them are extended."""
MAX_UPPER: Final = 4_096
"""Tiles above level 0 that are cached: 8 KiB each."""


class Holding:
    """Compares a range of one trail in the database with its archive.

    Raises ArchiveError where they differ, where the archive can't be read, and where either
    differs from the signed tree.
    """

    def __init__(
        self,
        target: ObjectLocks,
        database: Database,
        org_id: int,
        slug: str,
        keyring: SigningKeyring,
    ) -> None:
        self._locks = target
        self._reader = ArchiveReader(target, slug)
        self._database = database
        self._org_id = org_id
        self._keyring = keyring
        self._upper: dict[Tile, bytes] = {}

    async def check(self, first: int, last: int) -> None:
        """Check that entries ``first`` to ``last`` are archived bit for bit, and lock the copies."""
        checkpoint = await self._checkpoint()
        if checkpoint.size <= last:
            raise ArchiveMismatch(
                f"the archive of {self._reader.org} ends at entry {checkpoint.size - 1}: archive "
                "it first"
            )
        tiles = by_tile(first, last)
        while some := list(islice(tiles, BUNDLES_AT_ONCE)):
            await asyncio.gather(*(self._bundle(checkpoint, tile, seqs) for tile, seqs in some))
            # Only objects that were found right are locked: a lock can't be taken back.
            await self._locks.extend()
        await self._lock_signed(checkpoint.size, first, last)

    async def _lock_signed(self, size: int, first: int, last: int) -> None:
        """Lock the other objects that the range needs: notes, key history, ``org.json``."""
        reader = self._reader
        for key in (CHECKPOINT, CheckpointAt(size).key(), LOG_KEYS, ORG):
            await self._locks.check(reader.key(key))
        checked = 0
        async for listed in reader.objects(HISTORY):
            span = place_of(listed.key)
            # A checkpoint of size n has n - 1 as its last entry.
            if isinstance(span, Span) and span.after <= last and span.last > first:
                await self._locks.check(reader.key(listed.key))
                checked += 1
                if checked % CHECKED_AT_ONCE == 0:
                    await self._locks.extend()
        await self._locks.extend()

    async def _checkpoint(self) -> TreeHead:
        """Return the archived checkpoint: its signature is valid and the database has the same."""
        reader = self._reader
        note = await reader.checkpoint()
        if note is None:
            raise ArchiveMismatch(f"nothing of {reader.org} is archived")
        try:
            history = LogKeyHistory.of(await log_keys.statements(self._database))
            checkpoint = reader.opened(note, history)
        except FormatError as error:
            raise ArchiveMismatch(
                f"the archived checkpoint of {reader.org} can't be verified: {error}"
            ) from error
        stored = await trees.checkpoint_at(self._database, self._org_id, checkpoint.size)
        if stored is None or (stored.root, stored.note) != (checkpoint.root, note):
            raise ArchiveMismatch(
                f"the archived checkpoint of {reader.org} at size {checkpoint.size} differs from "
                "the one in the database"
            )
        return checkpoint

    async def _bundle(self, checkpoint: TreeHead, tile: int, seqs: range) -> None:
        start, size = tile * TILE_WIDTH, checkpoint.size
        width = tile_in(size, 0, tile).width
        leaves = await self._reader.leaves(EntryTile(tile, width))
        proofs = await self._proofs(checkpoint, tile)
        for seq, leaf in enumerate(leaves, start):
            if entry_hash(leaf) != proofs.leaf_hash(seq):
                raise ArchiveMismatch(f"the archived entry {seq} differs from the signed one")
        async for at, rows in self._reader.packed(tile, seqs[0] - start, seqs[-1] - start):
            places = range(start + at, start + at + len(rows))
            stored = await self._stored(places)
            archived = [
                entry_of(self._org_id, leaves[seq - start], row)
                for seq, row in zip(places, rows, strict=True)
            ]
            if archived != stored:
                raise ArchiveMismatch(
                    f"the archived copies of entries {places[0]} to {places[-1]} differ from the "
                    "database"
                )
            for row in stored:
                faults = check_entry(row, self._reader.org, self._keyring, None)
                if faults:
                    raise ArchiveMismatch(f"entry {row.seq} is not valid: {faults[0].reason}")

    async def _stored(self, places: range) -> list[StoredEntry]:
        try:
            return await spans.entries(self._database, self._org_id, places[0], places[-1])
        except DamagedTrail as error:
            raise ArchiveMismatch(f"the database can't be compared: {error}") from error

    async def _proofs(self, checkpoint: TreeHead, tile: int) -> TileProofs:
        size = checkpoint.size
        stored = {}
        for needed in tiles_for_proofs(tile, size):
            data = self._upper.get(needed)
            if data is None:
                data = await self._reader.tile(needed)
                if needed.level and len(self._upper) < MAX_UPPER:
                    self._upper[needed] = data
            stored[needed] = data
        try:
            proofs = TileProofs(tile, size, stored)
            proofs.check(checkpoint.root)
        except (FormatError, MerkleError) as error:
            raise ArchiveMismatch(
                f"tile {tile} of the archive does not lead to its checkpoint: {error}"
            ) from error
        return proofs
