"""The verification of an archive that grows meanwhile never refutes it."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from ledger.archive.format.layout import ANCHORS
from ledger.archive.targets import ListedObject, Target
from ledger.archive.verification.findings import ArchiveVerdict
from ledger.archive.verification.run import ArchiveVerificationOptions, LiveTrail, verify_archive
from ledger.verdict import Verdict
from tests.support.archives import HISTORY, SignedTrail
from tests.support.trails import ORG, ORG_ID, RING

Grow = Callable[[], Awaitable[object]]
HOW = ArchiveVerificationOptions(pins=HISTORY.pins(), processes=0)


class Growing:
    """A target that calls ``grow`` once, right before the read with the name ``at``.

    A read's name has the operation, the folder, and the read's number among equal ones.
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

    async def list(self, prefix: str = "") -> AsyncIterator[ListedObject]:
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
async def archived(archived_trail: SignedTrail, folder: Target) -> SignedTrail:
    """A trail of 262 entries, archived at three sizes."""
    for count in (1, 4, 257):
        await archived_trail.grow(count)
        await archived_trail.archive(folder)
    return archived_trail


async def verdicts(
    target: Target | Growing, live: LiveTrail | None
) -> tuple[ArchiveVerdict, ArchiveVerdict]:
    return await verify_archive(target, ORG, HOW, keyring=RING, live=live)  # type: ignore[arg-type]


@pytest.mark.slow
async def test_growth_between_any_two_reads_refutes_nothing(
    archived: SignedTrail, folder: Target
) -> None:
    live = LiveTrail(archived.server, ORG_ID)

    async def grow() -> None:
        await archived.grow(1)
        await archived.archive(folder)

    idle = Growing(folder, grow)
    found = await verdicts(idle, live)
    assert [one.verdict for one in found] == [Verdict.VERIFIED, Verdict.VERIFIED]
    places = [name for name in idle.reads if int(name.rpartition(" ")[2]) <= 2]
    assert len(places) > 20
    for at in places:
        for one in await verdicts(Growing(folder, grow, at), live):
            assert one.verdict is not Verdict.REFUTED, (at, one.faults)


@pytest.mark.parametrize("against_database", [True, False])
async def test_a_trail_not_archived_yet_is_incomplete(
    archived_trail: SignedTrail, folder: Target, against_database: bool
) -> None:
    """The trail and its anchor log, which is archived separately, both come out incomplete."""
    live = LiveTrail(archived_trail.server, ORG_ID) if against_database else None
    await archived_trail.grow(5)
    for _ in range(2):
        found = await verdicts(folder, live)
        assert [one.verdict for one in found] == [Verdict.INCOMPLETE, Verdict.INCOMPLETE]
        assert "no checkpoint of _anchors is archived" in found[1].warnings[0]
        await archived_trail.writer(folder).archive(await archived_trail.org())
    found = await verdicts(folder, live)
    assert (found[0].size, found[0].faults, found[1].faults) == (5, (), ())


@pytest.mark.parametrize("log", [ORG, ANCHORS])
async def test_an_emptied_archive_is_refuted_by_the_database(
    archived: SignedTrail, folder: Target, tmp_path: Path, log: str
) -> None:
    shutil.rmtree(tmp_path / "archive" / log)
    (tmp_path / "archive" / log).mkdir()
    found = await verdicts(folder, LiveTrail(archived.server, ORG_ID))
    assert found[log == ANCHORS].verdict is Verdict.REFUTED
    assert "entries were archived here" in found[log == ANCHORS].faults[0].reason
    alone = await verdicts(folder, None)
    assert alone[log == ANCHORS].verdict is Verdict.INCOMPLETE
