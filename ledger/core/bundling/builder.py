"""Makes a bundle as a stream of bytes: one batch of entries, and the zip's directory, in memory.

Every entry is checked against the signed root before it is sent. If a check fails,
the stream ends early with an error, and a zip without its end
is no bundle.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Final, NamedTuple

from ledger.chain import StoredEntry
from ledger.core.bundling.covering import Covering
from ledger.core.bundling.disclosure import Discloser, Disclosure, SubjectLookup
from ledger.core.bundling.places import BundlePlace, BundlePlaces, full
from ledger.core.bundling.selection import EntrySource, Selection
from ledger.core.org import OrgFacts
from ledger.core.proving import DamagedTree
from ledger.core.sealing.sealer import Sealer
from ledger.core.shares import OrgShares
from ledger.entry import Leaf, decode_leaf, entry_hash
from ledger.errors import FormatError, MerkleError
from ledger.evidence.format import Request
from ledger.evidence.page import verify_page
from ledger.evidence.writer import BundleWriter
from ledger.storage import trees
from ledger.storage.database import Database
from ledger.storage.entries.blocks import DamagedTrail
from ledger.tiles import TILE_WIDTH, Tile, TileProofs, tiles_for_proofs

BATCH_ENTRIES: Final = 500
CHUNK_BYTES: Final = 1 << 18
"""Bytes yielded at once: a connection whose reader has stopped buffers one such piece."""
MAX_WAITING: Final = 64
MAX_WAITING_OF_ORG: Final = 16


class BundlePlan(NamedTuple):
    """Everything that determines a bundle's contents, known before its first byte."""

    org: OrgFacts
    request: Request
    selection: Selection
    covering: Covering
    disclosure: Disclosure | None


class BundleBuilder:
    """Builds bundles from a database, a few at a time: each takes one core and memory.

    One org takes at most half of the places, so that other orgs get some.
    """

    def __init__(
        self, database: Database, trail: EntrySource, sealer: Sealer, *, at_once: int
    ) -> None:
        self._database = database
        self._trail = trail
        self._sealer = sealer
        self.places = BundlePlaces(at_once)
        self._waiting = OrgShares(
            total=MAX_WAITING,
            of_org=MAX_WAITING_OF_ORG,
            full=lambda everyone: full(everyone=everyone),
        )

    @property
    def building(self) -> int:
        """The number of bundles being built."""
        return self.places.held

    def place(self, org_id: int) -> AbstractContextManager[BundlePlace]:
        """Hold a place to build one bundle of an org during the block. Raises QueueFull."""
        return self.places.place(org_id)

    def waiting(self, org_id: int) -> AbstractContextManager[None]:
        """Count a bundle that waits until its entries are signed. Raises QueueFull."""
        return self._waiting.holding(org_id)

    async def stream(self, contents: BundlePlan, place: BundlePlace) -> AsyncGenerator[bytes]:
        """The bytes of a bundle, in pieces of at most CHUNK_BYTES.

        While the reader takes them, ``place`` may be given back; it is held again for each batch.

        The first piece comes after the first batch was checked. Raises StorageError if
        entries or tiles are damaged, or the database can't be reached.
        """
        pieces = ChunkBuffer()
        org, request, covering = contents.org, contents.request, contents.covering
        origin = covering.keys.org_origin(org.slug)
        writer = BundleWriter(pieces.write, org.slug, origin, request)
        writer.begin(verify_page(), covering.keys.document())
        writer.add_checkpoint(
            covering.checkpoint.size, covering.checkpoint.note, covering.anchoring
        )
        discloser = Discloser(self._sealer, org, contents.disclosure)
        async for batch in self._batches(contents, place):
            lookup = await discloser.look_up(batch)
            stored = await self._tiles(contents, batch)
            await asyncio.to_thread(_write, writer, contents, batch, stored, discloser, lookup)
            for piece in pieces.taken():
                yield piece
            del batch  # it is not held beside the next one
        await place.hold()
        names = discloser.names if discloser.names_asked else None
        await asyncio.to_thread(writer.finish, names)
        for piece in pieces.taken():
            yield piece

    async def _batches(
        self, contents: BundlePlan, place: BundlePlace
    ) -> AsyncIterator[list[tuple[StoredEntry, Leaf]]]:
        org, selection = contents.org, contents.selection
        for batch in selection.batches(BATCH_ENTRIES):
            rest = batch
            while rest:
                await place.hold()
                found = await self._trail.entries(org.id, rest, selection.since, selection.until)
                taken, rest = rest[: len(found)], rest[len(found) :]
                if not found or [entry.seq for entry in found] != taken:
                    raise DamagedTrail(
                        f"entry {(taken or rest)[0]} of org {org.slug}, or one soon after it, is "
                        "missing or doubled. Run a full verification of this trail"
                    )
                yield [(entry, _leaf(org, entry)) for entry in found]
                del found

    async def _tiles(
        self, contents: BundlePlan, batch: Sequence[tuple[StoredEntry, Leaf]]
    ) -> dict[Tile, bytes]:
        if not contents.request.include_merkle_proofs:
            return {}
        size = contents.covering.checkpoint.size
        needed = {
            tile
            for index in sorted({entry.seq // TILE_WIDTH for entry, _ in batch})
            for tile in tiles_for_proofs(index, size)
        }
        return await trees.tiles(self._database, contents.org.id, needed)


class ChunkBuffer:
    """Collects written bytes and returns them in pieces."""

    def __init__(self) -> None:
        self._written: list[bytes] = []

    def write(self, data: bytes) -> None:
        """Keep these bytes until they are taken."""
        self._written.append(data)

    def taken(self) -> Iterator[bytes]:
        """The bytes written since the last call, in pieces of at most CHUNK_BYTES."""
        written, self._written = self._written, []
        written.reverse()
        rest = b""
        while written:
            some = [rest]
            size = len(rest)
            while written and size < CHUNK_BYTES:
                some.append(written.pop())  # freed, so that the bytes are not held twice
                size += len(some[-1])
            data = b"".join(some)
            whole = size - size % CHUNK_BYTES
            for start in range(0, whole, CHUNK_BYTES):
                yield data[start : start + CHUNK_BYTES]
            rest = data[whole:]
        if rest:
            yield rest


def _leaf(org: OrgFacts, entry: StoredEntry) -> Leaf:
    try:
        leaf = decode_leaf(entry.leaf)
    except FormatError as error:
        raise _damaged(org, entry, str(error)) from None
    if (leaf.seq, leaf.org) != (entry.seq, org.slug):
        raise _damaged(org, entry, "it is the leaf of another entry or org")
    return leaf


def _damaged(org: OrgFacts, entry: StoredEntry, reason: str) -> DamagedTrail:
    return DamagedTrail(
        f"the leaf of entry {entry.seq} of org {org.slug} is damaged: {reason}. Run a full "
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
    """Write one batch. It is work for the processor alone, so it runs off the event loop."""
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
            raise _damaged(contents.org, entry, "its hash is not the one that was signed")
        line = discloser.line(entry, leaf, lookup) if request.include_payloads else None
        writer.add_entry(entry.seq, entry.leaf, proof, line)


def _proofs_of(contents: BundlePlan, index: int, stored: Mapping[Tile, bytes]) -> TileProofs:
    checkpoint = contents.covering.checkpoint
    proofs = TileProofs(index, checkpoint.size, stored)
    try:
        proofs.check(checkpoint.root)
    except MerkleError as error:
        raise DamagedTree(
            f"tile {index} of org {contents.org.slug} does not lead to the checkpoint of size "
            f"{checkpoint.size}: {error}. Run a full verification of this trail"
        ) from None
    return proofs
