"""The fast path: accepts, at the least cost, entries in which check_entry would find no fault.

It also follows the links from entry to entry: the hashes that a link may name, and which of two
entries at one seq is the wrong one.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Final, NamedTuple

import msgspec
from blake3 import blake3

from ledger.blocks.block import TAG_BYTES
from ledger.chain import StoredEntry, TrailFault
from ledger.core.verification.rows.runs import TAGS_BYTES, Run
from ledger.core.verification.work.sealing_entries import SealingEntries
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
"""Search tags, and times as text, that are cached for later entries."""
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


class _Times(dict[int, str | None]):
    """A cache of PostgreSQL's times in the text form of leaves; None for a time without that form."""

    def __missing__(self, anchored: int) -> str | None:
        if len(self) >= MAX_CACHED:
            self.clear()
        time_us = anchored + PG_EPOCH_US
        text = self[anchored] = format_time(time_us) if 0 <= time_us <= MAX_TIME_US else None
        return text


class RunSpan(NamedTuple):
    """Consecutive readable entries, of one block or of several, and what their columns say.

    ``times`` are those of their blocks; ``hashes`` are the stored hashes of some, by position.
    """

    first_seq: int
    signatures: Sequence[bytes]
    leaves: Sequence[bytes]
    payloads: Sequence[bytes]
    times: Sequence[int]
    tags: bytes
    hashes: Sequence[tuple[int, bytes]]

    @classmethod
    def of(cls, run: Run, start: int, stop: int) -> RunSpan:
        """Return the entries ``start`` to ``stop - 1`` of a run, which must be readable."""
        hashes = [(stop - start - 1, run.block.last_hash)] if stop == len(run.leaves) else []
        return cls(
            run.block.first_seq + start,
            run.signatures[start:stop],  # type: ignore[arg-type]
            run.leaves[start:stop],  # type: ignore[arg-type]
            run.payloads[start:stop],  # type: ignore[arg-type]
            [run.block.anchored] * (stop - start),
            run.block.tags[TAGS_BYTES * start : TAGS_BYTES * stop],
            hashes,
        )

    @classmethod
    def joined(cls, runs: Sequence[Run]) -> RunSpan:
        """Return all entries of runs that follow each other and are readable."""
        hashes, times, end = [], [], 0
        for run in runs:
            count = len(run.leaves)
            end += count
            hashes.append((end - 1, run.block.last_hash))
            times += [run.block.anchored] * count
        return cls(
            runs[0].block.first_seq,
            [signature for run in runs for signature in run.signatures],  # type: ignore[misc]
            [leaf for run in runs for leaf in run.leaves],  # type: ignore[misc]
            [payload for run in runs for payload in run.payloads],  # type: ignore[misc]
            times,
            b"".join(run.block.tags for run in runs),
            hashes,
        )


class Seals:
    """Which entries are sealed: all of an org's are, or none is."""

    def __init__(self) -> None:
        self.sealed = False
        self.unsealed_seq: int | None = None

    def add(self, leaves: Sequence[Leaf], plain: int) -> None:
        """Add leaves, of which so many are not sealed."""
        self.sealed = self.sealed or plain < len(leaves)
        if plain and self.unsealed_seq is None:
            self.unsealed_seq = next(leaf.seq for leaf in leaves if leaf.payload.seal is None)

    def add_stored(self, seq: int, stored: bytes) -> None:
        """Add one stored leaf, valid or not."""
        try:
            leaf = decode_leaf(stored)
        except MalformedLeaf:
            return
        if leaf.seq == seq:
            self.add([leaf], int(leaf.payload.seal is None))


class RightRows:
    """Finds out whether entries of one org's trail are right."""

    def __init__(self, org: str, keyring: SigningKeyring) -> None:
        self._org = org
        self._signers = {key.key_id: key.sign for key in keyring.keys()}
        self._tags = _Tags()
        self._times = _Times()
        self.seals = Seals()
        self.sealing = SealingEntries()

    def digests(self, span: RunSpan, link: str | None) -> list[bytes] | None:
        """Return the leaf hashes of these entries if all are right, else None.

        The first of them must link to ``link``.
        """
        try:
            return self._digests(span, link)
        except NOT_RIGHT:
            return None

    def _digests(self, span: RunSpan, link: str | None) -> list[bytes] | None:
        """Check the entries; the speed of verification is the speed of this function.

        So it is one piece, which handles all leaves at once where it can. It has every condition of
        check_entry, including the rules of decode_leaf. The encoding of a leaf has no newline, so
        equal lines are equal leaves, each of them canonical.
        """
        org, signers, tag_of, text_of = self._org, self._signers, self._tags, self._times
        stored = span.leaves
        lines = b"\n".join(stored)
        leaves = decode_lines(lines)
        if len(leaves) != len(stored) or encode_lines(leaves) != lines + b"\n":
            return None
        digests = [sha256(b"\0" + leaf).digest() for leaf in stored]
        seq = span.first_seq
        tags: list[bytes] = []
        plain = 0
        for leaf, digest, signature, content, time in zip(
            leaves, digests, span.signatures, span.payloads, span.times, strict=True
        ):
            payload = leaf.payload
            if (
                leaf.previous_hash != link
                or leaf.seq != seq
                or leaf.org != org
                or leaf.anchored_at != text_of[time]
                or signers[leaf.key](digest) != signature
                or payload.size != len(content)
                or payload.blake3 != blake3(content).digest().hex()
            ):
                return None
            tags += (tag_of[leaf.actor], tag_of[leaf.subject])
            plain += payload.seal is None
            link = digest.hex()
            seq += 1
        if b"\\" in lines or b"\x7f" in lines or b"\xc2" in lines:
            for line in stored:
                decode_leaf(line)
        right = (
            b"".join(tags) == span.tags
            and all(digests[at] == stored_hash for at, stored_hash in span.hashes)
            and max(map(len, stored)) <= MAX_LEAF_BYTES
        )
        if right:
            self.seals.add(leaves, plain)
            self.sealing.add(leaves, span.payloads)
        return digests if right else None
