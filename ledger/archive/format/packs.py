"""Payload packs: what an archive holds of entries beside their leaves.

A pack has the stored payloads, and the signatures, of entries that follow each other:

    "quire payloads v1\\n" | first seq (u64) | count (u16)
    count times: payload bytes (u32) | signature (32)
    BLAKE3-256 over all of this (32)
    the payloads

Each payload is the one that the digest in its leaf says. The signatures, which the tree does
not cover, are under the pack's own digest: damage shows without the signing keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from struct import error as StructError  # noqa: N812 - its name there is lower case
from typing import Final, NamedTuple

from blake3 import blake3

from ledger.entry import HASH_BYTES
from ledger.errors import ArchiveMismatch
from ledger.tiles import TILE_WIDTH

MAGIC: Final = b"quire payloads v1\n"
SIGNATURE_BYTES: Final = 32
PACK_BYTES: Final = 8 << 20
"""Payload bytes at which a pack is closed; one payload may be longer than that."""
PACK_BYTES_MAX: Final = 128 << 20
"""No pack is longer: payloads have 64 MiB at most, and some bytes for their seal."""
HEAD: Final = Struct(">18sQH")
ROW: Final = Struct(">I32s")
DIGEST_BYTES: Final = 32


class Packed(NamedTuple):
    """What a pack holds of one entry."""

    signature: bytes
    payload: bytes


def pack_rows(first: int, rows: Sequence[Packed]) -> bytes:
    """The pack of these entries, ``first`` being the seq of the first.

    Raises ArchiveMismatch for more entries than a bundle has, or a signature of another length.
    """
    if not 1 <= len(rows) <= TILE_WIDTH:
        raise ArchiveMismatch(f"a pack holds 1 to {TILE_WIDTH} entries, not {len(rows)}")
    if any(len(row.signature) != SIGNATURE_BYTES for row in rows):
        raise ArchiveMismatch(f"a signature of an entry has {SIGNATURE_BYTES} bytes")
    table = [HEAD.pack(MAGIC, first, len(rows))]
    table += [ROW.pack(len(row.payload), row.signature) for row in rows]
    head = b"".join(table)
    return b"".join([head, blake3(head).digest(), *(row.payload for row in rows)])


def unpack_rows(data: bytes, first: int, count: int) -> list[Packed]:
    """The entries of a pack, which must be these. Raises ArchiveMismatch."""
    table_end = HEAD.size + count * ROW.size
    start = table_end + DIGEST_BYTES
    if len(data) < start:
        raise ArchiveMismatch(f"a pack of {count} entries has more than {len(data)} bytes")
    table = data[:table_end]
    if blake3(table).digest() != data[table_end:start]:
        raise ArchiveMismatch("the pack is damaged: its table is not what its digest says")
    if _head_of(table) != (MAGIC, first, count):
        raise ArchiveMismatch(f"it is not the pack of {count} entries from seq {first} on")
    rows: list[Packed] = []
    for length, signature in ROW.iter_unpack(table[HEAD.size :]):
        rows.append(Packed(signature, data[start : start + length]))
        start += length
    if start != len(data):
        raise ArchiveMismatch("the pack is not as long as its table says")
    return rows


def _head_of(table: bytes) -> tuple[bytes, int, int] | None:
    try:
        magic, first, count = HEAD.unpack_from(table)
    except StructError:
        return None
    return magic, first, count


assert SIGNATURE_BYTES == HASH_BYTES
