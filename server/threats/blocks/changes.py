"""Blocks are made, extended and lifted, each in one statement with its entry in the trail `system`.

Entry, row and security event name the address as a digest and by its network.
"""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta
from typing import Final, NamedTuple

import msgspec

from ledger.core.register import BLOCKS, Change, ChangeKind, RecordedBlock
from ledger.core.register.changes import row
from ledger.core.sequencer import RowEffect
from ledger.entry import format_time, from_datetime, to_datetime
from ledger.errors import INVALID_REQUEST, AppendRefused, QuireError
from ledger.storage.address_blocks import (
    AddressBlockRow,
    BlockRecord,
    BlockTable,
    blocking,
    lifting,
)
from ledger.storage.row_changes import RowChange
from server.access.administration import Administration, Conflict, refusing
from server.access.callers.blocked import BlockedAddresses
from server.access.principal import Principal
from server.addresses import ClientAddress, network_of
from server.threats.blocks import rules

_TRIES: Final = 8
_US: Final = timedelta(microseconds=1)


class BlockChanged(AppendRefused):
    """Another process changed the block of this address meanwhile; nothing was written."""


class ReasonNamesAddress(QuireError):
    """The reason of a block names the address itself."""

    problem_type = INVALID_REQUEST


class Asked(NamedTuple):
    """A block that is asked for, until a time; ``level`` as :class:`RecordedBlock` has it."""

    reason: str
    actor: str
    until_us: int
    level: int


class BlockState(NamedTuple):
    """A block as the trail states it, and the row of its address; None: there is none that is right."""

    digest: str
    block: RecordedBlock
    row: AddressBlockRow | None


class BlockChanges:
    """Writes blocks. Its methods raise as :meth:`Administration.record` does."""

    def __init__(self, administration: Administration, blocked: BlockedAddresses) -> None:
        register = self._register = administration.register
        self._administration = administration
        self._blocked = blocked
        self.table = BlockTable(administration.database, register.row_key)

    async def block(
        self,
        address: ClientAddress,
        hours: int,
        reason: str,
        actor: str,
        *,
        by: Principal | None = None,
    ) -> BlockState:
        """Block an address from now on; a block that it has is extended, and never ends earlier.

        Nothing is written if it ends at about that time anyway. Raises AddressExempt, Conflict.
        """
        now_us = self._now_us()
        level = rules.kept_level(self.last(address), now_us)
        asked = Asked(reason, actor, now_us + timedelta(hours=hours) // _US, level)
        return await self._blocked_by(address, asked, by)

    async def block_again(self, address: ClientAddress, reason: str) -> BlockState | None:
        """Block an address as a rule says, longer each time; None if it is blocked already."""
        now_us, last = self._now_us(), self.last(address)
        if last is not None and last.is_live(now_us):
            return None
        level = rules.next_level(last, now_us)
        asked = Asked(reason, "server", now_us + rules.lasts(level) // _US, level)
        return await self._blocked_by(address, asked, None, is_first=True)

    def last(self, address: ClientAddress) -> RecordedBlock | None:
        """Return the newest block of an address, as far as this process has followed the trail."""
        return self._register.state.blocks.of(self._blocked.digest(address))

    async def _blocked_by(
        self, address: ClientAddress, asked: Asked, by: Principal | None, *, is_first: bool = False
    ) -> BlockState:
        rules.require_blockable(address, self._blocked.exempt)
        if str(address.ip) in asked.reason or address.group in asked.reason:
            raise ReasonNamesAddress(
                "the reason names the address, which no entry may hold: leave it out"
            )
        digest = self._blocked.digest(address)
        for _ in range(_TRIES):
            found, before = await self._read(digest)
            now_us = self._now_us()
            present = None if found is None or not found.block.is_live(now_us) else found
            if present is not None and (
                is_first or asked.until_us - present.block.until_us < rules.SAME // _US
            ):
                return present
            if present is None and len(self._register.state.blocks.live(now_us)) >= rules.MAX_LIVE:
                raise Conflict(f"{rules.MAX_LIVE:,} addresses are blocked, which is the most")
            state = _asked_state(digest, network_of(address), asked, now_us, present)
            if await self._write(ChangeKind.ADDRESS_BLOCKED, state, before, asked.actor, by):
                return state
        raise Conflict("the block was changed by other requests; try again")

    async def lift(
        self, block_id: str, actor: str, *, by: Principal | None = None
    ) -> BlockState | None:
        """Lift the live block with an id; None if there is none."""
        for _ in range(_TRIES):
            await self._register.catch_up()
            now_us = self._now_us()
            live = self._register.state.blocks.live(now_us)
            digest = next((each for each, block in live.items() if block.id == block_id), None)
            if digest is None:
                return None
            found, before = await self._read(digest)
            if found is None or found.block.id != block_id or found.block.lifted_us:
                return None
            state = _lifted_state(found, actor, now_us)
            if await self._write(ChangeKind.ADDRESS_UNBLOCKED, state, before, actor, by):
                return state
        raise Conflict("the block was changed by other requests; try again")

    async def _read(self, digest: str) -> tuple[BlockState | None, bytes]:
        """Return the newest block of an address, with its row if that is right, and the row's MAC."""
        records = await self._register.settled(
            lambda: self.table.of([digest]),
            lambda found: [(BLOCKS, digest, record.mac) for record in found],
        )
        record = records[0] if records else None
        block = self._register.state.blocks.of(digest)
        before = b"" if record is None else record.mac
        if block is None:
            return None, before
        return BlockState(digest, block, self.right_row(digest, record)), before

    def right_row(self, digest: str, record: BlockRecord | None) -> AddressBlockRow | None:
        """Return the row of an address, if it is the newest that a server wrote. Raises RegisterBehind."""
        if record is None or not record.is_authentic:
            return None
        return record.row if self._register.knows(BLOCKS, digest, record.mac) else None

    async def _write(
        self, kind: ChangeKind, state: BlockState, before: bytes, actor: str, by: Principal | None
    ) -> bool:
        """Write row and entry of a block; False if another process changed it before."""
        changed = state.row
        assert changed is not None, "the row that is written"
        mac = changed.mac(self._register.row_key)
        effect = RowEffect(_row_change(kind, state, mac, before), refusing(BlockChanged()))
        change = Change(
            [row(BLOCKS, state.digest, mac)], org_id=self._register.system_id, block=state.block
        )
        try:
            await self._administration.record(
                kind, change, _told(kind, state), effect, actor, by=by
            )
        except BlockChanged:
            await self._register.catch_up()
            return False
        return True

    def now(self) -> datetime:
        """Return the time at which a change is made. Raises ClockUnsteady."""
        return to_datetime(self._now_us())

    async def forget(self, before: datetime) -> None:
        """Remove rows of blocks from before a time, which the trail has no block for any more.

        Raises DatabaseUnavailable.
        """
        after = b""
        while page := await self.table.before(before, after):
            blocks, after = self._register.state.blocks, page[-1]
            gone = [digest for digest in page if blocks.of(digest.hex()) is None]
            await self.table.remove(gone, before)

    def _now_us(self) -> int:
        return self._administration.sequencer.clock()


def _asked_state(
    digest: str, network: str, asked: Asked, now_us: int, present: BlockState | None
) -> BlockState:
    """Return the block that is asked for; it keeps the id of the one that it extends."""
    block_id = secrets.token_hex(8) if present is None else present.block.id
    block = RecordedBlock(block_id, network, now_us, asked.until_us, asked.level)
    return BlockState(digest, block, _row_of(digest, block, asked.reason, asked.actor))


def _row_of(digest: str, block: RecordedBlock, reason: str, actor: str) -> AddressBlockRow:
    since, until = to_datetime(block.since_us), to_datetime(block.until_us)
    key = bytes.fromhex(digest)
    return AddressBlockRow(key, block.id, block.network, reason, actor, since, until, block.level)


def _lifted_state(found: BlockState, actor: str, now_us: int) -> BlockState:
    """Return a block as it is after it is lifted; a row that is not right is made anew."""
    block = msgspec.structs.replace(found.block, lifted_us=now_us, level=0)
    present = found.row or _row_of(found.digest, found.block, "", "server")
    lifted = present._replace(lifted_at=to_datetime(now_us), lifted_by=actor, level=0)
    return BlockState(found.digest, block, lifted)


def _row_change(kind: ChangeKind, state: BlockState, mac: bytes, before: bytes) -> RowChange:
    changed = state.row
    assert changed is not None, "the row that is written"
    if kind is ChangeKind.ADDRESS_UNBLOCKED:
        return lifting(changed, mac, before)
    until = format_time(from_datetime(changed.until))
    detail = f"an address of {changed.network} is blocked until {until}: {changed.reason}"
    details = {"address_digest": state.digest, "block": changed.id}
    return blocking(changed, mac, before, detail, msgspec.json.encode(details).decode())


def _told(kind: ChangeKind, state: BlockState) -> dict[str, object]:
    """Return what an entry about a change tells people."""
    block, changed = state.block, state.row
    assert changed is not None, "the row that is written"
    about: dict[str, object] = {
        "block": block.id,
        "digest": state.digest,
        "network": block.network,
        "until": format_time(block.until_us),
    }
    if kind is ChangeKind.ADDRESS_BLOCKED:
        about |= {"reason": changed.reason, "level": block.level}
    return about
