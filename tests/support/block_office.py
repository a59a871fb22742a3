"""What blocks addresses in one process without a server: by hand, and by the rule."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from ledger.core.register import BLOCKS, Register
from ledger.entry import decode_leaf
from ledger.sealing import address_key, row_key
from ledger.storage import database as storage
from server.access.administration import Administration
from server.access.callers.blocked import LOCAL, BlockedAddresses
from server.addresses import ClientAddress, address, client, networks
from server.threats.blocks.automatic import AutomaticBlocks
from server.threats.blocks.book import AddressBook
from server.threats.blocks.changes import BlockChanges
from server.threats.blocks.listing import BlockList
from tests.support.appending import rows_of
from tests.support.clusters import Database
from tests.support.orgs import MASTER_KEY, at_work
from tests.support.trails import RING

EVENTS = 5
ADD_EVENT = (
    "INSERT INTO security_events (kind, detail, severity, layer, score, details) "
    "VALUES ('injection_detected', 'made up', 'high', 'gateway', $1, $2)"
)


class BlockOffice(NamedTuple):
    """The acting parts of one process."""

    cluster: Database
    database: storage.Database
    work: Administration
    blocked: BlockedAddresses
    changes: BlockChanges
    book: AddressBook
    rule: AutomaticBlocks
    listing: BlockList

    async def events(self, text: str, count: int = EVENTS, score: int = 80) -> None:
        """Store security events about an address, and note the address."""
        self.book.note(at(text))
        await self.book.store()
        details = json.dumps({"address_digest": self.blocked.digest(at(text)), "count": 1})
        for _ in range(count):
            await self.database.execute(ADD_EVENT, score, details)

    async def let_in(self, text: str) -> bool:
        """Return whether this process lets in an address, once it has followed the trail."""
        await self.work.register.catch_up()
        return self.blocked.until_us(at(text)) is None

    async def told(self, text: str) -> list[str]:
        """The types of the entries about an address, in their order."""
        system_id = self.work.register.system_id
        assert system_id is not None
        digest = self.blocked.digest(at(text)).encode()
        leaves = [
            decode_leaf(row.leaf).event_type or ""
            for row in await rows_of(self.cluster, system_id)
            if digest in row.payload
        ]
        return [each.removeprefix("quire.address_") for each in leaves]

    async def whole(self) -> int:
        """Check that each row is as its newest entry says; return their number."""
        register = Register(self.database, lambda _: RING, row_key(MASTER_KEY))
        assert await register.open()
        rows = await self.changes.table.of([digest for digest, _ in register.state.blocks.items()])
        assert len(rows) == len(register.state.blocks)
        for found in rows:
            assert found.is_authentic
            digest = found.row.digest.hex()
            assert register.knows(BLOCKS, digest, found.mac)
            block = register.state.blocks.of(digest)
            assert block is not None
            assert (block.id, block.level) == (found.row.id, found.row.level)
            assert (block.lifted_us > 0) == (found.row.lifted_at is not None)
        assert await self.listing.compare() == 0
        return len(rows)


def at(text: str) -> ClientAddress:
    """Return a client's address."""
    return client(address(text))


@asynccontextmanager
async def block_office(cluster: Database, exempt: str = "") -> AsyncIterator[BlockOffice]:
    """Open an office, for which some ranges are exempt."""
    async with at_work(cluster) as (database, work):
        yield opened(cluster, database, work, exempt)


def opened(
    cluster: Database, database: storage.Database, work: Administration, exempt: str = ""
) -> BlockOffice:
    """Return an office on an administration."""
    blocked = BlockedAddresses(
        work.register,
        address_key(MASTER_KEY),
        (*LOCAL, *networks(exempt)),
        work.validity.now_us,
    )
    changes, book = BlockChanges(work, blocked), AddressBook(database, blocked)
    rule = AutomaticBlocks(database, changes, blocked, book, EVENTS)
    listed = BlockList(work.register, changes, blocked, book)
    return BlockOffice(cluster, database, work, blocked, changes, book, rule, listed)
