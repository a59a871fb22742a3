"""The keys of an archive's objects below its prefix; docs/format.md, "The archive".

The prefix of a trail is the org's slug. The prefix of the anchor log, which holds all
checkpoints, is ``_anchors``; no slug has an underscore. Below the prefix the bytes of an object
depend on its key alone: a second write stores the same bytes. Only the three pointers change.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from ledger.errors import ArchiveMismatch, TileError
from ledger.tiles import TILE_WIDTH, EntryTile, Tile, parse_path

ANCHORS: Final = "_anchors"
CHECKPOINT: Final = "checkpoint"
LOG_KEYS: Final = "log-keys.json"
ORG: Final = "org.json"
POINTERS: Final = (CHECKPOINT, LOG_KEYS, ORG)

CHECKPOINTS: Final = "checkpoints/"
HISTORY: Final = "history/"
NONCES: Final = "nonces/"
TOKENS: Final = "tokens/"
COSIGNATURES: Final = "cosignatures/"
TILES: Final = "tile/"
PAYLOADS: Final = "payloads/"

_NUMBER: Final = "[0-9]{16}"
_PACK: Final = re.compile(r"payloads/((?:x[0-9]{3}/)*[0-9]{3})/([0-9]{3})-([0-9]{3})")
_SPAN: Final = re.compile(f"(history|nonces)/({_NUMBER})-({_NUMBER})")
_CHECKPOINT: Final = re.compile(f"checkpoints/({_NUMBER})")
_TOKEN: Final = re.compile(f"tokens/({_NUMBER})-({_NUMBER})")
_COSIGNATURE: Final = re.compile(f"cosignatures/({_NUMBER})-({_NUMBER})-([0-9a-f]{{8}})")


class Pack(NamedTuple):
    """The pack of entries ``first`` to ``last`` (inclusive) of one bundle: signatures, payloads."""

    tile: int
    first: int
    last: int

    def key(self) -> str:
        """Return the key, like ``payloads/x001/067/000-255``; entries count from their bundle."""
        return f"{pack_folder(self.tile)}{self.first:03}-{self.last:03}"

    @property
    def start(self) -> int:
        """The seq of the first entry."""
        return self.tile * TILE_WIDTH + self.first

    @property
    def end(self) -> int:
        """The seq after the last entry."""
        return self.tile * TILE_WIDTH + self.last + 1


class CheckpointAt(NamedTuple):
    """The note of an archived checkpoint of this size."""

    size: int

    def key(self) -> str:
        """Return the key, like ``checkpoints/0000000000001234``."""
        return f"{CHECKPOINTS}{self.size:016}"


class Span(NamedTuple):
    """Rows of one kind with numbers above ``after`` and up to ``last``.

    In ``history`` a number is the size of a checkpoint; in ``nonces`` it is an index in the
    anchor log, counted from 1.
    """

    kind: str
    after: int
    last: int

    def key(self) -> str:
        """Return the key, like ``history/0000000000000000-0000000000001234``."""
        return f"{self.kind}/{self.after:016}-{self.last:016}"

    def holds(self, number: int) -> bool:
        """Return whether a row with this number belongs to this span.

        The first span of ``history`` also holds the checkpoint of size 0.
        """
        first = self.kind == "history" and number == self.after == 0
        return first or self.after < number <= self.last


class TokenAt(NamedTuple):
    """A timestamp token for the anchor of this size, stored at ``added_us`` (POSIX µs)."""

    size: int
    added_us: int

    def key(self) -> str:
        return f"{TOKENS}{self.size:016}-{self.added_us:016}"


class CosignatureAt(NamedTuple):
    """A witness's signature line for the anchor of this size.

    ``added_us`` is the time of storing (POSIX µs), ``key_id`` the witness key's id in hex.
    """

    size: int
    added_us: int
    key_id: str

    def key(self) -> str:
        return f"{COSIGNATURES}{self.size:016}-{self.added_us:016}-{self.key_id}"


Place = Tile | EntryTile | Pack | CheckpointAt | Span | TokenAt | CosignatureAt | None
"""The parsed form of a key; None for a pointer."""


def pack_folder(tile: int) -> str:
    """Return the common prefix of the keys of one bundle's packs."""
    return f"{PAYLOADS}{EntryTile(tile).path().removeprefix('tile/entries/')}/"


def place_of(key: str) -> Place:
    """Parse a key of an archive, given without the archive's prefix.

    Raises ArchiveMismatch for a key that is not part of the archive format.
    """
    if key in POINTERS:
        return None
    try:
        place = _parse(key)
    except TileError:
        place = None
    if place is None or _key_of(place) != key:
        raise ArchiveMismatch(f"{key[:200]!r} is not the key of an archive object")
    return place


def _parse(key: str) -> Place:
    if key.startswith(TILES):
        return parse_path(key)
    if found := _PACK.fullmatch(key):
        tile = parse_path(f"tile/entries/{found[1]}")
        pack = Pack(tile.index, int(found[2]), int(found[3]))
        return pack if pack.first <= pack.last < TILE_WIDTH else None
    if found := _SPAN.fullmatch(key):
        return Span(found[1], int(found[2]), int(found[3]))
    return _parse_signed(key)


def _parse_signed(key: str) -> Place:
    if found := _CHECKPOINT.fullmatch(key):
        return CheckpointAt(int(found[1]))
    if found := _TOKEN.fullmatch(key):
        return TokenAt(int(found[1]), int(found[2]))
    if found := _COSIGNATURE.fullmatch(key):
        return CosignatureAt(int(found[1]), int(found[2]), found[3])
    return None


def _key_of(place: Tile | EntryTile | Pack | CheckpointAt | Span | TokenAt | CosignatureAt) -> str:
    return place.path() if isinstance(place, Tile | EntryTile) else place.key()
