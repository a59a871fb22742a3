"""Merkle trees compared with a literal implementation of RFC 6962, and against tampering."""

from contextlib import suppress
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import MerkleError
from ledger.merkle import (
    EMPTY_ROOT,
    MAX_SIZE,
    Edge,
    consistency_proof,
    consistency_spans,
    inclusion_proof,
    inclusion_spans,
    leaf_hash,
    root,
    subtree_consistency_proof,
    verify_consistency,
    verify_inclusion,
    verify_subtree_consistency,
    verify_subtree_inclusion,
)

LEAVES = [leaf_hash(index.to_bytes(2, "big")) for index in range(301)]
SIZES = st.integers(0, 300)


def naive_root(leaves: list[bytes]) -> bytes:
    """The root by RFC 6962 section 2.1, implemented literally, over leaf hashes."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return sha256(b"\x01" + naive_root(leaves[:k]) + naive_root(leaves[k:])).digest()


def naive_path(index: int, leaves: list[bytes]) -> list[bytes]:
    """The audit path by RFC 6962 section 2.1.1."""
    if len(leaves) == 1:
        return []
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    if index < k:
        return [*naive_path(index, leaves[:k]), naive_root(leaves[k:])]
    return [*naive_path(index - k, leaves[k:]), naive_root(leaves[:k])]


def naive_subproof(size1: int, leaves: list[bytes], whole: bool) -> list[bytes]:
    """The subproof of a consistency proof by RFC 6962 section 2.1.2."""
    if size1 == len(leaves):
        return [] if whole else [naive_root(leaves)]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    if size1 <= k:
        return [*naive_subproof(size1, leaves[:k], whole), naive_root(leaves[k:])]
    return [*naive_subproof(size1 - k, leaves[k:], False), naive_root(leaves[:k])]


def test_roots_and_edges_of_every_size() -> None:
    edge = Edge()
    for size in range(301):
        expected = naive_root(LEAVES[:size])
        assert root(LEAVES[:size]) == edge.root() == expected
        assert Edge(edge.size, edge.nodes).root() == expected
        edge.extend([LEAVES[size]])


def test_inclusion_of_the_outer_and_some_leaves_at_every_size() -> None:
    for size in range(1, 301):
        leaves = LEAVES[:size]
        for index in {0, size // 3, size // 2, size - 1}:
            proof = inclusion_proof(index, leaves)
            assert proof == naive_path(index, leaves)
            verify_inclusion(index, size, LEAVES[index], proof, naive_root(leaves))


def test_consistency_with_some_earlier_trees_at_every_size() -> None:
    for size in range(1, 301):
        leaves = LEAVES[:size]
        for earlier in {1, size // 3 or 1, size // 2 or 1, 1 << size.bit_length() - 1, size}:
            proof = consistency_proof(earlier, leaves)
            assert proof == naive_subproof(earlier, leaves, True)
            verify_consistency(earlier, size, root(LEAVES[:earlier]), root(leaves), proof)


@given(st.lists(st.integers(0, 600), max_size=8))
def test_an_edge_extended_in_any_steps_is_the_same(steps: list[int]) -> None:
    """Small steps are added leaf by leaf, large ones level by level."""
    edge, leaves = Edge(), list[bytes]()
    new: dict[int, list[bytes]] = {}
    for step in steps:
        more = [leaf_hash(b"%d" % index) for index in range(len(leaves), len(leaves) + step)]
        leaves += more
        before = edge.copy()
        for level, hashes in edge.extend(more).items():
            assert hashes
            new.setdefault(level, []).extend(hashes)
        assert before.size == len(leaves) - step
    assert edge.size == len(leaves)
    assert edge.root() == root(leaves)
    assert len(edge.nodes) == edge.size.bit_count()
    assert new.get(0, []) == leaves
    runs = range(0, len(leaves) // 256 * 256, 256)
    assert new.get(1, []) == [naive_root(leaves[at : at + 256]) for at in runs]
    assert new.keys() <= {0, 1}


def test_a_second_tile_level_is_returned_when_it_is_complete() -> None:
    tile = [leaf_hash(b"%d" % index) for index in range(256)]
    whole = root([root(tile)] * 256)
    edge = Edge()
    assert edge.extend(tile * 255).keys() == {0, 1}
    new = edge.extend(tile)
    assert {level: len(hashes) for level, hashes in new.items()} == {0: 256, 1: 1, 2: 1}
    assert new[2] == [whole] == [edge.root()] == list(edge.nodes)
    one_by_one = Edge(2**16 - 1, [b"\x00" * 32] * 16).extend(tile[:1])
    assert one_by_one.keys() == {0, 1, 2}


@given(st.data(), st.integers(1, 300))
def test_a_changed_inclusion_proof_is_refused(data: st.DataObject, size: int) -> None:
    index = data.draw(st.integers(0, size - 1))
    proof, top = inclusion_proof(index, LEAVES[:size]), root(LEAVES[:size])
    others = st.integers(0, 300).filter(lambda other: other != index)
    with pytest.raises(MerkleError):
        verify_inclusion(data.draw(others), size, LEAVES[index], proof, top)
    with pytest.raises(MerkleError, match="another root"):
        verify_inclusion(index, size, leaf_hash(b"other"), proof, top)
    with pytest.raises(MerkleError):
        verify_inclusion(index, size, LEAVES[index], [*proof, top], top)
    for at in range(len(proof)):
        changed = [*proof]
        changed[at] = bytes([changed[at][0] ^ 1]) + changed[at][1:]
        with pytest.raises(MerkleError, match="another root"):
            verify_inclusion(index, size, LEAVES[index], changed, top)
        with pytest.raises(MerkleError):
            verify_inclusion(index, size, LEAVES[index], proof[:at] + proof[at + 1 :], top)


@given(st.data(), st.integers(1, 300))
def test_a_changed_consistency_proof_is_refused(data: st.DataObject, size: int) -> None:
    earlier = data.draw(st.integers(1, size))
    proof = consistency_proof(earlier, LEAVES[:size])
    root1, root2 = root(LEAVES[:earlier]), root(LEAVES[:size])
    other = leaf_hash(b"other")
    for wrong in ((other, root2), (root1, other), (other, other)):
        if proof or wrong[0] != wrong[1]:
            with pytest.raises(MerkleError):
                verify_consistency(earlier, size, *wrong, proof)
    with pytest.raises(MerkleError):
        verify_consistency(earlier, size, root1, root2, [*proof, root2])
    for at in range(len(proof)):
        changed = [*proof]
        changed[at] = bytes([changed[at][0] ^ 1]) + changed[at][1:]
        with pytest.raises(MerkleError, match="another root"):
            verify_consistency(earlier, size, root1, root2, changed)
        with pytest.raises(MerkleError):
            verify_consistency(earlier, size, root1, root2, proof[:at] + proof[at + 1 :])


@given(st.data(), st.integers(1, 300))
def test_a_fork_has_no_consistency_proof(data: st.DataObject, size: int) -> None:
    """No proof from an attacker's signed tree leads back to the tree seen before."""
    earlier = data.draw(st.integers(1, size))
    fork = [*LEAVES[:size]]
    fork[data.draw(st.integers(0, earlier - 1))] = leaf_hash(b"rewritten")
    seen = root(LEAVES[:earlier])
    with pytest.raises(MerkleError):
        verify_consistency(earlier, size, seen, root(fork), consistency_proof(earlier, fork))


@given(
    st.integers(-3, 2**66),
    st.integers(-3, 2**66),
    st.integers(-3, 2**66),
    st.lists(st.binary(max_size=33) | st.binary(min_size=32, max_size=32), max_size=70),
    st.binary(max_size=33),
)
def test_arbitrary_input_only_raises_merkle_error(
    first: int, second: int, third: int, proof: list[bytes], digest: bytes
) -> None:
    for attempt in (
        lambda: verify_inclusion(first, second, digest, proof, digest),
        lambda: verify_consistency(first, second, digest, digest, proof),
        lambda: verify_subtree_inclusion(first, second, third, digest, proof, digest),
        lambda: verify_subtree_consistency(first, second, third, digest, digest, proof),
        lambda: inclusion_spans(first, second),
        lambda: consistency_spans(first, second, third),
        lambda: Edge(first, proof),
        lambda: root(proof),
        lambda: Edge().extend(proof),
    ):
        with suppress(MerkleError):
            attempt()


def test_proofs_that_no_tree_has_are_refused() -> None:
    with pytest.raises(MerkleError, match="no leaf 3"):
        inclusion_proof(3, LEAVES[:3])
    with pytest.raises(MerkleError, match="no subtree"):
        consistency_proof(4, LEAVES[:3])
    with pytest.raises(MerkleError, match="no subtree"):
        consistency_proof(0, LEAVES[:3])
    with pytest.raises(MerkleError, match="start is not aligned"):
        subtree_consistency_proof(1, 3, LEAVES[:8])
    with pytest.raises(MerkleError, match="empty tree"):
        verify_consistency(0, 1, EMPTY_ROOT, LEAVES[0], [])
    with pytest.raises(MerkleError, match="2 subtrees at its edge, not 1"):
        Edge(3, [LEAVES[0]])
    with pytest.raises(MerkleError, match="edge node 1 has 31 bytes"):
        Edge(3, [LEAVES[0], LEAVES[0][:31]])
    with pytest.raises(MerkleError, match="no tree has -1"):
        Edge(-1)
    with pytest.raises(MerkleError, match="more than"):
        Edge(MAX_SIZE, [LEAVES[0]] * 64).extend(LEAVES[:1])
    with pytest.raises(MerkleError, match="leaf hash 1 has 0 bytes"):
        root([LEAVES[0], b""])


def test_a_refused_extension_leaves_the_edge_as_it_was() -> None:
    edge = Edge()
    edge.extend(LEAVES[:5])
    before = edge.size, edge.nodes
    for more in ([LEAVES[0], b""], [*LEAVES[:100], b"short"]):
        with pytest.raises(MerkleError):
            edge.extend(more)
        assert (edge.size, edge.nodes) == before
