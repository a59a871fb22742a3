"""Blocks of the product with a frame that can't be read."""

from __future__ import annotations

from ledger.blocks.block import Block


def with_bad_frame(block: Block, column: str, number: int = 1) -> Block:
    """Return the block with zeros for a compressed frame of ``leaves`` or ``payloads``."""
    layout = block.layout()
    frames = layout.record_frames if column == "leaves" else layout.payload_frames
    frame, whole = frames[number], getattr(block, column)
    assert frame.size < frame.raw_size, "zeros in a raw frame are another content"
    end = frame.start + frame.size
    return block._replace(**{column: whole[: frame.start] + bytes(frame.size) + whole[end:]})
