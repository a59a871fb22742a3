"""PostgreSQL reads exactly the values that were packed for COPY."""

from __future__ import annotations

import asyncpg
import pytest

from ledger.chain import StoredEntry
from ledger.entry import to_datetime
from ledger.storage.database import Database as Pool
from ledger.storage.entries import writing
from ledger.storage.entries.copy_in import SLICE_ROWS
from ledger.storage.partitions import create_for
from tests.support import blocks
from tests.support.clusters import Database

NOW_US = 1_800_000_000_123_456


@pytest.mark.parametrize("count", [0, 1, SLICE_ROWS, SLICE_ROWS + 1])
async def test_rows_arrive_as_they_were_packed(database: Database, count: int) -> None:
    pool = await Pool.open(database.server_url)
    await create_for(pool, [to_datetime(NOW_US), to_datetime(1)])
    await pool.close()
    times = [to_datetime(NOW_US), to_datetime(NOW_US + 1), to_datetime(1)]
    rows = [
        StoredEntry(
            1 + seq % 3 * (2**31),
            seq,
            times[seq % 5 % 3],
            -(2**63) + seq,
            2**63 - 1 - seq,
            bytes([seq % 256]) * 32,
            bytes([255 - seq % 256]) * 32,
            b"leaf" * (seq % 7),
            b"\0payload" * (seq % 900),
        )
        for seq in range(count)
    ]
    connection = await asyncpg.connect(database.server_url)
    try:
        await writing.add(connection, rows)
        stored = await blocks.stored_of_all(connection)
    finally:
        await connection.close()
    assert stored == rows
