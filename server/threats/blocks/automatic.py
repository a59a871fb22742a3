"""The server blocks addresses by itself: five serious events within ten minutes, for an hour or longer.

Every worker looks, and of those that find the same address one makes the block: the others find
another row than they read.
"""

from __future__ import annotations

from typing import Final

from ledger.entry import from_datetime
from ledger.storage.queries import Queries
from server.access.callers.blocked import BlockedAddresses
from server.addresses import contains
from server.threats.blocks.book import AddressBook
from server.threats.blocks.changes import BlockChanges, BlockState
from server.threats.blocks.rules import SCORE, WINDOW, address_of_text, counts_from_us
from server.threats.blocks.store import ScoredAddress, scored_addresses

_MINUTES: Final = int(WINDOW.total_seconds() // 60)


class AutomaticBlocks:
    """The rule in one process; ``events`` are as many as make a block."""

    def __init__(
        self,
        database: Queries,
        changes: BlockChanges,
        blocked: BlockedAddresses,
        book: AddressBook,
        events: int,
    ) -> None:
        self._database = database
        self._changes = changes
        self._blocked = blocked
        self._book = book
        self._events = events

    async def apply(self) -> list[BlockState]:
        """Block the addresses that the newest events are about; return the blocks.

        Raises DatabaseUnavailable, and as :meth:`BlockChanges.block_again` does.
        """
        found = await scored_addresses(self._database, self._events)
        texts = await self._book.texts_of([each.digest for each in found]) if found else {}
        made = [await self._block(each, texts.get(each.digest)) for each in found]
        return [each for each in made if each is not None]

    async def _block(self, scored: ScoredAddress, text: str | None) -> BlockState | None:
        """Block an address, unless it may not be, or its events count for an earlier block."""
        if text is None:  # nobody could say that it is not exempt
            return None
        address = address_of_text(text)
        if contains(self._blocked.exempt, address.ip):
            return None
        last = self._changes.last(address)
        now_us = self._blocked.now_us()
        if from_datetime(scored.since) < counts_from_us(last, now_us):
            return None
        reason = f"{self._events} security events with a score of {SCORE} or more within {_MINUTES} minutes"
        return await self._changes.block_again(address, reason)
