"""Turns stored rows into leaf hashes: each new row is checked before its hash is used.

No column of a row is trusted: the leaf hash is computed from
the leaf's bytes, its signature is checked, and the leaf must name its place
and the leaf before it. A row that fails stops its trail.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from hashlib import sha256
from typing import Final, NamedTuple

import msgspec

from ledger.core.checkpointing.doubt import UNKNOWN_KEY, SigningDoubt
from ledger.core.verification.rows.rows import skip_header
from ledger.entry import HASH_BYTES, MAX_LEAF_BYTES
from ledger.errors import QuireError
from ledger.keys import SigningKeyring

_FIXED = struct.Struct(">hiqiqi32si32si")
"""A row up to its leaf: column count, org_id, seq, entry_hash, signature, length of the leaf."""
_START = struct.Struct(">hiq")
"""The start of a row: column count, org_id."""
_COLUMNS: Final = 5
_TRAILER = struct.Struct(">h")
_CHUNK_BYTES: Final = 1 << 18
"""Bytes that are collected before rows are checked."""


class _LeafPosition(msgspec.Struct, gc=False):
    """The fields of a leaf that name its place; the others are covered by its hash alone."""

    anchored_at: str
    key: str
    org: str
    previous_hash: str | None
    seq: int


_decode = msgspec.json.Decoder(_LeafPosition).decode
_MALFORMED: Final = (struct.error, KeyError, msgspec.MsgspecError, UnicodeError, RecursionError)


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
    """The database sent rows that are not of the next range's org."""


class Follower:
    """Reads the bytes of a COPY of leaves and checks them against the requested ranges."""

    def __init__(self, ranges: Sequence[LeafRange], keyring: SigningKeyring) -> None:
        self.found: dict[int, FollowedRows] = {}
        self._ranges = iter(ranges)
        self._signers = {key.key_id: key.sign for key in keyring.keys()}
        self._parts: list[bytes] = []
        self._waiting = 0
        self._started = False
        self._doubt: SigningDoubt | None = None
        self._next_range()

    async def feed(self, chunk: bytes) -> None:
        """Add the next bytes of the stream, cut anywhere."""
        self._parts.append(bytes(chunk))
        self._waiting += len(chunk)
        if self._waiting >= _CHUNK_BYTES:
            self._check_rows()

    def finish(self) -> dict[int, FollowedRows]:
        """Returns the rows found of each range, after the whole stream was fed."""
        self._check_rows()
        while self._range is not None:
            self._close_range()
        return self.found

    def _check_rows(self) -> None:
        buffer = b"".join(self._parts)
        position = 0
        if not self._started:
            start = skip_header(buffer)
            if start is None:
                return
            self._started, position = True, start
        rest = buffer[self._follow(buffer, position) :]
        self._parts = [rest]
        self._waiting = len(rest)

    def _next_range(self) -> None:
        self._range = next(self._ranges, None)
        self._hashes: list[bytes] = []
        self._anchored_at: str | None = None
        self._doubt = None

    def _close_range(self) -> None:
        if self._range is None:
            return
        expected = self._range.upper - self._range.lower
        if self._doubt is None and len(self._hashes) != expected:
            seq = self._range.lower + len(self._hashes)
            self._doubt = SigningDoubt("entry_missing", f"entry {seq} is missing from the trail")
        self.found[self._range.org_id] = FollowedRows(self._hashes, self._anchored_at, self._doubt)
        self._next_range()

    def _follow(self, buffer: bytes, position: int) -> int:
        """Check the complete rows; returns the position of the first incomplete one."""
        end = len(buffer)
        while end - position >= _FIXED.size:
            columns, _, org_id = _START.unpack_from(buffer, position)
            if columns != _COLUMNS:
                raise OutOfOrder(f"the database sent a row of {columns} columns, not {_COLUMNS}")
            while self._range is not None and org_id != self._range.org_id:
                self._close_range()
            if self._range is None:
                raise OutOfOrder("the database sent rows out of the requested order")
            if self._doubt is None:
                position, complete = self._hash_range(buffer, position, self._range)
                if complete and self._doubt is None:
                    continue
                if self._doubt is None:
                    return position
            position, complete = _skip(buffer, position)
            if not complete:
                return position
        return position

    def _hash_range(self, buffer: bytes, position: int, place: LeafRange) -> tuple[int, bool]:
        """Check and hash rows of one range, up to its end or to the first wrong row.

        Returns the position of the next row, and False if the buffer ends before that row is
        complete. The speed of the checkpointer is the speed of this loop.
        """
        unpack, fixed_bytes, signers = _FIXED.unpack_from, _FIXED.size, self._signers
        add, org_id, slug = self._hashes.append, place.org_id, place.slug
        expected = place.lower + len(self._hashes)
        link = self._hashes[-1].hex() if self._hashes else place.link
        end = leaf_end = len(buffer)
        digest, anchored_at = b"", self._anchored_at
        while end - position >= fixed_bytes:
            try:
                _, _, row_org, _, seq, n3, stored, n4, signature, leaf_bytes = unpack(
                    buffer, position
                )
                leaf_at = position + fixed_bytes
                leaf_end = leaf_at + leaf_bytes
                if row_org != org_id:
                    return position, True
                if leaf_end > end and n3 == n4 == HASH_BYTES and leaf_bytes <= MAX_LEAF_BYTES:
                    return position, False
                leaf = buffer[leaf_at:leaf_end]
                digest = sha256(b"\x00" + leaf).digest()
                fields = _decode(leaf)
                right = (
                    seq == expected
                    and seq < place.upper
                    and n3 == n4 == HASH_BYTES
                    and digest == stored
                    and signers[fields.key](digest) == signature
                    and fields.previous_hash == link
                    and fields.seq == seq
                    and fields.org == slug
                )
                anchored_at = fields.anchored_at
            except _MALFORMED:
                right = False
            if not right:
                self._doubt = self._row_doubt(buffer, position, expected, place)
                return position, True
            add(digest)
            self._anchored_at = anchored_at
            link = digest.hex()
            expected += 1
            position = leaf_end
        return position, False

    def _row_doubt(
        self, buffer: bytes, position: int, expected: int, place: LeafRange
    ) -> SigningDoubt:
        """The reason why the row at ``position`` is not the one expected."""
        _, _, _, _, seq, n3, stored, n4, signature, leaf_bytes = _FIXED.unpack_from(
            buffer, position
        )
        if seq > expected:
            return SigningDoubt("entry_missing", f"entry {expected} is missing from the trail")
        if seq < expected:
            return SigningDoubt("entry_inserted", f"the trail has entry {seq} twice")
        if not (n3 == n4 == HASH_BYTES and 0 <= leaf_bytes <= MAX_LEAF_BYTES):
            return SigningDoubt(
                "entry_malformed",
                f"the hash, signature or leaf of entry {seq} is missing or has an impossible length",
            )
        leaf_at = position + _FIXED.size
        leaf = buffer[leaf_at : leaf_at + leaf_bytes]
        if sha256(b"\x00" + leaf).digest() != stored:
            return SigningDoubt(
                "hash_mismatch", f"the leaf of entry {seq} does not hash to its entry hash"
            )
        try:
            return self._leaf_doubt(_decode(leaf), seq, stored, signature, place)
        except _MALFORMED:
            return SigningDoubt("leaf_malformed", f"the leaf of entry {seq} can't be read")

    def _leaf_doubt(
        self, leaf: _LeafPosition, seq: int, digest: bytes, signature: bytes, place: LeafRange
    ) -> SigningDoubt:
        """The reason why a leaf that hashes to its entry hash is not the one expected."""
        if leaf.key not in self._signers:
            key = f'"{leaf.key}"' if leaf.key.isprintable() else "with an unprintable id"
            return SigningDoubt(
                UNKNOWN_KEY,
                f"entry {seq} was signed with key {key}, which is not in this machine's "
                "keyring: give it the newest signing-keys.json",
            )
        if self._signers[leaf.key](digest) != signature:
            return SigningDoubt("signature_invalid", f"the signature of entry {seq} is invalid")
        if leaf.seq != seq or leaf.org != place.slug:
            # The other org is not named: the reason is shown to callers who may not know it.
            return SigningDoubt(
                "entry_moved", f"the leaf of entry {seq} belongs to another place or org"
            )
        return SigningDoubt("link_broken", f"entry {seq} does not name the entry before it")


def _skip(buffer: bytes, position: int) -> tuple[int, bool]:
    """The position after one row of any content, and True; False while the row is incomplete."""
    at = position + _TRAILER.size
    for _ in range(_COLUMNS):
        if len(buffer) - at < 4:
            return position, False
        (length,) = struct.unpack_from(">i", buffer, at)
        at += 4 + max(length, 0)
        if at > len(buffer):
            return position, False
    return at, True
