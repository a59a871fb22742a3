"""The row on making evidence: a bundle of a whole trail, streamed into a file."""

from __future__ import annotations

import subprocess
import sys
import time
import zipfile
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from statistics import median
from typing import Final

import msgspec
import uvloop
from blake3 import blake3

from bench import rows, tenants
from bench.figures import Figure, in_turns, ratio
from bench.scope import Scope
from bench.stage import KEYRING, MASTER_KEY, StageFailed
from bench.trails import FinishedTrail
from ledger.core.org import OrgFacts
from ledger.evidence.trust import Trust
from ledger.evidence.verification import verify_bundle
from ledger.storage.database import Database
from ledger.storage.log_keys import publish_history
from tests.bundling.measured import BuildOrder, BuildOutcome
from tests.support.signing import checkpointer, log_keys

ENTRIES: Final = 100_000
LEAST_ENTRIES: Final = 300
KEYS: Final = log_keys()
MIB: Final = 2**20


def bundle_build(scope: Scope) -> Figure:
    """Measure building a bundle with proofs, payloads and anchor, in entries per second.

    The baseline is a zip of the same members, made by Python in memory, with two digests each.
    """
    scratch = scope.stage.database()
    (org,) = tenants.create(scratch)
    count = scope.sized(ENTRIES, least=LEAST_ENTRIES)
    FinishedTrail(scratch, org).build(count)
    memory = scope.stage.directory / f"{scratch.name}.sqlite"
    uvloop.run(_sign(scratch.server_url, memory))
    rows.vacuum(scratch)
    path = scope.stage.directory / f"{scratch.name}.zip"
    order = BuildOrder(
        scratch.server_url, OrgFacts(org.org_id, org.slug, False, b""), MASTER_KEY, count, str(path)
    )
    outcomes = [_build(order)]
    _check(path, count)
    members = _members(path)

    def measure() -> float:
        outcomes.append(_build(order))
        return count / outcomes[-1].seconds

    ours, theirs = in_turns(measure, lambda: count / _zip(members), scope.runs(5))
    extra = {
        "entries": count,
        "bundle_mib": round(outcomes[0].size / MIB, 1),
        "peak_mib": round(max(outcome.after for outcome in outcomes) / MIB, 1),
        "peak_mib_before": round(median(outcome.before for outcome in outcomes) / MIB, 1),
    }
    scope.stage.drop(scratch)
    return ratio("entries/s", ours, theirs, extra)


async def _sign(url: str, memory: Path) -> None:
    database = await Database.open(url, size=1)
    try:
        await publish_history(database, KEYS.public())
    finally:
        await database.close()
    async with checkpointer(url, memory, KEYS, keyring=KEYRING) as signer:
        while (await signer.round()).behind:
            pass
        await signer.anchor()


def _build(order: BuildOrder) -> BuildOutcome:
    """Build one bundle in a separate process."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.bundling.measured"],
        input=msgspec.json.encode(order),
        stdout=subprocess.PIPE,
        check=True,
    )
    return msgspec.json.decode(done.stdout, type=BuildOutcome)


def _check(path: Path, count: int) -> None:
    with path.open("rb") as file:
        verdict = verify_bundle(file, Trust(pins=KEYS.public().pins()))
    if verdict.outcome != "verified" or verdict.about["entries"] != count:
        raise StageFailed(f"the bundle did not verify: {verdict}")


def _members(path: Path) -> list[tuple[str, bytes]]:
    with zipfile.ZipFile(path) as bundle:
        return [(name, bundle.read(name)) for name in bundle.namelist()]


def _zip(members: list[tuple[str, bytes]]) -> float:
    """Return the seconds for a stored zip of these members, with SHA-256 and BLAKE3 of each."""
    started = time.perf_counter()
    with zipfile.ZipFile(BytesIO(), "w", zipfile.ZIP_STORED) as bundle:
        for name, data in members:
            sha256(data).digest()
            blake3(data).digest()
            bundle.writestr(name, data)
    return time.perf_counter() - started
