"""Folds the trail `system` into the state of the register, entry by entry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ledger.blocks.block import SYSTEM_ORG
from ledger.chain import UNKNOWN_KEY, StoredEntry, TrailFault, check_entry
from ledger.core.register.changes import accepts_loss, change_of
from ledger.core.register.reports import SIGNING_KEY_MISSING, ForgedRowReports
from ledger.core.register.state import RegisterState
from ledger.core.register.unvouched import Unvouched
from ledger.keys import SigningKeyring
from ledger.storage import register as storage
from ledger.storage.database import Database
from ledger.storage.entries import extent
from ledger.storage.entries.extent import BlockVersion
from ledger.storage.register import Damage, RegisterSnapshot

MAX_REPORTED: Final = 100
"""Faults of the trail that one process reports: more entries may be planted than are worth an event."""
MAX_REFUSED: Final = 10_000
"""Blocks that were read and refused, and are not read again while they stay as they are."""
Keyring = Callable[[bool], SigningKeyring]
"""Returns the keys that this machine knows; True: as its file has them now."""


class Fold:
    """The state up to ``seq``, whose entry has the hash ``hash``; None: that entry is lost.

    No row counts whose newest change is at ``damaged`` or before. ``unvouched`` are the entries after
    ``seq`` whose key is missing. One task at a time may call the methods that change it.
    """

    def __init__(self, database: Database, keyring: Keyring, reports: ForgedRowReports) -> None:
        self.state = RegisterState()
        self.seq = -1
        self.hash: bytes | None = b""
        self.damaged = -1
        self.unvouched = Unvouched()
        self._pending = self.unvouched
        self._database = database
        self._keyring = keyring
        self._reports = reports
        self._reported: set[str] = set()
        self._refused: frozenset[BlockVersion] = frozenset()
        self._lacks_key = False

    def begin(self, snapshot: RegisterSnapshot) -> None:
        """Begin with the state of a snapshot."""
        self.state = RegisterState.decoded(snapshot.state)
        self.seq, self.hash = snapshot.seq, snapshot.entry_hash

    async def go_on(self, system_id: int, written: int, last: int) -> None:
        """Fold the stored entries up to ``last``; servers wrote up to ``written``, as far as is known."""
        if last < self.seq:
            self._report(f"entries {last + 1} to {self.seq} are gone")
            return
        self._pending = Unvouched()
        await self._fold_new(system_id, last)
        if max(self.seq, self._pending.last_seq()) < written:
            self._skip(written)
        self._settle(written)

    def _settle(self, written: int) -> None:
        """Leave open what the entries at the end may be about, whose key is missing."""
        self.unvouched = left = self._pending
        if left.missing is not None:
            left.claimed = left.entries[0].seq <= written
            self._reports.found(None, str(left.missing), SIGNING_KEY_MISSING)

    async def _fold_new(self, system_id: int, last: int) -> None:
        """Fold the entries up to ``last`` whose blocks were not read and refused before.

        Whoever plants blocks far beyond the end of the trail makes each process read them once.
        """
        found = await extent.blocks_after(self._database, system_id, self.seq, MAX_REFUSED)
        new = [block for block in found if block not in self._refused]
        if len(found) < MAX_REFUSED:
            last = max((block.last_seq for block in new), default=self.seq)
        self._lacks_key = False
        if last > self.seq:
            async for page in storage.entries(self._database, system_id, self.seq + 1, last):
                self._fold_page(page)
        left = frozenset(block for block in found if block.last_seq > self.seq)
        # An entry whose key this process lacks may become right: it is read again.
        self._refused = frozenset() if self._lacks_key else left

    def _fold_page(self, page: list[StoredEntry] | Damage) -> None:
        if isinstance(page, Damage):
            self._report(page.reason)
            return
        for entry in page:
            self._fold(entry)

    def _fold(self, entry: StoredEntry) -> None:
        """Fold an entry that is intact. Others may have been planted before or beside it."""
        if entry.seq <= self.seq:
            self._report(f"entry {entry.seq} is stored twice")
            return
        if self._pending and entry.seq == self._pending.last_seq() + 1 and self._vouches(entry):
            return
        follows = entry.seq == self.seq + 1
        faults = self._faults(entry, self.hash if follows else None)
        if follows and _lacks_only_key(faults) and not self._pending:
            self._pending.add(entry)
        elif faults:
            self._report(f"entry {entry.seq} is not intact: {faults[0].reason}")
        else:
            if not follows and not accepts_loss(entry.payload, self.seq + 1, entry.seq - 1):
                self._skip(entry.seq - 1)
            self.apply(entry.seq, entry.entry_hash, entry.payload)

    def _vouches(self, entry: StoredEntry) -> bool:
        """Fold the entries whose key is missing, if this one links to them and is intact."""
        pending = self._pending
        faults = self._faults(entry, pending.last_hash)
        if faults and not _lacks_only_key(faults):
            return False
        if faults or pending.are_too_many:  # what was not kept can't be folded
            pending.add(entry)
        else:
            for each in [*pending.entries, entry]:
                self.apply(each.seq, each.entry_hash, each.payload)
        return True

    def _faults(self, entry: StoredEntry, previous_hash: bytes | None) -> list[TrailFault]:
        faults = check_entry(entry, SYSTEM_ORG, self._keyring(False), previous_hash)
        if faults:  # its key may have been made since
            faults = check_entry(entry, SYSTEM_ORG, self._keyring(True), previous_hash)
        self._lacks_key |= any(fault.kind == UNKNOWN_KEY for fault in faults)
        return faults

    def apply(self, seq: int, entry_hash: bytes, payload: bytes) -> None:
        """Fold the entry that follows ``seq`` and is known to be right."""
        if (found := change_of(payload)) is not None:
            self.state.apply(seq, *found)
        self.seq, self.hash = seq, entry_hash
        if self._pending:
            self._pending = Unvouched()

    def _skip(self, last: int) -> None:
        """Go on after entries that are lost: no row is right that they may have changed."""
        self._report(f"entries {self.seq + 1} to {last} are missing or can't be read")
        self.damaged = max(self.damaged, last)
        self.seq, self.hash = max(self.seq, last), None
        self._pending = Unvouched()

    def _report(self, reason: str) -> None:
        if reason in self._reported or len(self._reported) >= MAX_REPORTED:
            return
        self._reported.add(reason)
        self._reports.found(
            None,
            f"the trail {SYSTEM_ORG} was changed: {reason}. Rows that lost entries may have changed "
            "are refused. Verify it, and restore it from a backup or its archive",
        )


def _lacks_only_key(faults: list[TrailFault]) -> bool:
    return bool(faults) and all(fault.kind == UNKNOWN_KEY for fault in faults)
