"""Marks of the newest blocks: whether the block at a head is, byte for byte, the one written here.

A process that wrote a block knows that it is right. Where the stored bytes that the check of the
head reads are the same, it need not decode and check them again.
"""

from __future__ import annotations

from datetime import datetime
from struct import Struct
from typing import Final, NamedTuple

from blake3 import blake3

from ledger.blocks.block import Block
from ledger.blocks.layout import FRAME_BYTES, RECORD_BYTES
from ledger.entry import from_datetime

_NUMBERS: Final = Struct(">12q")


class BlockTail(NamedTuple):
    """A block's short columns, and the ends of ``leaves`` and ``payloads`` with where they start.

    The last record and, unless it is large, the last payload are in frames inside these ends.
    """

    org_id: int
    last_seq: int
    anchored_at: datetime
    first_seq: int
    last_hash: bytes
    raw_bytes: int
    tags: bytes
    ends: bytes
    leaves_at: int
    leaves: bytes
    payloads_at: int
    payloads: bytes

    @classmethod
    def of(cls, block: Block) -> BlockTail:
        """Return the tail of a whole block."""
        leaves_at = max(len(block.leaves) - RECORD_BYTES, 0)
        payloads_at = max(len(block.payloads) - FRAME_BYTES, 0)
        return cls(
            *block[:8],
            leaves_at,
            block.leaves[leaves_at:],
            payloads_at,
            block.payloads[payloads_at:],
        )

    @property
    def mark(self) -> bytes:
        """The digest of all of it."""
        blobs = (self.last_hash, self.tags, self.ends, self.leaves, self.payloads)
        numbers = (
            self.org_id, self.last_seq, from_datetime(self.anchored_at), self.first_seq,
            self.raw_bytes, self.leaves_at, self.payloads_at, *map(len, blobs),
        )  # fmt: skip
        return blake3(b"".join((_NUMBERS.pack(*numbers), *blobs))).digest()
