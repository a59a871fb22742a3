"""Checks the entries of an org's log as leaves of one trail: form, seq and chain."""

from __future__ import annotations

from collections.abc import Sequence

from ledger.entry import decode_leaf, entry_hash
from ledger.errors import MalformedLeaf
from ledger.evidence.verdict import Findings
from ledger.tiles import EntryTile


class ProvedEntries:
    """Takes proved entries in order. ``slug`` is None where the log is not an org's."""

    def __init__(self, slug: str | None, findings: Findings) -> None:
        self._slug = slug
        self._findings = findings
        self._next = 0
        self._hash: str | None = None
        self._links = 0
        self._unreadable = 0

    def take(self, bundle: EntryTile, entries: Sequence[bytes]) -> None:
        """Check the entries of one bundle."""
        if self._slug is None:
            return
        if bundle.start != self._next:
            self._hash = None  # the entries between were not proved
        for seq, entry in enumerate(entries, bundle.start):
            self._check(seq, entry)
            self._hash = entry_hash(entry).hex()
        self._next = bundle.start + len(entries)

    def finish(self, complete: bool) -> None:
        """Record the finding about the links of all entries."""
        if self._slug is None:
            self._findings.leaves_out("links", "the entries are not of an org's trail")
        elif self._unreadable:
            self._findings.leaves_out("links", f"{self._unreadable} leaves can't be read")
        elif complete and self._next > 1:
            self._findings.holds("links", f"{self._links} entries follow the one before them")
        else:
            self._findings.leaves_out("links", "no two entries that follow one another were proved")

    def _check(self, seq: int, entry: bytes) -> None:
        try:
            leaf = decode_leaf(entry)
        except MalformedLeaf as error:
            self._findings.fails("hashes", f"entry {seq}: {error}")
            self._unreadable += 1
            return
        if (leaf.org, leaf.seq) != (self._slug, seq):
            reason = f"its leaf is of entry {leaf.seq} of {leaf.org!r}"
            self._findings.fails("hashes", f"entry {seq} of {self._slug!r}: {reason}")
        if self._hash is not None:
            self._links += 1
            if leaf.previous_hash != self._hash:
                self._findings.fails(
                    "links", f"entry {seq} does not name the hash of the one before"
                )
