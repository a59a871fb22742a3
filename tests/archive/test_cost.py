"""The metrics report the cost of archiving and the archive's lag."""

from __future__ import annotations

from ledger.archive.targets import Target
from ledger.storage import archive_cost
from ledger.storage.archive_cost import ArchiverCost, ArchiverLag
from tests.support.archives import SignedTrail


async def test_the_lag_counts_signed_entries_that_are_not_archived(
    archived_trail: SignedTrail, folder: Target
) -> None:
    database = archived_trail.server

    async def lag() -> ArchiverLag:
        return await archive_cost.lag(database, folder.url)

    assert await lag() == (0, 0)
    await archived_trail.grow(3, 4)
    await archived_trail.superuser.execute(
        "UPDATE checkpoints SET signed_at = now() - interval '90 seconds' WHERE size = 3"
    )
    entries, seconds = await lag()
    assert entries == 7
    assert 90 <= seconds < 3_600
    await archived_trail.archive(folder)
    assert await lag() == (0, 0)
    await archived_trail.grow(5)
    entries, seconds = await lag()
    assert entries == 5
    assert 0 <= seconds < 3_600
    assert (await archive_cost.lag(database, "file:///elsewhere")).entries == 12


async def test_costs_add_up_by_target(archived_trail: SignedTrail) -> None:
    database = archived_trail.server
    assert await archive_cost.cost(database, "file:///a") == (0, 0, 0)
    for _ in range(2):
        await archive_cost.add_cost(database, "file:///a", ArchiverCost(0.5, 3, 400))
    await archive_cost.add_cost(database, "file:///b", ArchiverCost(0.25, 1, 1))
    assert await archive_cost.cost(database, "file:///a") == (1.0, 6, 800)
    assert await archive_cost.cost(database, "file:///b") == (0.25, 1, 1)
