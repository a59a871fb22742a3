"""Checks an archive's other objects: older partial tiles, partial packs, and all checkpoints.

Each is compared with the tiles of the newest checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from ledger.archive.format.layout import CheckpointAt, Pack, Place, Span, place_of
from ledger.archive.format.log import ArchivedLog
from ledger.archive.format.packs import PACK_BYTES_MAX
from ledger.archive.format.records import (
    NOTE_BYTES_MAX,
    RECORDS_BYTES_MAX,
    ArchivedCheckpoint,
    decode_rows,
)
from ledger.archive.reading.fetching import Fetch
from ledger.archive.verification.blocks import BlockReport, check_pack
from ledger.errors import ArchiveMismatch, ArchiveRefused, MerkleError, TileError
from ledger.keys import SigningKeyring
from ledger.log_keys import LogKeyHistory
from ledger.merkle import EMPTY_ROOT, HASH_BYTES, TILE_HEIGHT
from ledger.tiles import (
    MAX_BUNDLE_BYTES,
    MAX_TILE_BYTES,
    TILE_WIDTH,
    EntryTile,
    Tile,
    edge_from_tiles,
    read_bundle,
    tile_in,
    tiles_for_edge,
)

CACHED_TILES = 512


class ExtraObjects(msgspec.Struct, frozen=True, tag=True):
    """Objects to check, by their keys below the prefix, in a log of ``size`` entries."""

    org: str
    size: int
    keys: list[str]
    history: bytes


def check_extras(
    fetch: Fetch, extras: ExtraObjects, keyring: SigningKeyring | None = None
) -> BlockReport:
    """Read and check these objects. Raises the target's errors."""
    return _ExtrasCheck(fetch, extras, keyring).check()


class _ExtrasCheck:
    def __init__(self, fetch: Fetch, extras: ExtraObjects, keyring: SigningKeyring | None) -> None:
        self._fetch = fetch
        self._org = extras.org
        self._size = extras.size
        self._keys = extras.keys
        self._log = ArchivedLog(0, extras.org, LogKeyHistory.parse(extras.history))
        self._keyring = keyring
        self._tiles: dict[Tile, bytes] = {}
        self.checked = BlockReport()

    def check(self) -> BlockReport:
        for key in self._keys:
            self._check(key, place_of(key))
        return self.checked

    def _check(self, key: str, place: Place) -> None:
        try:
            match place:
                case Tile():
                    self._check_prefix(key, self._get(key, MAX_TILE_BYTES), self._tile(place))
                case EntryTile():
                    self._check_bundle(key, place)
                case Pack():
                    data = self._get(key, PACK_BYTES_MAX)
                    leaves = self._leaves(place.tile)
                    check_pack(self.checked, place, data, leaves, self._keyring)
                case CheckpointAt():
                    self._check_note(key, self._get(key, NOTE_BYTES_MAX), place.size)
                    self._check_exact(place.size)
                case Span():
                    self._check_history(key, place)
        except (ArchiveMismatch, ArchiveRefused, TileError, MerkleError) as error:
            check = {Pack: "payloads", Tile: "tree", EntryTile: "tree"}.get(type(place), "history")
            self.checked.fault(key, check, str(error))

    def _check_prefix(self, key: str, data: bytes, whole: bytes) -> None:
        if data != whole[: len(data)] or not data:
            self.checked.fault(key, "tree", "it differs from the start of the newest tile")

    def _check_bundle(self, key: str, place: EntryTile) -> None:
        entries = read_bundle(self._get(key, MAX_BUNDLE_BYTES), place.width)
        if entries != self._leaves(place.index)[: place.width]:
            self.checked.fault(key, "tree", "it differs from the start of the newest bundle")

    def _check_note(self, key: str, note: bytes, size: int) -> None:
        checkpoint = self._log.opened(note, size)
        if checkpoint.root != self._root(size):
            reason = f"the tiles do not lead to the root signed at size {size}"
            self.checked.fault(key, "history", reason)

    def _check_exact(self, size: int) -> None:
        """Check that the partial tiles of an archived checkpoint are unchanged."""
        for tile in tiles_for_edge(size):
            data = self._get(tile.path(), MAX_TILE_BYTES)
            if data != self._tile(tile)[: tile.width * HASH_BYTES]:
                reason = "it differs from the start of the newest tile"
                self.checked.fault(tile.path(), "tree", reason)
        if size % TILE_WIDTH:
            self._get(EntryTile(size // TILE_WIDTH, size % TILE_WIDTH).path(), MAX_BUNDLE_BYTES)

    def _check_history(self, key: str, span: Span) -> None:
        after = span.after or -1
        for row in decode_rows(self._get(key, RECORDS_BYTES_MAX), ArchivedCheckpoint):
            if row.size <= after or not span.holds(row.size):
                raise ArchiveMismatch(f"the checkpoint of size {row.size} is out of order")
            self._check_note(key, row.note, row.size)
            after = row.size

    def _root(self, size: int) -> bytes:
        if not size:
            return EMPTY_ROOT
        tiles = {tile: self._tile(tile) for tile in tiles_for_edge(size)}
        return edge_from_tiles(size, tiles).root()

    def _tile(self, tile: Tile) -> bytes:
        """Read a tile in its current width, which is at least the given one."""
        now = tile_in(self._size, tile.level, tile.index)
        if now not in self._tiles:
            if len(self._tiles) >= CACHED_TILES:
                self._tiles.clear()
            self._tiles[now] = self._get(now.path(), MAX_TILE_BYTES)
        return self._tiles[now]

    def _leaves(self, tile: int) -> Sequence[bytes]:
        bundle = EntryTile(tile, tile_in(self._size, 0, tile).width)
        return read_bundle(self._get(bundle.path(), MAX_BUNDLE_BYTES), bundle.width)

    def _get(self, key: str, limit: int) -> bytes:
        (data,) = self._fetch([f"{self._org}/{key}"], limit)
        if data is None:
            raise ArchiveMismatch(f"{key} is missing, or longer than allowed")
        self.checked.objects += 1
        self.checked.bytes += len(data)
        return data


def is_extra(place: Place, size: int) -> bool:
    """Return whether an object is to be checked here.

    The newest checkpoint's tiles, bundles and whole packs are checked elsewhere.
    """
    match place:
        case Tile(level, index, _) if reaches(place, size):
            return place != tile_in(size, level, index)
        case EntryTile(index, width) if reaches(place, size):
            return width != tile_in(size, 0, index).width
        case Pack(_, first, last):
            return reaches(place, size) and (first, last) != (0, TILE_WIDTH - 1)
        case CheckpointAt(at):
            return at <= size
        case Span("history", _, last):
            return last <= size
    return False


def reaches(place: Place, size: int) -> bool:
    """Return whether an object's content is within a log of this size."""
    match place:
        case Tile(level, index, width):
            return index * TILE_WIDTH + width <= size >> TILE_HEIGHT * level
        case EntryTile(index, width):
            return index * TILE_WIDTH + width <= size
        case Pack():
            return place.end <= size
        case CheckpointAt(at):
            return at <= size
        case Span("history", _, last):
            return last <= size
    return True


def gaps(spans: Iterable[Span], until: int) -> list[tuple[int, int]]:
    """Return the ranges of 1 to ``until`` that no span covers; spans come in the order of keys."""
    missing, covered = [], 0
    for span in spans:
        if span.after > covered:
            missing.append((covered + 1, span.after))
        covered = max(covered, span.last)
    return [*missing, (covered + 1, until)] if covered < until else missing
