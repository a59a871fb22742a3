"""Reads the archive of one log, object by object. Nothing is verified here.

A caller that must not trust the target verifies the results: leaves by the tiles, payloads by
their leaves, notes by the key history. :mod:`ledger.archive.verification.run` verifies a whole
archive.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple, TypeVar

from ledger.archive.format.layout import (
    ANCHORS,
    CHECKPOINT,
    COSIGNATURES,
    HISTORY,
    LOG_KEYS,
    NONCES,
    ORG,
    TOKENS,
    CosignatureAt,
    Pack,
    Span,
    TokenAt,
    pack_folder,
    place_of,
)
from ledger.archive.format.packs import PACK_BYTES_MAX, Packed
from ledger.archive.format.records import (
    LINE_BYTES_MAX,
    NOTE_BYTES_MAX,
    ORG_BYTES_MAX,
    RECORDS_BYTES_MAX,
    TOKEN_BYTES_MAX,
    AnchoredAt,
    ArchivedCheckpoint,
    ArchivedOrg,
    decode_rows,
)
from ledger.archive.format.rows import entry_of, unpacked, widest_at
from ledger.archive.targets import ListedObject, Readable
from ledger.chain import StoredEntry
from ledger.checkpoint import TreeHead
from ledger.errors import ArchiveMismatch, ArchiveObjectMissing, TileError
from ledger.log_keys import LogKeyHistory, open_anchor, open_org_checkpoint
from ledger.merkle import HASH_BYTES
from ledger.tiles import (
    MAX_BUNDLE_BYTES,
    MAX_TILE_BYTES,
    TILE_WIDTH,
    EntryTile,
    Tile,
    by_tile,
    read_bundle,
    tile_in,
)

KEY_HISTORY_BYTES_MAX = 1 << 20
NONCES_BUFFERED_MAX = 1_000_000
"""The most rows of overlapping spans that are buffered to be sorted."""
Row = TypeVar("Row", ArchivedCheckpoint, AnchoredAt)


class ArchivedToken(NamedTuple):
    """A timestamp token for the anchor of this size, stored at ``added_us`` (POSIX µs)."""

    size: int
    added_us: int
    token: bytes

    @property
    def key(self) -> str:
        """The key below the archive's prefix."""
        return TokenAt(self.size, self.added_us).key()


class ArchivedCosignature(NamedTuple):
    """A witness's signature line for the anchor of this size, stored at ``added_us`` (POSIX µs)."""

    size: int
    added_us: int
    line: bytes
    key_id: str

    @property
    def key(self) -> str:
        """The key below the archive's prefix."""
        return CosignatureAt(self.size, self.added_us, self.key_id).key()


class ArchiveReader:
    """The archive of one org's trail, or of the anchor log, in an open target.

    Methods raise the errors of the target, and ArchiveMismatch for an object that is damaged.
    """

    def __init__(self, target: Readable, org: str) -> None:
        self._target = target
        self.org = org

    @classmethod
    def of_anchors(cls, target: Readable) -> ArchiveReader:
        """Return a reader of the anchor log, which all orgs share."""
        return cls(target, ANCHORS)

    def key(self, key: str) -> str:
        """Return the target's key for ``key`` of this archive."""
        return f"{self.org}/{key}"

    async def find(self, key: str, limit: int) -> bytes | None:
        """Read an object of at most ``limit`` bytes; None where it is missing."""
        try:
            return await self._target.get(self.key(key), limit)
        except ArchiveObjectMissing:
            return None

    async def read(self, key: str, limit: int) -> bytes:
        """Read an object that must exist. Raises ArchiveObjectMissing."""
        return await self._target.get(self.key(key), limit)

    async def objects(self, prefix: str = "") -> AsyncIterator[ListedObject]:
        """Yield the archive's objects whose keys begin with ``prefix``, in the order of keys."""
        async for listed in self._target.list(self.key(prefix)):
            yield ListedObject(listed.key.removeprefix(f"{self.org}/"), listed.size)

    async def checkpoint(self) -> bytes | None:
        """Read the newest archived checkpoint's note; None where nothing is archived.

        Everything that this checkpoint covers is archived.
        """
        return await self.find(CHECKPOINT, NOTE_BYTES_MAX)

    async def key_history(self) -> LogKeyHistory:
        """Read the public history of the log's keys. Raises KeyHistoryError."""
        return LogKeyHistory.parse(await self.read(LOG_KEYS, KEY_HISTORY_BYTES_MAX))

    def opened(self, note: bytes, history: LogKeyHistory) -> TreeHead:
        """Verify the signatures of a note of this log; return its tree head. Raises FormatError."""
        if self.org == ANCHORS:
            return open_anchor(note, history).checkpoint
        return open_org_checkpoint(note, self.org, history).checkpoint

    async def about(self) -> ArchivedOrg:
        """Read the description of the archived org."""
        return ArchivedOrg.decode(await self.read(ORG, ORG_BYTES_MAX))

    async def tile(self, tile: Tile) -> bytes:
        """Read a tile's hashes; without a partial tile, the full tile's, cut to the width."""
        data = await self._read_or_full(tile, MAX_TILE_BYTES)
        if len(data) < tile.width * HASH_BYTES:
            raise ArchiveMismatch(f"{tile.path()} is shorter than its width requires")
        return data[: tile.width * HASH_BYTES]

    async def leaves(self, bundle: EntryTile) -> list[bytes]:
        """Read a bundle's leaves; without a partial bundle, the full one's, cut to the width."""
        limit = MAX_BUNDLE_BYTES
        data = await self.find(bundle.path(), limit)
        width = bundle.width
        if data is None:
            width, data = TILE_WIDTH, await self.read(bundle.full().path(), limit)
        try:
            return read_bundle(data, width)[: bundle.width]
        except TileError as error:
            raise ArchiveMismatch(f"{bundle.path()}: {error}") from error

    async def _read_or_full(self, unit: Tile | EntryTile, limit: int) -> bytes:
        data = await self.find(unit.path(), limit)
        return data if data is not None else await self.read(unit.full().path(), limit)

    async def packed(
        self, tile: int, first: int, last: int
    ) -> AsyncIterator[tuple[int, list[Packed]]]:
        """Yield signatures and payloads of entries ``first`` to ``last`` of a bundle.

        Each item is one pack's part: the place of its first entry in the bundle, and the rows.
        Raises ArchiveObjectMissing where no pack holds an entry.
        """
        whole = Pack(tile, 0, TILE_WIDTH - 1)
        data = await self.find(whole.key(), PACK_BYTES_MAX)
        if data is not None:
            yield first, unpacked(whole, data)[first : last + 1]
            return
        packs = [pack async for pack in self._packs(tile)]
        at = first
        while at <= last:
            pack = widest_at(packs, at)
            if pack is None:
                raise ArchiveObjectMissing(
                    f"no payload of entry {tile * TILE_WIDTH + at} of {self.org} is archived"
                )
            data = await self.read(pack.key(), PACK_BYTES_MAX)
            yield at, unpacked(pack, data)[at - pack.first : last + 1 - pack.first]
            at = pack.last + 1

    async def _packs(self, tile: int) -> AsyncIterator[Pack]:
        async for listed in self.objects(pack_folder(tile)):
            place = place_of(listed.key)
            if isinstance(place, Pack) and place.tile == tile:
                yield place

    async def entries(
        self, org_id: int, first: int, last: int, size: int
    ) -> AsyncIterator[StoredEntry]:
        """Yield the rows ``first`` to ``last``, bit for bit as they were stored.

        ``size`` is the size of an archived checkpoint; it determines the last bundle's width.
        """
        for tile, seqs in by_tile(first, last):
            width = tile_in(size, 0, tile).width
            leaves = await self.leaves(EntryTile(tile, width))
            begin, end = seqs[0] % TILE_WIDTH, min(seqs[-1] % TILE_WIDTH, width - 1)
            async for at, rows in self.packed(tile, begin, end):
                for place, row in enumerate(rows, at):
                    yield entry_of(org_id, leaves[place], row)

    async def history(self) -> AsyncIterator[ArchivedCheckpoint]:
        """Yield every archived checkpoint, smallest first."""
        covered = -1
        async for span, rows in self._spans(HISTORY, ArchivedCheckpoint):
            for row in rows:
                if row.size > covered:
                    yield row
            covered = max(covered, span.last)

    async def nonces(self) -> AsyncIterator[AnchoredAt]:
        """Yield the leaves of the anchor log that commit to this org's checkpoints, in its order.

        An index comes more than once where different rows were archived for it: at most one of
        them is the leaf's, the others are superseded or forged.
        """
        buffered: set[AnchoredAt] = set()
        async for span, rows in self._spans(NONCES, AnchoredAt):
            before = {row for row in buffered if row.idx < span.after}
            for row in sorted(before, key=_place):
                yield row
            buffered = (buffered - before).union(rows)
            if len(buffered) > NONCES_BUFFERED_MAX:
                raise ArchiveMismatch(f"too many objects below {self.org}/{NONCES} overlap")
        for row in sorted(buffered, key=_place):
            yield row

    async def _spans(self, prefix: str, kind: type[Row]) -> AsyncIterator[tuple[Span, list[Row]]]:
        """Yield the rows of all spans; spans may overlap. Raises ArchiveMismatch for a gap."""
        covered = 0
        async for listed in self.objects(prefix):
            span = place_of(listed.key)
            if not isinstance(span, Span):
                continue
            if span.after > covered:
                raise ArchiveMismatch(
                    f"{self.org}/{prefix} has no rows for {covered + 1} to {span.after}"
                )
            rows = decode_rows(await self.read(listed.key, RECORDS_BYTES_MAX), kind)
            if not all(span.holds(_number(row)) for row in rows):
                raise ArchiveMismatch(
                    f"{self.org}/{listed.key} has rows outside the range in its name"
                )
            yield span, rows
            covered = max(covered, span.last)

    async def tokens(self) -> AsyncIterator[ArchivedToken]:
        """Yield the timestamp tokens of anchors, in the order of anchor sizes."""
        async for listed in self.objects(TOKENS):
            place = place_of(listed.key)
            if isinstance(place, TokenAt):
                token = await self.read(listed.key, TOKEN_BYTES_MAX)
                yield ArchivedToken(place.size, place.added_us, token)

    async def cosignatures(self) -> AsyncIterator[ArchivedCosignature]:
        """Yield the witnesses' signature lines for anchors, in the order of anchor sizes."""
        async for listed in self.objects(COSIGNATURES):
            place = place_of(listed.key)
            if isinstance(place, CosignatureAt):
                line = await self.read(listed.key, LINE_BYTES_MAX)
                yield ArchivedCosignature(place.size, place.added_us, line, place.key_id)


def _number(row: ArchivedCheckpoint | AnchoredAt) -> int:
    """Return a row's number in span names: a checkpoint's size, or an anchor log index plus 1."""
    return row.size if isinstance(row, ArchivedCheckpoint) else row.idx + 1


def _place(row: AnchoredAt) -> tuple[int, int, bytes]:
    return row.idx, row.size, row.nonce
