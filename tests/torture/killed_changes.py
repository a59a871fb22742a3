"""Changes keys, limits and blocks, and records reviews, in processes that end by kill -9; run as a script.

The steps are each statement and COMMIT, before and after. Each act then stands whole, row and
entry, or nothing of it does; done again, it stands once. Prints the number of kills of each act.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine
from datetime import date, timedelta
from itertools import count
from pathlib import Path
from secrets import token_hex
from typing import Any, NamedTuple

from ledger.core.org import OrgFacts
from ledger.core.register import API_KEYS, ORG_LIMITS, RecordedBlock
from ledger.entry import decode_leaf
from ledger.storage import org_limits
from ledger.storage.api_keys import ApiKeyRecord
from server.access.auth import NewKey
from server.access.keys.api_keys import ApiKeys
from server.access.keys.changes import AskedKey, KeyChanges
from server.access.limits.changes import LimitChanges
from server.access.limits.known import OrgRates
from server.access.limits.rules import PerMinute
from server.addresses import ClientAddress, address, client
from server.oversight.acts import record_review
from server.oversight.entry_kinds import REVIEWED
from tests.support.acting_process import Office, office
from tests.support.appending import rows_of
from tests.support.block_office import BlockOffice, opened
from tests.support.clusters import Database
from tests.support.killing import Steps, in_child

MOST_KILLS = 60


class Place(NamedTuple):
    """The org of one act, a key that it has, and the id of a key that is made."""

    org: OrgFacts
    key: str
    new: str


async def key_of(at: Office, place: Place) -> ApiKeyRecord:
    found = await ApiKeys(at.database, await at.recorded()).find(place.key)
    assert found is not None
    return found


async def create(at: Office, place: Place) -> None:
    """Make a key."""
    await KeyChanges(at.work).add(
        AskedKey(place.new, place.org.id, "new", "viewer", b"h" * 32), place.org.slug
    )


async def rotate(at: Office, place: Place) -> None:
    """Replace the key by a new one."""
    key, new = await key_of(at, place), NewKey(place.new, "", b"n" * 32)
    await KeyChanges(at.work).rotate(
        key, new, place.org.slug, "key:1", overlap=timedelta(hours=1), may_last=False
    )


async def revoke(at: Office, place: Place) -> None:
    """Revoke the key."""
    assert await KeyChanges(at.work).revoke(await key_of(at, place), place.org.slug)


LIMITS = OrgRates(PerMinute(append=600), PerMinute(read=6_000))


async def limit(at: Office, place: Place) -> None:
    """Give the org limits of its own."""
    await LimitChanges(at.work).set(place.org, LIMITS)


async def review(at: Office, place: Place) -> None:
    """State that January was reviewed."""
    await record_review(at.guard, place.org, (date(2026, 1, 1), date(2026, 1, 31)), "", "key")


async def is_made(at: Office, place: Place) -> bool:
    return await ApiKeys(at.database, await at.recorded()).find(place.new) is not None


async def is_rotated(at: Office, place: Place) -> bool:
    done = (await key_of(at, place)).row.rotated_to == place.new
    assert await is_made(at, place) == done
    return done


async def is_revoked(at: Office, place: Place) -> bool:
    return (await key_of(at, place)).row.revoked_at is not None


async def is_limited(at: Office, place: Place) -> bool:
    return await org_limits.of_org(at.database, place.org.id) is not None


async def is_reviewed(at: Office, place: Place) -> bool:
    return REVIEWED in await at.kinds(place.org)


def blocking(at: Office) -> BlockOffice:
    """What blocks addresses in the process of an office."""
    return opened(at.cluster, at.database, at.work)


def address_of(key_id: str) -> ClientAddress:
    """An address of its own for each id of a key."""
    return client(address(f"2001:db8:{key_id[:4]}:{key_id[4:8]}::1"))


async def block(at: Office, place: Place) -> None:
    """Block an address."""
    await blocking(at).changes.block(address_of(place.new), 2, "tries keys", "operator")


async def lift(at: Office, place: Place) -> None:
    """Lift the block that an address has."""
    found = await recorded_block(at, place.key)
    assert found is not None
    assert await blocking(at).changes.lift(found.id, "operator") is not None


async def recorded_block(at: Office, key_id: str) -> RecordedBlock | None:
    digest = blocking(at).blocked.digest(address_of(key_id))
    return (await at.recorded()).state.blocks.of(digest)


async def is_blocked(at: Office, place: Place) -> bool:
    return await recorded_block(at, place.new) is not None


async def is_lifted(at: Office, place: Place) -> bool:
    found = await recorded_block(at, place.key)
    assert found is not None
    return found.lifted_us > 0


class Act(NamedTuple):
    """An act, whether it is done, and the type of its entry."""

    run: Callable[[Office, Place], Awaitable[None]]
    is_done: Callable[[Office, Place], Awaitable[bool]]
    entry: str


ACTS = {
    "create": Act(create, is_made, "quire.key_created"),
    "rotate": Act(rotate, is_rotated, "quire.key_rotated"),
    "revoke": Act(revoke, is_revoked, "quire.key_revoked"),
    "block": Act(block, is_blocked, "quire.address_blocked"),
    "lift": Act(lift, is_lifted, "quire.address_unblocked"),
    "limit": Act(limit, is_limited, "quire.limits_changed"),
    "review": Act(review, is_reviewed, REVIEWED),
}


async def told(at: Office, place: Place, act: Act) -> int:
    """Return how many entries tell the act, in the trail of the org and in `system`."""
    system_id = at.work.register.system_id
    assert system_id is not None
    rows = [*await rows_of(at.cluster, place.org.id), *await rows_of(at.cluster, system_id)]
    return sum(decode_leaf(row.leaf).event_type == act.entry for row in rows)


async def assert_whole(at: Office, place: Place) -> None:
    """Check that keys and limits of the org, and all blocks, are those of the newest entries."""
    register = await at.recorded()
    keys = await ApiKeys(at.database, register).of_org(place.org.id)
    assert all(key.is_authentic for key in keys)
    assert {key.id for key in keys} == set(register.state.keys(API_KEYS, place.org.id))
    await blocking(at).whole()
    limits, name = await org_limits.of_org(at.database, place.org.id), str(place.org.id)
    assert register.has(ORG_LIMITS, name) == (limits is not None)
    if limits is not None:
        assert limits.row[1:] == (*LIMITS.key, *LIMITS.org)
        assert limits.is_authentic(register.row_key)
        assert register.knows(ORG_LIMITS, name, limits.mac)


async def prepare(at: Office) -> Place:
    org = await at.new_org()
    place = Place(org, token_hex(8), token_hex(8))
    asked = AskedKey(place.key, org.id, "old", "admin", b"h" * 32)
    await KeyChanges(at.work).add(asked, org.slug)
    await blocking(at).changes.block(address_of(place.key), 1, "tries keys", "operator")
    return place


class Killer:
    """Runs acts in processes of their own, on one database and the files of one machine."""

    def __init__(self, cluster: Database, folder: Path) -> None:
        self._cluster = cluster
        self._folder = folder

    def _opened(self, work: Callable[[Office], Coroutine[Any, Any, Any]]) -> Any:
        async def run() -> Any:
            async with office(self._cluster, self._folder) as at:
                return await work(at)

        return asyncio.run(run())

    def kill_at(self, number: int, act: Act) -> bool:
        """Kill an act at a step, and finish it; False if it ended before that step."""

        async def prepared(at: Office) -> tuple[Place, int]:
            place = await prepare(at)
            return place, await told(at, place, act)

        place, before = self._opened(prepared)

        async def killed() -> None:
            async with office(self._cluster, self._folder) as at:
                Steps(number).count()
                await act.run(at, place)

        async def finish(at: Office) -> None:
            await assert_whole(at, place)
            done = await act.is_done(at, place)
            assert await told(at, place, act) - before == int(done)
            if not done:
                await act.run(at, place)
            assert await act.is_done(at, place)
            assert await told(at, place, act) - before == 1
            await assert_whole(at, place)

        code = in_child(killed)
        assert code in {0, -signal.SIGKILL}
        self._opened(finish)
        return code != 0

    def kills(self, name: str, act: Act) -> int:
        """Kill an act at each of its steps; return how many it has."""
        for number in count():
            assert number < MOST_KILLS
            try:
                if not self.kill_at(number, act):
                    return number
            except BaseException as error:
                error.add_note(f"after a kill at step {number} of {name}")
                raise
        raise AssertionError


def main(cluster: Database, folder: Path) -> None:
    """Kill each act at each step."""
    killer = Killer(cluster, folder)
    for name, act in ACTS.items():
        print(name, killer.kills(name, act))  # noqa: T201


if __name__ == "__main__":
    main(Database(*sys.argv[1:5]), Path(sys.argv[5]))
