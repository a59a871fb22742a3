"""The fast verification of many proofs agrees with the slow one on every proof."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ledger.checkpoint import TreeHead
from ledger.errors import MerkleError, ProofError
from ledger.evidence.verification.proofs import Proofs
from ledger.merkle import inclusion_proof, leaf_hash, root, verify_inclusion
from ledger.proof import TlogProof, parse_proof

NOTE = b"quire.test/orgs/acme\n1\nAAAA\n\n\xe2\x80\x94 quire.test/orgs/acme AAAAAAAA\n"
sizes = st.integers(1, 70)


def tree(size: int) -> tuple[list[bytes], TreeHead]:
    hashes = [leaf_hash(b"%d" % number) for number in range(size)]
    return hashes, TreeHead("quire.test/orgs/acme", size, root(hashes))


def passes(proofs: Proofs, seq: int, digest: bytes, file: bytes) -> bool:
    try:
        proofs.check(seq, digest, file)
    except (ProofError, MerkleError):
        return False
    return True


def reference(checkpoint: TreeHead, seq: int, digest: bytes, file: bytes) -> bool:
    try:
        proof = parse_proof(file)
        verify_inclusion(seq, checkpoint.size, digest, proof.hashes, checkpoint.root)
    except (ProofError, MerkleError):
        return False
    return proof.index == seq and proof.checkpoint == NOTE and proof.extra is None


@given(sizes, st.data())
def test_proofs_in_any_order_pass(size: int, data: st.DataObject) -> None:
    hashes, checkpoint = tree(size)
    proofs = Proofs(checkpoint, NOTE)
    for seq in data.draw(st.lists(st.integers(0, size - 1), max_size=20)):
        file = TlogProof(seq, tuple(inclusion_proof(seq, hashes)), NOTE).format()
        proofs.check(seq, hashes[seq], file)


@given(sizes, st.data())
def test_changed_proofs_get_the_same_answers_as_one_by_one(size: int, data: st.DataObject) -> None:
    hashes, checkpoint = tree(size)
    proofs = Proofs(checkpoint, NOTE)
    for _ in range(12):
        seq, other = (data.draw(st.integers(0, size - 1)) for _ in range(2))
        file = TlogProof(other, tuple(inclusion_proof(other, hashes)), NOTE).format()
        at = data.draw(st.integers(0, len(file) - 1))
        cut = data.draw(st.sampled_from([0, 0, 1, 45]))
        inserted = data.draw(st.sampled_from([b"", b"", b"A", b"\n", file[-45:], file[60:105]]))
        changed = file[:at] + inserted + file[at + cut :]
        digest = hashes[data.draw(st.sampled_from([seq, seq, other]))]
        expected = reference(checkpoint, seq, digest, changed)
        assert passes(proofs, seq, digest, changed) == expected


def test_a_proof_already_seen_does_not_verify_changed_ones() -> None:
    hashes, checkpoint = tree(64)
    proofs = Proofs(checkpoint, NOTE)
    for seq in range(64):
        good = TlogProof(seq, tuple(inclusion_proof(seq, hashes)), NOTE)
        proofs.check(seq, hashes[seq], good.format())
        for changed in (
            TlogProof(seq, (*good.hashes[:-1], bytes(32)), NOTE),
            TlogProof(seq, (bytes(32), *good.hashes[1:]), NOTE),
            TlogProof(seq, good.hashes[:-1], NOTE),
            TlogProof(seq, (*good.hashes, bytes(32)), NOTE),
            TlogProof(seq, good.hashes, NOTE[:-2] + b"B\n"),
            TlogProof(seq ^ 1, good.hashes, NOTE),
            TlogProof(seq, good.hashes, NOTE, b"more"),
        ):
            assert not passes(proofs, seq, hashes[seq], changed.format())
        assert not passes(proofs, seq, hashes[seq ^ 1], good.format())
