"""Entry bundles: a sequence of entries, each after its length (C2SP tlog-tiles)."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Final

from ledger.errors import TileError
from ledger.merkle import TILE_WIDTH

LENGTH_BYTES: Final = 2
MAX_ENTRY_BYTES: Final = 2 ** (8 * LENGTH_BYTES) - 1
MAX_BUNDLE_BYTES: Final = TILE_WIDTH * (LENGTH_BYTES + MAX_ENTRY_BYTES)
"""Size of a full bundle of the largest entries, decompressed."""

_GZIP: Final = b"\x1f\x8b\x08"
_GZIP_WINDOW: Final = 16 + zlib.MAX_WBITS


def pack_entries(entries: Iterable[bytes]) -> bytes:
    """Return the bundle of these entries. Raises TileError for an entry over 65,535 bytes."""
    parts: list[bytes] = []
    for index, entry in enumerate(entries):
        if len(entry) > MAX_ENTRY_BYTES:
            raise TileError(
                f"entry {index} has {len(entry)} bytes; a bundle holds entries of "
                f"at most {MAX_ENTRY_BYTES}"
            )
        parts += (len(entry).to_bytes(LENGTH_BYTES, "big"), entry)
    return b"".join(parts)


def unpack_entries(data: bytes, limit: int = TILE_WIDTH) -> list[bytes]:
    """Return the entries of a bundle.

    Raises TileError if the bytes end inside an entry, or for more than ``limit`` entries.
    """
    entries: list[bytes] = []
    at = 0
    while at < len(data):
        start = at + LENGTH_BYTES
        at = start + int.from_bytes(data[at:start], "big")
        if start > len(data) or at > len(data):
            raise TileError(f"the bundle ends inside entry {len(entries)}")
        if len(entries) == limit:
            raise TileError(f"the bundle holds more than {limit} entries")
        entries.append(data[start:at])
    return entries


def gunzip_bounded(data: bytes, limit: int) -> bytes:
    """Decompress one gzip stream to at most ``limit`` bytes (RFC 1952).

    Raises TileError for other bytes, a larger result, or bytes after the stream.
    """
    stream = zlib.decompressobj(_GZIP_WINDOW)
    try:
        unpacked = stream.decompress(data, limit + 1)
    except zlib.error as error:
        raise TileError("the gzip stream is damaged") from error
    if len(unpacked) > limit:
        raise TileError(f"the gzip stream decompresses to more than {limit} bytes")
    if not stream.eof:
        raise TileError("the gzip stream is cut short")
    if stream.unused_data:
        raise TileError("bytes follow the end of the gzip stream")
    return unpacked


def read_bundle(data: bytes, width: int) -> list[bytes]:
    """Return the ``width`` entries of a stored bundle, plain or compressed with gzip.

    Raises TileError for bytes that are not a bundle, or a bundle of another width.
    """
    try:
        entries = unpack_entries(data)
    except TileError:
        if not data.startswith(_GZIP):
            raise
        entries = unpack_entries(gunzip_bounded(data, MAX_BUNDLE_BYTES))
    if len(entries) != width:
        raise TileError(f"the bundle holds {len(entries)} entries instead of {width}")
    return entries
