"""Verification of a whole log: every tile, every bundle, and the root of its checkpoint.

It proceeds from the top down, so that a fault is located where it occurs, not in
the files below it: the partial tiles at the right edge must lead to the
checkpoint's root, every full tile must hash to its place in the tile above, and
the entries of a bundle to its level 0 tile. This order keeps only a few tiles in
memory.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Final, NamedTuple, TypeVar

import msgspec

from ledger.errors import TileError
from ledger.merkle import HASH_BYTES, TILE_HEIGHT, TILE_WIDTH, leaf_hash, perfect_root
from ledger.tiles.bundles import read_bundle
from ledger.tiles.coordinates import EntryTile, Tile, tile_in
from ledger.tiles.proofs import edge_from_tiles, tiles_for_edge
from ledger.tiles.static_log import Read, check_tile

MAX_FAULTS: Final = 1_000
"""Number of faults at which a verification ends: a lost log is not listed file by file."""
BATCH: Final = 16
"""Tiles requested at a time, with their bundles: at most 32 files."""

T = TypeVar("T")
Steps = Generator[Sequence[str], Mapping[str, bytes | None], T]
"""Yields paths to read and receives their bytes (None if there is no file)."""
_Unit = Tile | EntryTile
OnBundle = Callable[[EntryTile, Sequence[bytes]], None]
OnTile = Callable[[Tile, bytes], None]


class LogFault(msgspec.Struct, frozen=True):
    """One fault of a log.

    ``path`` names the file (``checkpoint`` for the root). ``kind`` is one of
    ``missing``, ``malformed``, ``hash_mismatch`` and ``root_mismatch``.
    """

    path: str
    kind: str
    reason: str


class LogReport(msgspec.Struct, frozen=True):
    """The result of a verification; without ``faults`` the log matches its checkpoint.

    ``tiles`` and ``entries`` count the tiles and entries proved to belong to the
    checkpoint's root. ``complete`` is False if it ended at ``MAX_FAULTS``.
    """

    size: int
    tiles: int
    entries: int
    faults: tuple[LogFault, ...]
    complete: bool


def verify_log(read: Read, size: int, root: bytes, on_bundle: OnBundle | None = None) -> LogReport:
    """Verify a log of ``size`` entries against the root of its checkpoint.

    ``on_bundle`` is called in order with each bundle whose entries are proved.
    The caller verifies the checkpoint's signatures.
    """
    steps = verification(size, root, on_bundle)
    try:
        paths = next(steps)
        while True:
            paths = steps.send({path: read(path) for path in paths})
    except StopIteration as end:
        report: LogReport = end.value
        return report


def verification(
    size: int,
    root: bytes,
    on_bundle: OnBundle | None = None,
    *,
    on_tile: OnTile | None = None,
    lowest: int = 0,
) -> Steps[LogReport]:
    """Return the steps of :func:`verify_log`, for a caller that reads the files itself.

    Each step yields the paths to read next, at most 32, and receives a mapping
    from path to bytes, in which a missing file is None or absent. ``on_tile`` is
    called with each proved tile, level by level from the top. Verification ends
    with the level ``lowest``: the caller verifies the levels below it.
    """
    return _Verification(size, root, on_bundle, on_tile, lowest).steps()


class _EnoughFaultsError(Exception):
    """Ends the verification; never leaves this module."""


class _File(NamedTuple):
    """The file of a tile or bundle, or the full file in place of a partial one."""

    width: int
    data: bytes


class _Row(NamedTuple):
    """The hashes of a tile for the 256 tiles below it: empty if it can't be read."""

    tile: Tile | None
    hashes: bytes


class _Verification:
    def __init__(
        self,
        size: int,
        root: bytes,
        on_bundle: OnBundle | None,
        on_tile: OnTile | None,
        lowest: int,
    ) -> None:
        self._size = size
        self._root = root
        self._on_bundle = on_bundle
        self._on_tile = on_tile
        self._lowest = lowest
        self._faults: list[LogFault] = []
        self._unproven: set[tuple[int, int]] = set()
        """Level and index of tiles above level 0, or at the edge, that the root does not cover."""
        self._tiles = 0
        self._entries = 0

    def steps(self) -> Steps[LogReport]:
        complete = True
        try:
            yield from self._check_root()
            for level in reversed(range(self._lowest, (self._size.bit_length() + 7) // 8)):
                yield from self._check_level(level)
        except _EnoughFaultsError:
            complete = False
        return LogReport(self._size, self._tiles, self._entries, tuple(self._faults), complete)

    def _check_root(self) -> Steps[None]:
        """Check the partial tiles together: the root covers every hash in them."""
        edge = tiles_for_edge(self._size)
        files = yield from _read(edge)
        available = {tile: files[tile].data for tile in edge if tile in files}
        try:
            found = edge_from_tiles(self._size, available).root()
        except TileError:
            found = None  # _check_level reports the file that is missing or short
        if found == self._root:
            return
        self._unproven.update((tile.level, tile.index) for tile in edge)
        if found is not None:
            reason = f"the tiles lead to root {found.hex()}, not to {self._root.hex()}"
            self._fault("checkpoint", "root_mismatch", reason)

    def _check_level(self, level: int) -> Steps[None]:
        row = _Row(None, b"")
        count = -(-(self._size >> TILE_HEIGHT * level) // TILE_WIDTH)
        for start in range(0, count, BATCH):
            indexes = range(start, min(start + BATCH, count))
            tiles = [tile_in(self._size, level, index) for index in indexes]
            bundles = [EntryTile(tile.index, tile.width) for tile in tiles if level == 0]
            if start % TILE_WIDTH == 0 and tiles[0].width == TILE_WIDTH:
                row = yield from self._row_above(tiles[0])
            files = yield from _read([*tiles, *bundles])
            for tile in tiles:
                hashes = self._hashes(tile, files.get(tile))
                proven = hashes is not None and self._in_place(tile, hashes, row)
                self._tiles += proven
                if proven and hashes is not None and self._on_tile is not None:
                    self._on_tile(tile, hashes)
                if level > 0:
                    self._unproven.update([] if proven else [(level, tile.index)])
                    continue
                bundle = EntryTile(tile.index, tile.width)
                entries = self._check_bundle(bundle, files.get(bundle), hashes)
                if proven and entries is not None:
                    self._entries += len(entries)
                    if self._on_bundle is not None:
                        self._on_bundle(bundle, entries)

    def _row_above(self, first: Tile) -> Steps[_Row]:
        """Read the tile above ``first``; its own faults have been reported already."""
        above = tile_in(self._size, first.level + 1, first.index // TILE_WIDTH)
        files = yield from _read([above])
        try:
            return _Row(above, _tile_hashes(above, files[above]))
        except (KeyError, TileError):
            return _Row(above, b"")

    def _hashes(self, tile: Tile, file: _File | None) -> bytes | None:
        if file is None:
            self._fault(tile.path(), "missing", "the file is missing")
            return None
        try:
            return _tile_hashes(tile, file)
        except TileError as error:
            self._fault(tile.path(), "malformed", str(error))
            return None

    def _in_place(self, tile: Tile, hashes: bytes, row: _Row) -> bool:
        """Return whether the checkpoint's root covers the tile."""
        if tile.width < TILE_WIDTH:
            return (tile.level, tile.index) not in self._unproven
        at = tile.index % TILE_WIDTH * HASH_BYTES
        place = row.hashes[at : at + HASH_BYTES]
        if row.tile is None or not place:
            return False
        proven = (row.tile.level, row.tile.index) not in self._unproven
        if place == perfect_root(hashes):
            return proven
        doubt = "" if proven else ", which does not match the checkpoint itself"
        reason = f"it does not hash to its place in {row.tile.path()}{doubt}"
        self._fault(tile.path(), "hash_mismatch", reason)
        return False

    def _check_bundle(
        self, bundle: EntryTile, file: _File | None, hashes: bytes | None
    ) -> list[bytes] | None:
        """Return the entries if they match their level 0 tile, else None."""
        if file is None:
            self._fault(bundle.path(), "missing", "the file is missing")
            return None
        try:
            entries = read_bundle(file.data, file.width)[: bundle.width]
        except TileError as error:
            self._fault(bundle.path(), "malformed", str(error))
            return None
        if hashes is None:
            return None
        found = b"".join(map(leaf_hash, entries))
        if found == hashes:
            return entries
        wrong = next(at for at, byte in enumerate(found) if byte != hashes[at]) // HASH_BYTES
        reason = f"entry {bundle.start + wrong} does not hash to its place in the tile"
        self._fault(bundle.path(), "hash_mismatch", reason)
        return None

    def _fault(self, path: str, kind: str, reason: str) -> None:
        self._faults.append(LogFault(path, kind, reason))
        if len(self._faults) == MAX_FAULTS:
            raise _EnoughFaultsError


def _tile_hashes(tile: Tile, file: _File) -> bytes:
    return check_tile(file.data, file.width)[: tile.width * HASH_BYTES]


def _read(units: Sequence[_Unit]) -> Steps[dict[_Unit, _File]]:
    """Read the available files; a full file replaces a partial one that the log dropped."""
    found = yield from _read_once({unit: unit for unit in units})
    partial = [unit for unit in units if unit not in found and unit.width < TILE_WIDTH]
    return found | (yield from _read_once({unit: unit.full() for unit in partial}))


def _read_once(units: Mapping[_Unit, _Unit]) -> Steps[dict[_Unit, _File]]:
    paths = {unit: stored.path() for unit, stored in units.items()}
    if not paths:
        return {}
    files = yield list(paths.values())
    found = ((unit, units[unit].width, files.get(path)) for unit, path in paths.items())
    return {unit: _File(width, data) for unit, width, data in found if data is not None}
