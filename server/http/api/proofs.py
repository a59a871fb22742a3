"""Proofs as the API shows them: of an entry in a checkpoint, of one size in another."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from ledger.core.proving import AnchorInclusion, Proven
from ledger.entry import RecordId, record_id
from ledger.shapes import HashHex, RecordIdText, Seq, TreeSize
from server.http.api.logs import (
    LeafIndex,
    SignedHeadBody,
    TokenBody,
    signed_head,
    token_bodies,
)


class AnchorProof(Struct):
    """The proof that the public anchor log commits to a checkpoint."""

    index: LeafIndex
    """The place of the leaf in the anchor log."""
    nonce: HashHex
    """The 32 random bytes that blind the leaf."""
    leaf: HashHex
    """The leaf: SHA-256("quire anchor leaf v1" LF, nonce, the checkpoint's note)."""
    hashes: list[HashHex]
    """The inclusion proof (RFC 6962, section 2.1.1), from the leaf to the anchor: the leaf's
    sibling first."""
    anchor: SignedHeadBody
    """The anchor that the proof leads to; its note carries the cosignatures of witnesses."""
    timestamps: list[TokenBody]
    """The timestamps over that anchor; empty where there are none."""


class ProofBody(Struct):
    """The proof (RFC 6962, section 2.1.1) that a checkpoint includes an entry."""

    record_id: RecordIdText
    """The id of the entry."""
    index: Seq
    """The place of the entry's leaf in the tree, which is the entry's seq."""
    leaf_hash: HashHex
    """The hash of the entry's leaf, which is its entry hash."""
    hashes: list[HashHex]
    """The inclusion proof: the leaf's sibling first."""
    checkpoint: SignedHeadBody
    """The checkpoint that the proof leads to."""
    anchoring: AnchorProof | None
    """The proof that the checkpoint is in the anchor log; null until it is anchored."""


class ConsistencyBody(Struct, rename={"first": "from", "second": "to"}):
    """The proof (RFC 6962, section 2.1.2) that a tree of one size continues a smaller one."""

    first: Annotated[TreeSize, Meta(examples=[10])]
    """The smaller size."""
    second: TreeSize
    """The larger size."""
    hashes: list[HashHex]
    """The consistency proof; empty where a size is 0 or both are the same."""


def proof_body(place: RecordId, proven: Proven) -> ProofBody:
    """Return a proof as the API shows it."""
    found = proven.checkpoint
    return ProofBody(
        record_id(place.org_id, place.anchored_us, place.seq),
        proven.seq,
        proven.leaf_hash.hex(),
        [one.hex() for one in proven.hashes],
        signed_head(found, found.note),
        None if proven.anchoring is None else anchor_proof(proven.anchoring),
    )


def anchor_proof(found: AnchorInclusion) -> AnchorProof:
    """Return the part of a proof that leads to an anchor, as the API shows it."""
    leaf = found.leaf
    return AnchorProof(
        leaf.idx,
        leaf.nonce.hex(),
        leaf.leaf.hex(),
        [one.hex() for one in found.hashes],
        signed_head(found.anchor, found.note),
        token_bodies(found.tokens),
    )
