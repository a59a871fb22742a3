"""Entries of `system` whose signing key is missing here: what they may be about stays undecided."""

from __future__ import annotations

import asyncio

import pytest

from ledger.chain import ChainHead
from ledger.core.register import ORGS, Register, RegisterBehind, unvouched
from ledger.keys import SigningKey, SigningKeyring
from ledger.sealing import row_key
from ledger.storage import database as storage
from ledger.storage import orgs
from tests.support.clusters import Database
from tests.support.orgs import MASTER_KEY, at_work

OLD, NEW = SigningKey("k-old", b"o" * 32), SigningKey("k-new", b"n" * 32)
BEFORE = SigningKeyring([OLD], ["k-old"])
AFTER = BEFORE.with_keys([NEW]).activated("k-new")
EARLIER, LATER = "earlier", "later"


class Behind:
    """A process that follows the trail with a keyring that changes.

    It acknowledged the trail up to ``acknowledged``; None: it knows no more than the head row says.
    """

    def __init__(self, database: storage.Database, acknowledged: int | None = 1) -> None:
        self.ring = BEFORE
        head = None if acknowledged is None else ChainHead(acknowledged, b"", 0)
        self.register = Register(database, lambda _: self.ring, row_key(MASTER_KEY), lambda _: head)

    async def knows(self, slug: str) -> bool:
        record = await orgs.org_by_slug(self.register.database, slug)
        assert record is not None
        return self.register.knows(ORGS, slug, record.mac)


async def make(database: Database, slug: str, ring: SigningKeyring) -> None:
    async with at_work(database, lambda _: ring) as (_, work):
        await work.create_org(slug, "Org", "plain")


async def kinds(database: storage.Database) -> list[str]:
    """The kinds of the events, once every report that was begun is stored."""
    await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()}, return_exceptions=True)
    rows = await database.fetch("SELECT kind FROM security_events ORDER BY id")
    return [row["kind"] for row in rows]


async def test_a_row_changed_under_an_unknown_key_waits_and_others_do_not(
    database: Database,
) -> None:
    await make(database, EARLIER, BEFORE)
    opened = await storage.Database.open(database.server_url, size=3)
    behind = Behind(opened)
    try:
        await behind.register.open()
        await make(database, LATER, AFTER)
        await behind.register.catch_up()
        assert await behind.knows(EARLIER)
        with pytest.raises(RegisterBehind, match="k-new"):
            await behind.knows(LATER)
        with pytest.raises(RegisterBehind, match="signing add"):
            behind.register.has(ORGS, LATER)
        behind.ring = AFTER
        await behind.register.catch_up()
        assert await behind.knows(LATER)
        assert await kinds(opened) == ["signing_key_missing"]
    finally:
        await opened.close()


async def test_where_servers_wrote_entries_under_an_unknown_key_nothing_is_decided(
    database: Database,
) -> None:
    """They may have been put in the place of entries that revoked what is put back now."""
    await make(database, EARLIER, BEFORE)
    await make(database, LATER, AFTER)
    opened = await storage.Database.open(database.server_url, size=3)
    try:
        for acknowledged in (None, 2):
            behind = Behind(opened, acknowledged)
            await behind.register.open()
            for slug in (EARLIER, LATER):
                with pytest.raises(RegisterBehind):
                    await behind.knows(slug)
            assert not behind.register.is_newest(ORGS, EARLIER, "")
            behind.ring = AFTER
            await behind.register.catch_up()
            assert await behind.knows(EARLIER)
            assert await behind.knows(LATER)
    finally:
        await opened.close()


async def test_a_later_entry_under_a_known_key_vouches_for_it(database: Database) -> None:
    await make(database, EARLIER, BEFORE)
    await make(database, LATER, AFTER)
    await make(database, "newest", BEFORE.with_keys([NEW]))
    opened = await storage.Database.open(database.server_url, size=3)
    try:
        behind = Behind(opened)
        await behind.register.open()
        for slug in (EARLIER, LATER, "newest"):
            assert await behind.knows(slug)
        assert await kinds(opened) == []
    finally:
        await opened.close()


async def test_of_very_many_entries_few_are_kept_and_nothing_is_decided_until_the_key_comes(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unvouched, "MAX_ENTRIES", 1)
    await make(database, EARLIER, BEFORE)
    await make(database, LATER, AFTER)
    await make(database, "third", AFTER)
    await make(database, "newest", BEFORE.with_keys([NEW]))
    opened = await storage.Database.open(database.server_url, size=3)
    try:
        behind = Behind(opened)
        await behind.register.open()
        for slug in (EARLIER, LATER, "newest"):
            with pytest.raises(RegisterBehind):
                await behind.knows(slug)
        behind.ring = AFTER
        await behind.register.catch_up()
        for slug in (EARLIER, LATER, "third", "newest"):
            assert await behind.knows(slug)
        assert await kinds(opened) == ["signing_key_missing"]
    finally:
        await opened.close()
