"""A bundle as a stream of bytes: a batch of entries in memory, and what the zip says of the rest.

Every entry is held against the signed root before it is given away. Where something
does not fit, the stream ends with an error in the middle, and a zip without its end
is no bundle.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Final, NamedTuple

from ledger.chain import StoredEntry
from ledger.core.bundling.covering import Covering
from ledger.core.bundling.disclosure import Discloser, Disclosure, SubjectLookup
from ledger.core.bundling.selection import EntrySource, Selection
from ledger.core.org import OrgFacts
from ledger.core.proving import DamagedTree
from ledger.core.sealing.sealer import Sealer
from ledger.core.shares import OrgShares
from ledger.entry import Leaf, decode_leaf, entry_hash
from ledger.errors import FormatError, MerkleError, QueueFull
from ledger.evidence.format import Request
from ledger.evidence.page import verify_page
from ledger.evidence.writer import BundleWriter
from ledger.storage import trees
from ledger.storage.database import Database
from ledger.storage.entry_bundles import DamagedTrail
from ledger.tiles import TILE_WIDTH, Tile, TileProofs, tiles_for_proofs

BATCH_ENTRIES: Final = 500
CHUNK_BYTES: Final = 1 << 18
"""Of what is handed on at once: what a connection buffers that takes no more."""
MAX_WAITING: Final = 64
RETRY_AFTER_S: Final = 5


class BundlePlan(NamedTuple):
    """All that decides what a bundle holds, settled before its first byte."""

    org: OrgFacts
    request: Request
    selection: Selection
    covering: Covering
    disclosure: Disclosure | None


class BundleBuilder:
    """Builds bundles over a database, a few at once: each is work for a core and memory.

    One org takes at most half of the places, so that another one finds some.
    """

    def __init__(
        self, database: Database, trail: EntrySource, sealer: Sealer, *, at_once: int
    ) -> None:
        self._database = database
        self._trail = trail
        self._sealer = sealer
        self._places = OrgShares(total=at_once, of_org=max(1, at_once // 2), full=_full)
        self._waiting = 0

    @property
    def building(self) -> int:
        """How many bundles are being made."""
        return self._places.held

    def place(self, org_id: int) -> AbstractContextManager[None]:
        """A place for one bundle of an org. Raises QueueFull."""
        return self._places.holding(org_id)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Room for one that waits until its entries are signed. Raises QueueFull."""
        if self._waiting >= MAX_WAITING:
            raise _full(True)
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1

    async def stream(self, contents: BundlePlan) -> AsyncGenerator[bytes]:
        """The bytes of a bundle, in pieces of at most CHUNK_BYTES.

        The first comes when the first entries are found right. Raises StorageError where
        something is damaged or the database is gone.
        """
        pieces = ChunkBuffer()
        org, request, covering = contents.org, contents.request, contents.covering
        origin = covering.keys.org_origin(org.slug)
        writer = BundleWriter(pieces.write, org.slug, origin, request)
        writer.begin(verify_page(), covering.keys.document())
        writer.add_checkpoint(
            covering.checkpoint.size, covering.checkpoint.note, covering.anchoring
        )
        discloser = Discloser(self._database, self._sealer, org, contents.disclosure)
        async for batch in self._batches(contents):
            lookup = await discloser.look_up(batch)
            stored = await self._tiles(contents, batch)
            await asyncio.to_thread(_write, writer, contents, batch, stored, discloser, lookup)
            for piece in pieces.taken():
                yield piece
        names = discloser.names if discloser.names_asked else None
        await asyncio.to_thread(writer.finish, names)
        for piece in pieces.taken():
            yield piece

    async def _batches(self, contents: BundlePlan) -> AsyncIterator[list[tuple[StoredEntry, Leaf]]]:
        org, selection = contents.org, contents.selection
        for batch in selection.batches(BATCH_ENTRIES):
            rest = batch
            while rest:
                found = await self._trail.entries(org.id, rest, selection.since, selection.until)
                taken, rest = rest[: len(found)], rest[len(found) :]
                if not found or [entry.seq for entry in found] != taken:
                    raise DamagedTrail(
                        f"entries from {(taken or rest)[0]} on of org {org.id} are not stored as "
                        "they were. Run a full verification of this trail"
                    )
                yield [(entry, _leaf(org, entry)) for entry in found]

    async def _tiles(
        self, contents: BundlePlan, batch: Sequence[tuple[StoredEntry, Leaf]]
    ) -> dict[Tile, bytes]:
        if not contents.request.include_merkle_proofs:
            return {}
        size = contents.covering.checkpoint.size
        wanted = {
            tile
            for index in sorted({entry.seq // TILE_WIDTH for entry, _ in batch})
            for tile in tiles_for_proofs(index, size)
        }
        return await trees.tiles(self._database, contents.org.id, wanted)


class ChunkBuffer:
    """Bytes that were written, handed on in pieces."""

    def __init__(self) -> None:
        self._written: list[bytes] = []

    def write(self, data: bytes) -> None:
        """Keep these bytes until they are taken."""
        self._written.append(data)

    def taken(self) -> Iterator[bytes]:
        """All that was written since the last time."""
        written, self._written = b"".join(self._written), []
        for start in range(0, len(written), CHUNK_BYTES):
            yield written[start : start + CHUNK_BYTES]


def _full(everyone: bool) -> QueueFull:
    return QueueFull(
        "as many bundles as this server takes are being made; ask again in a moment",
        retry_after=RETRY_AFTER_S,
        everyone=everyone,
    )


def _leaf(org: OrgFacts, entry: StoredEntry) -> Leaf:
    try:
        leaf = decode_leaf(entry.leaf)
    except FormatError as error:
        raise _damaged(entry, str(error)) from None
    if (leaf.seq, leaf.org) != (entry.seq, org.slug):
        raise _damaged(entry, f"it says entry {leaf.seq} of org {leaf.org!r}")
    return leaf


def _damaged(entry: StoredEntry, reason: str) -> DamagedTrail:
    return DamagedTrail(
        f"the leaf of entry {entry.seq} of org {entry.org_id} is damaged: {reason}. Run a full "
        "verification of this trail"
    )


def _write(
    writer: BundleWriter,
    contents: BundlePlan,
    batch: Sequence[tuple[StoredEntry, Leaf]],
    stored: Mapping[Tile, bytes],
    discloser: Discloser,
    lookup: SubjectLookup,
) -> None:
    """Work for the processor alone: off the event loop."""
    request = contents.request
    tile: tuple[int, TileProofs] | None = None
    for entry, leaf in batch:
        digest, proof = entry_hash(entry.leaf), None
        signed = entry.entry_hash
        if request.include_merkle_proofs:
            index = entry.seq // TILE_WIDTH
            if tile is None or tile[0] != index:
                tile = index, _proofs_of(contents, index, stored)
            proof, signed = tile[1].proof(entry.seq), tile[1].leaf_hash(entry.seq)
        if digest != signed:
            raise _damaged(entry, "it is not what was hashed and signed")
        line = discloser.line(entry, leaf, lookup) if request.include_payloads else None
        writer.add_entry(entry.seq, entry.leaf, proof, line)


def _proofs_of(contents: BundlePlan, index: int, stored: Mapping[Tile, bytes]) -> TileProofs:
    checkpoint = contents.covering.checkpoint
    proofs = TileProofs(index, checkpoint.size, stored)
    try:
        proofs.check(checkpoint.root)
    except MerkleError as error:
        raise DamagedTree(
            f"tile {index} of org {contents.org.id} does not lead to its checkpoint of size "
            f"{checkpoint.size}: {error}. Run a full verification of this trail"
        ) from None
    return proofs
