"""Builds the search index of all trails, behind their appends.

It follows committed entries, signed or not. A run gets its row as soon as all its entries are
committed, a stretch its rows after its last run. All rows of a run or stretch are added by one
statement: whatever is interrupted, the next builder continues after the newest row. Searches do
not wait for it: they read the tags of entries that no row covers.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from ledger.blocks.postings import (
    RUN_BITS,
    RUN_LEVEL,
    RUNS_IN_STRETCH,
    STRETCH_BITS,
    STRETCH_LEVEL,
    Seal,
    run_row,
    stretch_rows,
)
from ledger.storage.entries.blocks import EARLIEST
from ledger.storage.entries.indexing.run_tags import RunTags, joined_tags
from ledger.storage.indexing import IndexerConnection, WholeRuns

RUNS_AT_ONCE: Final = 64
"""Runs of one trail in a round, so that a long trail delays no other."""


@dataclass
class _IndexProgress:
    """The next run and stretch of a trail to build, and since when their entries were anchored."""

    runs: int
    stretches: int
    since: datetime
    stuck_at: int = -1
    """The number of runs that the head row named when fewer were stored; -1: never."""

    def is_at(self, runs: int) -> bool:
        """Return whether so many runs, and their stretches, have their rows, as far as they can."""
        built = self.runs >= runs or self.stuck_at == runs
        return built and (self.stretches + 1) * RUNS_IN_STRETCH > self.runs


class IndexBuilder:
    """Builds rows on one connection. Methods raise DatabaseUnavailable."""

    def __init__(self, connection: IndexerConnection, key: bytes) -> None:
        self._connection = connection
        self._key = key
        self._progress: dict[int, _IndexProgress] = {}

    def forget(self) -> None:
        """Read again how far the index of each trail reaches: rows may have been removed."""
        self._progress.clear()

    async def round(self) -> bool:
        """Build what is missing, of each trail a bounded part; return whether more is missing."""
        behind = False
        async for page in self._connection.heads():
            for head in page:
                behind |= await self._extend(head)
        return behind

    async def _extend(self, head: WholeRuns) -> bool:
        """Build the next runs and stretches of a trail; return whether more are missing."""
        progress = self._progress.get(head.org_id)
        if progress is None:
            progress = self._progress[head.org_id] = await self._found(head)
        if progress.is_at(head.runs):
            return False
        live_from = await self._connection.live_from(head.org_id)
        self._skip_dropped(progress, live_from)
        until = min(head.runs, progress.runs + RUNS_AT_ONCE)
        # Stretches first: the builder before may have ended after the last run of one.
        await self._build_stretches(head.org_id, progress, live_from)
        while progress.runs < until and progress.stuck_at != head.runs:
            await self._build_runs(head, progress, live_from, until)
            await self._build_stretches(head.org_id, progress, live_from)
        return not progress.is_at(head.runs)

    async def _found(self, head: WholeRuns) -> _IndexProgress:
        """Return how far the index of a trail reaches."""
        stretches_below = head.runs // RUNS_IN_STRETCH
        runs = await self._connection.newest(head.org_id, RUN_LEVEL, head.runs, self._key)
        stretches = await self._connection.newest(
            head.org_id, STRETCH_LEVEL, stretches_below, self._key
        )
        return _IndexProgress(
            0 if runs is None else runs.row.stretch + 1,
            0 if stretches is None else stretches.row.stretch + 1,
            EARLIEST
            if runs is None or stretches is None
            else min(runs.ended_at, stretches.ended_at),
        )

    def _skip_dropped(self, progress: _IndexProgress, live_from: int) -> None:
        """Leave out runs and stretches without an entry in the database."""
        progress.runs = max(progress.runs, live_from >> RUN_BITS)
        progress.stretches = max(progress.stretches, live_from >> STRETCH_BITS)

    async def _build_runs(
        self, head: WholeRuns, progress: _IndexProgress, live_from: int, until: int
    ) -> None:
        """Add the rows of some runs. A run that can't be read is left out: searches read its tags."""
        runs = range(progress.runs, min(until, progress.runs + RUNS_IN_STRETCH))
        for tags in await self._connection.tags(head.org_id, runs, live_from, progress.since):
            if tags is None:
                following = await self._connection.next_run(head.org_id, progress.runs + 1)
                if following is None:  # the head row names entries that are not stored
                    progress.stuck_at = head.runs
                else:
                    progress.runs = min(following, head.runs)
                return
            row = run_row(head.org_id, tags.run, tags.tags, Seal(self._key, tags.end_hash))
            # A crash here leaves the rows of earlier runs, from which the next builder continues.
            await self._connection.add([row], tags.ended_at)
            progress.runs = tags.run + 1

    async def _build_stretches(self, org_id: int, progress: _IndexProgress, live_from: int) -> None:
        """Add the rows of the stretches all of whose runs were passed."""
        while (progress.stretches + 1) * RUNS_IN_STRETCH <= progress.runs:
            stretch = progress.stretches
            tags = await self._tags_of(org_id, stretch, live_from, progress.since)
            if tags is not None:
                seal = Seal(self._key, tags[-1].end_hash)
                rows = stretch_rows(org_id, stretch, joined_tags(stretch, tags), seal)
                await self._connection.add(rows, tags[-1].ended_at)
                progress.since = tags[-1].ended_at
            progress.stretches = stretch + 1

    async def _tags_of(
        self, org_id: int, stretch: int, live_from: int, since: datetime
    ) -> list[RunTags] | None:
        """Return the tags of all live runs of a stretch; None if one of them can't be read."""
        tags: list[RunTags] = []
        runs = range(
            max(stretch * RUNS_IN_STRETCH, live_from >> RUN_BITS), (stretch + 1) * RUNS_IN_STRETCH
        )
        while rest := runs[len(tags) :]:
            for found in await self._connection.tags(org_id, rest, live_from, since):
                if found is None:
                    return None
                tags.append(found)
        return tags
