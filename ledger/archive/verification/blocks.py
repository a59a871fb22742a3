"""Checks level 0 of an archive, a run of tiles at a time: hashes, leaves, payloads.

A fast check decides whether a tile and its objects are right; only where it fails are they
checked part by part, to locate the faults.
"""

from __future__ import annotations

from binascii import hexlify
from collections.abc import Sequence
from hashlib import sha256
from typing import Final

import msgspec
from blake3 import blake3

from ledger.archive.format.layout import Pack, pack_folder, place_of
from ledger.archive.format.packs import (
    DIGEST_BYTES,
    HEAD,
    MAGIC,
    PACK_BYTES_MAX,
    ROW,
    Packed,
    unpack_rows,
)
from ledger.archive.format.rows import entry_of, widest_at
from ledger.archive.reading.fetching import Fetch
from ledger.archive.verification.findings import FAULTS_MAX, ArchiveFault
from ledger.chain import UNKNOWN_KEY, check_entry
from ledger.entry import decode_leaf
from ledger.errors import ArchiveMismatch, TileError
from ledger.keys import SigningKeyring
from ledger.merkle import HASH_BYTES, leaf_hash, perfect_root
from ledger.tiles import (
    MAX_BUNDLE_BYTES,
    MAX_TILE_BYTES,
    TILE_WIDTH,
    EntryTile,
    Tile,
    read_bundle,
)

MISSING: Final = "it is missing, or longer than allowed"
AT_ONCE: Final = 16
"""Tiles whose objects are read together."""
_MEMBER: Final = b',"payload":{"blake3":"'
_MEMBER_BYTES: Final = len(_MEMBER)
HEX_BYTES: Final = 64
_QUOTE: Final = 0x22


class TileBlock(msgspec.Struct, frozen=True, tag=True):
    """Tiles of level 0 from ``first`` on; ``proved`` has the root of each, None where unknown.

    A partial tile is a block of its own, with its ``width`` and its proved ``hashes``.
    """

    org: str
    first: int
    count: int
    proved: bytes | None = None
    hashes: bytes | None = None
    payloads: bool = True
    width: int = TILE_WIDTH


class BlockReport(msgspec.Struct, tag=True):
    """The result of checking a block; ``entries`` counts those that the checkpoint covers."""

    entries: int = 0
    bytes: int = 0
    objects: int = 0
    lacking: int = 0
    """Entries whose signing key the keyring lacks: their signatures are not checked."""
    fault_count: int = 0
    faults: list[ArchiveFault] = []

    def fault(self, key: str, check: str, reason: str) -> None:
        self.fault_count += 1
        if len(self.faults) < FAULTS_MAX:
            self.faults.append(ArchiveFault(key, check, reason))


def check_block(
    fetch: Fetch, block: TileBlock, keyring: SigningKeyring | None = None
) -> BlockReport:
    """Read and check every object of these tiles. Raises the target's errors."""
    checked = BlockReport()
    end = block.first + block.count
    for first in range(block.first, end, AT_ONCE):
        tiles = [_tile(block, index) for index in range(first, min(first + AT_ONCE, end))]
        read = _read(fetch, block, tiles)
        for tile, parts in zip(tiles, read, strict=True):
            _TileUnit(fetch, block, tile, keyring, checked).check(*parts)
    return checked


def _tile(block: TileBlock, index: int) -> Tile:
    return Tile(0, index, block.width)


def _read(
    fetch: Fetch, block: TileBlock, tiles: Sequence[Tile]
) -> list[tuple[bytes | None, bytes | None, bytes | None]]:
    """Read each tile, its bundle, and the pack of all its payloads where one exists."""
    org = block.org
    hashes = fetch([f"{org}/{tile.path()}" for tile in tiles], MAX_TILE_BYTES)
    bundles = [EntryTile(tile.index, tile.width) for tile in tiles]
    leaves = fetch([f"{org}/{bundle.path()}" for bundle in bundles], MAX_BUNDLE_BYTES)
    packs: list[bytes | None] = [None] * len(tiles)
    if block.payloads and block.width == TILE_WIDTH:
        whole = [Pack(tile.index, 0, TILE_WIDTH - 1) for tile in tiles]
        packs = fetch([f"{org}/{pack.key()}" for pack in whole], PACK_BYTES_MAX)
    return list(zip(hashes, leaves, packs, strict=True))


class _TileUnit:
    """One tile of level 0 with its bundle and packs."""

    def __init__(
        self,
        fetch: Fetch,
        block: TileBlock,
        tile: Tile,
        keyring: SigningKeyring | None,
        checked: BlockReport,
    ) -> None:
        self._fetch = fetch
        self._block = block
        self._tile = tile
        self._bundle = EntryTile(tile.index, tile.width)
        self._keyring = keyring
        self._checked = checked

    def check(self, hashes: bytes | None, leaves: bytes | None, pack: bytes | None) -> None:
        checked, width = self._checked, self._tile.width
        for data in (hashes, leaves, pack):
            checked.objects += data is not None
            checked.bytes += len(data or b"")
        if hashes is not None and leaves is not None and self._keyring is None:
            packed = pack if self._block.payloads else b""
            if packed is not None and is_right(self._bundle.start, hashes, leaves, packed):
                if self._in_place(hashes):
                    checked.entries += width
                return
        self._locate_faults(hashes, leaves, pack)

    def _in_place(self, hashes: bytes) -> bool:
        """Return whether the checkpoint's root covers the tile; add a fault where it does not."""
        block, tile = self._block, self._tile
        if block.hashes is not None:
            right = hashes == block.hashes
        elif block.proved is None:
            return False  # the fault is in a tile above, and reported there
        else:
            at = (tile.index - block.first) * HASH_BYTES
            right = perfect_root(hashes) == block.proved[at : at + HASH_BYTES]
        if not right:
            reason = "its root differs from its hash in the tile above"
            self._checked.fault(tile.path(), "tree", reason)
        return right

    def _locate_faults(
        self, hashes: bytes | None, leaves: bytes | None, pack: bytes | None
    ) -> None:
        """Check the tile's objects part by part, where the fast check failed or can't be made."""
        checked, tile = self._checked, self._tile
        proved = self._proved(hashes)
        if leaves is None:
            checked.fault(self._bundle.path(), "tree", MISSING)
            return
        try:
            entries = read_bundle(leaves, tile.width)
        except TileError as error:
            checked.fault(self._bundle.path(), "tree", str(error))
            return
        wrong = False
        for place, entry in enumerate(entries):
            at = place * HASH_BYTES
            if proved is not None and leaf_hash(entry) != proved[at : at + HASH_BYTES]:
                wrong = True
                reason = f"entry {self._bundle.start + place} differs from its hash in the tile"
                checked.fault(self._bundle.path(), "tree", reason)
        if self._block.payloads:
            self._check_packs(entries, pack)
        if proved is not None and not wrong:
            checked.entries += tile.width

    def _proved(self, hashes: bytes | None) -> bytes | None:
        """Return the tile's hashes where the root covers them, or else None."""
        if hashes is None:
            self._checked.fault(self._tile.path(), "tree", MISSING)
        elif len(hashes) != self._tile.width * HASH_BYTES:
            reason = f"it has {len(hashes)} bytes, not those of {self._tile.width} hashes"
            self._checked.fault(self._tile.path(), "tree", reason)
        elif self._in_place(hashes):
            return hashes
        return self._block.hashes  # the root proves all hashes of a partial tile

    def _check_packs(self, leaves: Sequence[bytes], whole: bytes | None) -> None:
        last = len(leaves) - 1
        packs = [Pack(self._tile.index, 0, last)] if whole is not None else self._packs()
        at = 0
        while at <= last:
            pack = widest_at(packs, at)
            if pack is None:
                key = f"{pack_folder(self._tile.index)}"
                reason = f"no pack holds entry {self._bundle.start + at}"
                self._checked.fault(key, "payloads", reason)
                return
            data = whole
            if data is None:
                (data,) = self._fetch([f"{self._block.org}/{pack.key()}"], PACK_BYTES_MAX)
                self._checked.objects += 1
                self._checked.bytes += len(data or b"")
            check_pack(self._checked, pack, data, leaves, self._keyring)
            at = pack.last + 1

    def _packs(self) -> list[Pack]:
        folder = f"{self._block.org}/{pack_folder(self._tile.index)}"
        packs = packs_named(self._fetch.names(folder), self._block.org, self._tile.index)
        # A longer pack was written for a checkpoint that is not archived yet.
        return [pack for pack in packs if pack.last < self._tile.width]


def packs_named(keys: Sequence[str], org: str, tile: int) -> list[Pack]:
    """Return the packs of a bundle among these keys; other keys are reported by the full listing."""
    packs = []
    for key in keys:
        try:
            place = place_of(key.removeprefix(f"{org}/"))
        except ArchiveMismatch:
            continue
        if isinstance(place, Pack) and place.tile == tile:
            packs.append(place)
    return packs


def check_pack(
    checked: BlockReport,
    pack: Pack,
    data: bytes | None,
    leaves: Sequence[bytes],
    keyring: SigningKeyring | None,
) -> None:
    """Compare a pack with the leaves of its bundle, and verify signatures with the keyring."""
    if data is None:
        checked.fault(pack.key(), "payloads", MISSING)
        return
    try:
        rows = unpack_rows(data, pack.start, pack.end - pack.start)
        for place, row in enumerate(rows, pack.first):
            _check_row(checked, pack, leaves[place], row, keyring)
    except (ArchiveMismatch, IndexError) as error:
        checked.fault(pack.key(), "payloads", str(error))


def _check_row(
    checked: BlockReport, pack: Pack, leaf: bytes, row: Packed, keyring: SigningKeyring | None
) -> None:
    if keyring is None:
        if digest_mark(row.payload) not in leaf:
            reason = "a payload differs from the digest in its leaf"
            checked.fault(pack.key(), "payloads", reason)
        return
    entry = entry_of(0, leaf, row)
    for fault in check_entry(entry, decode_leaf(leaf).org, keyring, None):
        if fault.kind == UNKNOWN_KEY:
            checked.lacking += 1
            continue
        check = "payloads" if fault.kind == "payload_mismatch" else "signatures"
        checked.fault(pack.key(), check, f"entry {entry.seq}: {fault.reason}")


def digest_mark(payload: bytes) -> bytes:
    """Return the bytes that exactly the leaves committing to this payload contain.

    A leaf is JSON: a quotation mark inside a string is escaped by a backslash, so that these
    bytes can only be the member itself.
    """
    return b'%b%b"' % (_MEMBER, hexlify(blake3(payload).digest()))


def is_right(start: int, hashes: bytes, leaves: bytes, pack: bytes) -> bool:
    """Return whether a bundle has the leaves of its tile, and a whole pack their payloads.

    ``pack`` is empty for a log without payloads; ``start`` is the seq of the first entry.
    """
    count = len(hashes) // HASH_BYTES
    if not pack:
        return _has_leaves(count, hashes, leaves)
    table_end = HEAD.size + count * ROW.size
    table = pack[:table_end]
    return (
        blake3(table).digest() == pack[table_end : table_end + DIGEST_BYTES]
        and table[: HEAD.size] == HEAD.pack(MAGIC, start, count)
        and _has_leaves_and_payloads(hashes, leaves, pack, table[HEAD.size :])
    )


def _has_leaves(count: int, hashes: bytes, leaves: bytes) -> bool:
    found: list[bytes] = []
    at = 0
    try:
        for _ in range(count):
            end = at + 2 + (leaves[at] << 8 | leaves[at + 1])
            found.append(sha256(b"\x00" + leaves[at + 2 : end]).digest())
            at = end
    except IndexError:
        return False
    return at == len(leaves) and b"".join(found) == hashes


def _has_leaves_and_payloads(hashes: bytes, leaves: bytes, pack: bytes, table: bytes) -> bool:
    """Compare leaves with hashes and payloads with leaves.

    The speed of verification depends on this loop, so it is not split into functions.
    """
    found: list[bytes] = []
    add, sha, blake = (
        found.append,
        sha256,
        blake3(),
    )  # a hasher for each payload would double the cost
    reset, update, digest = blake.reset, blake.update, blake.digest
    leaf_at, at = 0, HEAD.size + len(table) + DIGEST_BYTES
    try:
        for length, _ in ROW.iter_unpack(table):
            end = at + length
            leaf_end = leaf_at + 2 + (leaves[leaf_at] << 8 | leaves[leaf_at + 1])
            leaf = leaves[leaf_at + 2 : leaf_end]
            add(sha(b"\x00" + leaf).digest())
            reset()
            update(pack[at:end])
            place = leaf.find(_MEMBER) + _MEMBER_BYTES
            if leaf[place : place + HEX_BYTES] != hexlify(digest()):
                return False
            if leaf[place + HEX_BYTES] != _QUOTE:
                return False
            at, leaf_at = end, leaf_end
    except IndexError:
        return False
    return leaf_at == len(leaves) and at == len(pack) and b"".join(found) == hashes
