"""A long trail made by PostgreSQL itself, for search: leaves of the right form, chained to nothing.

Ten million entries by way of Python would take longer than all else together.
Only the last entry is a real one, so that the server takes the head for good.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Final

import asyncpg

from bench import events
from bench.stage import KEYRING, Scratch, Stage
from bench.tenants import Tenant
from ledger.chain import ChainHead, StoredEntry, extend
from ledger.core.sequencer.sequencer import system_clock_us
from ledger.entry import HASH_BYTES, search_tag, to_datetime
from ledger.storage.database import Connection, connect

DAYS: Final = 120
"""The trail's age: its entries stand in five months, so in five partitions."""

_NAMES: Final = "CREATE UNLOGGED TABLE bench_{what} (n bigint PRIMARY KEY, name text, tag bigint)"
_PARTITIONS: Final = """
SELECT quire_create_entries_partition(moment)
FROM generate_series($1::timestamptz, now(), interval '1 day') AS moment"""
# As the server writes them but for previous_hash, which would chain them.
_ROWS: Final = """
INSERT INTO entries (org_id, seq, anchored_at, actor_tag, subject_tag,
                     entry_hash, signature, leaf, payload)
SELECT $1, seq, at, actor_tag, subject_tag, sha256('\\x00'::bytea || leaf), sha256(leaf), leaf, payload
FROM (
    SELECT seq, at, a.tag AS actor_tag, s.tag AS subject_tag,
           convert_to(format(
               '{"action":"approve","actor":"%s","anchored_at":"%s","data_classification":null,'
               '"event_type":"invoice.approved","key":"%s","legal_basis":null,"org":"%s",'
               '"outcome":"success","payload":{"blake3":"%s","seal":null,"size":254},'
               '"previous_hash":%s,"seq":%s,"subject":"%s","timestamp":null,"v":1}',
               a.name, to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), $4::text,
               $5::text, encode(sha256(int8send(seq)), 'hex'),
               CASE WHEN seq = 0 THEN 'null' ELSE format('"%s"', encode(sha256(int8send(-seq)), 'hex')) END,
               seq, s.name), 'UTF8') AS leaf,
           convert_to(rpad(format('{"event_type":"invoice.approved","no":%s,"note":"', seq), 252, '.')
                      || '"}', 'UTF8') AS payload
    FROM generate_series($2::bigint, $3::bigint) AS seq
    CROSS JOIN LATERAL (SELECT $6::timestamptz + seq * $7::interval AS at) AS placed
    JOIN bench_actors a ON a.n = seq % $8
    JOIN bench_subjects s ON s.n = seq % $9
) AS made"""
_HEAD: Final = """
UPDATE heads SET seq = $2, entry_hash = $3, anchored_at = $4 WHERE org_id = $1"""
_INDEXES: Final = {
    "entries_actor": "(org_id, (seq >> 14), actor_tag, seq) WHERE actor_tag <> 0",
    "entries_subject": "(org_id, (seq >> 14), subject_tag, seq) WHERE subject_tag <> 0",
}
_CHUNK: Final = 100_000
WRITERS: Final = 2


def fill(stage: Stage, scratch: Scratch, org: Tenant, count: int) -> None:
    """Write ``count`` entries; the search indexes are built after, which is faster."""
    stage.execute(scratch.owner_url, *(f"DROP INDEX {name}" for name in _INDEXES))
    asyncio.run(_fill(scratch, org, count))
    stage.execute(
        scratch.owner_url,
        *(f"CREATE INDEX {name} ON entries {columns}" for name, columns in _INDEXES.items()),
        "VACUUM (ANALYZE) entries",
        "DROP TABLE bench_actors, bench_subjects",
    )


async def _fill(scratch: Scratch, org: Tenant, count: int) -> None:
    start = (datetime.now(UTC) - timedelta(days=DAYS)).replace(microsecond=0)
    step = timedelta(days=DAYS) / count
    connection = await asyncpg.connect(scratch.owner_url)
    try:
        await connection.execute(_PARTITIONS, start)
        await _name(connection, "actors", [events.actor(n) for n in range(events.ACTORS)])
        await _name(connection, "subjects", [events.subject(n) for n in range(events.SUBJECTS)])
    finally:
        await connection.close()
    chunks = [(first, min(first + _CHUNK, count - 1) - 1) for first in range(0, count - 1, _CHUNK)]
    await asyncio.gather(*(_fill_chunks(scratch, org, chunks, start, step) for _ in range(WRITERS)))
    await _end(scratch, org, count - 1)


async def _name(connection: Connection, what: str, names: list[str]) -> None:
    await connection.execute(_NAMES.format(what=what))
    records = [(number, name, search_tag(name)) for number, name in enumerate(names)]
    await connection.copy_records_to_table(f"bench_{what}", records=records)


async def _fill_chunks(
    scratch: Scratch,
    org: Tenant,
    chunks: list[tuple[int, int]],
    start: datetime,
    step: timedelta,
) -> None:
    connection = await asyncpg.connect(scratch.owner_url, server_settings={"timezone": "UTC"})
    try:
        while chunks:
            first, last = chunks.pop(0)
            await connection.execute(
                _ROWS,
                org.org_id,
                first,
                last,
                KEYRING.active.key_id,
                org.slug,
                start,
                step,
                events.ACTORS,
                events.SUBJECTS,
            )
    finally:
        await connection.close()


async def _end(scratch: Scratch, org: Tenant, seq: int) -> None:
    """The last entry, as the server would write it, and the head row."""
    before = ChainHead(seq - 1, bytes(HASH_BYTES), 0)
    (entry,), head = extend(
        org.org_id, org.slug, before, [events.draft(seq)], system_clock_us(), KEYRING.active
    )
    connection = await connect(scratch.server_url)
    try:
        await connection.copy_records_to_table(
            "entries", records=[entry], columns=StoredEntry._fields
        )
        await connection.execute(
            _HEAD, org.org_id, head.seq, head.entry_hash, to_datetime(head.anchored_us)
        )
    finally:
        await connection.close()
