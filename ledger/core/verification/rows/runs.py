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

    @property
    def is_whole(self) -> bool:
        """Whether all entries of the block were read, and its own columns have no fault."""
        return self.stop - self.start == len(self.leaves) and not (
            self.faults or self.unreadable or self.without_payload
        )


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
    if count == 1:
        run = _read_one(block, layout)
        if run is not None:
            return run
    signatures, leaves = [*nothing], [*nothing]
    frames, without_leaf = _frames(block, "leaves", layout.record_frames, start, stop + 1)
    for frame, content in frames:
        ends = _ends(frame, layout.record_ends)
        starts = [0, *ends[:-1]]
        span = slice(frame.first, frame.last + 1)
        signatures[span] = [content[at : at + HASH_BYTES] for at in starts]
        leaves[span] = [
            content[at + HASH_BYTES : end] for at, end in zip(starts, ends, strict=True)
        ]
    payloads = nothing
    frames, without_payload = _frames(block, "payloads", layout.payload_frames, start, stop)
    for frame, content in frames:
        ends = _ends(frame, layout.payload_ends)
        payloads[frame.first : frame.last + 1] = [
            content[at:end] for at, end in zip([0, *ends[:-1]], ends, strict=True)
        ]
    faults = _faults(block, layout)
    return Run(
        block, start, stop, signatures, leaves, payloads, faults, without_leaf, without_payload
    )


def _read_one(block: CopiedBlock, layout: Layout) -> Run | None:
    """Read a block of one entry, at less cost; None if it can't be read."""
    (of_record,), (of_payload,) = layout.record_frames, layout.payload_frames
    try:
        record = content_of(block.leaves[: of_record.size], of_record)
        payload = content_of(block.payloads[: of_payload.size], of_payload)
    except BlockDamaged:
        return None
    signature, leaf = record[:HASH_BYTES], record[HASH_BYTES:]
    return Run(block, 0, 1, [signature], [leaf], [payload], _faults(block, layout))


def _frames(
    block: CopiedBlock, column: str, frames: Sequence[Frame], start: int, stop: int
) -> tuple[list[tuple[Frame, bytes]], list[UnreadableEntries]]:
    """Return the frames that hold any of the entries, with their content, and the unreadable ones."""
    stored: bytes = getattr(block, column)
    contents: list[tuple[Frame, bytes]] = []
    unreadable: list[UnreadableEntries] = []
    for frame in frames:
        if frame.last < start or frame.first >= stop:
            continue
        try:
            content = content_of(stored[frame.start : frame.start + frame.size], frame)
        except BlockDamaged as error:
            first, last = block.first_seq + frame.first, block.first_seq + frame.last
            unreadable.append(UnreadableEntries(first, last, str(error)))
        else:
            contents.append((frame, content))
    return contents, unreadable


def _ends(frame: Frame, ends: Sequence[int]) -> list[int]:
    """Return where the pieces of a frame end in its content."""
    return [end - frame.raw_start for end in ends[frame.first : frame.last + 1]]


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
