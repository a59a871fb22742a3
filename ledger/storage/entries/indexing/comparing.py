"""Compares the rows of the search index with the tags of the entries, stretch by stretch.

What a row should say is computed again from the blocks; a run that can't be read has no right row
and no wrong one. Functions raise asyncpg's errors.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from ledger.blocks.postings import (
    MAX_POSTINGS_BYTES,
    RUN_BITS,
    RUN_LEVEL,
    RUNS_IN_STRETCH,
    STRETCH_BITS,
    STRETCH_LEVEL,
    IndexDamaged,
    IndexRow,
    Seal,
    place_name,
    require_authentic,
    row_name,
    run_row,
    stretch_rows,
)
from ledger.storage.database import Connection
from ledger.storage.entries.blocks import EARLIEST
from ledger.storage.entries.indexing import run_tags
from ledger.storage.entries.indexing.index_rows import BITS
from ledger.storage.entries.indexing.run_tags import RunTags

MAX_STORED: Final = 1_024
"""Rows of one stretch that are compared; more of them are wrong, and compared when these are gone."""
# Rows of runs and stretches that do not exist were planted.
STORED: Final = f"""
SELECT level, stretch, bucket, substring(mac FROM 1 FOR 33),
       CASE WHEN ended_at BETWEEN 'epoch' AND '4253-01-01Z' THEN ended_at END,
       CASE WHEN octet_length(postings) <= {MAX_POSTINGS_BYTES} THEN postings ELSE '' END
FROM (
    (SELECT level, stretch, bucket, mac, ended_at, postings FROM tag_runs
     WHERE org_id = $1 AND level = {RUN_LEVEL} AND stretch >= $2 AND stretch < $3
     ORDER BY stretch, bucket, mac LIMIT {MAX_STORED})
    UNION ALL
    (SELECT level, stretch, bucket, mac, ended_at, postings FROM tag_runs
     WHERE org_id = $1 AND level = {STRETCH_LEVEL} AND stretch = $4
     ORDER BY bucket, mac LIMIT {MAX_STORED})
) AS r"""
_PLANTED: Final = f"""
(SELECT level, stretch, bucket, substring(mac FROM 1 FOR 33) FROM tag_runs WHERE org_id = $1 AND {{}} LIMIT {MAX_STORED})"""
BEYOND: Final = "UNION ALL".join(
    _PLANTED.format(where)
    for where in (
        f"level = {RUN_LEVEL} AND stretch >= $2",
        f"level = {STRETCH_LEVEL} AND stretch >= $3",
        f"level < {RUN_LEVEL}",
        f"level > {STRETCH_LEVEL}",
    )
)


class RightRow(NamedTuple):
    """A row as it should be, and the time of its last entry."""

    row: IndexRow
    ended_at: datetime


class StoredKey(NamedTuple):
    """The key of a stored row, below its org."""

    level: int
    stretch: int
    bucket: int
    mac: bytes

    @property
    def name(self) -> str:
        """The words for its place in messages."""
        return place_name(self.level, self.stretch, self.bucket)


class Comparison(NamedTuple):
    """Of one stretch: its first seq, rows that are missing, stored rows that are wrong.

    ``right``: level, number and bucket of each right row.
    """

    first_seq: int
    missing: Sequence[RightRow]
    wrong: Sequence[StoredKey]
    right: Sequence[tuple[int, int, int]]

    def missing_places(self) -> Iterator[tuple[tuple[int, int, int], str]]:
        """Yield level, number and bucket of each missing row, with the words for its place."""
        for row, _ in self.missing:
            yield (row.level, row.stretch, row.bucket), row_name(row)


async def comparisons(
    connection: Connection, org_id: int, key: bytes, *, live_from: int, entries: int
) -> AsyncIterator[Comparison]:
    """Yield the comparison of each stretch of a trail of so many entries, and of what is beyond.

    Entries below ``live_from`` were dropped.
    """
    since, whole = EARLIEST, entries >> RUN_BITS
    stretch: int | None = live_from >> STRETCH_BITS
    while stretch is not None and stretch <= whole // RUNS_IN_STRETCH:
        first = max(stretch * RUNS_IN_STRETCH, live_from >> RUN_BITS)
        runs = range(first, max(min((stretch + 1) * RUNS_IN_STRETCH, whole), first))
        tags = await _tags_of(connection, org_id, runs, live_from, since)
        stored = await connection.fetch(STORED, org_id, runs.start, runs.stop, stretch)
        expected = _Expected(org_id, stretch, tags, live_from, key)
        yield await asyncio.to_thread(expected.compared, stored)
        since = expected.ended_at or since
        stretch = await _next_stretch(connection, org_id, stretch, tags)
    beyond = await connection.fetch(BEYOND, org_id, whole, whole // RUNS_IN_STRETCH + 1)
    yield Comparison(entries, [], [StoredKey(*row) for row in beyond], [])


async def _next_stretch(
    connection: Connection, org_id: int, stretch: int, tags: Mapping[int, RunTags | None]
) -> int | None:
    """Return the next stretch, after a gap, which may be huge, the next one with an entry."""
    if any(tags.values()) or not tags:
        return stretch + 1
    run = await run_tags.next_run(connection, org_id, (stretch + 1) * RUNS_IN_STRETCH)
    return None if run is None else run // RUNS_IN_STRETCH


async def _tags_of(
    connection: Connection, org_id: int, runs: range, live_from: int, since: datetime
) -> dict[int, RunTags | None]:
    """Return the tags of each run, None where they can't be read."""
    tags: dict[int, RunTags | None] = {}
    while rest := runs[len(tags) :]:
        for found in await run_tags.read(
            connection, org_id, rest, live_from=live_from, since=since
        ):
            tags[runs[len(tags)]] = found
    return tags


class _Expected:
    """The rows that a stretch should have, as far as its runs can be read."""

    def __init__(
        self,
        org_id: int,
        stretch: int,
        tags: Mapping[int, RunTags | None],
        live_from: int,
        key: bytes,
    ) -> None:
        self._org_id = org_id
        self._stretch = stretch
        self._tags = tags
        self._live_from = live_from
        self._key = key

    @property
    def ended_at(self) -> datetime | None:
        """The time of the last entry of its last run; None if that can't be read."""
        last = self._tags[max(self._tags)] if self._tags else None
        return None if last is None else last.ended_at

    def compared(self, stored: Iterable[Sequence[Any]]) -> Comparison:
        """Compare stored rows with what they should say."""
        expected = self._rows()
        wrong: list[StoredKey] = []
        right: set[tuple[int, int, int]] = set()
        for *values, ended_at, postings in stored:
            key = StoredKey(*values)
            if self._is_right(key, ended_at, postings, expected.get(key[:3])):
                right.add(key[:3])
            elif self._is_known(key.level, key.stretch):
                wrong.append(key)
        missing = [row for place, row in expected.items() if place not in right]
        first = max(self._stretch << STRETCH_BITS, self._live_from)
        return Comparison(first, missing, wrong, sorted(right))

    def _rows(self) -> dict[tuple[int, int, int], RightRow]:
        """Return the rows by level, number and bucket."""
        runs = [run for run in self._tags.values() if run is not None]
        rows = [
            RightRow(run_row(self._org_id, run.run, run.tags, self._seal(run)), run.ended_at)
            for run in runs
        ]
        first = self._stretch * RUNS_IN_STRETCH
        if len(runs) == len(self._tags) and first + RUNS_IN_STRETCH - 1 in self._tags:
            tags = run_tags.joined_tags(self._stretch, runs)
            made = stretch_rows(self._org_id, self._stretch, tags, self._seal(runs[-1]))
            rows += [RightRow(row, runs[-1].ended_at) for row in made]
        return {(row.level, row.stretch, row.bucket): RightRow(row, at) for row, at in rows}

    def _seal(self, run: RunTags) -> Seal:
        return Seal(self._key, run.end_hash)

    def _is_right(
        self, key: StoredKey, ended_at: datetime | None, postings: bytes, should: RightRow | None
    ) -> bool:
        """Return whether a stored row is right.

        Where some of the entries were dropped, any authentic row is: it may be older than the drop.
        """
        start = key.stretch << BITS[key.level]
        if start < self._live_from:
            return self._is_authentic(key, ended_at, postings)
        return should is not None and (key.mac, ended_at, postings) == (
            should.row.mac,
            should.ended_at,
            should.row.postings,
        )

    def _is_authentic(self, key: StoredKey, ended_at: datetime | None, postings: bytes) -> bool:
        last = self._tags.get(((key.stretch + 1) << BITS[key.level] >> RUN_BITS) - 1)
        if last is None or last.ended_at != ended_at:
            return False
        try:
            require_authentic(IndexRow(self._org_id, *key[:3], postings, key.mac), self._seal(last))
        except IndexDamaged:
            return False
        return True

    def _is_known(self, level: int, number: int) -> bool:
        """Return whether all entries of a run or stretch could be read, so that a row is judged."""
        if level == RUN_LEVEL:
            return self._tags.get(number) is not None
        return all(run is not None for run in self._tags.values())
