"""Turns the leaves of stored blocks into leaf hashes: each is checked before its hash is used.

No column of a block is trusted: a leaf hash is computed from
the leaf's bytes, its signature is checked, and the leaf must name its place
and the leaf before it. An entry that fails stops its trail.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from ledger.blocks.layout import BlockDamaged
from ledger.core.checkpointing.doubt import SigningDoubt
from ledger.core.checkpointing.leaf_blocks import LeafBlock, LeafChecks, read_leaf_block
from ledger.core.verification.rows.rows import CopyStream
from ledger.errors import QuireError
from ledger.keys import SigningKeyring


class LeafRange(NamedTuple):
    """Leaves ``lower`` to ``upper - 1`` of one org; ``link`` is the hash before them, as hex.

    All of them were anchored at or after ``since_us``.
    """

    org_id: int
    slug: str
    lower: int
    upper: int
    link: str | None
    since_us: int


class FollowedRows(NamedTuple):
    """The leaf hashes of one range, in order, and the time of the last leaf; or a doubt."""

    hashes: list[bytes]
    anchored_at: str | None
    doubt: SigningDoubt | None


NOTHING: Final = FollowedRows([], None, None)
"""The result for an empty range."""


class OutOfOrder(QuireError):
    """The database sent blocks that are not of the next range's org."""


class Follower:
    """Reads the bytes of a COPY of leaves and checks them against the requested ranges."""

    def __init__(self, ranges: Sequence[LeafRange], keyring: SigningKeyring) -> None:
        self.found: dict[int, FollowedRows] = {}
        self._ranges = iter(ranges)
        self._checks = LeafChecks(keyring)
        self._stream = CopyStream(read_leaf_block, self._take)
        self._next_range()

    async def feed(self, chunk: bytes) -> None:
        """Add the next bytes of the stream, cut anywhere."""
        self._stream.feed(chunk)

    def finish(self) -> dict[int, FollowedRows]:
        """Returns the rows found of each range, after the whole stream was fed."""
        self._stream.finish()
        while self._range is not None:
            self._close_range()
        return self.found

    def _next_range(self) -> None:
        self._range = next(self._ranges, None)
        self._hashes: list[bytes] = []
        self._anchored_at: str | None = None
        self._doubt: SigningDoubt | None = None
        self._missing: int | None = None

    def _close_range(self) -> None:
        if self._range is None:
            return
        expected = self._range.upper - self._range.lower
        if self._doubt is None and len(self._hashes) != expected:
            self._doubt = _missing(self._range.lower + len(self._hashes))
        self.found[self._range.org_id] = FollowedRows(self._hashes, self._anchored_at, self._doubt)
        self._next_range()

    def _take(self, block: LeafBlock) -> None:
        """Check the next block, of the next range whose org is the block's."""
        while self._range is not None and block.org_id != self._range.org_id:
            self._close_range()
        if self._range is None:
            raise OutOfOrder("the database sent blocks out of the requested order")
        if self._doubt is None:
            self._follow(block, self._range)
        elif self._missing is not None and block.first_seq <= self._missing <= block.last_seq:
            # It came late because another block, with a lower last seq, overlaps it.
            seq, self._missing = self._missing, None
            self._doubt = _repeated(seq)

    def _follow(self, block: LeafBlock, place: LeafRange) -> None:
        expected = place.lower + len(self._hashes)
        if block.first_seq > expected:
            self._doubt, self._missing = _missing(expected), expected
            return
        if block.first_seq < expected and self._hashes:
            self._doubt = _repeated(max(block.first_seq, place.lower))
            return
        try:
            records = block.cut(expected, place.upper)
        except BlockDamaged as error:
            reason = f"the block of entries {block.first_seq} to {block.last_seq} can't be read"
            self._doubt = SigningDoubt("entry_malformed", f"{reason}: {error}")
            return
        link = self._hashes[-1].hex() if self._hashes else place.link
        followed = self._checks.follow(records, place.slug, link)
        self._hashes += followed.hashes
        self._anchored_at = followed.anchored_at or self._anchored_at
        self._doubt = followed.doubt


def _missing(seq: int) -> SigningDoubt:
    return SigningDoubt("entry_missing", f"entry {seq} is missing from the trail")


def _repeated(seq: int) -> SigningDoubt:
    return SigningDoubt("entry_inserted", f"the trail has entry {seq} twice")
