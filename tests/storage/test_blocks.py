"""The tests' own tampering changes exactly the entries or blocks that it names, or nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from ledger.chain import EMPTY_HEAD, StoredEntry, extend
from tests.support import blocks
from tests.support.appending import superuser
from tests.support.block_format import decode, encode
from tests.support.blocks import Connection
from tests.support.clusters import Database
from tests.support.tampering import Tampering, change, change_newest, steps
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
LAST_BYTE = bytes([R[2].entry_hash[-1] ^ 128])
OTHER_HASH = bytes([R[2].entry_hash[0] ^ 16]) + R[2].entry_hash[1:]
OTHER_LINK = R[3].leaf.replace(R[2].entry_hash.hex().encode(), OTHER_HASH.hex().encode())
Done = tuple[Tampering, list[StoredEntry], list[tuple[int, int]]]
WHOLE = [(0, 5)]
DONE: dict[str, Done] = {
    "edit": (
        change(blocks.edit, 2, payload=b"", actor_tag=lambda tag: tag ^ 1),
        [*R[:2], R[2]._replace(payload=b"", actor_tag=R[2].actor_tag ^ 1), *R[3:]],
        WHOLE,
    ),
    "edit the newest": (
        change_newest(blocks.edit, leaf=b"x"),
        [*R[:4], R[4]._replace(entry_hash=b""), R[5]._replace(leaf=b"x")],
        WHOLE,
    ),
    "flip": (
        change(blocks.flip, 1, "leaf", 10 + 8 * len(R[1].leaf)),
        [R[0], R[1]._replace(leaf=FLIPPED), *R[2:]],
        WHOLE,
    ),
    "large": (
        change(blocks.edit_large, 1, "entry_hash", 70_000),
        [R[0], R[1]._replace(entry_hash=b"x" * 70_000), *R[2:]],
        [(0, 0), (1, 1), (2, 5)],
    ),
    "duplicate": (
        change(blocks.duplicate, 3, anchored_at=lambda time: time + LATER),
        [*R[:4], R[3]._replace(anchored_at=R[3].anchored_at + LATER), *R[4:]],
        [(3, 3), (0, 5)],
    ),
    "remove one": (change(blocks.remove, 0), R[1:], [(1, 5)]),
    "remove": (change(blocks.remove, 1, 3), [R[0], *R[4:]], [(0, 0), (4, 5)]),
    "cut": (change(blocks.cut, 4), R[:4], [(0, 3)]),
    "wipe": (change(blocks.cut, 0), [], []),
    "move": (
        change(blocks.move, 1, -3),
        [R[1]._replace(seq=-3), R[0], *R[2:]],
        [(-3, -3), (0, 0), (2, 5)],
    ),
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
        [(0, 1), (2, 4), (5, 5)],
    ),
    "swap columns": (
        change(blocks.swap_columns, 0, 5, "leaf", "payload"),
        [
            R[0]._replace(leaf=R[5].leaf, payload=R[5].payload),
            *R[1:4],
            R[4]._replace(entry_hash=b""),
            R[5]._replace(leaf=R[0].leaf, payload=R[0].payload),
        ],
        WHOLE,
    ),
    "hash inside a block": (
        change(blocks.flip, 2, "entry_hash", 255),
        [*R[:2], R[2]._replace(entry_hash=R[2].entry_hash[:-1] + LAST_BYTE), *R[3:]],
        [(0, 2), (3, 5)],
    ),
    "hash named by the next leaf": (
        change(blocks.flip_link, 2, 0),
        [*R[:2], R[2]._replace(entry_hash=OTHER_HASH), R[3]._replace(leaf=OTHER_LINK), *R[4:]],
        WHOLE,
    ),
    "signature of another length": (
        change(blocks.edit, 3, signature=R[3].signature[:-1]),
        [
            *R[:3],
            R[3]._replace(signature=R[3].signature[:-1] + b"{", leaf=R[3].leaf[1:]),
            *R[4:],
        ],
        WHOLE,
    ),
    "leaf that no block can have": (
        change(blocks.edit, 3, leaf=bytes(65_536)),
        [*R[:2], R[2], R[3]._replace(leaf=bytes(65_536)), *R[4:]],
        [(0, 2), (3, 3), (4, 5)],
    ),
    "org": (change(blocks.edit, 2, org_id=9), [*R[:2], *R[3:]], [(0, 1), (3, 5)]),
    "recut": (change(blocks.recut, 1, 5, 1, 3), R, [(0, 1), (2, 3), (4, 5)]),
    "recut and joined": (
        steps(change(blocks.recut, 0, 5, 1, 3), change(blocks.recut, 0, 3, 0, 2)),
        R,
        [(0, 0), (1, 2), (3, 3), (4, 5)],
    ),
    "isolated": (change(blocks.isolate, 3), R, [(0, 2), (3, 3), (4, 5)]),
    "column": (
        change(blocks.column, 2, last_hash=b""),
        [*R[:5], R[5]._replace(entry_hash=b"")],
        WHOLE,
    ),
    "bit of a time": (
        change(blocks.raw_bit, 2, "anchored_at", 50),
        [entry._replace(anchored_at=entry.anchored_at + LATER) for entry in R],
        WHOLE,
    ),
    "bit of the tags": (
        change(blocks.raw_bit, 0, "tags", 8 * 11),
        [R[0], R[1]._replace(subject_tag=R[1].subject_tag ^ 1), *R[2:]],
        WHOLE,
    ),
}
REFUSED = {
    "an entry that is missing": change(blocks.edit, COUNT, payload=b"x"),
    "the same value": change(blocks.edit, 0, payload=b"x", leaf=lambda leaf: leaf),
    "the same size": change(blocks.edit_large, 0, "entry_hash", 32),
    "a range that ends beyond": change(blocks.remove, 4, COUNT),
    "no entry": change(blocks.cut, COUNT),
    "columns that are the same": change(blocks.swap_columns, 0, 1, "subject_tag"),
    "the blocks as they are": change(blocks.recut, 0, 5),
    "a block that is missing": change(blocks.column, COUNT, last_hash=b"x"),
    "the same column": change(blocks.column, 0, first_seq=0),
    "a time in no month": change(blocks.edit, 0, anchored_at=datetime(1999, 1, 1, tzinfo=UTC)),
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
            "INSERT INTO orgs (id, slug, name, privacy, wrapped_key, mac) VALUES (7, 'x', 'x', 'plain', '', '')"
        )
        await connection.execute(
            "INSERT INTO heads (org_id, seq, entry_hash, anchored_at) VALUES ($1, $2, $3, $4)",
            *(ORG, R[-1].seq, R[-1].entry_hash, R[-1].anchored_at),
        )
        yield connection


@pytest.mark.parametrize("case", DONE)
async def test_exactly_the_named_entries_change(connection: Connection, case: str) -> None:
    tampering, expected, borders = DONE[case]
    await tampering(connection, ORG)
    assert await blocks.stored(connection, ORG) == expected
    assert [row[3:0:-2] for row in await blocks.rows_between(connection, ORG)] == borders
    assert await blocks.stored(connection, OTHER) == rows_of(OTHER)
    assert await connection.fetchval("SHOW session_replication_role") == "origin"


@pytest.mark.parametrize("tampering", REFUSED.values(), ids=REFUSED)
async def test_a_tampering_that_misses_changes_nothing(
    connection: Connection, tampering: Tampering
) -> None:
    before = await blocks.stored_of_all(connection)
    with pytest.raises((AssertionError, ValueError, asyncpg.PostgresError)):
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


@pytest.mark.parametrize("bit", [0, 13, 62, 63])
async def test_bits_of_seqs_that_the_constraint_refuses(connection: Connection, bit: int) -> None:
    await blocks.raw_bit(connection, ORG, 0, "first_seq", bit)
    (row,) = await blocks.rows_between(connection, ORG, -(2**63))
    assert (row.first_seq, row.last_seq) == (1 << bit if bit < 63 else -(2**63), 5)
    with pytest.raises(asyncpg.CheckViolationError):
        await blocks.write_rows(connection, [row._replace(last_seq=4 - (1 << 50))])


@pytest.mark.parametrize("bit", [36, 403])  # 36: reserved in RFC 8878
async def test_a_bit_of_a_frame_that_may_mean_nothing(connection: Connection, bit: int) -> None:
    (old,) = await blocks.rows_between(connection, ORG)
    await blocks.raw_bit(connection, ORG, 2, "leaves", bit)
    (new,) = await blocks.rows_between(connection, ORG)
    assert old._replace(leaves=new.leaves) == new
    changed = int.from_bytes(old.leaves) ^ int.from_bytes(new.leaves)
    assert changed.bit_count() == 1
    with pytest.raises(AssertionError):
        decode(new)


async def test_a_block_of_raw_frames_stays_raw(connection: Connection) -> None:
    raw = encode([NEW, NEW._replace(seq=41)], raw=True)
    await blocks.write_rows(connection, [raw])
    await blocks.edit(connection, ORG, 41, payload=b"p" * 1_000)
    (row,) = await blocks.rows_between(connection, ORG, 40)
    assert row.payloads == NEW.payload + b"p" * 1_000
    assert row.leaves == raw.leaves


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
