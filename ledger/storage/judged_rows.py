"""The tables whose rows a full verification judges, and the pages in which it reads them.

A table that decides is declared once, in its own module, with its deciding columns; here it says
which of its rows concern an org.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, Final, NamedTuple

from ledger.blocks.block import SYSTEM_ORG
from ledger.rows import DecidingTable, Value
from ledger.storage.accepted_doubts import ACCEPTED
from ledger.storage.acknowledged_events import ACKNOWLEDGED
from ledger.storage.address_blocks import BLOCKS
from ledger.storage.api_keys import API_KEYS
from ledger.storage.archive_accounts import ARCHIVED_ROWS
from ledger.storage.archived_attestations import ATTESTATION_ROWS
from ledger.storage.database import Connection, explained
from ledger.storage.entries.months import DEPARTED
from ledger.storage.idempotency import USES
from ledger.storage.log_keys import ANYTHING_SIGNED, MAX_STATEMENT_BYTES
from ledger.storage.org_limits import ORG_LIMITS
from ledger.storage.orgs import ORGS
from ledger.storage.pending_acts import PENDING_ACTS
from ledger.storage.quota_uses import QUOTA_USES
from ledger.storage.register import SNAPSHOTS
from ledger.storage.security_events import SecurityEventRow, selected
from ledger.storage.trees import ANCHOR_LOG
from ledger.storage.verifications import VERIFICATIONS

ROWS_AT_ONCE: Final = 500
_ORG_KEY: Final = "SELECT privacy = 'sealed', wrapped_key FROM orgs WHERE id = $1"
_LOG_KEYS: Final = f"""
SELECT position, CASE WHEN octet_length(statement) <= {MAX_STATEMENT_BYTES} THEN statement
                      ELSE '' END
FROM log_keys ORDER BY position LIMIT 1000"""
_KEY_CHECKS: Final = "SELECT kind, key_id, value FROM key_checks ORDER BY kind, key_id LIMIT 10000"
_SUBJECTS: Final = """
SELECT lookup, ref, wrapped_key, name FROM subjects WHERE org_id = $1 ORDER BY lookup"""

_EVENTS: Final = f"""
SELECT {selected("e")} FROM security_events e
WHERE (e.org_id = $1 OR ($2 AND e.org_id IS NULL)) ORDER BY e.id"""


class JudgedTable(NamedTuple):
    """A table with a MAC in each row, and the SQL condition for the rows that concern org $1."""

    table: DecidingTable
    of_org: str = "org_id = $1"

    def query(self) -> str:
        """Return the SQL for these rows: the covered columns, then the MAC."""
        table = self.table
        return (
            f"SELECT {table.selected()}, mac FROM {table.name} WHERE {self.of_org} "
            f"ORDER BY {', '.join(table.key)}"
        )


_OF_SYSTEM: Final = f"$1 = (SELECT id FROM orgs WHERE slug = '{SYSTEM_ORG}')"
JUDGED: Final = (
    JudgedTable(ORGS, "id = $1"),
    JudgedTable(API_KEYS, "(org_id = $1 OR org_id IS NULL)"),
    JudgedTable(ORG_LIMITS),
    JudgedTable(USES),
    JudgedTable(VERIFICATIONS),
    JudgedTable(ARCHIVED_ROWS, f"org_id IN ($1, {ANCHOR_LOG})"),
    # They may be many, and concern no org alone: judged with the trail of the server itself.
    JudgedTable(ATTESTATION_ROWS, _OF_SYSTEM),
    JudgedTable(SNAPSHOTS, _OF_SYSTEM),
    JudgedTable(ACCEPTED),
    JudgedTable(DEPARTED),
    JudgedTable(QUOTA_USES),
    JudgedTable(PENDING_ACTS),
    JudgedTable(ACKNOWLEDGED),
    JudgedTable(BLOCKS, _OF_SYSTEM),
)
"""The tables with MACs; rows that concern all orgs are judged with each."""


class RowReader:
    """Reads rows under the snapshot of a connection's transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def pages(self, judged: JudgedTable, org_id: int) -> AsyncIterator[list[Sequence[Value]]]:
        """Yield the rows that concern an org, page by page: the covered values, then the MAC."""
        async for page in self._pages(judged.query(), org_id):
            yield page

    async def people(self, org_id: int) -> AsyncIterator[list[Sequence[Any]]]:
        """Yield an org's subjects, page by page: lookup, ref, wrapped key, sealed name."""
        async for page in self._pages(_SUBJECTS, org_id):
            yield page

    async def events(self, org_id: int, *, of_all: bool) -> AsyncIterator[list[SecurityEventRow]]:
        """Yield an org's security events by number, page by page; ``of_all``: of all orgs, too."""
        async for page in self._pages(_EVENTS, org_id, of_all):
            yield [SecurityEventRow(*row) for row in page]

    async def org_key(self, org_id: int) -> tuple[bool, bytes] | None:
        """Return whether an org seals, and its wrapped key; None for an org that does not exist."""
        async with explained():
            row = await self._connection.fetchrow(_ORG_KEY, org_id)
        return None if row is None else (row[0], row[1])

    async def log_keys(self) -> tuple[list[tuple[int, bytes]], bool]:
        """Return the statements of log keys with their positions, and if anything was signed."""
        async with explained():
            rows = await self._connection.fetch(_LOG_KEYS)
            signed = await self._connection.fetchval(ANYTHING_SIGNED)
        return [(row[0], row[1]) for row in rows], signed

    async def key_checks(self) -> list[tuple[str, str, bytes]]:
        """Return the stored check values of keys: kind, key id, value."""
        async with explained():
            rows = await self._connection.fetch(_KEY_CHECKS)
        return [(row[0], row[1], row[2]) for row in rows]

    async def _pages(self, query: str, *values: int) -> AsyncIterator[list[Any]]:
        async with explained():
            cursor = await self._connection.cursor(query, *values)
            while page := await cursor.fetch(ROWS_AT_ONCE):
                yield page
