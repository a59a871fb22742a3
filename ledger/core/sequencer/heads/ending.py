"""The end of a trail as an operator finds it who looks for a loss."""

from __future__ import annotations

from typing import NamedTuple

from ledger.chain import ChainHead, StoredEntry, check_entry
from ledger.core.org import OrgFacts
from ledger.core.sequencer.heads.check import beyond_acknowledged, head_for_thaw
from ledger.entry import to_datetime
from ledger.keys import SigningKeyring
from ledger.storage.database import Database
from ledger.storage.entries.blocks import DamagedTrail
from ledger.storage.entries.picked import single
from ledger.storage.trail import AppendTransaction


class FoundEnd(NamedTuple):
    """The head that a thaw would extend; ``behind`` says why it would be refused, or is None."""

    found: ChainHead
    behind: str | None


async def trail_end(database: Database, org: OrgFacts, acknowledged: ChainHead | None) -> FoundEnd:
    """Compare the end of a trail with the newest acknowledged head. Raises NotWritten."""
    async with database.connection() as connection:
        transaction = AppendTransaction(connection)
        await transaction.begin()
        try:
            row = (await transaction.lock_heads([org.id])).get(org.id)
            found = await head_for_thaw(transaction, org.id, row)
            _, behind = await beyond_acknowledged(transaction, org.id, found, acknowledged)
        finally:
            await transaction.rollback()
    return FoundEnd(found, behind)


async def intact_entry(
    database: Database, org: OrgFacts, head: ChainHead, keyring: SigningKeyring
) -> StoredEntry | None:
    """Return the entry of a head; None if it is missing or not intact."""
    if head.seq < 0:
        return None
    try:
        entry = await single.at(database, org.id, head.seq, to_datetime(head.anchored_us))
    except DamagedTrail:
        return None
    faulty = entry is None or check_entry(entry, org.slug, keyring, None)
    return None if faulty else entry
