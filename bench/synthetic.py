"""A long trail made up by PostgreSQL, for search: its leaves have the right form, but no chain.

Ten million entries made in Python would take longer than all other work together.
Only the last entry is a real one, so that the server accepts the head.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Final

import asyncpg

from bench import events, rows
from bench.stage import KEYRING, Scratch, Stage
from bench.tenants import Tenant
from ledger.chain import ChainHead, StoredEntry, extend
from ledger.core.sequencer.sequencer import system_clock_us
from ledger.entry import HASH_BYTES, search_tag, to_datetime
from ledger.storage.database import Connection, connect
from ledger.storage.entries import months, writing

DAYS: Final = 120
"""The trail's age: its entries are in five months, so in five partitions."""

_NAMES: Final = "CREATE UNLOGGED TABLE bench_{kind} (n bigint PRIMARY KEY, name text, tag bigint)"
# Rows as the server writes them, except previous_hash, which would chain them.
_ROWS: Final = """
SELECT $1::bigint, seq, at, actor_tag, subject_tag, sha256('\\x00'::bytea || leaf), sha256(leaf), leaf, payload
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
_CHUNK: Final = 20_000
WRITERS: Final = 2


def fill(stage: Stage, scratch: Scratch, org: Tenant, count: int) -> None:
    """Write ``count`` entries; the search indexes are built afterwards, which is faster."""
    rows.drop_search_indexes(stage, scratch)
    asyncio.run(_fill(scratch, org, count))
    rows.create_search_indexes(stage, scratch)
    rows.vacuum(scratch)
    stage.execute(scratch.owner_url, "DROP TABLE bench_actors, bench_subjects")


async def _fill(scratch: Scratch, org: Tenant, count: int) -> None:
    start = (datetime.now(UTC) - timedelta(days=DAYS)).replace(microsecond=0)
    step = timedelta(days=DAYS) / count
    connection = await asyncpg.connect(scratch.owner_url)
    try:
        for day in range(DAYS + 1):
            await months.create(connection, start + timedelta(days=day))
        await _add_names(connection, "actors", [events.actor(n) for n in range(events.ACTORS)])
        subjects = [events.subject(n) for n in range(events.SUBJECTS)]
        await _add_names(connection, "subjects", subjects)
    finally:
        await connection.close()
    chunks = [(first, min(first + _CHUNK, count - 1) - 1) for first in range(0, count - 1, _CHUNK)]
    await asyncio.gather(*(_fill_chunks(scratch, org, chunks, start, step) for _ in range(WRITERS)))
    await _add_last_entry(scratch, org, count - 1)


async def _add_names(connection: Connection, kind: str, names: list[str]) -> None:
    await connection.execute(_NAMES.format(kind=kind))
    records = [(number, name, search_tag(name)) for number, name in enumerate(names)]
    await connection.copy_records_to_table(f"bench_{kind}", records=records)


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
            made = await connection.fetch(
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
            await writing.add(connection, [StoredEntry(*row) for row in made])
    finally:
        await connection.close()


async def _add_last_entry(scratch: Scratch, org: Tenant, seq: int) -> None:
    """Write the last entry as the server would, and the head row."""
    before = ChainHead(seq - 1, bytes(HASH_BYTES), 0)
    (entry,), head = extend(
        org.org_id, org.slug, before, [events.draft(seq)], system_clock_us(), KEYRING.active
    )
    connection = await connect(scratch.server_url)
    try:
        await writing.add(connection, [entry])
        await connection.execute(
            _HEAD, org.org_id, head.seq, head.entry_hash, to_datetime(head.anchored_us)
        )
    finally:
        await connection.close()
