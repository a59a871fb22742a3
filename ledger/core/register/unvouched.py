"""The newest entries of the trail `system`, while their signing key is missing on this machine."""

from __future__ import annotations

from typing import Final

from ledger.chain import StoredEntry
from ledger.core.register.changes import Change, ChangeKind, change_of
from ledger.core.register.refusals import RegisterBehind
from ledger.entry import decode_leaf

MAX_ENTRIES: Final = 1_000
"""Entries that are kept; if more lack a key, nothing is decided until it comes."""


class Unvouched:
    """Entries that follow the folded ones, link to them, and lack nothing but a key.

    A later entry that links to them and is signed with a known key vouches for them: whoever wrote
    it had the keys. Until then anybody may have planted them, and what they say is neither believed
    nor ignored: what they name is not decided here. ``claimed`` is set if servers wrote up to here:
    then these entries may stand in the place of others, and nothing is decided.
    """

    def __init__(self) -> None:
        self.entries: list[StoredEntry] = []
        self.claimed = self.are_too_many = False
        self.missing: RegisterBehind | None = None
        self._last_seq, self._last_hash = -1, b""
        self._rows: set[tuple[str, str]] = set()
        self._orgs: set[int] = set()
        self._restored: set[int | None] = set()

    def __bool__(self) -> bool:
        return bool(self.entries)

    def last_seq(self) -> int:
        """Return the seq of the last of them, also if it was not kept; -1 without any."""
        return self._last_seq

    @property
    def last_hash(self) -> bytes:
        """The hash of the last of them."""
        return self._last_hash

    def add(self, entry: StoredEntry) -> None:
        """Add the next entry; of too many only the first are kept."""
        self._last_seq, self._last_hash = entry.seq, entry.entry_hash
        if len(self.entries) >= MAX_ENTRIES:
            self.are_too_many = True
            return
        if self.missing is None:
            self.missing = RegisterBehind(entry.seq, decode_leaf(entry.leaf).key)
        self.entries.append(entry)
        if (found := change_of(entry.payload)) is not None:
            self._note(*found)

    def _note(self, kind: ChangeKind, change: Change) -> None:
        self._rows |= {(row.table, row.key) for row in change.rows}
        if change.org_id is not None:
            self._orgs.add(change.org_id)
        if kind is ChangeKind.ORG_RESTORED:
            self._restored.add(change.org_id)

    @property
    def is_open(self) -> bool:
        """Whether nothing is decided here."""
        return self.claimed or self.are_too_many

    def may_change(self, table: str, key: str, org_id: int | None) -> bool:
        """Return whether they may be about a row, which belongs to an org (None: to no single one)."""
        return self.is_open or (table, key) in self._rows or org_id in self._restored

    def concern(self, org_id: int) -> bool:
        """Return whether they may be about the freeze of an org, or the erasure of its persons."""
        return self.is_open or org_id in self._orgs

    def refuse(self) -> None:
        """Raise RegisterBehind if there are any."""
        if self.missing is not None:
            raise self.missing
