"""An archive that grows while it is verified is never refuted for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from ledger.archive.findings import ArchiveVerdict
from ledger.archive.targets import Listed, Target
from ledger.archive.verification import How, Live, verify_archive
from ledger.verdict import Verdict
from tests.support.archives import HISTORY, Archived
from tests.support.trails import ORG, ORG_ID, RING

Grow = Callable[[], Awaitable[object]]
HOW = How(pins=HISTORY.pins(), processes=0)


class Growing:
    """A target that calls ``grow`` once, right before a read that is called ``at``.

    A read is called by what it does where, and by its number among those alike.
    """

    def __init__(self, target: Target, grow: Grow, at: str = "") -> None:
        self._target = target
        self._grow = grow
        self._at = at
        self._alike = Counter[str]()
        self.reads: list[str] = []

    @property
    def url(self) -> str:
        return self._target.url

    async def get(self, key: str, limit: int, version: str | None = None) -> bytes:
        await self._read(f"get {'/'.join(key.split('/')[:2])}")
        return await self._target.get(key, limit, version)

    async def list(self, prefix: str = "") -> AsyncIterator[Listed]:
        await self._read(f"list {prefix}")
        async for listed in self._target.list(prefix):
            yield listed
            await self._read(f"after an object of {prefix}")

    async def _read(self, what: str) -> None:
        self._alike[what] += 1
        name = f"{what}, {self._alike[what]}"
        self.reads.append(name)
        if name == self._at:
            await self._grow()


@pytest.fixture
async def archived(archived_trail: Archived, folder: Target) -> Archived:
    """A trail of 262 entries, archived at three sizes."""
    for count in (1, 4, 257):
        await archived_trail.grow(count)
        await archived_trail.archive(folder)
    return archived_trail


async def test_growth_between_any_two_reads_refutes_nothing(
    archived: Archived, folder: Target
) -> None:
    live = Live(archived.server, ORG_ID)

    async def grow() -> None:
        await archived.grow(1)
        await archived.archive(folder)

    async def verdicts(target: Growing) -> tuple[ArchiveVerdict, ArchiveVerdict]:
        return await verify_archive(target, ORG, HOW, keyring=RING, live=live)  # type: ignore[arg-type]

    idle = Growing(folder, grow)
    assert [one.verdict for one in await verdicts(idle)] == [Verdict.VERIFIED, Verdict.VERIFIED]
    places = [name for name in idle.reads if int(name.rpartition(" ")[2]) <= 2]
    assert len(places) > 20
    for at in places:
        for found in await verdicts(Growing(folder, grow, at)):
            assert found.verdict is not Verdict.REFUTED, (at, found.faults)
