"""Accepts losses in processes that end by kill -9 at each step, then again; run as a script.

The steps are each statement and COMMIT, before and after, each store into the file of acknowledged
heads, and the end of the signer's memory of the tree. Prints the number of kills.
"""

from __future__ import annotations

import asyncio
import contextlib
import mmap
import signal
import sys
from collections.abc import Callable, Coroutine
from itertools import count
from pathlib import Path
from typing import Any

from ledger.core.org import OrgFacts
from ledger.errors import OrgFrozen
from ledger.event import LOSS_ACCEPTED
from server.process.losses.accepting import NoLoss
from tests.support.acting_process import Office, office
from tests.support.clusters import Database
from tests.support.killing import Steps, in_child

MOST_KILLS = 150
FIRST_LOST = 2


class CountedMap:
    """A mapped file that counts its stores."""

    def __init__(self, mapped: mmap.mmap, step: Callable[[], None]) -> None:
        self._mapped = mapped
        self._step = step

    def __getitem__(self, place: slice) -> bytes:
        return self._mapped[place]

    def __setitem__(self, place: slice, data: bytes) -> None:
        self._step()
        self._mapped[place] = data
        self._step()

    def __len__(self) -> int:
        return len(self._mapped)

    def close(self) -> None:
        """Close the file."""
        self._mapped.close()


def count_files(at: Office, steps: Steps) -> None:
    """Count the stores into the files of a machine."""
    at.heads._mapped = CountedMap(at.heads._mapped, steps.step)  # type: ignore[assignment]
    forget = at.memory.forget

    def forgotten(org_id: int) -> None:
        steps.step()
        forget(org_id)
        steps.step()

    at.memory.forget = forgotten  # type: ignore[method-assign]


async def accept(at: Office, org: OrgFacts) -> None:
    """Accept the loss, unless that is done."""
    with contextlib.suppress(NoLoss):
        await at.losses.accept(org, "the disk was lost")


async def check(at: Office, org: OrgFacts) -> None:
    """Check that the loss was accepted once, and that the trail goes on."""
    kinds = await at.kinds(org)
    assert kinds.count(LOSS_ACCEPTED) == 1, kinds
    assert at.memory.get(org.id) is None
    assert not await at.is_frozen(org)
    assert await at.losses.find(org) is None
    await at.append(org, "anna")
    head = at.heads.get(org.id)
    assert head is not None
    assert head.seq == FIRST_LOST + 1


async def lose(at: Office) -> OrgFacts:
    """Make an org that lost acknowledged entries and a signed tree, and was frozen for it."""
    org = await at.new_org()
    at.memory.remember([(org.id, 4, b"r" * 32)])
    await at.lose(org, FIRST_LOST)
    with contextlib.suppress(OrgFrozen):
        await at.append(org, "anna")
    assert await at.is_frozen(org)
    return org


def main(cluster: Database, folder: Path) -> None:
    """Kill an acceptance at each step, and accept again."""

    async def opened(act: Callable[[Office], Coroutine[Any, Any, Any]]) -> Any:
        async with office(cluster, folder) as at:
            return await act(at)

    for number in count():
        assert number < MOST_KILLS
        org = asyncio.run(opened(lose))
        steps = Steps(number)

        async def killed() -> None:
            async with office(cluster, folder) as at:
                steps.count()  # noqa: B023
                count_files(at, steps)  # noqa: B023
                await accept(at, org)  # noqa: B023

        code = in_child(killed)
        assert code in {0, -signal.SIGKILL}

        async def again(at: Office) -> None:
            await accept(at, org)  # noqa: B023
            await check(at, org)  # noqa: B023

        try:
            asyncio.run(opened(again))
        except BaseException as error:
            error.add_note(f"after a kill at step {number}")
            raise
        if code == 0:
            print(number)  # noqa: T201
            return


if __name__ == "__main__":
    main(Database(*sys.argv[1:5]), Path(sys.argv[5]))
