"""Proofs verified: RFC 9162 sections 2.1.3.2 and 2.1.4.2, and their form for subtrees.

A proof of a tree is that of the subtree that begins at 0, so one walk serves
both. Each walk ends with the proof, which has at most 64 hashes or is refused.
"""

from __future__ import annotations

from collections.abc import Sequence

from ledger.errors import MerkleError
from ledger.merkle.hashing import EMPTY_ROOT, MAX_SIZE, check_hashes, node_hash
from ledger.merkle.spans import check_subtree


def verify_inclusion(
    index: int, size: int, leaf_hash: bytes, proof: Sequence[bytes], root: bytes
) -> None:
    """Leaf ``index`` of the tree of ``size`` with this root has this hash.

    Raises MerkleError where the proof does not show it.
    """
    verify_subtree_inclusion(index, 0, size, leaf_hash, proof, root)


def verify_consistency(
    size1: int, size2: int, root1: bytes, root2: bytes, proof: Sequence[bytes]
) -> None:
    """The tree of ``size2`` with ``root2`` begins with that of ``size1`` with ``root1``.

    Raises MerkleError where the proof does not show it, and for ``size1`` 0: an
    empty tree is the beginning of every other, and a proof of it says nothing.
    """
    if size1 == 0:
        raise MerkleError("nothing can be proved of the empty tree; compare later ones")
    verify_subtree_consistency(0, size1, size2, root1, root2, proof)


def verify_subtree_inclusion(
    index: int, start: int, end: int, leaf_hash: bytes, proof: Sequence[bytes], root: bytes
) -> None:
    """Leaf ``index`` of the tree, in its subtree [``start``, ``end``) with this root, has this hash.

    ``index`` counts from the beginning of the tree. Raises MerkleError where the
    proof does not show it (draft-ietf-plants-merkle-tree-certs).
    """
    check_subtree(start, end)
    if not start <= index < end:
        raise MerkleError(f"leaf {index} is not one of [{start}, {end})")
    check_hashes([leaf_hash], "leaf hash")
    check_hashes(proof, "proof hash")
    node, last, digest = index - start, end - start - 1, leaf_hash
    for sibling in proof:
        if last == 0:
            raise MerkleError("the proof goes on beyond the root")
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
    """The subtree [``start``, ``end``) of the tree of ``size`` with ``root`` has ``subtree_root``.

    An empty subtree needs no proof and has no root but the empty one. Raises
    MerkleError where the proof does not show it (draft-ietf-plants-merkle-tree-certs).
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
    """Climb from the subtree's right edge to its root and to the tree's, at once.

    ``first`` and ``last`` are the subtree's outer leaves, ``edge`` the tree's
    last; all three climb together.
    """
    shared = _shared_climb(first, last, edge)
    first, last, edge = first >> shared, last >> shared, edge >> shared
    # A subtree that is one node of the tree needs no proof of its own root; of
    # another the proof gives the node where the walk begins.
    given = first != last
    if given and not proof:
        raise MerkleError("the proof is empty")
    inner = outer = proof[0] if given else subtree_root
    for sibling in proof[given:]:
        if edge == 0:
            raise MerkleError("the proof goes on beyond the root")
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
    """Levels from the leaves to the node where a walk begins.

    It is the highest over ``last`` that is no left child, unless it lies on the
    right edge of the tree, and not above the subtree's root.
    """
    to_subtree_root = (first ^ last).bit_length()
    if last == edge:
        return to_subtree_root
    trailing_ones = (~last & (last + 1)).bit_length() - 1
    return min(to_subtree_root, trailing_ones)


def _climb_to_parent(node: int) -> int:
    """Levels to the parent of a right child, or of a node that moves up until it is one."""
    return (node & -node).bit_length()
