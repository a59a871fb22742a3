"""A trail signed and anchored by the real checkpointer, for tampering."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ledger.chain import ChainHead, StoredEntry
from ledger.checkpoint import SignedTreeHead
from ledger.core.checkpointing import RoundLimits
from ledger.core.checkpointing.memory import SignerMemory
from ledger.core.verification.work.extent import SigningLimits
from ledger.core.verification.work.faults import Result
from ledger.core.verification.work.trust import TrailTrust
from ledger.storage.trees import ANCHOR_LOG
from tests.support import blocks
from tests.support.signing import checkpointer, log_keys
from tests.support.trails import ORG, ORG_ID
from tests.verification.database import HEAD, ROWS, Superuser

KEYS = log_keys()
STEP = 700
SIZES = (700, 1_400, 2_100, 2_800, 3_500)
TRUST = TrailTrust.of(KEYS.public(), ORG)
FAR = SigningLimits(1e12, 1e12, 1e12)
"""Limits that no entry has reached: all entries count as young."""


class SignedTree:
    """The module's trail under checkpoints of 700, 1,400 … 3,500 entries, each anchored."""

    def __init__(self, superuser: Superuser, memory: Path) -> None:
        self.superuser = superuser
        self.execute = superuser.execute
        self.memory = memory

    async def sign(self, rounds: int = len(SIZES)) -> None:
        """Run the checkpointer for so many rounds, and anchor after each."""
        url, pace = self.superuser.database.server_url, RoundLimits(entries_per_org=STEP, retry_s=0)
        async with checkpointer(url, self.memory, KEYS, pace=pace) as signer:
            for _ in range(rounds):
                report = await signer.round()
                assert report.stopped == []
                await signer.anchor()

    def trust(self) -> TrailTrust:
        """The log's keys, with the sizes of the signer's memory."""
        memory = SignerMemory(self.memory)
        try:
            trail, anchors = memory.get(ORG_ID), memory.get(ANCHOR_LOG)
        finally:
            memory.close()
        return TrailTrust.of(
            KEYS.public(),
            ORG,
            trail=[SignedTreeHead(*trail)] if trail else [],
            anchors=[SignedTreeHead(*anchors)] if anchors else [],
        )

    async def replace_rows(
        self, rows: Sequence[StoredEntry] = ROWS, head: ChainHead | None = HEAD
    ) -> None:
        """Replace the entries under the unchanged signed tree."""
        await self.superuser.connection.execute(f"TRUNCATE {blocks.TABLE}, heads")
        await self.superuser.put_rows(rows, head)

    async def fetch(self, query: str, *values: Any) -> Any:
        return await self.superuser.connection.fetch(query, *values)

    async def verify(self, trust: TrailTrust | None = TRUST, **how: Any) -> Result:
        """Verify, by default with only the keys, without the signer's memory, and with one process.

        `test_trail` verifies its damages with two.
        """
        how.setdefault("processes", 1)
        return await self.superuser.verify(trust=trust, **how)


def kinds(result: Result) -> set[str]:
    """The kinds of the named faults."""
    return {fault.kind for fault in result.errors}


def faults(result: Result) -> list[tuple[int, str]]:
    """The named faults, as seq and kind."""
    return [(fault.seq, fault.kind) for fault in result.errors]
