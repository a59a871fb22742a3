"""Entries that seal security events, collected while a segment is checked; pure.

The leaves of all entries are read anyway, so no index is asked that could leave one out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from ledger.chain import StoredEntry
from ledger.entry import Leaf, decode_leaf
from ledger.errors import MalformedLeaf
from ledger.sealed_events import IN_LEAF, MAX_PAYLOAD_BYTES, SECURITY_EVENTS

MAX_TAKEN_BYTES: Final = 4 << 20
"""Payloads that are handed over at once, but for the last of them."""


class SealingEntry(msgspec.Struct, frozen=True, array_like=True):
    """One such entry: its seq, seal, and stored payload; None: it has a fault, or is too large."""

    seq: int
    seal: str | None
    payload: bytes | None


class SealingEntries:
    """The entries that were found and not taken yet."""

    def __init__(self) -> None:
        self._found: list[SealingEntry] = []

    def add(self, leaves: Sequence[Leaf], payloads: Sequence[bytes]) -> None:
        """Add those of some right entries, whose seqs follow each other."""
        # Every entry of a verification passes here: 30 ns, a third of a search in the leaves' bytes.
        for leaf in [leaf for leaf in leaves if leaf.event_type == SECURITY_EVENTS]:
            self._add(leaf.seq, leaf.payload.seal, payloads[leaf.seq - leaves[0].seq])

    def add_single(self, entry: StoredEntry, *, is_right: bool) -> None:
        """Add an entry that was checked by itself, if it is one of them."""
        if IN_LEAF not in entry.leaf:
            return
        try:
            seal = decode_leaf(entry.leaf).payload.seal
        except MalformedLeaf:
            seal, is_right = None, False
        self._add(entry.seq, seal, entry.payload if is_right else None)

    def _add(self, seq: int, seal: str | None, payload: bytes | None) -> None:
        fits = payload is not None and len(payload) <= MAX_PAYLOAD_BYTES
        self._found.append(SealingEntry(seq, seal, payload if fits else None))

    def take(self) -> list[SealingEntry]:
        """Return the first of them, and forget these; call it until there is none."""
        taken: list[SealingEntry] = []
        size = 0
        while len(taken) < len(self._found) and size <= MAX_TAKEN_BYTES:
            size += len(self._found[len(taken)].payload or b"")
            taken.append(self._found[len(taken)])
        del self._found[: len(taken)]
        return taken
