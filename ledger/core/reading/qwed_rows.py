"""Finds the entries of imported QWED rows by QWED's own row ids, in the database and the archive."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from ledger.chain import StoredEntry
from ledger.core.reading.trail import TrailReader
from ledger.entry import from_datetime, record_id
from ledger.errors import QuireError
from ledger.storage import dropped_months
from ledger.storage.database import Database
from ledger.storage.entries.search import EntrySearch
from ledger.storage.qwed_rows import MAX_ROW_DIGITS, QwedRows, named_by

ARCHIVE_PAGES: Final = 64
"""Pages of archived entries that one search reads at most."""
_PAGE_ENTRIES: Final = 100
# Matched in the bytes, not decoded: an altered entry must be found as well.
_ACTION: Final = re.compile(rb'"action":"qwed:([0-9]{1,18}):([0-9]{1,18})"')
_TYPE: Final = re.compile(rb'"event_type":"qwed\.(imported|corrected)"')
_OUTCOME: Final = re.compile(rb'"outcome":"([a-z]{1,32})"')


class TooFarBack(QuireError):
    """A row was not found in the entries that one search reads, in a trail with more of them."""


class FoundRow(NamedTuple):
    """An imported row: the entry that carries it, and its verdict as last corrected."""

    organization_id: int
    row_id: int
    entry: StoredEntry
    outcome: str | None
    corrected_by: str | None


class QwedRowFinder:
    """Finds rows by id. Methods raise StorageError, and ArchiveError as TrailReader does."""

    def __init__(self, database: Database, trail: TrailReader) -> None:
        self._database = database
        self._trail = trail
        self._live = QwedRows(database)

    async def find(self, org_id: int, row_id: str) -> list[FoundRow]:
        """The imported rows with this id, each with the entry that carries it.

        A row that was imported twice appears twice. Several organizations of QWED may have a row
        with one id, if their trails come from different databases. Archived entries are read only
        if no entry in the database carries the row. Raises TooFarBack.
        """
        if len(row_id) > MAX_ROW_DIGITS:
            return []
        number = int(row_id)
        entries = await self._live.naming(org_id, number)
        found = _rows(entries, number)
        floor = await dropped_months.live_from(self._database, org_id)
        if found or not floor:
            return found
        return _rows([*await self._archived(org_id, number, floor), *entries], number)

    async def _archived(self, org_id: int, row_id: int, floor: int) -> list[StoredEntry]:
        where = EntrySearch(0, 0, [b'"action":"qwed:', named_by(row_id)], None, None)
        entries: list[StoredEntry] = []
        next_seq: int | None = 0
        for _ in range(ARCHIVE_PAGES):
            page = await self._trail.page(
                org_id, where, from_seq=next_seq, descending=False, limit=_PAGE_ENTRIES
            )
            entries += [entry for entry in page.entries if entry.seq < floor]
            next_seq = page.next_seq
            if next_seq is None or next_seq >= floor:
                return entries
        raise TooFarBack(
            f"row {row_id} is not among the entries that one request reads; "
            "use the record id of its entry, which a search by action finds"
        )


def _rows(entries: list[StoredEntry], row_id: int) -> list[FoundRow]:
    """The rows that entries carry, with the corrections among the same entries."""
    found: list[FoundRow] = []
    for entry in sorted(entries, key=lambda entry: entry.seq):
        action, kind = _ACTION.search(entry.leaf), _TYPE.search(entry.leaf)
        if action is None or kind is None or int(action[2]) != row_id:
            continue
        outcome = _OUTCOME.search(entry.leaf)
        verdict = None if outcome is None else outcome[1].decode()
        organization_id = int(action[1])
        if kind[1] == b"imported":
            found.append(FoundRow(organization_id, row_id, entry, verdict, None))
            continue
        name = record_id(entry.org_id, from_datetime(entry.anchored_at), entry.seq)
        found = [
            row._replace(outcome=verdict, corrected_by=name)
            if row.organization_id == organization_id
            else row
            for row in found
        ]
    return found
