"""Large bundles are built and verified in bounded memory, whatever the size of their entries."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from ledger.core.org import OrgFacts
from ledger.evidence.trust import Trust
from ledger.evidence.verification import verify_bundle
from ledger.storage.log_keys import publish_history
from tests.bundling.measured import BuildOrder, BuildOutcome
from tests.support import clusters
from tests.support.appending import MASTER_KEY, new_org, process
from tests.support.signing import checkpointer, log_keys, signer_pool

ROOT = Path(__file__).parents[2]
MIB = 1 << 20
AT_ONCE = 5_000
KEYS = log_keys()

sizes = [
    pytest.param(5_000, 16_384, 64, id="in make test"),
    pytest.param(100_000, 512, 200, id="torture", marks=pytest.mark.torture),
]


async def fill(database: clusters.Database, memory: Path, count: int, payload: int) -> OrgFacts:
    """An org with ``count`` entries with payloads of ``payload`` bytes, signed and anchored."""
    async with process(database.server_url) as running:
        org = await new_org(running.database)
        for first in range(0, count, AT_ONCE):
            numbers = range(first, min(first + AT_ONCE, count))
            await running.append(org, *(b'{"n":"%*d"}' % (payload - 8, n) for n in numbers))
    async with signer_pool(database) as pool:
        await publish_history(pool, KEYS.public())
    async with checkpointer(database.server_url, memory, KEYS) as signer:
        while (await signer.round()).behind:
            pass
        await signer.anchor()
    return org


def build(database: clusters.Database, org: OrgFacts, count: int, path: Path) -> BuildOutcome:
    """Build a bundle of the whole trail in a process of its own."""
    order = BuildOrder(database.server_url, org, MASTER_KEY, count, str(path))
    done = subprocess.run(
        [sys.executable, "-m", "tests.bundling.measured"],
        cwd=ROOT,
        input=msgspec.json.encode(order),
        stdout=subprocess.PIPE,
        check=True,
    )
    return msgspec.json.decode(done.stdout, type=BuildOutcome)


@pytest.mark.parametrize(("count", "payload", "most_mib"), sizes)
async def test_a_large_bundle_is_built_in_bounded_memory(
    database: clusters.Database, tmp_path: Path, count: int, payload: int, most_mib: int
) -> None:
    org = await fill(database, tmp_path / "memory.sqlite", count, payload)
    path = tmp_path / "evidence.zip"
    outcome = build(database, org, count, path)
    with path.open("rb") as file:
        verdict = verify_bundle(file, Trust(pins=KEYS.public().pins()))
    assert verdict.outcome == "verified"
    assert verdict.about["entries"] == count
    grown = (outcome.after - outcome.before) / MIB
    assert outcome.size / MIB > 1.5 * most_mib or count > AT_ONCE
    assert grown < most_mib
