"""Each block and its end stand with their entry and event, or nothing does, whatever breaks.

Each step is broken before and after it took effect, as a killed process or a cut connection would;
the step is a double that cuts its own connection.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from itertools import count

import pytest

from ledger.errors import DatabaseUnavailable
from ledger.storage.trail import AppendTransaction
from tests.support.block_office import BlockOffice, at, block_office
from tests.support.broken_steps import broken
from tests.support.clusters import Database

AT_ONCE = "change_at_once"
"""The only step where the process knows the end of the trail `system`."""
STEPS = [AT_ONCE, "begin", "lock_heads", "change_rows", "copy_entries", "move_heads", "commit"]
EVENTS = "SELECT count(*) FROM security_events WHERE kind = 'address_blocked'"
_numbers = count(1)

Act = Callable[[BlockOffice, str], Awaitable[object]]


async def block(office: BlockOffice, text: str) -> None:
    await office.changes.block(at(text), 2, "tries keys", "key:1")


async def extend(office: BlockOffice, text: str) -> None:
    await office.changes.block(at(text), 48, "tries keys", "key:1")


async def by_rule(office: BlockOffice, text: str) -> None:
    await office.changes.block_again(at(text), "five events")


async def lift(office: BlockOffice, text: str) -> None:
    last = office.changes.last(at(text))
    assert last is not None
    await office.changes.lift(last.id, "key:1")


ACTS: dict[str, tuple[Act | None, Act, list[str]]] = {
    "block": (None, block, ["blocked"]),
    "by the rule": (None, by_rule, ["blocked"]),
    "extend": (block, extend, ["blocked", "blocked"]),
    "lift": (block, lift, ["blocked", "unblocked"]),
}
"""What comes before an act, the act, and the entries that tell both."""


async def events(office: BlockOffice) -> int:
    row = await office.database.fetchrow(EVENTS)
    assert row is not None
    return int(row[0])


async def know_the_end(office: BlockOffice) -> None:
    """Let the process write: then it knows how the trail `system` ends."""
    for _ in range(2):
        await block(office, f"2001:db8:{next(_numbers):x}::1")


@pytest.mark.parametrize("name", ACTS)
async def test_an_act_that_breaks_at_any_step_is_whole(
    database_of_module: Database, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    before, act, entries = ACTS[name]
    async with block_office(database_of_module) as office:
        for step in STEPS:
            for after in (False, True):
                text = f"2001:db8:{next(_numbers):x}::1"
                if before is not None:
                    await before(office, text)
                if step == AT_ONCE:
                    await know_the_end(office)
                else:
                    office.work.sequencer._tools.heads._heads.clear()
                told = await events(office)
                with monkeypatch.context() as patched:
                    breaks = broken(patched, AppendTransaction, step, after=after)
                    await act(office, text)
                assert breaks == [step]
                assert await office.told(text) == entries
                assert await events(office) - told == int(name != "lift")
                assert await office.let_in(text) == (name == "lift")
        await office.whole()


async def test_an_act_that_can_not_be_made_leaves_nothing(
    database_of_module: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with block_office(database_of_module) as office:
        office.work.sequencer._committer._retry_s = 0
        for before, act, entries in ACTS.values():
            for step in STEPS[1:-1]:
                text = f"2001:db8:{next(_numbers):x}::1"
                if before is not None:
                    await before(office, text)
                told = await events(office)
                office.work.sequencer._tools.heads._heads.clear()
                with monkeypatch.context() as patched:
                    broken(patched, AppendTransaction, step, after=False, times=10**9)
                    with pytest.raises(DatabaseUnavailable):
                        await act(office, text)
                assert await office.told(text) == entries[:-1]
                assert await events(office) == told
        await office.whole()
