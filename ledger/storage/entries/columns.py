"""The columns of a block, and how many bytes of entries one page of them may have."""

from __future__ import annotations

from typing import Final

from ledger.blocks.block import Block

BLOCK_COLUMNS: Final = ", ".join(Block._fields)
"""The fields of ``Block``, in their order."""
PAGE_BYTES: Final = 8 << 20
"""Payload bytes after which a page ends early; its last entry may exceed them."""
