"""Compares the search index of a whole trail with its entries, beside the other checks.

What it finds says nothing about the entries: a search finds them without the index, slower.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ledger.chain import TrailFault
from ledger.core.verification.work.extent import Extent
from ledger.core.verification.work.faults import MAX_REASON_CHARS, NO_ENTRY
from ledger.core.verification.work.tally import Tally
from ledger.storage.copy_out import reader_of
from ledger.storage.entries.indexing.comparing import Comparison

CHECK: Final = "search_index"
REBUILD: Final = "Run: quire search rebuild"
_Place = tuple[int, int, int]


class IndexCheck:
    """The rows of the index that are right, missing or wrong. Rows to come are none of these."""

    def __init__(self) -> None:
        self._right = 0
        self._missing: list[tuple[_Place, str]] = []
        self._wrong: list[str] = []
        self._newest: dict[int, int] = {}

    def add(self, one: Comparison) -> None:
        """Add the comparison of the next stretch."""
        self._right += len(one.right)
        for level, number, _ in one.right:
            self._newest[level] = max(self._newest.get(level, number), number)
        self._missing += [(place, name) for place, name in one.missing_places()]
        self._wrong += [key.name for key in one.wrong]

    def add_to(self, tally: Tally) -> None:
        """Add the answer of the check, and a fault for rows that are missing or wrong."""
        missing = [
            name
            for (level, number, _), name in self._missing
            if number <= self._newest.get(level, -1)
        ]
        for kind, names in (("index_missing", missing), ("index_wrong", self._wrong)):
            if names:
                tally.add_fault(TrailFault(NO_ENTRY, kind, _reason(kind, names)))
        if self._right:
            tally.passed.add(CHECK)
        else:
            tally.reasons[CHECK] = "the search index has no row of this trail yet"


def _reason(kind: str, names: Sequence[str]) -> str:
    """Name the first row, and how many there are."""
    more = f" and {len(names) - 1:,} more" if len(names) > 1 else ""
    state = "missing" if kind == "index_missing" else "wrong"
    return f"rows of the search index are {state}: {names[0]}{more}. {REBUILD}"[:MAX_REASON_CHARS]


async def check_index(
    url: str, snapshot: str, org_id: int, key: bytes, *, live_from: int, extent: Extent
) -> IndexCheck:
    """Compare the index of a trail under a snapshot. Raises DatabaseUnavailable."""
    found = IndexCheck()
    async with reader_of(url, snapshot) as reader:
        async for one in reader.compare_index(
            org_id, key, live_from=live_from, entries=_entries(extent)
        ):
            found.add(one)
    return found


def _entries(extent: Extent) -> int:
    """Return the length of the trail, by its head row and its newest entry: an edited head may lie."""
    if extent.head is None or extent.newest is None:
        return 0
    return max(min(extent.head.seq, extent.newest.seq) + 1, 0)
