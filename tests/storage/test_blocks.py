"""The tests' own tampering changes exactly the entries that it names, or nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from ledger.chain import EMPTY_HEAD, StoredEntry, extend
from tests.support import blocks
from tests.support.appending import superuser
from tests.support.blocks import Connection
from tests.support.clusters import Database
from tests.support.tampering import Tampering, change, change_newest
from tests.support.trails import KEY, NOW_US, draft

ORG = 7
OTHER = 8
COUNT = 6
LATER = timedelta(microseconds=1)


def rows_of(org_id: int) -> list[StoredEntry]:
    drafts = [draft(b"payload %d" % number) for number in range(COUNT)]
    return extend(org_id, "org", EMPTY_HEAD, drafts, NOW_US, KEY)[0]


R = rows_of(ORG)
"""The stored entries before each change."""
NEW = R[0]._replace(seq=40, payload=b"new")
FLIPPED = bytes([R[1].leaf[0]]) + bytes([R[1].leaf[1] ^ 4]) + R[1].leaf[2:]
DONE: dict[str, tuple[Tampering, list[StoredEntry]]] = {
    "edit": (
        change(blocks.edit, 2, payload=b"", actor_tag=lambda tag: tag ^ 1),
        [*R[:2], R[2]._replace(payload=b"", actor_tag=R[2].actor_tag ^ 1), *R[3:]],
    ),
    "edit the newest": (
        change_newest(blocks.edit, leaf=b"x"),
        [*R[:4], R[4]._replace(entry_hash=b""), R[5]._replace(leaf=b"x")],
    ),
    "flip": (
        change(blocks.flip, 1, "leaf", 10 + 8 * len(R[1].leaf)),
        [R[0], R[1]._replace(leaf=FLIPPED), *R[2:]],
    ),
    "large": (
        change(blocks.edit_large, 1, "entry_hash", 70_000),
        [R[0], R[1]._replace(entry_hash=b"x" * 70_000), *R[2:]],
    ),
    "duplicate": (
        change(blocks.duplicate, 3, anchored_at=lambda time: time + LATER),
        [*R[:4], R[3]._replace(anchored_at=R[3].anchored_at + LATER), *R[4:]],
    ),
    "remove one": (change(blocks.remove, 0), R[1:]),
    "remove": (change(blocks.remove, 1, 3), [R[0], *R[4:]]),
    "cut": (change(blocks.cut, 4), R[:4]),
    "wipe": (change(blocks.cut, 0), []),
    "move": (change(blocks.move, 1, -3), [R[1]._replace(seq=-3), R[0], *R[2:]]),
    "swap": (
        change(blocks.swap, 1, 4),
        [
            R[0]._replace(entry_hash=R[3].entry_hash),
            R[4]._replace(seq=1),
            R[2],
            R[3]._replace(entry_hash=R[0].entry_hash),
            R[1]._replace(seq=4),
            R[5],
        ],
    ),
    "swap columns": (
        change(blocks.swap_columns, 0, 5, "leaf", "payload"),
        [
            R[0]._replace(leaf=R[5].leaf, payload=R[5].payload),
            *R[1:4],
            R[4]._replace(entry_hash=b""),
            R[5]._replace(leaf=R[0].leaf, payload=R[0].payload),
        ],
    ),
}
REFUSED = {
    "an entry that is missing": change(blocks.edit, COUNT, payload=b"x"),
    "the same value": change(blocks.edit, 0, payload=b"x", leaf=lambda leaf: leaf),
    "the same size": change(blocks.edit_large, 0, "entry_hash", 32),
    "a range that ends beyond": change(blocks.remove, 4, COUNT),
    "no entry": change(blocks.cut, COUNT),
    "columns that are the same": change(blocks.swap_columns, 0, 1, "subject_tag"),
    "the head as it is": change(blocks.point_head_at, COUNT - 1),
}


@pytest.fixture
async def connection(database: Database) -> AsyncIterator[Connection]:
    """A superuser's connection to a database with two equal trails and the head of one."""
    async with superuser(database) as connection:
        await connection.execute("SET session_replication_role = origin")
        for rows in (rows_of(OTHER), R):
            await blocks.create_partitions(connection, rows)
            await blocks.write(connection, rows)
        await connection.execute(
            "INSERT INTO orgs (id, slug, name, privacy, wrapped_key) VALUES (7, 'x', 'x', 'plain', '')"
        )
        await connection.execute(
            "INSERT INTO heads (org_id, seq, entry_hash, anchored_at) VALUES ($1, $2, $3, $4)",
            *(ORG, R[-1].seq, R[-1].entry_hash, R[-1].anchored_at),
        )
        yield connection


@pytest.mark.parametrize("case", DONE)
async def test_exactly_the_named_entries_change(connection: Connection, case: str) -> None:
    tampering, expected = DONE[case]
    await tampering(connection, ORG)
    assert await blocks.stored(connection, ORG) == expected
    assert await blocks.stored(connection, OTHER) == rows_of(OTHER)
    assert await connection.fetchval("SHOW session_replication_role") == "origin"


@pytest.mark.parametrize("tampering", REFUSED.values(), ids=REFUSED)
async def test_a_tampering_that_misses_changes_nothing(
    connection: Connection, tampering: Tampering
) -> None:
    before = await blocks.stored_of_all(connection)
    with pytest.raises((AssertionError, ValueError)):
        await tampering(connection, ORG)
    assert await blocks.stored_of_all(connection) == before


async def test_entries_that_are_stored_twice(connection: Connection) -> None:
    twin = R[2]._replace(anchored_at=R[2].anchored_at + LATER)
    await blocks.insert(connection, twin, NEW)
    assert await blocks.newest_seq(connection, ORG) == NEW.seq
    for ambiguous in (change(blocks.edit, 2, payload=b""), change(blocks.remove, 2)):
        with pytest.raises((AssertionError, ValueError)):
            await ambiguous(connection, ORG)
    await blocks.withdraw(connection, R[2], NEW)
    assert await blocks.stored(connection, ORG) == [*R[:2], twin, *R[3:]]


async def test_the_head_is_set_to_an_entry_and_to_none(connection: Connection) -> None:
    for seq, head in (
        (2, (2, R[2].entry_hash, R[2].anchored_at)),
        (-1, (-1, b"", datetime(1970, 1, 1, tzinfo=UTC))),
    ):
        await blocks.point_head_at(connection, ORG, seq)
        (row,) = await connection.fetch(
            "SELECT seq, entry_hash, anchored_at FROM heads WHERE org_id = $1", ORG
        )
        assert tuple(row) == head
