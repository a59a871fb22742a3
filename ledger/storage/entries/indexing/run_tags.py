"""The tags of whole runs of entries, from the short columns of their blocks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Final, NamedTuple

from ledger.blocks.layout import BLOCK_ENTRIES
from ledger.blocks.postings import RUN_BITS, RUN_ENTRIES, RUNS_IN_STRETCH
from ledger.blocks.selecting import PAIR_BYTES
from ledger.entry import HASH_BYTES
from ledger.storage.database import Connection
from ledger.storage.entries.blocks import EARLIEST, LATEST

_TAGS_BYTES: Final = PAIR_BYTES * BLOCK_ENTRIES
# A block more than one for each entry: two blocks overlap then. The hash only where a run may end.
TAGS: Final = f"""
SELECT last_seq, anchored_at, first_seq,
       CASE WHEN octet_length(tags) <= {_TAGS_BYTES} THEN tags ELSE '' END,
       CASE WHEN (last_seq + 1) & {RUN_ENTRIES - 1} = 0 AND octet_length(last_hash) = {HASH_BYTES}
            THEN last_hash END
FROM entries
WHERE org_id = $1 AND last_seq >= $2 AND last_seq <= $3 AND anchored_at >= $4 AND anchored_at <= $5
ORDER BY last_seq, anchored_at LIMIT {RUN_ENTRIES + 1}"""
NEXT: Final = """
SELECT greatest(first_seq, $2::bigint) FROM entries
WHERE org_id = $1 AND last_seq >= $2 ORDER BY last_seq LIMIT 1"""


class TagsOfBlock(NamedTuple):
    """The tags of a block; ``end_hash`` only where a run may end with the block."""

    last_seq: int
    anchored_at: datetime
    first_seq: int
    tags: bytes
    end_hash: bytes | None


class RunTags(NamedTuple):
    """The tags of a whole run, and the stored hash and the time of its last entry."""

    run: int
    tags: bytes
    end_hash: bytes
    ended_at: datetime


async def read(
    connection: Connection,
    org_id: int,
    runs: range,
    *,
    live_from: int = 0,
    since: datetime = EARLIEST,
) -> list[RunTags | None]:
    """Return the tags of the first of these runs: of one at least, unless there are none.

    None stands for a run some of whose entries are missing, stored twice or without tags. Entries
    below ``live_from`` were dropped: they count as entries without tags. No entry may be older than
    ``since``. Raises asyncpg's errors.
    """
    if not runs:
        return []
    first, last = max(runs.start << RUN_BITS, live_from), (runs.stop << RUN_BITS) - 1
    rows = await connection.fetch(TAGS, org_id, first, last, since, LATEST)
    blocks = [TagsOfBlock(*row) for row in rows]
    if len(blocks) > RUN_ENTRIES:
        runs = range(runs.start, max(blocks[-1].last_seq >> RUN_BITS, runs.start + 1))
    return [_joined(run, of_run, live_from) for run, of_run in _by_run(runs, blocks)]


def _by_run(
    runs: range, blocks: Sequence[TagsOfBlock]
) -> Iterator[tuple[int, Sequence[TagsOfBlock]]]:
    at = 0
    for run in runs:
        start = at
        while at < len(blocks) and blocks[at].last_seq >> RUN_BITS == run:
            at += 1
        yield run, blocks[start:at]


def _joined(run: int, blocks: Iterable[TagsOfBlock], live_from: int) -> RunTags | None:
    """Return the tags of a run if its blocks are whole and follow one another, else None."""
    first = run << RUN_BITS
    following = max(first, live_from)
    parts = [bytes(PAIR_BYTES * (following - first))]
    block: TagsOfBlock | None = None
    for block in blocks:
        entries = block.last_seq - block.first_seq + 1
        if block.first_seq != following or len(block.tags) != PAIR_BYTES * entries:
            return None
        parts.append(block.tags)
        following = block.last_seq + 1
    if block is None or block.end_hash is None or following != first + RUN_ENTRIES:
        return None
    return RunTags(run, b"".join(parts), block.end_hash, block.anchored_at)


def joined_tags(stretch: int, runs: Sequence[RunTags]) -> bytes:
    """Return the tags of a stretch from those of its live runs; dropped entries have none."""
    dropped = runs[0].run - stretch * RUNS_IN_STRETCH
    return bytes(PAIR_BYTES * RUN_ENTRIES * dropped) + b"".join(run.tags for run in runs)


async def next_run(connection: Connection, org_id: int, run: int) -> int | None:
    """Return the first run from this one on that has a stored entry. Raises asyncpg's errors."""
    seq: int | None = await connection.fetchval(NEXT, org_id, run << RUN_BITS)
    return None if seq is None else seq >> RUN_BITS
