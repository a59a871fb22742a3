"""Merkle trees over leaf hashes: roots, the right edge, proofs built and verified.

Hashing follows RFC 6962 section 2.1 (identical to RFC 9162 section 2.1) with
SHA-256. Hashes are raw 32 bytes, indexes are 0-based, sizes count leaves.
Verification returns None or raises MerkleError with the reason.
"""

from __future__ import annotations

from ledger.merkle.building import (
    consistency_proof,
    inclusion_proof,
    subtree_consistency_proof,
)
from ledger.merkle.hashing import (
    EMPTY_ROOT,
    HASH_BYTES,
    MAX_SIZE,
    TILE_HEIGHT,
    TILE_WIDTH,
    Edge,
    fold,
    leaf_hash,
    node_hash,
    perfect_root,
    root,
)
from ledger.merkle.spans import consistency_spans, inclusion_spans, perfect_spans
from ledger.merkle.verifying import (
    verify_consistency,
    verify_inclusion,
    verify_subtree_consistency,
    verify_subtree_inclusion,
)

__all__ = [
    "EMPTY_ROOT",
    "HASH_BYTES",
    "MAX_SIZE",
    "TILE_HEIGHT",
    "TILE_WIDTH",
    "Edge",
    "consistency_proof",
    "consistency_spans",
    "fold",
    "inclusion_proof",
    "inclusion_spans",
    "leaf_hash",
    "node_hash",
    "perfect_root",
    "perfect_spans",
    "root",
    "subtree_consistency_proof",
    "verify_consistency",
    "verify_inclusion",
    "verify_subtree_consistency",
    "verify_subtree_inclusion",
]
