"""Payload packs: the parts of archived entries that are not in their leaves.

A pack holds the stored payloads and the signatures of consecutive entries:

    "quire payloads v1\\n" | first seq (u64) | count (u16)
    count times: payload bytes (u32) | signature (32)
    BLAKE3-256 over all of this (32)
    the payloads

The digest in an entry's leaf covers its payload. The tree does not cover the signatures; the
pack's own digest does, so that damage is found without the signing keys.
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
"""The most bytes of a pack: a payload has 64 MiB at most, and some bytes for its seal."""
HEAD: Final = Struct(">18sQH")
ROW: Final = Struct(">I32s")
DIGEST_BYTES: Final = 32


class Packed(NamedTuple):
    """One entry's row in a pack."""

    signature: bytes
    payload: bytes


def pack_rows(first: int, rows: Sequence[Packed]) -> bytes:
    """Encode the pack of these entries; ``first`` is the seq of the first.

    Raises ArchiveMismatch for more entries than a bundle has, or a signature of another length.
    """
    if not 1 <= len(rows) <= TILE_WIDTH:
        raise ArchiveMismatch(f"a pack holds 1 to {TILE_WIDTH} entries, not {len(rows)}")
    if any(len(row.signature) != SIGNATURE_BYTES for row in rows):
        raise ArchiveMismatch(f"an entry's signature must have {SIGNATURE_BYTES} bytes")
    table = [HEAD.pack(MAGIC, first, len(rows))]
    table += [ROW.pack(len(row.payload), row.signature) for row in rows]
    head = b"".join(table)
    return b"".join([head, blake3(head).digest(), *(row.payload for row in rows)])


def unpack_rows(data: bytes, first: int, count: int) -> list[Packed]:
    """Decode a pack of ``count`` entries from seq ``first`` on.

    Raises ArchiveMismatch for a damaged pack and for a pack of other entries.
    """
    table_end = HEAD.size + count * ROW.size
    start = table_end + DIGEST_BYTES
    if len(data) < start:
        raise ArchiveMismatch(f"a pack of {count} entries is longer than {len(data)} bytes")
    table = data[:table_end]
    if blake3(table).digest() != data[table_end:start]:
        raise ArchiveMismatch("the pack is damaged: its digest does not match its table")
    if _head_of(table) != (MAGIC, first, count):
        raise ArchiveMismatch(f"it is not the pack of {count} entries from seq {first} on")
    rows: list[Packed] = []
    for length, signature in ROW.iter_unpack(table[HEAD.size :]):
        rows.append(Packed(signature, data[start : start + length]))
        start += length
    if start != len(data):
        raise ArchiveMismatch("the pack's length differs from the length its table states")
    return rows


def _head_of(table: bytes) -> tuple[bytes, int, int] | None:
    try:
        magic, first, count = HEAD.unpack_from(table)
    except StructError:
        return None
    return magic, first, count


assert SIGNATURE_BYTES == HASH_BYTES
