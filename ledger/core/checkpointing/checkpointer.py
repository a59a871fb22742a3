"""The checkpointer: finds the trees that grew, plans how far to sign each, and signs in batches.

Only one process signs at a time (see :mod:`ledger.storage.signing`). A doubt about one
org stops and freezes that org and is reported; the others are still signed. If the database
can't be reached, the round ends and the batch under way is not signed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from ledger.checkpoint import TreeHead
from ledger.core.checkpointing.anchoring import AnchorSigner
from ledger.core.checkpointing.doubt import SigningDoubt
from ledger.core.checkpointing.following import NOTHING, FollowedRows, Follower, LeafRange
from ledger.core.checkpointing.memory import SignerMemory
from ledger.core.checkpointing.signing import ExtendedTree, Signing
from ledger.core.checkpointing.tips import SignedTip, Tip, Tips
from ledger.entry import from_datetime
from ledger.keys import SigningKeyring
from ledger.log_keys import LogKeys, open_org_checkpoint
from ledger.storage.signing import PendingOrg, SignedTree, SignerConnection
from ledger.storage.signing_transaction import UnexpectedRows

MAX_AGAIN: Final = 1_000_000
"""Entries by which the memory may be ahead of a tree row: a crash loses one batch at most."""
LEARN_AT_ONCE: Final = 5_000
"""Trees that one sweep reads back and remembers at most: that takes a few seconds."""


@dataclass(frozen=True)
class RoundLimits:
    """Sizes of batches, which also bound memory, and the times after which trees are checked again."""

    entries_per_org: int = 50_000
    entries_per_batch: int = 100_000
    orgs_per_batch: int = 500
    retry_s: float = 30.0
    idle_s: float = 86_400.0


@dataclass
class RoundReport:
    """The outcome of a round; ``behind`` counts the entries left for the next one."""

    checkpoints: int = 0
    entries: int = 0
    behind: int = 0
    stopped: list[tuple[int, str, SigningDoubt]] = field(default_factory=list)


class Checkpointer:
    """Signs the trees of all orgs, and the anchors over them.

    ``connection`` must be the leader. ``clock`` returns POSIX seconds. Methods raise
    DatabaseUnavailable and SignerMemoryUnavailable: then make another one on a new connection.
    """

    def __init__(
        self,
        connection: SignerConnection,
        keys: LogKeys,
        keyring: Callable[[bool], SigningKeyring],
        memory: SignerMemory,
        limits: RoundLimits | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._connection = connection
        self._history = keys.public()
        self._keyring = keyring
        self._memory = memory
        self._limits = limits or RoundLimits()
        self._tips = Tips(connection, memory)
        anchoring = AnchorSigner(connection, keys, memory, self._tips, clock)
        self._anchoring = anchoring
        self._signing = Signing(connection, keys, memory, self._tips, anchoring)

    async def round(self) -> RoundReport:
        """Sign every tree that has grown or was never signed, once, within the limits."""
        self._memory.refresh()
        report = RoundReport()
        for batch in self._batches(await self._connection.pending(self._limits.retry_s)):
            await self._sign(batch, report)
        return report

    async def sweep(self) -> RoundReport:
        """Find trails that are missing, or shorter than their signed trees, and stop them.

        Also adds the newest checkpoints of idle trees to the anchor log again, and remembers
        trees that another signer signed or that a lost memory held.
        """
        report = RoundReport()
        retry_s = self._limits.retry_s
        remembered = [pair for pair in self._memory.sizes() if pair[0] != 0]
        for org_id, size, length in await self._connection.shorter(remembered, retry_s):
            await self._stop(org_id, str(org_id), _shortened(length, size), report)
        for org_id, size in await self._connection.without_trail(retry_s):
            await self._stop(org_id, str(org_id), _shortened(0, size), report)
        for tree, doubt in await self._anchoring.refresh(self._limits.idle_s):
            await self._stop(tree.org_id, tree.slug, doubt, report)
        await self._learn(report)
        return report

    async def _learn(self, report: RoundReport) -> None:
        """Remember trees that are larger than in this machine's memory, after proving each."""
        trees = {
            tree.org_id: tree
            for tree in await self._connection.signed_trees(self._limits.retry_s)
            if (known := self._memory.get(tree.org_id)) is None or known.size < tree.size
        }
        for some in _portions(list(trees)[:LEARN_AT_ONCE], self._limits.orgs_per_batch):
            tips = await self._tips.of([self._signed(trees[org_id]) for org_id in some])
            for org_id, tip in tips.items():
                if isinstance(tip, SigningDoubt):
                    await self._stop(org_id, trees[org_id].slug, tip, report)
            self._memory.remember(
                (org_id, tip.edge.size, tip.edge.root())
                for org_id, tip in tips.items()
                if not isinstance(tip, SigningDoubt)
            )

    async def anchor(self) -> int | None:
        """Sign an anchor over the checkpoints since the last one; returns its size, None if no new.

        Raises AnchoringStopped if the anchor log is in doubt.
        """
        return await self._anchoring.anchor()

    def _batches(self, pending: Sequence[PendingOrg]) -> list[list[PendingOrg]]:
        batches: list[list[PendingOrg]] = []
        entries = orgs = 0
        for org in pending:
            more = min(max(org.length - org.size, 0), self._limits.entries_per_org)
            full = entries + more > self._limits.entries_per_batch
            if not batches or full or orgs == self._limits.orgs_per_batch:
                batches.append([])
                entries = orgs = 0
            batches[-1].append(org)
            entries, orgs = entries + more, orgs + 1
        return batches

    async def _sign(self, batch: Sequence[PendingOrg], report: RoundReport) -> None:
        tips = await self._tips.of([self._signed(org) for org in batch])
        grown: list[ExtendedTree] = []
        ranges: dict[int, tuple[PendingOrg, Tip, LeafRange]] = {}
        for org in batch:
            planned = self._plan(org, tips[org.org_id])
            if isinstance(planned, SigningDoubt):
                await self._stop(org.org_id, org.slug, planned, report)
            elif planned is not None:
                tip, place = planned
                ranges[org.org_id] = org, tip, place
        found = await self._read([place for _, _, place in ranges.values()], refresh=False)
        for org, tip, place in ranges.values():
            leaves = found[org.org_id]
            if leaves.doubt is not None:  # again alone, in a new snapshot, with the newest keys
                leaves = (await self._read([place], refresh=True))[org.org_id]
            if leaves.doubt is not None:
                await self._stop(org.org_id, org.slug, leaves.doubt, report)
                continue
            grown.append(ExtendedTree.of(org, tip, leaves))
            report.behind += max(org.length - place.upper, 0)
        await self._commit(grown, report)

    def _plan(
        self, org: PendingOrg, tip: Tip | SigningDoubt
    ) -> tuple[Tip, LeafRange] | SigningDoubt | None:
        """The leaves of this org's trail to read now, and the tip to extend; or a doubt."""
        if isinstance(tip, SigningDoubt):
            return tip
        remembered = self._memory.get(org.org_id)
        signed = max(org.size, remembered.size if remembered else 0)
        if org.length < signed:
            return _shortened(org.length, signed)
        upper = min(org.length, org.size + self._limits.entries_per_org)
        if remembered is not None and remembered.size > org.size:
            # The memory is ahead, as after a crash between its write and COMMIT: exactly that
            # size is signed again. A difference that no crash can leave is a rollback.
            if remembered.size - org.size > MAX_AGAIN:
                return _rolled_back(org.size, remembered.size)
            upper = remembered.size
        since_us = from_datetime(org.since)
        return tip, LeafRange(org.org_id, org.slug, org.size, upper, tip.link, since_us)

    async def _read(self, ranges: Sequence[LeafRange], *, refresh: bool) -> dict[int, FollowedRows]:
        # An empty trail is signed at size 0, and has nothing to read.
        found = {place.org_id: NOTHING for place in ranges if place.lower == place.upper}
        ranges = [place for place in ranges if place.lower != place.upper]
        if not ranges:
            return found
        follower = Follower(ranges, self._keyring(refresh))
        since_us = min(place.since_us for place in ranges)
        await self._connection.copy_leaves(
            [(place.org_id, place.lower, place.upper) for place in ranges], since_us, follower.feed
        )
        return found | follower.finish()

    async def _commit(self, grown: Sequence[ExtendedTree], report: RoundReport) -> None:
        if not grown:
            return
        try:
            signed, doubts = await self._signing.sign(grown)
        except UnexpectedRows as error:
            if error.table == "anchor_leaves":  # no org's fault: the next round finds another place
                raise
            if len(grown) > 1:  # one planted row must not hold up the others
                for one in grown:
                    await self._commit([one], report)
                return
            org = grown[0].org
            await self._stop(org.org_id, org.slug, SigningDoubt("rows_planted", str(error)), report)
            return
        for org, doubt in doubts:
            await self._stop(org.org_id, org.slug, doubt, report)
        report.checkpoints += len(signed)
        report.entries += sum(one.edge.size - one.org.size for one in signed)

    async def _stop(self, org_id: int, slug: str, doubt: SigningDoubt, report: RoundReport) -> None:
        self._tips.forget([org_id])
        await self._signing.stop(org_id, doubt)
        report.stopped.append((org_id, slug, doubt))

    def _signed(self, org: PendingOrg | SignedTree) -> SignedTip:
        def opened(note: bytes) -> TreeHead:
            return open_org_checkpoint(note, org.slug, self._history).checkpoint

        return SignedTip(org.org_id, org.size, org.root, opened)


def _portions(org_ids: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    return (org_ids[at : at + size] for at in range(0, len(org_ids), size))


def _shortened(length: int, signed: int) -> SigningDoubt:
    return SigningDoubt(
        "trail_shortened",
        f"the trail has {length} entries, but {signed} are signed: entries were removed, or the "
        "database is an older copy",
    )


def _rolled_back(size: int, signed: int) -> SigningDoubt:
    return SigningDoubt(
        "checkpoints_lost",
        f"the tree has {size} entries, but {signed} are signed: the database is an older copy",
    )
