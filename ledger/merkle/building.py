"""Proofs of a tree whose leaf hashes are all in memory; ``ledger.tiles`` builds them from tiles."""

from __future__ import annotations

from collections.abc import Sequence

from ledger.merkle.hashing import root
from ledger.merkle.spans import Span, consistency_spans, inclusion_spans


def inclusion_proof(index: int, leaf_hashes: Sequence[bytes]) -> list[bytes]:
    """Return the proof that leaf ``index`` is in the tree, its sibling first.

    RFC 6962 section 2.1.1. Raises MerkleError if the tree has no leaf ``index``.
    """
    return _hashes(inclusion_spans(index, len(leaf_hashes)), leaf_hashes)


def consistency_proof(size1: int, leaf_hashes: Sequence[bytes]) -> list[bytes]:
    """Return the proof that the tree extends the tree of its first ``size1`` leaves.

    RFC 6962 section 2.1.2. Raises MerkleError if ``size1`` is 0, which needs no
    proof, or larger than the tree.
    """
    return subtree_consistency_proof(0, size1, leaf_hashes)


def subtree_consistency_proof(start: int, end: int, leaf_hashes: Sequence[bytes]) -> list[bytes]:
    """Return the proof that the tree contains the subtree [``start``, ``end``).

    draft-ietf-plants-merkle-tree-certs, "Subtree Consistency Proofs". Raises
    MerkleError if the tree has no such subtree.
    """
    return _hashes(consistency_spans(start, end, len(leaf_hashes)), leaf_hashes)


def _hashes(spans: Sequence[Span], leaf_hashes: Sequence[bytes]) -> list[bytes]:
    return [root(leaf_hashes[start:end]) for start, end in spans]
