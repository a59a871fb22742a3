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

from ledger.chain import ChainHead
from ledger.core.register.folding import Fold, Keyring
from ledger.core.register.refusals import RegisterCut, RegisterMissing
from ledger.core.register.reports import ForgedRowReports
from ledger.core.register.snapshots import SnapshotSchedule, due_after
from ledger.core.register.state import RegisterState
from ledger.errors import SigningKeyMissing, StorageError
from ledger.storage import register as storage
from ledger.storage.database import Database
from ledger.storage.register import RegisterSnapshot

FRESH_S: Final = 1.0
"""A process that followed the trail so recently does not ask for its head again."""
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
        keyring: Keyring,
        row_key: bytes,
        acknowledged: Callable[[int], ChainHead | None] = lambda _: None,
    ) -> None:
        self.row_key = row_key
        self.reports = ForgedRowReports(database)
        self.system_id: int | None = None
        self.database = database
        self._fold = Fold(database, keyring, self.reports)
        self._acknowledged = acknowledged
        self._schedule = SnapshotSchedule()
        self._storing: asyncio.Task[None] | None = None
        self._caught_up_s = -math.inf
        self._following = asyncio.Lock()

    @property
    def state(self) -> RegisterState:
        """The state that the folded entries make."""
        return self._fold.state

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
        began = self._fold.seq
        await self.follow()
        self._schedule.reaches(self._fold.seq)
        if self._fold.seq >= due_after(max(began, 0)):
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
            self._fold.begin(snapshot)

    async def store_snapshot(self) -> bool:
        """Store the state for later starts.

        False if entries before it can't be read, or a planted row has its place.
        """
        seq, entry_hash = self._fold.seq, self._fold.hash
        if self._fold.damaged >= 0 or entry_hash is None:
            return False
        if seq < 0:
            return True
        stored = self.state.stored()
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
        if await storage.last_seq(self.database, self.system_id) != self._fold.seq:
            await self.follow()
        self._caught_up_s = asked_s

    async def wrote(self, seq: int, entry_hash: bytes, payload: bytes) -> None:
        """Fold an entry that this process has just written, without reading it again."""
        async with self._following:
            if seq == self._fold.seq + 1:
                self._fold.apply(seq, entry_hash, payload)
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
            await self._fold.go_on(self.system_id, written, last)

    async def _written_seq(self, system_id: int) -> int:
        """Return the seq up to which the trail was written by servers, as far as it is known.

        Entries after it that are not intact were planted: they can't be about any row.
        """
        known = self._acknowledged(system_id)
        if known is not None:
            return known.seq
        last = await storage.last_seq(self.database, system_id)
        return min(await storage.head_seq(self.database, system_id), last)

    @property
    def is_empty(self) -> bool:
        """Whether the trail has no entry."""
        return self._fold.seq < 0

    def knows(self, table: str, key: str, mac: bytes) -> bool:
        """Return whether a row has the MAC that its newest change states. Raises RegisterBehind."""
        self._require_vouched(table, key)
        newest = self.state.mac(table, key)
        return newest is not None and newest[0] > self._fold.damaged and newest[1] == mac

    def is_newest(self, table: str, key: str, mac: str | None) -> bool:
        """Return whether a row that was right still is, by its MAC in hexadecimal digits; None: no row.

        Every request asks this: it compares what the process has folded, and nothing more.
        """
        newest = self.state.newest_mac(table, key) == mac
        return newest and not (self._fold.unvouched and self._is_open(table, key))

    def has(self, table: str, key: str) -> bool:
        """Return whether a row with this primary key must exist. Raises RegisterBehind."""
        self._require_vouched(table, key)
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
        """Return why an org is frozen, as far as this process has followed; None if it is not.

        Raises RegisterBehind.
        """
        self._require_vouched_org(org_id)
        freeze = self.state.frozen.get(org_id)
        return None if freeze is None else freeze.reason

    def is_erased(self, org_id: int, ref: str) -> bool:
        """Return whether a person was erased, as far as this process has followed.

        Raises RegisterBehind.
        """
        self._require_vouched_org(org_id)
        return self.state.is_erased(org_id, ref)

    def lacking(self, org_id: int) -> SigningKeyMissing | None:
        """Return the key that this machine lacks to say whether an org is frozen; None: none."""
        unvouched = self._fold.unvouched
        if unvouched.missing is None or not unvouched.concern(org_id):
            return None
        return unvouched.missing.refusal()

    def _is_open(self, table: str, key: str) -> bool:
        return self._fold.unvouched.may_change(table, key, self.state.org_of(table, key))

    def _require_vouched(self, table: str, key: str) -> None:
        if self._fold.unvouched and self._is_open(table, key):
            self._fold.unvouched.refuse()

    def _require_vouched_org(self, org_id: int) -> None:
        if self._fold.unvouched.concern(org_id):
            self._fold.unvouched.refuse()
