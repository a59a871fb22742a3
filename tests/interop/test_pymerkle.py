"""Roots and proofs compared with pymerkle, an independent implementation of Merkle trees."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymerkle import InmemoryTree

from ledger import merkle
from ledger.checkpoint import parse_checkpoint
from ledger.note import parse_note
from ledger.tiles import bundles_of, read_bundle
from tests.support.served_log import ServedLog


def _tree(leaves: list[bytes]) -> InmemoryTree:
    tree = InmemoryTree(algorithm="sha256")
    for leaf in leaves:
        tree.append_entry(leaf)
    return tree


def test_every_root_and_proof_of_small_trees() -> None:
    leaves = [b"leaf %d" % n for n in range(70)]
    hashes = [merkle.leaf_hash(leaf) for leaf in leaves]
    tree = _tree(leaves)
    assert tree.get_root(0) == merkle.root([]) == merkle.EMPTY_ROOT
    for size in range(1, len(leaves) + 1):
        assert tree.get_root(size) == merkle.root(hashes[:size])
        for index in range(size):
            # pymerkle's path begins with the leaf itself, and its leaf numbers begin at one.
            leaf_hash, *path = tree.prove_inclusion(index + 1, size).path
            assert leaf_hash == hashes[index]
            assert path == merkle.inclusion_proof(index, hashes[:size])


@given(st.lists(st.binary(max_size=80), max_size=400))
def test_the_root_of_any_leaves(leaves: list[bytes]) -> None:
    edge = merkle.Edge()
    edge.extend([merkle.leaf_hash(leaf) for leaf in leaves])
    assert edge.root() == _tree(leaves).get_root()


@pytest.mark.xdist_group("served_log")
def test_every_checkpoint_that_was_signed_has_the_root_of_the_entries_served(
    served_log: ServedLog,
) -> None:
    bundles = bundles_of(served_log.sizes[-1])
    tree = _tree(
        [leaf for one in bundles for leaf in read_bundle(served_log.read(one.path()), one.width)]
    )
    for size in served_log.sizes:
        note = served_log.inclusion(0, size)["checkpoint"]["note"]
        checkpoint = parse_checkpoint(parse_note(note.encode()).text)
        assert (checkpoint.size, checkpoint.root) == (size, tree.get_root(size))
