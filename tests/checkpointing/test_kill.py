"""kill -9 of a signer at every write of a checkpoint and of an anchor, then the next signer.

All signed trees stay consistent, every remembered size is signed, and in the end all is signed.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ledger.core.org import OrgFacts
from tests.support import signer_process
from tests.support.appending import Process, new_org, process
from tests.support.clusters import Database
from tests.support.signer_process import POINTS, ROUND_POINTS
from tests.support.signing import checkpointer, sound_anchors, sound_history

ROOT = Path(__file__).parents[2]
KILLED = -9
LIMIT_S = 60


def die(url: str, memory: Path, task: str, point: str) -> None:
    """Run a signer until it kills itself at the point."""
    command = [sys.executable, "-m", signer_process.__name__, url, str(memory), task, point]
    done = subprocess.run(command, cwd=ROOT, timeout=LIMIT_S, capture_output=True, check=False)
    assert done.returncode == KILLED, done.stderr.decode()[-2_000:]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("point", ROUND_POINTS)
async def test_while_checkpoints_are_signed(
    database: Database, tmp_path: Path, point: str, when: str
) -> None:
    memory = tmp_path / "memory"
    async with process(database.server_url) as server:
        orgs = [await new_org(server.database) for _ in range(3)]
        await first_signed(server, database, memory, orgs)
        for org, count in zip(orgs, (1, 300, 5), strict=True):
            await server.append(org, *[b"more %d" % n for n in range(count)])
        die(database.server_url, memory, "round", f"{when}:{point}")
        await server.append(orgs[0], b"in between")
        async with checkpointer(database.server_url, memory) as signer:
            reports = [await signer.round() for _ in range(3)]
            assert not any(report.stopped for report in reports), reports
            assert (await signer.sweep()).stopped == []
            await signer.anchor()
        for org, length in zip(orgs, (4, 302, 7), strict=True):
            sizes = await sound_history(database, org, memory)
            assert (sizes[0], sizes[-1]) == (2, length)
        await sound_anchors(database, memory)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("point", POINTS)
async def test_while_an_anchor_is_signed(
    database: Database, tmp_path: Path, point: str, when: str
) -> None:
    memory = tmp_path / "memory"
    async with process(database.server_url) as server:
        orgs = [await new_org(server.database) for _ in range(3)]
        await first_signed(server, database, memory, orgs)
        for org in orgs:
            await server.append(org, b"more")
        die(database.server_url, memory, "anchor", f"{when}:{point}")
        await server.append(orgs[0], b"in between")
        async with checkpointer(database.server_url, memory) as signer:
            assert (await signer.round()).stopped == []
            while await signer.anchor() is not None:
                pass
        for org in orgs:
            await sound_history(database, org, memory)
        assert (await sound_anchors(database, memory))[-1] == 7


async def first_signed(
    server: Process, database: Database, memory: Path, orgs: list[OrgFacts]
) -> None:
    """Append two entries to each org, and sign their first checkpoints and an anchor."""
    for org in orgs:
        await server.append(org, b"one", b"two")
    async with checkpointer(database.server_url, memory) as signer:
        assert (await signer.round()).checkpoints == len(orgs)
        assert await signer.anchor() == len(orgs)
