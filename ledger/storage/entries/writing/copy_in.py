"""Encoding of blocks for PostgreSQL's binary COPY."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Final

from ledger.blocks.block import Block, pack, stands_alone
from ledger.blocks.layout import FRAME_BYTES
from ledger.chain import StoredEntry
from ledger.entry import HASH_BYTES, from_datetime
from ledger.pieces import piece
from ledger.storage.copy_format import COPY_SIGNATURE, COPY_TRAILER, PG_EPOCH_US
from ledger.storage.entries.writing.marks import BlockTail

_HEADER: Final = COPY_SIGNATURE + bytes(8)  # no flags, no extension
_FIXED: Final = struct.Struct(">hiqiqiqiqi32siq")  # up to raw_bytes
_LENGTH: Final = struct.Struct(">i")
CHUNK_BYTES: Final = 32 << 10
"""Bytes of rows that are sent at once: the many small blocks of many orgs in one message."""
SMALL_ENTRIES: Final = 16
"""Entries that are made and packed in one turn of the loop."""
LARGE_BYTES: Final = 256 << 10
"""A block of more is packed on another thread: compressing it must not delay other requests."""


async def copy_stream(
    parts: Iterable[Sequence[StoredEntry]], marks: dict[int, bytes | None]
) -> AsyncIterator[bytes]:
    """Yield the entries of blocks as a COPY stream; some are sent before the next are made.

    The mark of the last block of each org, by its id, is added to ``marks``.
    """
    rows, size = [_HEADER], 0
    for part in parts:
        if len(part) > SMALL_ENTRIES:
            await piece()  # the entries were made in this turn of the loop
        block, marks[part[0].org_id] = await packed(part)
        row = pack_row(block)
        rows.append(row)
        size += len(row)
        if size >= CHUNK_BYTES:
            yield b"".join(rows)
            rows, size = [], 0
            # Before the next block is made; one of few entries waits for no turn of its own.
            await (piece() if len(part) > SMALL_ENTRIES else asyncio.sleep(0))
    yield b"".join((*rows, COPY_TRAILER))


async def packed(entries: Sequence[StoredEntry]) -> tuple[Block, bytes | None]:
    """Return the block of these entries, and its mark: None if the last payload is large."""
    if _bytes(entries) > LARGE_BYTES:
        return await asyncio.to_thread(_packed, entries)
    return _packed(entries)


def _bytes(entries: Sequence[StoredEntry]) -> int:
    return sum(len(entry.payload) + len(entry.leaf) for entry in entries)


def _packed(entries: Sequence[StoredEntry]) -> tuple[Block, bytes | None]:
    block = pack(entries, raw=stands_alone(entries[0].leaf))
    small = len(entries[-1].payload) <= FRAME_BYTES
    return block, BlockTail.of(block).mark if small else None


def pack_row(block: Block) -> bytes:
    """Encode one row of the table; the hash must have 32 bytes."""
    fixed = _FIXED.pack(
        len(Block._fields), 8, block.org_id, 8, block.last_seq,
        8, from_datetime(block.anchored_at) - PG_EPOCH_US, 8, block.first_seq,
        HASH_BYTES, block.last_hash, 8, block.raw_bytes,
    )  # fmt: skip
    parts = [fixed]
    for value in (block.tags, block.ends, block.leaves, block.payloads):
        parts += (_LENGTH.pack(len(value)), value)
    return b"".join(parts)
