"""The server blocks addresses by itself: when, for how long, by one process, and never the exempt."""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta

import pytest

from server.threats.blocks import rules, store
from server.threats.blocks.changes import BlockChanges, BlockState
from tests.support.block_office import ADD_EVENT, BlockOffice, at, block_office
from tests.support.clusters import Database

HOUR_US = 3_600_000_000


def hours(made: list[BlockState]) -> list[float]:
    return [round((each.block.until_us - each.block.since_us) / HOUR_US, 3) for each in made]


class LaterClock:
    """Lets an office believe that it is later; events that the database stores are of now."""

    def __init__(self, office: BlockOffice, monkeypatch: pytest.MonkeyPatch) -> None:
        self._ahead_us = 0
        true_us = office.blocked.now_us
        monkeypatch.setattr(office.blocked, "now_us", lambda: true_us() + self._ahead_us)
        monkeypatch.setattr(
            BlockChanges, "_now_us", lambda _: true_us() + self._ahead_us, raising=True
        )

    def goes_to(self, made: BlockState, office: BlockOffice, more: timedelta) -> None:
        """Go to a time after the end of a block, which the events of the test then seem to have."""
        self._ahead_us += made.block.until_us - office.blocked.now_us()
        self._ahead_us += more // timedelta(microseconds=1)


def test_the_query_has_the_numbers_of_the_rule() -> None:
    assert f"score >= {rules.SCORE} " in store.SCORED
    assert f"interval '{rules.WINDOW.total_seconds() // 60:.0f} minutes'" in store.SCORED


async def test_the_query_finds_its_events_by_an_index(database_of_module: Database) -> None:
    async with block_office(database_of_module) as office, office.database.transaction() as session:
        await session.execute("SET LOCAL enable_seqscan = off")
        plan = await session.fetch(f"EXPLAIN {store.SCORED.replace('$1', '5')}")
        assert any("security_events_scored" in line for (line,) in plan)


async def test_five_serious_events_block_an_address_once(database_of_module: Database) -> None:
    async with block_office(database_of_module) as office:
        address = "192.0.2.1"
        await office.events(address, 4)
        await office.events(address, 9, score=74)
        assert await office.rule.apply() == []
        await office.events(address, 1)
        (made,) = await office.rule.apply()
        assert hours([made]) == [1]
        assert (made.block.level, made.row and made.row.blocked_by) == (1, "server")
        assert not await office.let_in(address)
        assert await office.rule.apply() == []
        assert await office.told(address) == ["blocked"]
        assert await office.changes.lift(made.block.id, "operator") is not None
        assert await office.rule.apply() == [], "events before it was lifted count no more"
        assert await office.let_in(address)
        assert await office.whole() > 0


async def test_two_processes_make_one_block(database_of_module: Database) -> None:
    async with (
        block_office(database_of_module) as office,
        block_office(database_of_module) as second,
    ):
        for last in range(10, 15):
            address = f"192.0.2.{last}"
            await office.events(address)
            made = await asyncio.gather(office.rule.apply(), second.rule.apply())
            ids = {each.block.id for some in made for each in some}
            assert len(ids) == 1
            assert await office.told(address) == ["blocked"]
            for each in (office, second):
                assert not await each.let_in(address)
        query = "SELECT count(*) FROM security_events WHERE kind = 'address_blocked'"
        before = await office.database.fetchrow(query)
        blocks = [other.changes.block(at("192.0.2.20"), 3, "by hand", "key:1")
                  for other in (office, second)]  # fmt: skip
        states = await asyncio.gather(*blocks)
        assert states[0].block.id == states[1].block.id
        after = await office.database.fetchrow(query)
        assert before is not None
        assert after is not None
        assert after[0] - before[0] == len(await office.told("192.0.2.20")) == 1
        await office.whole()


async def test_each_further_block_lasts_twice_as_long_up_to_a_day(
    database_of_module: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with block_office(database_of_module) as office:
        clock, made = LaterClock(office, monkeypatch), list[BlockState]()
        for level in range(1, 8):
            state = await office.changes.block_again(at("192.0.2.30"), "five events")
            assert state is not None
            assert state.block.level == level
            made.append(state)
            clock.goes_to(state, office, rules.MEMORY - timedelta(minutes=1))
        assert hours(made) == [1, 2, 4, 8, 16, 24, 24]
        clock.goes_to(made[-1], office, rules.MEMORY + timedelta(seconds=1))
        state = await office.changes.block_again(at("192.0.2.30"), "five events")
        assert state is not None
        assert hours([state]) == [1], "the memory is over"


async def test_a_block_by_hand_neither_counts_nor_ends_the_memory(
    database_of_module: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with block_office(database_of_module) as office:
        clock, address = LaterClock(office, monkeypatch), at("192.0.2.40")
        first = await office.changes.block_again(address, "five events")
        assert first is not None
        clock.goes_to(first, office, timedelta(hours=1))
        by_hand = await office.changes.block(address, 48, "by hand", "key:1")
        assert by_hand.block.level == 1
        clock.goes_to(by_hand, office, timedelta(hours=1))
        second = await office.changes.block_again(address, "five events")
        assert second is not None
        assert hours([second]) == [2]
        assert await office.changes.lift(second.block.id, "key:1") is not None
        third = await office.changes.block_again(address, "five events")
        assert third is not None
        assert hours([third]) == [1], "one that was lifted is forgotten"


async def test_nobody_is_blocked_whose_address_is_not_known(database_of_module: Database) -> None:
    async with block_office(database_of_module) as office:
        address = "192.0.2.50"
        await office.events(address)
        digest = bytes.fromhex(office.blocked.digest(at(address)))
        planted = "UPDATE addresses SET address = '192.0.2.51' WHERE digest = $1"
        await office.database.execute(planted, digest)
        assert await office.book.text_of(digest.hex()) is None
        assert await office.rule.apply() == []
        await office.database.execute("DELETE FROM addresses")
        assert await office.rule.apply() == []
        for details in ("", "{", '{"address_digest":"x"}', '{"address_digest":7}'):
            for _ in range(6):
                await office.database.execute(ADD_EVENT, 100, details)
        assert await office.rule.apply() == []
        await office.database.execute(
            "INSERT INTO addresses VALUES ($1, $2, now())", digest, address
        )
        assert len(await office.rule.apply()) == 1


EXEMPT = "198.51.100.0/24, 2001:db8:e::/48, 203.0.113.7"
NEVER = ["127.0.0.1", "127.9.9.9", "::1", "0.0.0.0", "198.51.100.1", "2001:db8:e::5",
         "::ffff:198.51.100.2", "203.0.113.7"]  # fmt: skip
OTHERS = ["192.0.2.60", "2001:db8:1::1", "203.0.113.8"]


async def test_no_sequence_of_acts_blocks_an_exempt_address(database_of_module: Database) -> None:
    """Another process, for which nothing but loopback is exempt, makes entries as it likes."""
    chosen = random.Random(17)
    async with (
        block_office(database_of_module, EXEMPT) as office,
        block_office(database_of_module) as stranger,
    ):
        for _ in range(60):
            text = chosen.choice(NEVER + OTHERS)
            act = chosen.choice(["hand", "hand elsewhere", "events", "rule", "rule", "lift"])
            if act == "events":
                await office.events(text)
            elif act == "rule":
                await office.rule.apply()
            elif act == "lift":
                for block in list(office.listing.live().values())[:1]:
                    await office.changes.lift(block.id, "operator")
            else:
                by = office if act == "hand" else stranger
                try:
                    await by.changes.block(at(text), chosen.randint(1, 720), "x", "operator")
                except rules.AddressExempt:
                    assert text in NEVER
                else:
                    assert by is stranger or text in OTHERS
            for never in NEVER:
                assert await office.let_in(never)
            for local in NEVER[:4]:
                assert await stranger.let_in(local)
        told = {text: await office.told(text) for text in OTHERS}
        assert all("blocked" in kinds for kinds in told.values()), "the acts did something"
        await office.whole()


async def test_addresses_are_deleted_after_their_time(
    database_of_module: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with block_office(database_of_module) as office:
        now = office.changes.now()
        await office.events("192.0.2.70", 1)
        state = await office.changes.block(at("192.0.2.70"), 720, "by hand", "key:1")
        shown = await office.listing.shown(state)
        assert shown.address == "192.0.2.70"
        await office.book.expire(now + timedelta(days=29), 30)
        assert (await office.listing.shown(state)).address == "192.0.2.70"
        await office.book.expire(now + timedelta(days=31), 30)
        assert (await office.listing.shown(state)).address is None
        rows = await office.database.fetch("SELECT address FROM addresses")
        assert [row[0] for row in rows] == []
        assert not await office.let_in("192.0.2.70"), "the block needs no address"


async def test_rows_of_old_blocks_go_once_the_trail_forgot_them(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with block_office(database) as office:
        old = await office.changes.block(at("192.0.2.80"), 1, "by hand", "key:1")
        clock = LaterClock(office, monkeypatch)
        later = old.block.since_us + 61 * 24 * HOUR_US
        clock._ahead_us = later - office.blocked.now_us()
        await office.changes.forget(office.changes.now() - timedelta(days=60))
        assert len(await office.changes.table.of([old.digest])) == 1, "the register knows it"
        new = await office.changes.block(at("192.0.2.81"), 1, "by hand", "key:1")
        assert office.work.register.state.blocks.of(old.digest) is None
        await office.changes.forget(office.changes.now() - timedelta(days=60))
        assert await office.changes.table.of([old.digest]) == []
        assert len(await office.changes.table.of([new.digest])) == 1
        await office.whole()
