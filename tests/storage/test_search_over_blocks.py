"""A search over blocks finds what a look at every entry finds, and names what it can't read."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, NamedTuple

import asyncpg
import pytest
import zstandard

from ledger.blocks.block import Block, short_tag
from ledger.blocks.layout import BLOCK_ENTRIES
from ledger.chain import EMPTY_HEAD, ChainHead, Draft, StoredEntry, extend
from ledger.entry import search_tag, to_datetime
from ledger.storage.database import Database
from ledger.storage.entries import search, writing
from ledger.storage.entries.blocks import DamagedTrail
from ledger.storage.entries.search import EntrySearch, Page
from ledger.storage.entries.searching import block_rows, matching, tagged, walking
from ledger.storage.partitions import create_for
from tests.support import clusters
from tests.support.bad_frames import with_bad_frame
from tests.support.block_format import Row, checked
from tests.support.block_table import (
    replace_rows,
    rows_between,
    store_outside,
    without_triggers,
)
from tests.support.search_index import SECOND_US, draft, matches
from tests.support.search_index import by as where
from tests.support.trails import KEY, NOW_US, ORG, ORG_ID

ACTORS = ("ada", "bob", "busy", "busy", "busy", None)


class Trail(NamedTuple):
    """A trail in a database, written in commits of many sizes, and the entries of it."""

    pool: Database
    superuser: asyncpg.Connection[Any]
    entries: list[StoredEntry]

    async def add(self, rows: Sequence[StoredEntry]) -> None:
        """Write rows and move the head, as an append does."""
        await writing.add(self.superuser, rows)
        last = rows[-1]
        await self.superuser.execute(
            "INSERT INTO heads (org_id, seq, entry_hash, anchored_at) VALUES ($1, $2, $3, $4) "
            "ON CONFLICT (org_id) DO UPDATE SET seq = $2, entry_hash = $3, anchored_at = $4",
            ORG_ID, last.seq, last.entry_hash, last.anchored_at,
        )  # fmt: skip
        self.entries.extend(
            row._replace(actor_tag=short_tag(row.actor_tag), subject_tag=short_tag(row.subject_tag))
            for row in rows
        )

    async def page(
        self, by: EntrySearch, from_seq: int | None, *, descending: bool, limit: int
    ) -> Page:
        return await search.page(
            self.pool, ORG_ID, by, from_seq=from_seq, descending=descending, limit=limit
        )

    async def find(self, by: EntrySearch, *, descending: bool, limit: int) -> list[StoredEntry]:
        """All matching entries, page by page."""
        page = await self.page(by, None, descending=descending, limit=limit)
        found = page.entries
        while page.next_seq is not None:
            assert len(page.entries) <= limit
            page = await self.page(by, page.next_seq, descending=descending, limit=limit)
            found += page.entries
        return found

    async def places(self, by: EntrySearch, limit: int) -> list[int]:
        """The seqs of all matching entries, as a bundle selects them."""
        seqs: list[int] = []
        at: int | None = 0
        while at is not None:
            found, at = await search.places(
                self.pool, ORG_ID, by, from_seq=at, to_seq=self.entries[-1].seq, limit=limit
            )
            seqs += [seq for seq, _ in found]
        return seqs

    async def rewrite(self, seq: int, change: Callable[[Block], Block] | None) -> None:
        """Replace the block that holds a seq, as the owner of the database can; None: remove it."""
        (row,) = await rows_between(self.superuser, ORG_ID, seq, seq)
        changed = [Row(*change(Block(*row)))] if change else []
        async with without_triggers(self.superuser):
            await replace_rows(self.superuser, [row], changed)


@pytest.fixture
async def unwritten_trail(database: clusters.Database) -> AsyncIterator[Trail]:
    pool = await Database.open(database.server_url, size=2)
    await create_for(pool, [to_datetime(NOW_US), to_datetime(NOW_US + 40 * 86_400 * SECOND_US)])
    superuser = await asyncpg.connect(database.superuser_url)
    yield Trail(pool, superuser, [])
    await superuser.close()
    await pool.close()


@pytest.fixture
async def written_trail(unwritten_trail: Trail) -> Trail:
    """Commits of 1 to 700 entries in two months, some of them large."""
    rng = random.Random(7)
    head, now_us = EMPTY_HEAD, NOW_US
    for count in (1, 1, 1, 300, 5, 700, 1, 40, 256, 3, 500):
        drafts = [
            draft(
                rng.choice(ACTORS),
                rng.choice(("bob", None)),
                "rare" if rng.random() < 0.01 else "common",
                rng.randbytes(rng.choice((0, 10, 300))) * (500 if rng.random() < 0.02 else 1),
            )
            for _ in range(count)
        ]
        rows, head = extend(ORG_ID, ORG, head, drafts, now_us, KEY)
        await unwritten_trail.add(rows)
        now_us += 10 * SECOND_US if count != 700 else 31 * 86_400 * SECOND_US
    return unwritten_trail


SEARCHES = {
    "all": where(),
    "actor": where(actor="ada"),
    "frequent actor": where(actor="busy"),
    "subject": where(subject="bob"),
    "both": where(actor="bob", subject="bob"),
    "actor and type": where(actor="busy", kind="rare"),
    "nobody": where(actor="nobody"),
    "type": where(kind="rare"),
    "since": where(since_us=NOW_US + 25 * SECOND_US),
    "until": where(until_us=NOW_US + 30 * SECOND_US),
    "actor between": where(
        actor="ada", since_us=NOW_US + 20 * SECOND_US, until_us=NOW_US + 60 * SECOND_US
    ),
    "type in the second month": where(kind="common", since_us=NOW_US + 20 * 86_400 * SECOND_US),
}


@pytest.mark.parametrize("name", SEARCHES)
async def test_every_page_has_what_matches(
    written_trail: Trail, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    by = SEARCHES[name]
    expected = [entry for entry in written_trail.entries if matches(entry, by)]
    for small in (False, True):
        if small:  # the same pages from many small answers
            monkeypatch.setattr(search, "SCAN_WINDOW", 300)
            monkeypatch.setattr(search, "TAG_WINDOW", 1_000)
            monkeypatch.setattr(block_rows, "ROWS_AT_ONCE", 2)
            monkeypatch.setattr(walking, "ROWS_AT_ONCE", 2)
            monkeypatch.setattr(tagged, "BLOCKS_AT_ONCE", 2)
            monkeypatch.setattr(tagged, "SCANNED_BLOCKS", 4)
            monkeypatch.setattr(matching, "SCANNED_BYTES", 100_000)
        for limit in (1_000, 100, 7):
            assert await written_trail.find(by, descending=False, limit=limit) == expected
            assert await written_trail.find(by, descending=True, limit=limit) == expected[::-1]
        assert await written_trail.places(by, 90) == [entry.seq for entry in expected]


async def test_another_person_with_the_same_tag_is_not_found(
    unwritten_trail: Trail, monkeypatch: pytest.MonkeyPatch
) -> None:
    """24 bits are easily met by chance or on purpose: the leaf decides."""
    twin = "twin"
    tag = search_tag("ada")
    drafts = [draft("ada", None, "x", b"1"), draft(twin, twin, "x", b"2")] * 200
    drafts = [one if one.actor == "ada" else _tagged(one, tag) for one in drafts]
    await unwritten_trail.add(extend(ORG_ID, ORG, EMPTY_HEAD, drafts, NOW_US, KEY)[0])
    found = await unwritten_trail.find(where(actor="ada"), descending=True, limit=100)
    assert [entry.seq for entry in found] == list(range(398, -1, -2))
    assert await unwritten_trail.find(where(subject="ada"), descending=True, limit=100) == []


def _tagged(made: Draft, tag: int) -> Draft:
    made.actor_tag = made.subject_tag = tag
    return made


async def test_missing_entries_do_not_hide_the_others(written_trail: Trail) -> None:
    """A trail with holes, the last of them wider than any window, is read to its ends."""
    far = ChainHead(10**11, bytes(32), NOW_US)
    rows, _ = extend(ORG_ID, ORG, far, [draft("ada", None, "x", b"")] * 3, NOW_US + 1, KEY)
    await written_trail.rewrite(400, None)
    await written_trail.add(rows)
    lost = {entry.seq for entry in written_trail.entries} - {
        entry.seq for entry in await written_trail.find(where(), descending=False, limit=100)
    }
    assert 400 in lost
    assert len(lost) <= BLOCK_ENTRIES
    kept = [entry for entry in written_trail.entries if entry.seq not in lost]
    for descending in (False, True):
        found = await written_trail.find(where(), descending=descending, limit=100)
        assert found == (kept[::-1] if descending else kept)


BAD_FRAMES = pytest.mark.parametrize("column", ["leaves", "payloads"])


@BAD_FRAMES
async def test_a_bad_frame_costs_its_own_entries_and_is_named(
    unwritten_trail: Trail, column: str
) -> None:
    drafts = [
        draft("ada" if n % 2 else "bob", None, "x", b'{"n": "%064d"}' % n) for n in range(256)
    ]
    await unwritten_trail.add(extend(ORG_ID, ORG, EMPTY_HEAD, drafts, NOW_US, KEY)[0])
    await unwritten_trail.rewrite(0, lambda block: with_bad_frame(block, column))
    searches = [where(), where(actor="ada"), where(kind="x")]
    for by in searches:
        expected = [entry for entry in unwritten_trail.entries if matches(entry, by)]
        before = [entry for entry in expected if entry.seq < 32]
        after = [entry for entry in expected if entry.seq > 63]
        page = await unwritten_trail.page(by, None, descending=False, limit=1_000)
        assert [entry.seq for entry in page.entries] == [entry.seq for entry in before]
        assert page.next_seq is not None
        with pytest.raises(DamagedTrail, match="entries 32 to 63 "):
            await unwritten_trail.page(by, page.next_seq, descending=False, limit=1_000)
        page = await unwritten_trail.page(by, None, descending=True, limit=1_000)
        assert page.entries == after[::-1]
        assert page.next_seq is not None
        with pytest.raises(DamagedTrail, match="entries 32 to 63 "):
            await unwritten_trail.page(by, page.next_seq, descending=True, limit=1_000)
        assert (await unwritten_trail.page(by, 64, descending=False, limit=1_000)).entries == after


HOSTILE: dict[str, Callable[[Block], Block]] = {
    "no ends": lambda block: block._replace(ends=b""),
    "ends of another version": lambda block: block._replace(ends=b"\2" + block.ends[1:]),
    "no leaves": lambda block: block._replace(leaves=b""),
    "no tags": lambda block: block._replace(tags=b""),
    "too many tags": lambda block: block._replace(tags=block.tags * 1_000),
    "ends of megabytes": lambda block: block._replace(ends=block.ends + bytes(9 << 20)),
    "a bomb": lambda block: block._replace(leaves=_bomb(block)),
}


def _bomb(block: Block) -> bytes:
    """Frames whose content is far larger than the ends say."""
    bomb = zstandard.ZstdCompressor().compress(bytes(64 << 20))
    frames = [
        checked((bomb * (frame.size // len(bomb) + 1))[: frame.size - 4])
        for frame in block.layout().record_frames
    ]
    return b"".join(frames)


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_block_hides_no_other_and_is_named(
    unwritten_trail: Trail, name: str
) -> None:
    head = EMPTY_HEAD
    for number in range(5):
        drafts = [draft("ada", None, "x", b"{}")] * 100
        rows, head = extend(ORG_ID, ORG, head, drafts, NOW_US + number, KEY)
        await unwritten_trail.add(rows)
    await store_outside(unwritten_trail.superuser, "tags", "ends")  # as long as the owner likes
    await unwritten_trail.rewrite(150, HOSTILE[name])
    for by in (where(), where(actor="ada"), where(kind="x")):
        page = await unwritten_trail.page(by, None, descending=False, limit=1_000)
        assert page.entries == unwritten_trail.entries[:100]
        with pytest.raises(DamagedTrail, match=r"entries 100 to 1\d\d can't be read"):
            await unwritten_trail.page(by, 100, descending=False, limit=10)
        if by.patterns or name in ("no tags", "too many tags"):  # otherwise keys suffice
            with pytest.raises(DamagedTrail, match=r"entries 100 to 1\d\d can't be read"):
                await search.places(
                    unwritten_trail.pool, ORG_ID, by, from_seq=100, to_seq=499, limit=10
                )
        page = await unwritten_trail.page(by, None, descending=True, limit=1_000)
        assert page.entries == unwritten_trail.entries[200:][::-1]
        assert page.next_seq == 199


async def test_a_block_that_claims_more_entries_than_one_has_is_named(
    unwritten_trail: Trail,
) -> None:
    """Only an owner who drops the table's own check can plant it."""
    await unwritten_trail.add(
        extend(ORG_ID, ORG, EMPTY_HEAD, [draft("ada", None, "x", b"")] * 9, NOW_US, KEY)[0]
    )
    await unwritten_trail.rewrite(0, lambda block: block._replace(first_seq=-(10**9)))
    for by in (where(), where(actor="ada"), where(kind="x")):
        with pytest.raises(DamagedTrail, match="a block has 1 to 256 entries, not 1000000009"):
            await unwritten_trail.page(by, None, descending=True, limit=10)


async def test_two_blocks_for_the_same_seqs_are_both_shown(unwritten_trail: Trail) -> None:
    """A planted block stands beside the right one, which it does not hide."""
    drafts = [draft("ada", None, "x", b"{}")] * 10
    rows, _ = extend(ORG_ID, ORG, EMPTY_HEAD, drafts, NOW_US, KEY)
    planted, _ = extend(ORG_ID, ORG, EMPTY_HEAD, drafts[:5], NOW_US + 1, KEY)
    await unwritten_trail.add(rows)
    await writing.add(unwritten_trail.superuser, planted)
    for by in (where(), where(actor="ada"), where(kind="x")):
        for descending in (False, True):
            found = await unwritten_trail.find(by, descending=descending, limit=100)
            seqs = sorted([*range(10), *range(5)], reverse=descending)
            assert [entry.seq for entry in found] == seqs


async def test_a_page_of_large_payloads_reads_few_of_them(unwritten_trail: Trail) -> None:
    """Payloads of the page only are read, and of the one that fills it."""
    large = [draft("ada", None, "x", bytes([n]) * (3 << 20)) for n in range(6)]
    await unwritten_trail.add(extend(ORG_ID, ORG, EMPTY_HEAD, large, NOW_US, KEY)[0])
    for by in (where(), where(actor="ada"), where(kind="x")):
        page = await unwritten_trail.page(by, None, descending=False, limit=1_000)
        assert [entry.seq for entry in page.entries] == [0, 1, 2]
        assert page.next_seq == 3
        assert (
            await unwritten_trail.find(by, descending=True, limit=1_000)
            == unwritten_trail.entries[::-1]
        )
