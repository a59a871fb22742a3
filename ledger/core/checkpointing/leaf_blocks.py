"""Checks the leaves of one block for the signer: which of them follow a trail, and what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256
from struct import Struct
from typing import Final, NamedTuple

import msgspec

from ledger.blocks.frames import content_of
from ledger.blocks.layout import read_ends
from ledger.blocks.reading import previous_hash_of
from ledger.core.checkpointing.doubt import UNKNOWN_KEY, SigningDoubt
from ledger.core.verification.rows.rows import number_of, read_columns, read_row
from ledger.entry import HASH_BYTES, entry_hash
from ledger.keys import SigningKeyring
from ledger.storage.entries.copying import LEAVES_COLUMNS


class LeafPosition(msgspec.Struct, gc=False):
    """The fields of a leaf that name its place; the others are covered by its hash alone."""

    anchored_at: str
    key: str
    org: str
    previous_hash: str | None
    seq: int


_decode: Final = msgspec.json.Decoder(LeafPosition).decode
_decode_lines: Final = msgspec.json.Decoder(LeafPosition).decode_lines


def _decode_one(leaf: bytes) -> list[LeafPosition]:
    return [_decode(leaf)]


_MALFORMED: Final = (KeyError, msgspec.MsgspecError, UnicodeError, RecursionError)


_FIXED: Final = Struct(">hiqiqiqi32s")
"""A row up to last_hash, if no column is NULL and the hash has its width: nearly every row."""
_WIDTHS: Final = (8, 8, 8, HASH_BYTES)


class LeafBlock(NamedTuple):
    """The columns of a block without its payloads; b"" or 0 for one that is NULL or too large."""

    org_id: int
    last_seq: int
    first_seq: int
    last_hash: bytes
    ends: bytes
    leaves: bytes

    def cut(self, lower: int, upper: int) -> Records:
        """Return the signatures and leaves of the entries ``lower`` to ``upper - 1`` in the block.

        Raises BlockDamaged. Inflates only the frames with these entries.
        """
        layout = read_ends(self.ends, self.last_seq - self.first_seq + 1)
        if self.first_seq == self.last_seq:  # at less cost
            (frame,) = layout.record_frames
            content = content_of(self.leaves[: frame.size], frame)
            return Records(
                self.first_seq, [content[:HASH_BYTES]], [content[HASH_BYTES:]], self.last_hash
            )
        start = max(lower - self.first_seq, 0)
        stop = min(upper, self.last_seq + 1) - self.first_seq
        signatures: list[bytes] = []
        leaves: list[bytes] = []
        for frame in layout.record_frames:
            if frame.last < start or frame.first >= stop:
                continue
            content = content_of(self.leaves[frame.start : frame.start + frame.size], frame)
            first = max(frame.first, start)
            at = layout.record_ends[first - 1] - frame.raw_start if first else 0
            for end in layout.record_ends[first : min(frame.last + 1, stop)]:
                signed = at + HASH_BYTES
                signatures.append(content[at:signed])
                at = end - frame.raw_start
                leaves.append(content[signed:at])
        whole = self.first_seq + stop > self.last_seq
        return Records(
            self.first_seq + start, signatures, leaves, self.last_hash if whole else None
        )


def read_leaf_block(buffer: bytes, position: int) -> tuple[LeafBlock, int] | None:
    """Read the row of a block without payloads at ``position``, with any content.

    Returns it and its end; None at the trailer or if the row is incomplete. Raises CopyError for
    another row.
    """
    at = position + _FIXED.size
    if len(buffer) >= at:
        count, n1, org_id, n2, last_seq, n3, first_seq, n4, last_hash = _FIXED.unpack_from(
            buffer, position
        )
        if count == LEAVES_COLUMNS and (n1, n2, n3, n4) == _WIDTHS:
            columns = read_columns(buffer, at, 2)
            if columns is not None:
                (ends, leaves), end = columns
                return LeafBlock(org_id, last_seq, first_seq, last_hash, ends, leaves), end
    row = read_row(buffer, position, LEAVES_COLUMNS)
    if row is None:
        return None
    values, end = row
    org_id, last_seq, first_seq = (number_of(value) for value in values[:3])
    last_hash, ends, leaves = (value or b"" for value in values[3:])
    return LeafBlock(org_id, last_seq, first_seq, last_hash, ends, leaves), end


class Records(NamedTuple):
    """Consecutive signatures and leaves.

    ``last_hash`` is the stored hash of the last of them, None if an entry follows in the block.
    """

    first_seq: int
    signatures: Sequence[bytes]
    leaves: Sequence[bytes]
    last_hash: bytes | None


class Followed(NamedTuple):
    """The leaf hashes of right leaves, in order, and the time of the last; the doubt that ended them."""

    hashes: list[bytes]
    anchored_at: str | None
    doubt: SigningDoubt | None


class LeafChecks:
    """Checks leaves against their place, their org and the keys that sign entries."""

    def __init__(self, keyring: SigningKeyring) -> None:
        self._signers = {key.key_id: key.sign for key in keyring.keys()}

    def follow(self, records: Records, slug: str, link: str | None) -> Followed:
        """Check records of an org whose first must name ``link``, up to the first wrong one."""
        found = self._all(records, slug, link)
        return found or self._one_by_one(records, slug, link)

    def _all(self, records: Records, slug: str, link: str | None) -> Followed | None:
        """Check all records at once; None unless all are right. The signer's speed is this loop's."""
        lines = b"\n".join(records.leaves)
        if len(records.leaves) == 1:
            decoded: Callable[[bytes], list[LeafPosition]] = _decode_one
        elif _is_one_a_line(lines, len(records.leaves)):
            decoded = _decode_lines
        else:
            return None
        hashes = [sha256(b"\0" + leaf).digest() for leaf in records.leaves]
        signers, seq = self._signers, records.first_seq
        try:
            fields = decoded(lines)
            for place, digest, signature in zip(fields, hashes, records.signatures, strict=True):
                if (
                    place.previous_hash != link
                    or place.seq != seq
                    or place.org != slug
                    or signers[place.key](digest) != signature
                ):
                    return None
                link = digest.hex()
                seq += 1
        except (*_MALFORMED, ValueError):
            return None
        if records.last_hash not in (None, hashes[-1]):
            return None
        return Followed(hashes, fields[-1].anchored_at, None)

    def _one_by_one(self, records: Records, slug: str, link: str | None) -> Followed:
        hashes: list[bytes] = []
        anchored_at = None
        for number, (leaf, signature) in enumerate(
            zip(records.leaves, records.signatures, strict=True)
        ):
            digest, seq = entry_hash(leaf), records.first_seq + number
            doubt = self._doubt(leaf, signature, seq, slug, link)
            # Where the signature fits the leaf, the next leaf is to blame.
            is_last = number + 1 == len(records.leaves)
            of_leaf = is_last if doubt is None else doubt.kind in _OF_THE_LEAF
            if of_leaf and not _is_stored_under(digest, records, number):
                doubt = SigningDoubt(
                    "hash_mismatch", f"the leaf of entry {seq} does not hash to its entry hash"
                )
            if doubt is not None:
                return Followed(hashes, anchored_at, doubt)
            hashes.append(digest)
            anchored_at, link = _decode(leaf).anchored_at, digest.hex()
        return Followed(hashes, anchored_at, None)

    def _doubt(
        self, leaf: bytes, signature: bytes, seq: int, slug: str, link: str | None
    ) -> SigningDoubt | None:
        """The reason why a leaf is not the one expected, None if it is."""
        try:
            place = _decode(leaf)
        except _MALFORMED:
            return SigningDoubt("leaf_malformed", f"the leaf of entry {seq} can't be read")
        if place.key not in self._signers:
            key = f'"{place.key}"' if place.key.isprintable() else "with an unprintable id"
            return SigningDoubt(
                UNKNOWN_KEY,
                f"entry {seq} was signed with key {key}, which is not in this machine's "
                "keyring: give it the newest signing-keys.json",
            )
        if self._signers[place.key](entry_hash(leaf)) != signature:
            return SigningDoubt("signature_invalid", f"the signature of entry {seq} is invalid")
        if place.seq != seq or place.org != slug:
            # The other org is not named: the reason is shown to callers who may not know it.
            return SigningDoubt(
                "entry_moved", f"the leaf of entry {seq} belongs to another place or org"
            )
        if place.previous_hash != link:
            return SigningDoubt("link_broken", f"entry {seq} does not name the entry before it")
        return None


_OF_THE_LEAF: Final = ("leaf_malformed", "signature_invalid", UNKNOWN_KEY)
"""Doubts that an edited leaf raises, which its stored hash shows first."""


def _is_one_a_line(lines: bytes, count: int) -> bool:
    """Return whether each line is one JSON object and no more, if so many objects are decoded.

    A newline between } and { can't be inside an object.
    """
    return (
        lines.count(b"}\n{") == lines.count(b"\n") == count - 1
        and lines[:1] == b"{"
        and lines[-1:] == b"}"
    )


def _is_stored_under(digest: bytes, records: Records, number: int) -> bool:
    """Return whether the hash that the next leaf names, or the block for its last, is this one."""
    if number + 1 < len(records.leaves):
        return previous_hash_of(records.leaves[number + 1]) == digest
    return records.last_hash in (None, digest)
