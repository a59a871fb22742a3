"""Verification of proofs: RFC 9162 sections 2.1.3.2 and 2.1.4.2, and their form for subtrees.

A tree is the subtree that begins at 0, so one walk verifies proofs of both. Each
walk ends with the proof; a proof with hashes beyond the root is refused, so no
walk has more than 64 steps.
"""

from __future__ import annotations

from collections.abc import Sequence

from ledger.errors import MerkleError
from ledger.merkle.hashing import EMPTY_ROOT, MAX_SIZE, check_hashes, node_hash
from ledger.merkle.spans import check_subtree


def verify_inclusion(
    index: int, size: int, leaf_hash: bytes, proof: Sequence[bytes], root: bytes
) -> None:
    """Verify that leaf ``index`` of the tree of ``size`` with this root has this hash.

    Raises MerkleError if the proof does not prove it.
    """
    verify_subtree_inclusion(index, 0, size, leaf_hash, proof, root)


def verify_consistency(
    size1: int, size2: int, root1: bytes, root2: bytes, proof: Sequence[bytes]
) -> None:
    """Verify that the tree of ``size2`` with ``root2`` extends that of ``size1`` with ``root1``.

    Raises MerkleError if the proof does not prove it, and for ``size1`` 0: every
    tree extends the empty tree, so the proof would prove nothing.
    """
    if size1 == 0:
        raise MerkleError("every tree extends the empty tree; use a size of at least 1")
    verify_subtree_consistency(0, size1, size2, root1, root2, proof)


def verify_subtree_inclusion(
    index: int, start: int, end: int, leaf_hash: bytes, proof: Sequence[bytes], root: bytes
) -> None:
    """Verify that leaf ``index`` of the subtree [``start``, ``end``) with this root has this hash.

    ``index`` counts from the beginning of the tree. Raises MerkleError if the
    proof does not prove it (draft-ietf-plants-merkle-tree-certs).
    """
    check_subtree(start, end)
    if not start <= index < end:
        raise MerkleError(f"leaf {index} is not in [{start}, {end})")
    check_hashes([leaf_hash], "leaf hash")
    check_hashes(proof, "proof hash")
    node, last, digest = index - start, end - start - 1, leaf_hash
    for sibling in proof:
        if last == 0:
            raise MerkleError("the proof continues beyond the root")
        climb = 1
        if node & 1 or node == last:
            digest = node_hash(sibling, digest)
            climb = _climb_to_parent(node)
        else:
            digest = node_hash(digest, sibling)
        node, last = node >> climb, last >> climb
    if last:
        raise MerkleError("the proof ends before the root")
    if digest != root:
        raise MerkleError("the proof leads to another root")


def verify_subtree_consistency(
    start: int, end: int, size: int, subtree_root: bytes, root: bytes, proof: Sequence[bytes]
) -> None:
    """Verify the root of the subtree [``start``, ``end``) in the tree of ``size`` with ``root``.

    An empty subtree has the empty root and needs no proof. Raises MerkleError if
    the proof does not prove it (draft-ietf-plants-merkle-tree-certs).
    """
    check_subtree(start, end)
    if not end <= size <= MAX_SIZE:
        raise MerkleError(f"a tree of {size} leaves has no subtree [{start}, {end})")
    check_hashes(proof, "proof hash")
    if start == end:
        if proof or subtree_root != EMPTY_ROOT:
            raise MerkleError("an empty subtree has the empty root and no proof")
        return
    _walk_to_root(start, end - 1, size - 1, subtree_root, root, proof)


def _walk_to_root(
    first: int, last: int, edge: int, subtree_root: bytes, root: bytes, proof: Sequence[bytes]
) -> None:
    """Climb from the subtree's right edge to the subtree's root and the tree's root in one pass.

    ``first`` and ``last`` are the subtree's outer leaves, ``edge`` is the tree's
    last leaf; all three climb together.
    """
    shared = _shared_climb(first, last, edge)
    first, last, edge = first >> shared, last >> shared, edge >> shared
    # The walk begins at the subtree's root if the subtree is one node of the tree,
    # else at the node that the proof gives first.
    given = first != last
    if given and not proof:
        raise MerkleError("the proof is empty")
    inner = outer = proof[0] if given else subtree_root
    for sibling in proof[given:]:
        if edge == 0:
            raise MerkleError("the proof continues beyond the root")
        climb = 1
        if last & 1 or last == edge:
            if first < last:
                inner = node_hash(sibling, inner)
            outer = node_hash(sibling, outer)
            climb = _climb_to_parent(last)
        else:
            outer = node_hash(outer, sibling)
        first, last, edge = first >> climb, last >> climb, edge >> climb
    if edge:
        raise MerkleError("the proof ends before the root")
    if inner != subtree_root:
        raise MerkleError("the proof leads to another root of the smaller tree")
    if outer != root:
        raise MerkleError("the proof leads to another root of the larger tree")


def _shared_climb(first: int, last: int, edge: int) -> int:
    """Return the levels from the leaves to the node where a walk begins.

    It is the root of the largest perfect subtree that ends with ``last``, but not
    above the subtree's root; on the right edge of the tree it is the subtree's root.
    """
    to_subtree_root = (first ^ last).bit_length()
    if last == edge:
        return to_subtree_root
    trailing_ones = (~last & (last + 1)).bit_length() - 1
    return min(to_subtree_root, trailing_ones)


def _climb_to_parent(node: int) -> int:
    """Return the levels to the parent of the first right child among a node and its ancestors."""
    return (node & -node).bit_length()
