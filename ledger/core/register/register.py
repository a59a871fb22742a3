"""Follows the trail `system` and compares rows with it.

A row that decides is right only if it has the MAC that its newest change in that trail states. So a
row that was right once, and was put back, is refused. Every process that loads rows has a register,
which it folds from the trail when it starts, and then follows.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, TypeVar

from ledger.blocks.block import SYSTEM_ORG
from ledger.chain import UNKNOWN_KEY, ChainHead, StoredEntry, check_entry
from ledger.core.register.changes import accepts_loss, change_of
from ledger.core.register.refusals import RegisterCut, RegisterMissing
from ledger.core.register.reports import ForgedRowReports
from ledger.core.register.snapshots import SnapshotSchedule, due_after
from ledger.core.register.state import RegisterState
from ledger.errors import StorageError
from ledger.keys import SigningKeyring
from ledger.storage import register as storage
from ledger.storage.database import Database
from ledger.storage.entries import extent
from ledger.storage.entries.extent import BlockVersion
from ledger.storage.register import Damage, RegisterSnapshot

FRESH_S: Final = 1.0
"""A process that followed the trail so recently does not ask for its head again."""
MAX_REPORTED: Final = 100
"""Faults of the trail that one process reports: more entries may be planted than are worth an event."""
MAX_REFUSED: Final = 10_000
"""Blocks that were read and refused, and are not read again while they stay as they are."""
_TRIES: Final = 3
_log = logging.getLogger(__name__)
Row = TypeVar("Row")
Facts = Callable[[Row], tuple[str, str, bytes]]
"""Returns table, primary key and MAC of a row."""


class Register:
    """The state of the register in one process. Its methods raise DatabaseUnavailable.

    ``acknowledged`` returns the newest head of an org that this machine acknowledged. Without it, a
    trail that was cut while no process followed it is not noticed.
    """

    def __init__(
        self,
        database: Database,
        keyring: Callable[[bool], SigningKeyring],
        row_key: bytes,
        acknowledged: Callable[[int], ChainHead | None] = lambda _: None,
    ) -> None:
        self.row_key = row_key
        self.reports = ForgedRowReports(database)
        self.state = RegisterState()
        self.system_id: int | None = None
        self.database = database
        self._keyring = keyring
        self._acknowledged = acknowledged
        self._seq = -1
        self._hash: bytes | None = b""
        self._damaged = -1
        self._reported: set[str] = set()
        self._refused: frozenset[BlockVersion] = frozenset()
        self._lacks_key = False
        self._schedule = SnapshotSchedule()
        self._storing: asyncio.Task[None] | None = None
        self._caught_up_s = -math.inf
        self._following = asyncio.Lock()

    async def open(self, *, adopts: bool = False) -> bool:
        """Fold the trail; False if the database is new and has no org `system`.

        Raises RegisterMissing where there are other orgs, unless the caller ``adopts`` them, and
        RegisterCut.
        """
        self.system_id = await storage.system_org(self.database)
        if self.system_id is None:
            if not adopts and await storage.has_rows(self.database):
                raise RegisterMissing
            return False
        await self._require_acknowledged(self.system_id)
        await self._begin_at_snapshot()
        began = self._seq
        await self.follow()
        self._schedule.reaches(self._seq)
        if self._seq >= due_after(max(began, 0)):
            await self.store_snapshot()
        return True

    async def _require_acknowledged(self, system_id: int) -> None:
        known = self._acknowledged(system_id)
        last = await storage.last_seq(self.database, system_id)
        if known is not None and known.seq > last:
            raise RegisterCut(known.seq, last)

    async def _begin_at_snapshot(self) -> None:
        """Begin at the newest snapshot; one that is beyond the trail shows that it was shortened."""
        snapshot = await storage.newest_snapshot(self.database, self.row_key)
        if snapshot is not None:
            self.state = RegisterState.decoded(snapshot.state)
            self._seq, self._hash = snapshot.seq, snapshot.entry_hash

    async def store_snapshot(self) -> bool:
        """Store the state for later starts.

        False if entries before it can't be read, or a planted row has its place.
        """
        if self._damaged >= 0 or self._hash is None:
            return False
        if self._seq < 0:
            return True
        seq, entry_hash, stored = self._seq, self._hash, self.state.stored()
        state = await asyncio.to_thread(stored.encoded)  # of a large register: others are served
        return await storage.add_snapshot(
            self.database, RegisterSnapshot(seq, entry_hash, state), self.row_key
        )

    async def _store_due_snapshot(self) -> None:
        try:
            await self.store_snapshot()
        except StorageError as error:
            _log.warning("a snapshot of the register could not be stored: %s", error)

    async def refresh(self) -> None:
        """Follow the trail, unless it was followed a moment ago."""
        if time.monotonic() - self._caught_up_s > FRESH_S:
            await self.catch_up()

    async def catch_up(self) -> None:
        """Follow the trail if its head has moved."""
        asked_s = time.monotonic()
        if self.system_id is None:
            self.system_id = await storage.system_org(self.database)
        if self.system_id is None:
            return
        # The head row is not asked: whoever sets it back would hide the newest entries.
        if await storage.last_seq(self.database, self.system_id) != self._seq:
            await self.follow()
        self._caught_up_s = asked_s

    async def wrote(self, seq: int, entry_hash: bytes, payload: bytes) -> None:
        """Fold an entry that this process has just written, without reading it again."""
        async with self._following:
            if seq == self._seq + 1:
                self._apply(seq, entry_hash, payload)
                if self._schedule.reaches(seq):
                    self._storing = asyncio.create_task(self._store_due_snapshot())
                return
        await self.catch_up()  # another process wrote before

    async def follow(self) -> None:
        """Fold the entries that are stored after the last folded one."""
        async with self._following:
            assert self.system_id is not None, "there is a trail to follow"
            # Read before the entries: up to here there must be some.
            written = await self._written_seq(self.system_id)
            last = await storage.last_seq(self.database, self.system_id)
            if last < self._seq:
                self._report(f"entries {last + 1} to {self._seq} are gone")
                return
            await self._fold_new(self.system_id, last)
            if self._seq < written:
                self._skip(written)

    async def _fold_new(self, system_id: int, last: int) -> None:
        """Fold the entries up to ``last`` whose blocks were not read and refused before.

        Whoever plants blocks far beyond the end of the trail makes each process read them once.
        """
        found = await extent.blocks_after(self.database, system_id, self._seq, MAX_REFUSED)
        new = [block for block in found if block not in self._refused]
        if len(found) < MAX_REFUSED:
            last = max((block.last_seq for block in new), default=self._seq)
        self._lacks_key = False
        if last > self._seq:
            async for page in storage.entries(self.database, system_id, self._seq + 1, last):
                self._fold_page(page)
        left = frozenset(block for block in found if block.last_seq > self._seq)
        # An entry whose key this process lacks may become right: it is read again.
        self._refused = frozenset() if self._lacks_key else left

    async def _written_seq(self, system_id: int) -> int:
        """Return the seq up to which the trail was written by servers, as far as it is known.

        Entries after it that are not intact were planted: they can't be about any row.
        """
        known = self._acknowledged(system_id)
        if known is not None:
            return known.seq
        last = await storage.last_seq(self.database, system_id)
        return min(await storage.head_seq(self.database, system_id), last)

    def _fold_page(self, page: list[StoredEntry] | Damage) -> None:
        if isinstance(page, Damage):
            self._report(page.reason)
            return
        for entry in page:
            self._fold(entry)

    def _fold(self, entry: StoredEntry) -> None:
        """Fold an entry that is intact. Others may have been planted before or beside it."""
        if entry.seq <= self._seq:
            self._report(f"entry {entry.seq} is stored twice")
            return
        follows = entry.seq == self._seq + 1
        fault = self._fault(entry, self._hash if follows else None)
        if fault is not None:
            self._report(f"entry {entry.seq} is not intact: {fault}")
            return
        if not follows and not accepts_loss(entry.payload, self._seq + 1, entry.seq - 1):
            self._skip(entry.seq - 1)
        self._apply(entry.seq, entry.entry_hash, entry.payload)

    def _fault(self, entry: StoredEntry, previous_hash: bytes | None) -> str | None:
        faults = check_entry(entry, SYSTEM_ORG, self._keyring(False), previous_hash)
        if faults:  # its key may have been made since
            faults = check_entry(entry, SYSTEM_ORG, self._keyring(True), previous_hash)
        self._lacks_key |= any(fault.kind == UNKNOWN_KEY for fault in faults)
        return faults[0].reason if faults else None

    def _apply(self, seq: int, entry_hash: bytes, payload: bytes) -> None:
        if (found := change_of(payload)) is not None:
            self.state.apply(seq, *found)
        self._seq, self._hash = seq, entry_hash

    def _skip(self, last: int) -> None:
        """Go on after entries that are lost: no row is right that they may have changed."""
        self._report(f"entries {self._seq + 1} to {last} are missing or can't be read")
        self._damaged = max(self._damaged, last)
        self._seq, self._hash = max(self._seq, last), None

    def _report(self, reason: str) -> None:
        if reason in self._reported or len(self._reported) >= MAX_REPORTED:
            return
        self._reported.add(reason)
        self.reports.found(
            None,
            f"the trail {SYSTEM_ORG} was changed: {reason}. Rows that lost entries may have changed "
            "are refused. Verify it, and restore it from a backup or its archive",
        )

    @property
    def is_empty(self) -> bool:
        """Whether the trail has no entry."""
        return self._seq < 0

    def knows(self, table: str, key: str, mac: bytes) -> bool:
        """Return whether a row has the MAC that its newest change states."""
        newest = self.state.mac(table, key)
        return newest is not None and newest[0] > self._damaged and newest[1] == mac

    def is_newest(self, table: str, key: str, mac: str) -> bool:
        """Return whether a row that was right still is, by its MAC in hexadecimal digits.

        Every request asks this: it compares what the process has folded, and nothing more.
        """
        return self.state.newest_mac(table, key) == mac

    def has(self, table: str, key: str) -> bool:
        """Return whether a row with this primary key must exist."""
        return self.state.mac(table, key) is not None

    async def settled(
        self,
        read: Callable[[], Awaitable[Row]],
        facts: Callable[[Row], Iterable[tuple[str, str, bytes]]],
    ) -> Row:
        """Read rows, and again if the register knew older or newer ones."""
        await self.refresh()
        found = await read()
        for _ in range(_TRIES):
            if all(self.knows(*fact) for fact in facts(found)):
                break
            await self.catch_up()
            if all(self.knows(*fact) for fact in facts(found)):
                break
            found = await read()
        return found

    def freeze_of(self, org_id: int) -> str | None:
        """Return why an org is frozen, as far as this process has followed; None if it is not."""
        freeze = self.state.frozen.get(org_id)
        return None if freeze is None else freeze.reason

    def is_erased(self, org_id: int, ref: str) -> bool:
        """Return whether a person was erased, as far as this process has followed."""
        return self.state.is_erased(org_id, ref)
