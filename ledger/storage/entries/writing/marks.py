"""Marks of the newest blocks: whether the block at a head is, byte for byte, the one written here.

A process that wrote a block knows that it is right. Where the stored bytes that the check of the
head reads are the same, it need not decode and check them again. PostgreSQL can compute a mark too.
Marks of different blocks at one head differ: org, seq and time are those of the head.
"""

from __future__ import annotations

from datetime import datetime
from hashlib import sha256
from struct import Struct
from typing import Final, NamedTuple

from ledger.blocks.block import Block
from ledger.blocks.layout import FRAME_BYTES, RECORD_BYTES

_NUMBERS: Final = Struct(">9q")


def tail(column: str, size: int) -> tuple[str, str]:
    """Return the SQL of where the last bytes of a column start in it, and of these bytes."""
    start = f"greatest(octet_length({column}) - {size}, 0)"
    return start, f"coalesce(substring({column} FROM {start} + 1), '')"


_LEAVES: Final = tail("e.leaves", RECORD_BYTES)
_PAYLOADS: Final = tail("e.payloads", FRAME_BYTES)
_BLOBS: Final = ("e.last_hash", "e.tags", "e.ends", _LEAVES[1], _PAYLOADS[1])
_SENT: Final = (
    "e.first_seq", "e.raw_bytes", _LEAVES[0], _PAYLOADS[0],
    *(f"octet_length({blob})" for blob in _BLOBS),
)  # fmt: skip
MARK: Final = f"sha256({' || '.join((*(f'int8send({number})' for number in _SENT), *_BLOBS))})"
"""The SQL of the mark of a block ``e``."""


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
        """The digest of all of it but org, seq and time."""
        blobs = (self.last_hash, self.tags, self.ends, self.leaves, self.payloads)
        numbers = (self.first_seq, self.raw_bytes, self.leaves_at, self.payloads_at)
        return sha256(b"".join((_NUMBERS.pack(*numbers, *map(len, blobs)), *blobs))).digest()
