"""Entry bundles: entries behind their lengths, one after the other (C2SP tlog-tiles)."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Final

from ledger.errors import TileError
from ledger.merkle import TILE_WIDTH

LENGTH_BYTES: Final = 2
MAX_ENTRY_BYTES: Final = 2 ** (8 * LENGTH_BYTES) - 1
MAX_BUNDLE_BYTES: Final = TILE_WIDTH * (LENGTH_BYTES + MAX_ENTRY_BYTES)
"""A full bundle of the largest entries, unpacked."""

_GZIP: Final = b"\x1f\x8b\x08"
_GZIP_WINDOW: Final = 16 + zlib.MAX_WBITS


def pack_entries(entries: Iterable[bytes]) -> bytes:
    """The bundle of these entries. Raises TileError for one of more than 65,535 bytes."""
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
    """The entries of a bundle, of which there may be ``limit``.

    Raises TileError where the bytes end inside an entry, and for more entries.
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
    """One gzip stream unpacked, to at most ``limit`` bytes (RFC 1952).

    Raises TileError for anything else, for more, and for what follows the stream.
    """
    stream = zlib.decompressobj(_GZIP_WINDOW)
    try:
        unpacked = stream.decompress(data, limit + 1)
    except zlib.error as error:
        raise TileError(f"the gzip stream is damaged: {error}") from error
    if len(unpacked) > limit:
        raise TileError(f"the gzip stream unpacks to more than {limit} bytes")
    if not stream.eof:
        raise TileError("the gzip stream ends too early")
    if stream.unused_data:
        raise TileError("something follows the gzip stream")
    return unpacked


def read_bundle(data: bytes, width: int) -> list[bytes]:
    """The ``width`` entries of a bundle as it was stored, plain or in gzip.

    Raises TileError where the bytes are no bundle, or one of another width.
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
