"""Reports rows of the search index that are missing or wrong: each once, in the log and as an event."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final, Literal

from ledger.bounded import BoundedCache
from ledger.errors import StorageError
from ledger.storage import security_events
from ledger.storage.database import Database
from ledger.storage.entries.indexing.lookup import SearchIndex

INDEX_DAMAGED: Final = "search_index_damaged"
"""The kind of the security event."""
MAX_REMEMBERED: Final = 100_000
"""Rows that one process remembers as reported; after more it may report them again."""
_log = logging.getLogger(__name__)


class IndexReports:
    """Reports of one process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._reported: BoundedCache[str, Literal[True]] = BoundedCache(MAX_REMEMBERED)

    def index(self, key: bytes) -> SearchIndex:
        """Return the search index for searches, whose damaged rows are reported here."""
        return SearchIndex(key, self.report)

    async def report(self, org_id: int, rows: Sequence[str]) -> None:
        """Report those of an org's rows that were not reported yet. Raises nothing."""
        new = [row for row in rows if self._reported.get(row, org_id) is None]
        if not new:
            return
        for row in new:
            self._reported.put(row, True, org_id)
        text = _text(new)
        _log.error("org number %d: %s", org_id, text)
        try:
            await security_events.add_once(self._database, org_id, INDEX_DAMAGED, text)
        except StorageError as error:
            for row in new:
                self._reported.pop(row, org_id)
            _log.warning("a damaged search index can't be stored as a security event: %s", error)


def _text(rows: Sequence[str]) -> str:
    more = f" and {len(rows) - 1} more" if len(rows) > 1 else ""
    return (
        f"rows of the search index are missing or wrong: {rows[0]}{more}. Searches find all entries "
        "without them, slower. Run: quire search rebuild"
    )
