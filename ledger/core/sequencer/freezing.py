"""Freezes orgs, and records it in the trail `system`, in the transaction of the freeze."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Protocol

from ledger.blocks.block import SYSTEM_ORG
from ledger.core.register import Change, ChangeKind, FaultSeqs, Register
from ledger.core.register.changes import change_draft
from ledger.core.sequencer.request import Appended, AppendRequest
from ledger.errors import AppendRefused, SigningKeyMissing
from ledger.storage.database import Database
from ledger.storage.trail import AppendTransaction, freeze_alone

AppendTogether = Callable[[Sequence[AppendRequest], Collection[int]], Awaitable[Sequence[Appended]]]


class Freezes(Protocol):
    """Freezes orgs, and knows which are frozen apart from the rows that say so."""

    def reason(self, org_id: int, /) -> str | None:
        """Return why an org is frozen, as far as this process knows; None if it is not."""

    def lacking(self, org_id: int, /) -> SigningKeyMissing | None:
        """Return the key that is missing here to know whether an org is frozen; None: none is."""

    async def confirmed(self, org_id: int, org: str, /) -> str | None:
        """Return why an org is frozen whose row says that it is not; None if it is not."""

    async def freeze(
        self, org_id: int, org: str, reason: str, faults: FaultSeqs | None = None, /
    ) -> None:
        """Freeze an org, which may be frozen already. Raises StorageError."""


class RowFreezes:
    """Freezes that stand in the head rows alone: of a process without a register."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def reason(self, _org_id: int, /) -> str | None:
        """Return None: the row decides."""
        return None

    def lacking(self, _org_id: int, /) -> SigningKeyMissing | None:
        """Return None: the row decides."""
        return None

    async def confirmed(self, _org_id: int, _org: str, /) -> str | None:
        """Return None: the row decides."""
        return None

    async def freeze(
        self, org_id: int, _org: str, reason: str, _faults: FaultSeqs | None = None, /
    ) -> None:
        """Freeze an org in its head row, and store the security event."""
        await freeze_alone(self._database, org_id, reason)


class AlreadyFrozen(AppendRefused):
    """The org was frozen by another process meanwhile."""


class RecordedFreezes:
    """Freezes that the register knows, unless the trail `system` can't be extended."""

    def __init__(
        self, database: Database, register: Register, append_together: AppendTogether
    ) -> None:
        self._database = database
        self._register = register
        self._append_together = append_together

    def reason(self, org_id: int) -> str | None:
        """Return why the register says that an org is frozen, None if it does not."""
        freeze = self._register.state.frozen.get(org_id)
        return None if freeze is None else freeze.reason

    def lacking(self, org_id: int) -> SigningKeyMissing | None:
        """Return the key that is missing here to know whether an org is frozen; None: none is."""
        return self._register.lacking(org_id)

    async def confirmed(self, org_id: int, org: str) -> str | None:
        """Return the reason if the newest register states it: the org's head row was changed."""
        await self._register.catch_up()
        reason = self.reason(org_id)
        if reason is not None:
            detail = (
                f"the head row of org {org} says that it is not frozen, but the trail {SYSTEM_ORG} "
                "has no entry of a thaw: the row was changed in the database. Appends stay refused"
            )
            self._register.reports.found(org_id, detail)
        return reason

    async def freeze(
        self, org_id: int, org: str, reason: str, faults: FaultSeqs | None = None
    ) -> None:
        """Freeze an org in its head row and in the register, and store the security event.

        A freeze of `system` stands in its head row alone: its trail can't be extended to record it.
        """
        system_id = self._register.system_id
        if system_id is None or org_id == system_id:
            await freeze_alone(self._database, org_id, reason)
            return
        await self._register.catch_up()

        async def effect(transaction: AppendTransaction) -> AppendRefused | None:
            frozen = await transaction.freeze(org_id, reason)
            if not frozen and self._is_recorded(org_id, faults):
                return AlreadyFrozen(f"org {org} is frozen already")
            return None  # a freeze that stands in the row alone could be taken out of it again

        change = Change(org_id=org_id, reason=reason, faults=faults)
        draft = change_draft(ChangeKind.FROZEN, change, details={"org": org})
        request = AppendRequest(system_id, SYSTEM_ORG, [draft], effect=effect)
        try:
            await self._append_together([request], [org_id])
        except AlreadyFrozen:
            return
        except AppendRefused:  # the head of the trail `system` is damaged, or it is frozen
            await freeze_alone(self._database, org_id, reason)
        await self._register.catch_up()

    def _is_recorded(self, org_id: int, faults: FaultSeqs | None) -> bool:
        """Return whether the register has a freeze for these faults."""
        freeze = self._register.state.frozen.get(org_id)
        if freeze is None or faults is None:
            return freeze is not None
        return freeze.faults is not None and freeze.faults.covers(faults)
