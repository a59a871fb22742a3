"""The newest entries of the trail `system`, while their signing key is missing on this machine."""

from __future__ import annotations

from ledger.chain import StoredEntry
from ledger.core.register.changes import Change, ChangeKind, change_of
from ledger.core.register.refusals import RegisterBehind
from ledger.entry import decode_leaf


class Unvouched:
    """Entries that follow the folded ones, link to them, and are intact but for a key that is missing.

    A later entry that links to them and is signed with a known key vouches for them: whoever wrote
    it had the keys. Until then anybody may have planted them, and what they say is neither believed
    nor ignored: what they name is not decided here. ``claimed`` is set if servers wrote up to here:
    then these entries may stand in the place of others, and nothing is decided.
    """

    def __init__(self) -> None:
        self.entries: list[StoredEntry] = []
        self.claimed = False
        self.missing: RegisterBehind | None = None
        self._rows: set[tuple[str, str]] = set()
        self._orgs: set[int] = set()
        self._restored: set[int | None] = set()

    def __bool__(self) -> bool:
        return bool(self.entries)

    def last_seq(self) -> int:
        """Return the seq of the last of them, -1 without any."""
        return self.entries[-1].seq if self.entries else -1

    def add(self, entry: StoredEntry) -> None:
        """Add the next entry."""
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

    def may_change(self, table: str, key: str, org_id: int | None) -> bool:
        """Return whether they may be about a row, which belongs to an org (None: to no single one)."""
        return self.claimed or (table, key) in self._rows or org_id in self._restored

    def concern(self, org_id: int) -> bool:
        """Return whether they may be about the freeze of an org, or the erasure of its persons."""
        return self.claimed or org_id in self._orgs

    def refuse(self) -> None:
        """Raise RegisterBehind if there are any."""
        if self.missing is not None:
            raise self.missing
