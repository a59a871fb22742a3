"""Blocks of addresses, one row an address: its newest block. The address is there as a keyed digest.

Whether an address is blocked is decided by the entries of the trail `system`
(:mod:`ledger.core.register.blocks`); a row says who blocked it, and why.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from ledger.rows import DecidingTable
from ledger.storage.database import Database
from ledger.storage.event_kinds import kind_of
from ledger.storage.row_changes import RowChange

ADDRESS_BLOCKED: Final = "address_blocked"
"""The kind of the security event of a block."""
MAX_ROWS: Final = 20_000
BLOCKS: Final = DecidingTable(
    "address_blocks",
    ("digest",),
    (
        "id", "network", "reason", "blocked_by", "blocked_at", "until", "level",
        "lifted_at", "lifted_by",
    ),
    times=("blocked_at", "until", "lifted_at"),
)  # fmt: skip
_COLUMNS: Final = ", ".join(BLOCKS.columns)
# A row that was planted in the place is replaced, as its MAC was read before; a removed one is made
# anew. Of two processes that change a block at once one finds another MAC, and changes nothing.
_CHANGED: Final = f"""
changed AS (
    INSERT INTO address_blocks AS b ({_COLUMNS}, mac)
    SELECT $1::bytea, $2::text, $3::text, $4::text, $5::text, $6::timestamptz, $7::timestamptz,
           $8::bigint, $9::timestamptz, $10::text, $11::bytea {{source}}
    ON CONFLICT (digest) DO UPDATE SET
        id = excluded.id, network = excluded.network, reason = excluded.reason,
        blocked_by = excluded.blocked_by, blocked_at = excluded.blocked_at,
        until = excluded.until, level = excluded.level, lifted_at = excluded.lifted_at,
        lifted_by = excluded.lifted_by, mac = excluded.mac
    WHERE b.mac = $12::bytea
    RETURNING b.mac, b.blocked_at AS created_at, pg_notify('quire_blocks', '')
)"""
LIFT: Final = _CHANGED
BLOCK: Final = f"""{_CHANGED}, event AS (
    INSERT INTO security_events (org_id, kind, detail, severity, layer, details)
    SELECT NULL, $13::text, $14::text, $15::text, $16::text, $17::text FROM changed
)"""
_READ: Final = f"SELECT {BLOCKS.selected()}, mac FROM address_blocks"
FIND: Final = f"{_READ} WHERE digest = ANY($1::bytea[])"
STANDING: Final = f"""
{_READ} WHERE lifted_at IS NULL AND until > $1 ORDER BY digest LIMIT {MAX_ROWS}"""
EARLIER: Final = """
SELECT digest FROM address_blocks WHERE blocked_at < $1 AND digest > $2 ORDER BY digest LIMIT 1000"""
REMOVE: Final = "DELETE FROM address_blocks WHERE digest = ANY($1::bytea[]) AND blocked_at < $2"
MAC_OF: Final = "SELECT mac FROM address_blocks WHERE digest = $1"


class AddressBlockRow(NamedTuple):
    """The columns of a block, in the order of :data:`BLOCKS`; the digest has 16 bytes."""

    digest: bytes
    id: str
    network: str
    reason: str
    blocked_by: str
    blocked_at: datetime
    until: datetime
    level: int
    lifted_at: datetime | None = None
    lifted_by: str | None = None

    def mac(self, row_key: bytes) -> bytes:
        """Return the MAC of the row."""
        return BLOCKS.mac(row_key, *self)


class BlockRecord(NamedTuple):
    """A row as it stands in the database; if it ``is_authentic``, a server wrote it once."""

    row: AddressBlockRow
    mac: bytes
    is_authentic: bool


def blocking(
    row: AddressBlockRow, mac: bytes, before: bytes, detail: str, details: str
) -> RowChange:
    """Return the change of a row that blocks its address, with its security event.

    It is refused unless the row has the MAC ``before``, or does not exist.
    """
    severity, layer, _ = kind_of(ADDRESS_BLOCKED)
    event = (ADDRESS_BLOCKED, detail, severity, layer, details)
    return RowChange(BLOCK, (*row, mac, before, *event), mac)


def lifting(row: AddressBlockRow, mac: bytes, before: bytes) -> RowChange:
    """Return the change of a row whose block is lifted; refused as that of :func:`blocking`."""
    return RowChange(LIFT, (*row, mac, before), mac)


async def mac_of(database: Database, digest: str) -> bytes:
    """Return the MAC in the row of an address, b"" where there is no such row."""
    row = await database.fetchrow(MAC_OF, bytes.fromhex(digest))
    return b"" if row is None else row[0]


class BlockTable:
    """Reads the rows of blocks. Every method raises DatabaseUnavailable."""

    def __init__(self, database: Database, row_key: bytes) -> None:
        self._database = database
        self._row_key = row_key

    async def of(self, digests: Sequence[str]) -> list[BlockRecord]:
        """Return the rows of these addresses."""
        found = await self._database.fetch(FIND, [bytes.fromhex(digest) for digest in digests])
        return [self._record(row) for row in found]

    async def standing(self, at: datetime) -> list[BlockRecord]:
        """Return the rows that say that their address is blocked at a time; at most 20,000."""
        return [self._record(row) for row in await self._database.fetch(STANDING, at)]

    async def before(self, at: datetime, after: bytes) -> list[bytes]:
        """Return a page of the digests of rows from before a time, those after a digest."""
        return [row[0] for row in await self._database.fetch(EARLIER, at, after)]

    async def remove(self, digests: Sequence[bytes], before: datetime) -> None:
        """Remove rows from before a time."""
        await self._database.execute(REMOVE, digests, before)

    def _record(self, found: Any) -> BlockRecord:
        *values, mac = found
        return BlockRecord(
            AddressBlockRow(*values), mac, BLOCKS.is_right(self._row_key, mac, *values)
        )
