"""Reads the rows, verdicts and corrections of a QWED trail that an org already holds.

Idempotency keys alone would not suffice: the server forgets them after some days.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final, Literal

from ledger.client import AsyncLedgerClient, Entry
from ledger.client.errors import ProtocolError
from ledger.qwed import (
    CORRECTION_TYPE,
    EVENT_TYPE,
    ImportedRow,
    RecordedVerdict,
    referenced_row,
)

COMPARED_ROWS: Final = 1_000
"""The newest imported rows that are compared with those of the database."""


class KnownRows:
    """The newest rows that an org holds, and their corrections. See :func:`read_known`.

    ``newest_id`` is the highest row id of all, ``by_id`` holds the rows up to the newest row of
    the source. ``corrections`` has the latest correction of each row.
    """

    def __init__(self) -> None:
        self.newest_id: int | None = None
        self.by_id: dict[int, ImportedRow] = {}
        self.corrections: dict[int, RecordedVerdict] = {}


async def read_known(
    client: AsyncLedgerClient, organization_id: int, newest_in_source: int | None
) -> KnownRows:
    """Read the org's rows of this organization, newest first, and all corrections."""
    known = KnownRows()
    async for row_id, entry in _entries(client, organization_id, EVENT_TYPE, "desc"):
        if known.newest_id is None:
            known.newest_id = row_id
        if newest_in_source is None or len(known.by_id) >= COMPARED_ROWS:
            break
        if row_id <= newest_in_source:
            known.by_id.setdefault(row_id, _imported(row_id, entry))
    async for row_id, entry in _entries(client, organization_id, CORRECTION_TYPE, "asc"):
        known.corrections[row_id] = RecordedVerdict.recorded(entry.outcome, _payload(entry))
    return known


class BrokenRows:
    """The rows that were imported as broken, read in step with the trail, in the order of ids."""

    def __init__(self, client: AsyncLedgerClient, organization_id: int) -> None:
        self._entries = _entries(client, organization_id, EVENT_TYPE, "asc", outcome="broken")
        self._next: ImportedRow | None = None
        self._ended = False

    async def find(self, row_id: int) -> ImportedRow | None:
        """Return the row of this id, None if it is not broken. Call with ascending ids."""
        while not self._ended and (self._next is None or self._next.row_id < row_id):
            found = await anext(self._entries, None)
            self._ended = found is None
            self._next = None if found is None else _imported(*found)
        if self._next is None or self._next.row_id != row_id:
            return None
        return self._next


async def _entries(
    client: AsyncLedgerClient,
    organization_id: int,
    event_type: str,
    order: Literal["asc", "desc"],
    outcome: str | None = None,
) -> AsyncIterator[tuple[int, Entry]]:
    async for entry in client.entries(event_type=event_type, order=order, outcome=outcome):
        row_id = referenced_row(organization_id, entry.action)
        if row_id is not None:
            yield row_id, entry


def _imported(row_id: int, entry: Entry) -> ImportedRow:
    return ImportedRow.recorded(
        row_id, entry.record_id, entry.timestamp, entry.outcome, _payload(entry)
    )


def _payload(entry: Entry) -> object:
    try:
        return entry.payload
    except ProtocolError:
        return None
