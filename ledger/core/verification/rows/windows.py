"""Windows: the blocks of 256 seqs, held until all of them are known, in the order of their entries.

The database sends blocks by their last seq. Blocks that overlap, which only tampering makes, would
come in another order than their entries.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter
from struct import Struct
from typing import Final

from ledger.blocks.layout import BLOCK_BITS, BLOCK_ENTRIES
from ledger.core.verification.rows.rows import CopiedBlock, CopyError

HELD_BYTES: Final = 16 << 20
"""Bytes of entries, not compressed, after which a window is handed over in parts."""
HELD_BLOCKS: Final = 1_024
"""Blocks after which it is. A window that was not tampered with has 256 at most."""
_END: Final = Struct(">I")


class Windows:
    """Hands the blocks of each window to ``take``, by their first seq and time.

    Call add for each block in the order of the database, then flush.
    """

    def __init__(self, take: Callable[[Sequence[CopiedBlock]], None]) -> None:
        self._take = take
        self._held: list[CopiedBlock] = []
        self._held_bytes = 0
        self._last_seq: int | None = None

    def add(self, block: CopiedBlock) -> None:
        """Add the next block. Raises CopyError unless blocks are ordered by their last seq."""
        last = block.last_seq if self._last_seq is None else self._last_seq
        if block.last_seq < last:
            raise CopyError(
                f"the database sent a block that ends at {block.last_seq} out of order: an index "
                "of the table entries may be damaged"
            )
        size = raw_bytes(block)
        full = self._held_bytes + size > HELD_BYTES or len(self._held) == HELD_BLOCKS
        if block.last_seq >> BLOCK_BITS != last >> BLOCK_BITS or full:
            self.flush()
        self._last_seq = block.last_seq
        self._held.append(block)
        self._held_bytes += size

    def flush(self) -> None:
        """Hand over the blocks that are held."""
        held, self._held, self._held_bytes = self._held, [], 0
        if held:
            self._take(sorted(held, key=attrgetter("first_seq", "anchored")))


def raw_bytes(block: CopiedBlock) -> int:
    """Return how many bytes the entries of a block have, which bounds what reading it takes.

    Taken from the column ``ends``, which is checked before a byte is inflated.
    """
    count, ends = block.entry_count, block.ends
    stored = len(block.leaves) + len(block.payloads)
    if not (0 < count <= BLOCK_ENTRIES and len(ends) > 8 * count):
        return stored
    (records,), (payloads,) = (
        _END.unpack_from(ends, 4 * count - 3),
        _END.unpack_from(ends, 8 * count - 3),
    )
    return max(int(records + payloads), stored)
