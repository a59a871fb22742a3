"""Reads entries that were dropped from the database, from the archive.

Every leaf is checked against the stored tile of its tree, and every payload against its leaf,
so only signed entries are returned. The signature of an entry is returned as archived;
verification checks it, as it does for rows of the database.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Final

from blake3 import blake3

from ledger.archive.format.rows import entry_of
from ledger.archive.reading.reader import ArchiveReader
from ledger.archive.targets import Target, TargetSettings, open_target
from ledger.bounded import BoundedCache
from ledger.chain import StoredEntry
from ledger.checkpoint import parse_checkpoint
from ledger.entry import decode_leaf
from ledger.errors import (
    ArchiveMisconfigured,
    ArchiveMismatch,
    ArchiveObjectMissing,
    FormatError,
    StorageError,
)
from ledger.merkle import HASH_BYTES, leaf_hash
from ledger.note import parse_note
from ledger.storage import orgs, trees
from ledger.storage.database import Database
from ledger.tiles import TILE_WIDTH, EntryTile, Tile, by_tile, tile_in

MAX_SIZES: Final = 100_000
MAX_READERS: Final = 1_000
"""Orgs whose archived size is remembered."""


class ArchivePast:
    """Reads dropped entries; opens the archive's target on first use.

    Methods raise ArchiveError: ArchiveMisconfigured if no target is configured.
    """

    def __init__(
        self, database: Database, url: str | None, settings: TargetSettings | None = None
    ) -> None:
        self._database = database
        self._url = url
        self._settings = settings
        self._stack = AsyncExitStack()
        self._opening = asyncio.Lock()
        self._target: Target | None = None
        self._readers: BoundedCache[int, ArchiveReader] = BoundedCache(MAX_READERS)
        self._sizes: BoundedCache[int, int] = BoundedCache(MAX_SIZES)

    async def close(self) -> None:
        """Close the target."""
        await self._stack.aclose()

    async def entry(self, org_id: int, seq: int) -> StoredEntry:
        """The entry at a seq, which must have been dropped."""
        async for entry in self.entries(org_id, seq, seq):
            return entry
        reader = await self._reader(org_id)
        raise ArchiveObjectMissing(f"entry {seq} of org {reader.org} is not in the archive")

    async def entries(self, org_id: int, first: int, last: int) -> AsyncIterator[StoredEntry]:
        """Entries ``first`` to ``last``, oldest first; all must have been dropped."""
        for tile, seqs in by_tile(first, last):
            leaves = await self.leaves(org_id, seqs[0], seqs[-1])
            reader = await self._reader(org_id)
            begin, end = seqs[0] % TILE_WIDTH, seqs[-1] % TILE_WIDTH
            async for at, rows in reader.packed(tile, begin, end):
                for row, leaf in zip(rows, leaves[at - begin :], strict=False):
                    _check_payload(reader, leaf, row.payload)
                    yield entry_of(org_id, leaf, row)

    async def leaves(self, org_id: int, first: int, last: int) -> list[bytes]:
        """The leaves ``first`` to ``last``, all of one entry bundle, checked against the tree."""
        reader = await self._reader(org_id)
        tile = first // TILE_WIDTH
        size = await self._size(org_id, reader, last)
        bundle = EntryTile(tile, tile_in(size, 0, tile).width)
        begin, end = first - bundle.start, last + 1 - bundle.start
        leaves = (await reader.leaves(bundle))[begin:end]
        lowest = Tile(0, tile, end)
        stored = (await trees.tiles(self._database, org_id, [lowest]))[lowest]
        if b"".join(map(leaf_hash, leaves)) != stored[begin * HASH_BYTES :]:
            raise ArchiveMismatch(
                f"the archived entries {first} to {last} of org {reader.org} are not those in its "
                "signed tree. Verify the archive and the trail"
            )
        return leaves

    async def _reader(self, org_id: int) -> ArchiveReader:
        reader = self._readers.get(org_id)
        if reader is None:
            target = await self._open()
            record = await orgs.org_by_id(self._database, org_id)
            if record is None:
                raise StorageError("this org is no longer in the database")
            reader = ArchiveReader(target, record.slug)
            self._readers.put(org_id, reader)
        return reader

    async def _open(self) -> Target:
        async with self._opening:
            if self._target is None:
                if self._url is None:
                    raise ArchiveMisconfigured(
                        "entries of this org were archived and dropped from the database; set "
                        "QUIRE_ARCHIVE_URL to the archive that has them"
                    )
                target = open_target(self._url, self._settings)
                self._target = await self._stack.enter_async_context(target)
        return self._target

    async def _size(self, org_id: int, reader: ArchiveReader, last: int) -> int:
        """The size of an archived checkpoint that covers ``last``; bundle widths depend on it."""
        size = self._sizes.get(org_id) or 0
        if size <= last:
            size = await archived_size(reader)
            self._sizes.put(org_id, size)
        if size <= last:
            raise ArchiveObjectMissing(
                f"the archive of org {reader.org} has only {size} entries: entry {last} is missing"
            )
        return size


async def archived_size(reader: ArchiveReader) -> int:
    """The size of the archive's newest checkpoint. Its signature is not checked here.

    Entries read at this size are checked against the signed tree.
    """
    note = await reader.checkpoint()
    if note is None:
        raise ArchiveObjectMissing(f"the archive has no checkpoint of org {reader.org}")
    try:
        return parse_checkpoint(parse_note(note).text).size
    except FormatError as error:
        raise ArchiveMismatch(
            f"the archived checkpoint of org {reader.org} can't be read: {error}"
        ) from error


def _check_payload(reader: ArchiveReader, leaf: bytes, payload: bytes) -> None:
    fields = decode_leaf(leaf)  # the signed tree has it, so it decodes
    if fields.payload.blake3 != blake3(payload).hexdigest():
        raise ArchiveMismatch(
            f"the archived payload of entry {fields.seq} of org {reader.org} does not have the "
            "digest in its leaf. Verify the archive"
        )
