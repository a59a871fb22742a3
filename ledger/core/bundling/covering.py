"""Chooses the checkpoint, the anchor and the keys that cover a bundle's entries.

The first checkpoint and anchor that cover the entries are taken, not the newest: they bound
the time best, and a bundle that is requested again is the same, even if the trail has
grown. All of them are verified here, before a bundle has them.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from ledger.anchor import blind
from ledger.core.org import OrgFacts
from ledger.core.proving import (
    AnchorInclusion,
    DamagedTree,
    NotYetSigned,
    anchoring_by,
    cosignature_lines,
    not_covered,
)
from ledger.errors import CheckpointError, KeyHistoryError, NoteError
from ledger.evidence.format import TOKENS_MAX
from ledger.evidence.writer import BundledAnchoring
from ledger.log_keys import LogKeyHistory, open_anchor, open_org_checkpoint
from ledger.policy import Policy
from ledger.storage import bundle_reads, trees
from ledger.storage.database import Database
from ledger.storage.log_keys import PublishedKeys
from ledger.storage.trees import StoredCheckpoint, StoredToken

COSIGNED_MAX: Final = 20
"""Cosigned anchors that are read, at most, to find one that satisfies the policy."""
VERIFY: Final = "Run a full verification of this trail"


class Covering(NamedTuple):
    """A checkpoint, its anchoring (None if not requested), and the log's keys.

    ``cosigned``: the anchor has the cosignatures that the policy requires, or there is no policy.
    """

    checkpoint: StoredCheckpoint
    anchoring: BundledAnchoring | None
    keys: LogKeyHistory
    cosigned: bool = True


async def covering(
    database: Database,
    org: OrgFacts,
    seq: int,
    *,
    anchored: bool,
    policy: Policy | None = None,
    published: PublishedKeys | None = None,
) -> Covering:
    """Returns the first checkpoint over entry ``seq`` and all before it, with its anchoring.

    The anchor is the first with enough cosignatures for ``policy``, if there is
    one. ``published`` has the log's keys. Raises NotYetSigned or SigningStopped, and DamagedTree if a stored signature, checkpoint
    or anchor does not verify.
    """
    if anchored:
        found = await bundle_reads.first_anchored_above(database, org.id, seq)
    else:
        found = await trees.first_checkpoint_above(database, org.id, seq)
    if found is None:
        raise await not_covered(database, org.id, seq, anchored=anchored)
    published = published or PublishedKeys(database)
    try:
        keys = await published.history()
        if keys is None:
            raise NotYetSigned("the log's keys are not published yet; retry in a moment")
        opened = open_org_checkpoint(found.note, org.slug, keys).checkpoint
    except (KeyHistoryError, NoteError, CheckpointError) as error:
        raise DamagedTree(
            f"the checkpoint of size {found.size} of org {org.slug} does not verify: {error}. "
            f"{VERIFY}"
        ) from None
    if (opened.size, opened.root) != (found.size, found.root):
        raise DamagedTree(
            f"the checkpoint of size {found.size} of org {org.slug} names another size or root. "
            f"{VERIFY}"
        )
    if not anchored:
        return Covering(found, None, keys)
    anchoring, cosigned = await _anchoring(database, org, found, keys, policy)
    return Covering(found, anchoring, keys, cosigned)


async def _anchoring(
    database: Database,
    org: OrgFacts,
    checkpoint: StoredCheckpoint,
    keys: LogKeyHistory,
    policy: Policy | None,
) -> tuple[BundledAnchoring, bool]:
    """The anchoring of a checkpoint, and True if its anchor satisfies the policy."""
    leaf = await trees.anchor_leaf(database, org.id, checkpoint.size)
    anchor, cosigned = None, policy is None
    if leaf is not None and policy is not None:
        anchor = await _cosigned_anchor(database, leaf.idx, keys, policy)
        cosigned = anchor is not None
    if leaf is not None and anchor is None:
        anchor = await bundle_reads.attested_anchor(database, leaf.idx)
    if leaf is None or anchor is None:
        raise DamagedTree(
            f"the anchor of the checkpoint of size {checkpoint.size} of org {org.slug} is missing. "
            f"{VERIFY}"
        )
    try:
        opened = open_anchor(anchor.note, keys).checkpoint
    except (KeyHistoryError, NoteError, CheckpointError) as error:
        raise DamagedTree(
            f"the anchor of size {anchor.size} does not verify: {error}. {VERIFY}"
        ) from None
    if blind(leaf.nonce, checkpoint.note) != leaf.leaf or (opened.size, opened.root) != (
        anchor.size,
        anchor.root,
    ):
        raise DamagedTree(
            f"the anchor of size {anchor.size} does not commit to the checkpoint of size "
            f"{checkpoint.size} of org {org.slug}. {VERIFY}"
        )
    return _bundled(await anchoring_by(database, leaf, anchor)), cosigned


def _bundled(found: AnchorInclusion) -> BundledAnchoring:
    """An anchoring in the form that bundles have."""
    return BundledAnchoring(
        found.leaf.idx,
        found.anchor.size,
        found.leaf.nonce,
        found.hashes,
        found.anchor.note,
        found.cosignatures,
        [one.token for one in _chosen(found.tokens)],
    )


async def _cosigned_anchor(
    database: Database, index: int, keys: LogKeyHistory, policy: Policy
) -> StoredCheckpoint | None:
    """The first anchor with this leaf that satisfies the policy, preferably a timestamped one."""
    chosen: StoredCheckpoint | None = None
    for anchor, stamped in await bundle_reads.cosigned_anchors(database, index, COSIGNED_MAX):
        if chosen is not None and not stamped:
            continue
        lines = await cosignature_lines(database, anchor)
        if _satisfies(policy, anchor.note + lines, keys):
            if stamped:
                return anchor
            chosen = anchor
    return chosen


def _satisfies(policy: Policy, note: bytes, keys: LogKeyHistory) -> bool:
    try:
        return policy.open(note, None if policy.logs else keys.anchor_verifiers()).quorum
    except (NoteError, CheckpointError):
        return False


def _chosen(tokens: list[StoredToken]) -> list[StoredToken]:
    """At most TOKENS_MAX tokens: the first, which has the earliest time, and the newest."""
    if len(tokens) <= TOKENS_MAX:
        return tokens
    return [tokens[0], *tokens[1 - TOKENS_MAX :]]
