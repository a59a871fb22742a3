"""The fast path: accepts, at the least cost, entries in which check_entry would find no fault.

It also follows the links from entry to entry: the hashes that a link may name, and which of two
entries at one seq is the wrong one.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Final

import msgspec
from blake3 import blake3

from ledger.blocks.block import TAG_BYTES
from ledger.chain import StoredEntry, TrailFault
from ledger.core.verification.rows.runs import TAGS_BYTES, Run
from ledger.entry import (
    HASH_BYTES,
    MAX_LEAF_BYTES,
    MAX_TIME_US,
    Leaf,
    decode_leaf,
    entry_hash,
    format_time,
    search_tag,
)
from ledger.errors import MalformedLeaf
from ledger.keys import SigningKeyring
from ledger.storage.copy_format import PG_EPOCH_US

MAX_LINKS: Final = 8
"""Hashes kept for one seq; more than one only if rows there have faults."""

Link = str | tuple[bytes, ...] | None
"""The expected ``previous_hash`` of the next row: one hash as hex, None for the first
entry, any of several hashes after a row with a fault, or UNKNOWN."""
UNKNOWN: Final = ()


def candidates(link: Link) -> tuple[bytes, ...]:
    """The hashes of a link, in the form that check_entry takes."""
    if link is None:
        return (b"",)
    return (bytes.fromhex(link),) if isinstance(link, str) else link


def links_from(entry: StoredEntry, faults: list[TrailFault]) -> tuple[bytes, ...]:
    """The hashes that the entry after this row may name as its ``previous_hash``.

    If leaf and stored hash differ, one of them was altered here, and the
    next entry has no fault in either case. A row that was moved here from another seq
    says nothing about the entry that belongs here.
    """
    kinds = {fault.kind for fault in faults}
    if "seq_mismatch" in kinds:
        return (entry.entry_hash,) if "hash_mismatch" in kinds else UNKNOWN
    hashes = (entry.entry_hash, entry_hash(entry.leaf))
    return tuple(dict.fromkeys(value for value in hashes if len(value) == HASH_BYTES))


def link_of(leaf: bytes | None) -> Link:
    """The ``previous_hash`` of a leaf that is known to be right."""
    return decode_leaf(leaf).previous_hash if leaf else UNKNOWN


def time_of(leaf: bytes | None) -> str | None:
    try:
        return decode_leaf(leaf).anchored_at if leaf else None
    except MalformedLeaf:
        return None


def as_second(entry: StoredEntry, faults: list[TrailFault], right_leaf: bytes) -> list[TrailFault]:
    """The faults of a row at a seq that another, right row has."""
    if any(fault.kind == "seq_mismatch" for fault in faults):
        return faults  # it was moved here from its own seq, where it is missing
    if entry.leaf == right_leaf:
        second = TrailFault(entry.seq, "duplicate_seq", "the trail has this entry more than once")
    else:
        second = TrailFault(entry.seq, "inserted", "this row is not the entry of its seq")
    return [second, *faults]


MAX_CACHED: Final = 20_000
"""Search tags that are cached for later entries."""
NOT_RIGHT: Final = (
    KeyError,
    msgspec.MsgspecError,
    UnicodeError,
    RecursionError,
    MalformedLeaf,
)
"""Errors that the fast path meets in an entry that is absent, unparsable or has an unknown key."""
# Names of a module are read faster than attributes.
decode_lines = msgspec.json.Decoder(Leaf).decode_lines
encode_lines = msgspec.json.Encoder().encode_lines


class _Tags(dict[str | None, bytes]):
    """A cache of the stored search tags of actors and subjects."""

    def __missing__(self, value: str | None) -> bytes:
        if len(self) >= MAX_CACHED:
            self.clear()
        tag = self[value] = search_tag(value).to_bytes(TAG_BYTES, "big")
        return tag


class RightRows:
    """Finds out whether entries of one org's trail are right."""

    def __init__(self, org: str, keyring: SigningKeyring) -> None:
        self._org = org
        self._signers = {key.key_id: key.sign for key in keyring.keys()}
        self._tags = _Tags()

    def digests(self, run: Run, start: int, stop: int, link: str | None) -> list[bytes] | None:
        """Return the leaf hashes of these entries of a run if all are right, else None.

        The first of them must link to ``link``.
        """
        try:
            return self._digests(run, start, stop, link)
        except NOT_RIGHT:
            return None

    def _digests(self, run: Run, start: int, stop: int, link: str | None) -> list[bytes] | None:
        """Check the entries; the speed of verification is the speed of this function.

        So it is one piece, which handles all leaves at once where it can. It has every condition of
        check_entry, including the rules of decode_leaf. The encoding of a leaf has no newline, so
        equal lines are equal leaves, each of them canonical.
        """
        org, signers, tag_of = self._org, self._signers, self._tags
        stored: list[bytes] = run.leaves[start:stop]  # type: ignore[assignment]
        lines = b"\n".join(stored)
        leaves = decode_lines(lines)
        if len(leaves) != stop - start or encode_lines(leaves) != lines + b"\n":
            return None
        anchored_at = _text(run.block.anchored)
        digests = [sha256(b"\0" + leaf).digest() for leaf in stored]
        seq = run.block.first_seq + start
        tags: list[bytes] = []
        for leaf, digest, signature, content in zip(
            leaves, digests, run.signatures[start:stop], run.payloads[start:stop], strict=True
        ):
            payload = leaf.payload
            if (
                leaf.previous_hash != link
                or leaf.seq != seq
                or leaf.org != org
                or leaf.anchored_at != anchored_at
                or signers[leaf.key](digest) != signature
                or payload.size != len(content)  # type: ignore[arg-type]
                or payload.blake3 != blake3(content).digest().hex()  # type: ignore[arg-type]
            ):
                return None
            tags += (tag_of[leaf.actor], tag_of[leaf.subject])
            link = digest.hex()
            seq += 1
        right = (
            b"".join(tags) == run.block.tags[TAGS_BYTES * start : TAGS_BYTES * stop]
            and (stop < len(run.leaves) or (digests[-1] == run.block.last_hash and not run.faults))
            and max(map(len, stored)) <= MAX_LEAF_BYTES
        )
        if b"\\" in lines or b"\x7f" in lines or b"\xc2" in lines:
            for line in stored:
                decode_leaf(line)
        return digests if right else None


def _text(anchored: int) -> str | None:
    """Return PostgreSQL's time in the text form of leaves; None for a time without that form."""
    time_us = anchored + PG_EPOCH_US
    return format_time(time_us) if 0 <= time_us <= MAX_TIME_US else None
