"""A run: the consecutive entries of one block, as far as its frames can be read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Final, NamedTuple

from ledger.blocks.block import TAG_BYTES
from ledger.blocks.frames import content_of
from ledger.blocks.layout import BlockDamaged, Frame, Layout, read_ends
from ledger.blocks.reading import UnreadableEntries
from ledger.chain import StoredEntry, TrailFault
from ledger.core.verification.rows.rows import CopiedBlock
from ledger.entry import HASH_BYTES, from_datetime
from ledger.storage.copy_format import PG_EPOCH_US

TAGS_BYTES: Final = 2 * TAG_BYTES
"""Bytes of both tags of an entry."""


class Run(NamedTuple):
    """Some or all entries of a block, by their positions in it; None: not read or unreadable.

    The entries from ``start`` to ``stop - 1`` were read. ``faults`` are those of the block's own
    columns, at its last entry; ``unreadable`` are its entries whose leaf can't be read,
    ``without_payload`` those whose payload can't be read.
    """

    block: CopiedBlock
    start: int
    stop: int
    signatures: list[bytes | None]
    leaves: list[bytes | None]
    payloads: list[bytes | None]
    faults: Sequence[TrailFault] = ()
    unreadable: Sequence[UnreadableEntries] = ()
    without_payload: Sequence[UnreadableEntries] = ()


def has_impossible_borders(block: CopiedBlock) -> bool:
    """Return whether no block that Quire writes has these seqs."""
    return "first_seq" in block.absent or not (
        block.first_seq <= block.last_seq and block.first_seq >> 8 == block.last_seq >> 8
    )


def read_run(block: CopiedBlock, start: int, stop: int) -> Run:
    """Read the entries ``start`` to ``stop - 1`` of a block, by their positions in it.

    The leaf after them is read too, if the block has one: it names the hash of the last of them.
    Inflates only the frames of these entries, each to at most its size.
    """
    count = block.entry_count
    nothing: list[bytes | None] = [None] * count
    try:
        layout = read_ends(block.ends, count)
    except BlockDamaged as error:
        lost = UnreadableEntries(block.first_seq, block.last_seq, str(error))
        return Run(block, start, stop, nothing, nothing, nothing, (), [lost])
    without_leaf: list[UnreadableEntries] = []
    signatures, leaves = [*nothing], [*nothing]
    for frame, content in _contents(block, layout.record_frames, start, stop + 1, without_leaf):
        at = frame.raw_start
        position = frame.first
        for end in layout.record_ends[frame.first : frame.last + 1]:
            signed = at - frame.raw_start
            signatures[position] = content[signed : signed + HASH_BYTES]
            leaves[position] = content[signed + HASH_BYTES : end - frame.raw_start]
            at = end
            position += 1
    payloads, without_payload = _payloads(block, layout, start, stop)
    faults = _faults(block, layout)
    return Run(
        block, start, stop, signatures, leaves, payloads, faults, without_leaf, without_payload
    )


def _contents(
    block: CopiedBlock,
    frames: Sequence[Frame],
    start: int,
    stop: int,
    unreadable: list[UnreadableEntries],
    column: str = "leaves",
) -> Iterator[tuple[Frame, bytes]]:
    """Yield the frames that hold any of the entries, with their content, if it can be read."""
    stored: bytes = getattr(block, column)
    for frame in frames:
        if frame.last < start or frame.first >= stop:
            continue
        try:
            yield frame, content_of(stored[frame.start : frame.start + frame.size], frame)
        except BlockDamaged as error:
            first = block.first_seq
            unreadable.append(
                UnreadableEntries(first + frame.first, first + frame.last, str(error))
            )


def _payloads(
    block: CopiedBlock, layout: Layout, start: int, stop: int
) -> tuple[list[bytes | None], list[UnreadableEntries]]:
    unreadable: list[UnreadableEntries] = []
    payloads: list[bytes | None] = [None] * block.entry_count
    frames = _contents(block, layout.payload_frames, start, stop, unreadable, "payloads")
    for frame, content in frames:
        at = frame.raw_start
        position = frame.first
        for end in layout.payload_ends[frame.first : frame.last + 1]:
            payloads[position] = content[at - frame.raw_start : end - frame.raw_start]
            at = end
            position += 1
    return payloads, unreadable


def _faults(block: CopiedBlock, layout: Layout) -> list[TrailFault]:
    """Return the faults of a block's own columns, which no entry shows."""
    reasons = []
    if block.raw_bytes != layout.raw_bytes:
        reasons.append("column raw_bytes differs from the entries of the block")
    if len(block.tags) != TAGS_BYTES * block.entry_count:
        reasons.append("column tags has not the tags of all entries of the block")
    for name, frames in (("leaves", layout.record_frames), ("payloads", layout.payload_frames)):
        if len(getattr(block, name)) > frames[-1].start + frames[-1].size:
            reasons.append(f"column {name} has bytes that are in no frame")
    faults = [TrailFault(block.last_seq, "column_mismatch", reason) for reason in reasons]
    if block.absent:
        columns = ", ".join(block.absent)
        reason = f"these columns are NULL or too large: {columns}"
        faults.append(TrailFault(block.last_seq, "unreadable", reason))
    return faults


def runs_of(entries: Sequence[StoredEntry]) -> Iterator[Run]:
    """Yield entries that are in no block, which follow each other, as runs of one time each."""
    for anchored_at, group in groupby(entries, key=lambda entry: entry.anchored_at):
        some = list(group)
        first, last = some[0], some[-1]
        tags = [
            tag.to_bytes(TAG_BYTES, "big")
            for entry in some
            for tag in (entry.actor_tag, entry.subject_tag)
        ]
        anchored = from_datetime(anchored_at) - PG_EPOCH_US
        block = CopiedBlock(
            first.org_id, last.seq, anchored, first.seq, last.entry_hash,
            0, b"".join(tags), b"", b"", b"",
        )  # fmt: skip
        yield Run(
            block,
            0,
            len(some),
            [entry.signature for entry in some],
            [entry.leaf for entry in some],
            [entry.payload for entry in some],
        )
