"""The rows on verification: its rate, its memory, and how its time grows with the trail."""

from __future__ import annotations

import time
from statistics import median
from typing import Final

import asyncpg
import uvloop

from bench import rows, tenants
from bench.figures import Figure, in_turns, ratio, value
from bench.scope import Scope
from bench.stage import KEYRING, Scratch
from bench.tenants import Tenant
from bench.trails import FinishedTrail
from bench.verifier import Verified, verify
from ledger.core.checkpointing import RoundLimits
from ledger.core.verification.work.trust import TrailTrust
from tests.support.signing import checkpointer, log_keys

ENTRIES: Final = 5_000_000
LEAST_ENTRIES: Final = 2_000
CHECKPOINT_ENTRIES: Final = 10_000
"""Entries per checkpoint: one checkpoint a second at ten thousand events a second."""
SHARE: Final = 5
"""The time per entry of the whole trail is compared with that of a fifth of it."""
MIB: Final = 2**20


class Subject:
    """The trail that both rows verify, built on first use."""

    def __init__(self) -> None:
        self._built: tuple[Scratch, Tenant] | None = None
        self._verified: list[Verified] = []

    def trail(self, scope: Scope) -> tuple[Scratch, Tenant]:
        """Return a database with one trail of as many entries as the memory row needs."""
        if self._built is None:
            scratch = scope.stage.database()
            (org,) = tenants.create(scratch)
            rows.create(scope.stage, scratch)
            FinishedTrail(scratch, org).build(scope.sized(ENTRIES, least=LEAST_ENTRIES), raw=True)
            uvloop.run(_sign(scope, scratch))
            rows.vacuum(scratch)
            self._built = scratch, org
        return self._built

    def verify_whole(self, scope: Scope) -> Verified:
        """Verify the whole trail once more."""
        scratch, org = self.trail(scope)
        count = scope.sized(ENTRIES, least=LEAST_ENTRIES)
        self._verified.append(verify(scratch, org, trust_of(org), count, whole=True))
        return self._verified[-1]

    def whole(self, scope: Scope, runs: int) -> list[Verified]:
        """Return ``runs`` verifications of the whole trail; timed runs are used for memory too."""
        while len(self._verified) < runs:
            self.verify_whole(scope)
        return self._verified


def verify_full(scope: Scope, subject: Subject) -> Figure:
    """Measure verifying every entry, the tree and its checkpoints, against COPY of raw rows."""
    scratch, org = subject.trail(scope)
    count = scope.sized(ENTRIES, least=LEAST_ENTRIES)
    ours, theirs = in_turns(
        lambda: count / subject.verify_whole(scope).seconds,
        lambda: count / uvloop.run(_copy_out(scratch, org)),
        scope.runs(3),
    )
    return ratio("entries/s", ours, theirs)


def verify_memory(scope: Scope, subject: Subject) -> Figure:
    """Measure the peak memory of all verifier processes, and the time per entry of a fifth."""
    scratch, org = subject.trail(scope)
    whole = scope.sized(ENTRIES, least=LEAST_ENTRIES)
    part = whole // SHARE
    runs = scope.runs(3)
    full = subject.whole(scope, runs)
    fifth = [verify(scratch, org, trust_of(org), part) for _ in range(runs)]
    per_entry = median(run.seconds for run in full) / whole
    per_entry_of_part = median(run.seconds for run in fifth) / part
    return value(
        "MiB",
        [run.rss / MIB for run in full],
        [run.rss / MIB for run in fifth],
        {
            "entries": whole,
            "proportional_mib": round(max(run.pss for run in full) / MIB, 1),
            "us_per_entry": round(per_entry * 1e6, 3),
            "us_per_entry_of_a_fifth": round(per_entry_of_part * 1e6, 3),
            "linearity": round(per_entry / per_entry_of_part, 3),
        },
    )


def trust_of(org: Tenant) -> TrailTrust:
    """Return the keys that signed the trail's tree."""
    return TrailTrust.of(log_keys().public(), org.slug)


async def _sign(scope: Scope, scratch: Scratch) -> None:
    """Sign checkpoints and anchors over the whole trail with the real checkpointer."""
    memory = scope.stage.directory / f"{scratch.name}.sqlite"
    pace = RoundLimits(entries_per_org=CHECKPOINT_ENTRIES)
    async with checkpointer(scratch.server_url, memory, keyring=KEYRING, pace=pace) as signer:
        while (await signer.round()).behind:
            await signer.anchor()
        await signer.anchor()


async def _copy_out(scratch: Scratch, org: Tenant) -> float:
    """Return the seconds to read and discard the raw rows over one connection."""
    connection = await asyncpg.connect(scratch.server_url)
    try:
        started = time.perf_counter()
        await rows.copy_out(connection, org.org_id, _discard)
        return time.perf_counter() - started
    finally:
        await connection.close()


async def _discard(_: bytes) -> None:
    """Discard a chunk."""
