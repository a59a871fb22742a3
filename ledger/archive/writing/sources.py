"""The sources of an archive's leaves: a trail's entries, or the leaves of the anchor log.

Every entry is checked as verification checks it, and compared with the proved tree, before it is
archived.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, Protocol

from ledger.archive.format.layout import Pack
from ledger.archive.format.packs import PACK_BYTES, Packed, pack_rows
from ledger.archive.reading.reader import ArchiveReader
from ledger.archive.writing.growth import TreeGrowth
from ledger.chain import UNKNOWN_KEY, StoredEntry, check_entry
from ledger.errors import ArchiveRefused
from ledger.keys import SigningKeyring
from ledger.merkle import HASH_BYTES, leaf_hash
from ledger.storage import archive_accounts
from ledger.storage.database import Database
from ledger.storage.entries import spans
from ledger.storage.entries.blocks import DamagedTrail
from ledger.storage.entries.readable import small
from ledger.tiles import TILE_WIDTH, EntryTile, Tile, pack_entries


class Object(NamedTuple):
    """An object to be stored: its key below the archive's prefix, and its bytes."""

    key: str
    data: bytes


class LeafSource(Protocol):
    """Makes the objects of an archive that hold entries: bundles and packs."""

    def objects(self, growth: TreeGrowth, tile: Tile, hashes: bytes) -> AsyncIterator[Object]:
        """Yield the packs, if any, and then the entry bundle of a level 0 tile."""


class _Span(NamedTuple):
    """Seqs that are read, and perhaps packed, together.

    ``stored``: the database has them; otherwise the archive has.
    """

    first: int
    last: int
    stored: bool


class TrailSource:
    """The entries of one org's trail; those that the database dropped come from the archive."""

    def __init__(
        self,
        database: Database,
        org_id: int,
        reader: ArchiveReader,
        keyring: Callable[[bool], SigningKeyring],
    ) -> None:
        self._database = database
        self._org_id = org_id
        self._reader = reader
        self._keyring = keyring(True)

    async def objects(self, growth: TreeGrowth, tile: Tile, hashes: bytes) -> AsyncIterator[Object]:
        start = tile.index * TILE_WIDTH
        end = start + tile.width
        fresh = max(growth.start, start)
        at_once = await self._at_once(start, end)
        found, together = _spans(await self._volumes(start, end, at_once), start, fresh, end)
        leaves: list[bytes] = []
        for span in found:
            rows = await self._rows(span, growth, at_once)
            for place, row in enumerate(rows, span.first - start):
                self._check(row, hashes[place * HASH_BYTES : (place + 1) * HASH_BYTES])
            leaves += [row.leaf for row in rows]
            if span.first >= fresh or together:
                pack = Pack(tile.index, span.first - start, span.last - start)
                packed = [Packed(row.signature, row.payload) for row in rows]
                yield Object(pack.key(), pack_rows(span.first, packed))
        yield Object(EntryTile(tile.index, tile.width).path(), pack_entries(leaves))

    async def _at_once(self, start: int, end: int) -> list[StoredEntry] | None:
        """Return the stored entries of a bundle; None where they are too large for one read."""
        with _refusing_damage():
            return await small(self._database, self._org_id, start, end - 1)

    async def _volumes(
        self, start: int, end: int, at_once: list[StoredEntry] | None
    ) -> list[tuple[int, int]]:
        """Return seq and size of each stored entry of a bundle."""
        if at_once is not None:
            return [(row.seq, len(row.leaf) + len(row.payload)) for row in at_once]
        with _refusing_damage():
            sizes = await spans.sizes(self._database, self._org_id, start, end - 1)
        if not all(right for _, _, right in sizes):
            raise ArchiveRefused(
                f"one of the entries {start} to {end - 1} is larger than an entry may be. Run a "
                "full verification of this trail"
            )
        return [(seq, volume) for seq, volume, _ in sizes]

    async def _rows(
        self, span: _Span, growth: TreeGrowth, at_once: list[StoredEntry] | None
    ) -> list[StoredEntry]:
        if not span.stored:
            archived = self._reader.entries(self._org_id, span.first, span.last, growth.start)
            rows = [entry async for entry in archived]
        elif at_once is not None:
            rows = [row for row in at_once if span.first <= row.seq <= span.last]
        else:
            with _refusing_damage():
                rows = await spans.entries(self._database, self._org_id, span.first, span.last)
        if [row.seq for row in rows] != list(range(span.first, span.last + 1)):
            raise ArchiveRefused(
                f"entries {span.first} to {span.last} changed while they were read. Run a full "
                "verification of this trail"
            )
        return rows

    def _check(self, row: StoredEntry, proved: bytes) -> None:
        faults = check_entry(row, self._reader.org, self._keyring, None)
        if faults and all(fault.kind == UNKNOWN_KEY for fault in faults):
            raise ArchiveRefused(
                f"entry {row.seq} can't be checked on this machine: {faults[0].reason}. Add the key "
                "with: quire keys signing add --import FILE"
            )
        if faults:
            raise ArchiveRefused(
                f"entry {row.seq} is not valid ({faults[0].kind}: {faults[0].reason}). Run a full "
                "verification of this trail"
            )
        if row.entry_hash != proved:
            raise ArchiveRefused(
                f"entry {row.seq} differs from the one in the signed tree. Run a full "
                "verification of this trail"
            )


class AnchorSource:
    """The leaves of the log of all checkpoints, 32 bytes each."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def objects(
        self,
        growth: TreeGrowth,  # noqa: ARG002 - the whole bundle is read each time
        tile: Tile,
        hashes: bytes,
    ) -> AsyncIterator[Object]:
        start = tile.index * TILE_WIDTH
        rows = await archive_accounts.anchor_log(self._database, start, start + tile.width - 1)
        leaves = [leaf for _, leaf in rows if leaf is not None]
        if b"".join(map(leaf_hash, leaves)) != hashes:
            raise ArchiveRefused(
                f"leaves {start} to {start + tile.width - 1} of the anchor log differ from the "
                "signed ones. Verify the database against your backups"
            )
        yield Object(EntryTile(tile.index, tile.width).path(), pack_entries(leaves))


@contextmanager
def _refusing_damage() -> Iterator[None]:
    """Raise ArchiveRefused for entries that can't be read."""
    try:
        yield
    except DamagedTrail as error:
        raise ArchiveRefused(str(error)) from error


def _spans(
    sizes: Sequence[tuple[int, int]], start: int, fresh: int, end: int
) -> tuple[list[_Span], bool]:
    """Return the spans to read, and whether a bundle that is full now goes into one pack.

    ``sizes`` are those of the stored entries; seqs below ``fresh`` are archived already. Raises
    ArchiveRefused for missing and repeated entries.
    """
    missing = end - start - len(sizes)
    seqs = [seq for seq, _ in sizes]
    if seqs != list(range(start + max(missing, 0), end)) or start + missing > fresh:
        raise ArchiveRefused(
            f"of entries {start} to {end - 1}, some are missing or repeated in the database. Run a "
            "full verification of this trail"
        )
    volumes = dict(sizes)
    whole = sum(volumes.values()) <= PACK_BYTES and end - start == TILE_WIDTH
    if whole and not missing:
        return [_Span(start, end - 1, stored=True)], True
    old = [_Span(start, start + missing - 1, stored=False)] if missing else []
    return [*old, *_cut(volumes, start + missing, fresh), *_cut(volumes, fresh, end)], False


def _cut(volumes: dict[int, int], start: int, end: int) -> Sequence[_Span]:
    """Cut a range of seqs into spans of at most PACK_BYTES, or of one longer entry."""
    cut: list[_Span] = []
    first, volume = start, 0
    for seq in range(start, end):
        if seq > first and volume + volumes[seq] > PACK_BYTES:
            cut.append(_Span(first, seq - 1, stored=True))
            first, volume = seq, 0
        volume += volumes[seq]
    if first < end:
        cut.append(_Span(first, end - 1, stored=True))
    return cut
