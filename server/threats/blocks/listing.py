"""Blocks as people see them: what the trail `system` states, with the rows and addresses beside it."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from ledger.core.register import BLOCKS, RecordedBlock, Register
from ledger.entry import to_datetime
from ledger.storage.address_blocks import BlockRecord
from server.access.callers.blocked import BlockedAddresses
from server.threats.blocks.book import AddressBook
from server.threats.blocks.changes import BlockChanges, BlockState


class ListedBlock(NamedTuple):
    """A block with its address; None where that is not known any more."""

    state: BlockState
    address: str | None

    @property
    def block(self) -> RecordedBlock:
        """The block as the trail states it."""
        return self.state.block

    @property
    def until(self) -> datetime:
        """When the block ends."""
        return to_datetime(self.block.until_us)


class BlockList:
    """Lists the live blocks, and finds rows that do not say what the trail says."""

    def __init__(
        self,
        register: Register,
        changes: BlockChanges,
        blocked: BlockedAddresses,
        book: AddressBook,
    ) -> None:
        self._register = register
        self._changes = changes
        self._blocked = blocked
        self._book = book

    def live(self) -> dict[str, RecordedBlock]:
        """Return the live blocks as far as this process has followed the trail, by digest."""
        return self._register.state.blocks.live(self._blocked.now_us())

    async def page(self, after: str, limit: int) -> list[ListedBlock]:
        """Return live blocks in the order of their ids, those after an id.

        Raises DatabaseUnavailable, RegisterBehind.
        """
        await self._register.catch_up()
        chosen = sorted((block.id, digest) for digest, block in self.live().items())
        digests = [digest for block_id, digest in chosen if block_id > after][:limit]
        states = await self._states(digests)
        addresses = await self._book.texts_of(digests)
        return [ListedBlock(state, addresses.get(state.digest)) for state in states]

    async def shown(self, state: BlockState) -> ListedBlock:
        """Return a block with its address. Raises DatabaseUnavailable."""
        return ListedBlock(state, await self._book.text_of(state.digest))

    async def _states(self, digests: list[str]) -> list[BlockState]:
        records = {each.row.digest.hex(): each for each in await self._settled(digests)}
        blocks = self._register.state.blocks
        found = [(digest, blocks.of(digest), records.get(digest)) for digest in digests]
        states = [
            BlockState(digest, block, self._changes.right_row(digest, record))
            for digest, block, record in found
            if block is not None
        ]
        for state in states:
            if state.row is None:
                self.report(state.digest)
        return states

    async def _settled(self, digests: list[str]) -> list[BlockRecord]:
        return await self._register.settled(
            lambda: self._changes.table.of(digests),
            lambda rows: [(BLOCKS, each.row.digest.hex(), each.mac) for each in rows],
        )

    def report(self, digest: str) -> None:
        """Store a security event about the row of an address, once."""
        self._register.reports.found(
            None,
            f"the row of table address_blocks with digest {digest} was changed, made or removed in the "
            "database: the trail system alone says whether its address is blocked. Find out who can "
            "write to the database",
        )

    async def compare(self) -> int:
        """Compare all rows that say that they are live with the trail, and the live blocks with rows.

        Those that differ are reported; returns their number. Raises DatabaseUnavailable,
        RegisterBehind.
        """
        await self._register.catch_up()
        standing = await self._changes.table.standing(to_datetime(self._blocked.now_us()))
        suspects = {each.row.digest.hex() for each in standing if not self._is_right(each)}
        suspects |= self.live().keys() - {each.row.digest.hex() for each in standing}
        # Read again, as a block may have been changed or have ended meanwhile.
        records = {each.row.digest.hex(): each for each in await self._settled(sorted(suspects))}
        wrong = [
            digest
            for digest in suspects
            if self._register.state.blocks.of(digest) is not None or digest in records
            if self._changes.right_row(digest, records.get(digest)) is None
        ]
        for digest in wrong:
            self.report(digest)
        return len(wrong)

    def _is_right(self, record: BlockRecord) -> bool:
        return self._changes.right_row(record.row.digest.hex(), record) is not None
