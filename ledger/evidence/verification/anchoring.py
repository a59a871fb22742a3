"""Checks the anchor: that it includes the org's checkpoint, its signatures and attestations."""

from __future__ import annotations

from typing import NamedTuple

from ledger import anchor, merkle
from ledger.checkpoint import TreeHead, parse_checkpoint
from ledger.errors import CheckpointError, EvidenceError, MerkleError, NoteError, ProofError
from ledger.evidence import members
from ledger.evidence.format import TOKENS_MAX, decode, read_anchor_leaf
from ledger.evidence.trust import Trust
from ledger.evidence.verdict import Findings
from ledger.evidence.verification.attestations import AttestedAnchor, check_time, check_witnesses
from ledger.evidence.verification.contents import Contents
from ledger.evidence.verification.tree_head import TrailHead
from ledger.log_keys import LogKeyHistory, open_anchor
from ledger.note import open_note, parse_note
from ledger.proof import parse_proof

NO_ANCHOR = "the bundle has no anchor"


class _Files(NamedTuple):
    """The members of an anchor."""

    leaf: bytes
    proof: bytes
    note: bytes
    cosignatures: bytes
    tokens: tuple[bytes, ...]


def check_anchor(
    contents: Contents,
    keys: LogKeyHistory | None,
    head: TrailHead,
    trust: Trust,
    findings: Findings,
) -> None:
    """Check everything from the checkpoint upwards; without an anchor, record it as unchecked."""
    size = contents.manifest.anchor
    if (size is not None) > contents.manifest.request.include_pq_attestation:
        raise EvidenceError("the bundle has an anchor, and its request says it has none")
    if size is None:
        for check in ("anchors", "pq_signature", "external_time", "witnesses"):
            findings.leaves_out(check, NO_ANCHOR)
        return
    files = _take(contents, size)
    try:
        checkpoint = _included(contents, files, head.note, size)
        if keys is not None and checkpoint.origin != keys.anchor_origin:
            raise CheckpointError(f"it is of log {checkpoint.origin!r}, not {keys.anchor_origin!r}")
    except (MerkleError, NoteError, CheckpointError, ProofError, EvidenceError) as error:
        findings.fails("anchors", f"{members.anchor_note(size)}: {error}")
    else:
        findings.holds("anchors", f"the checkpoint is in the anchor of {size} checkpoints")
    if keys is not None:
        _check_signatures(members.anchor_note(size), files.note, keys, findings)
    attested = AttestedAnchor(size, files.note, files.cosignatures, files.tokens)
    check_time(attested, trust.tsa_ca, findings)
    check_witnesses(attested, keys, trust.policy, findings)


def _take(contents: Contents, size: int) -> _Files:
    checkpoint = contents.manifest.checkpoint
    leaf = contents.take(members.checkpoint_leaf(checkpoint))
    proof = contents.take(members.checkpoint_proof(checkpoint))
    note = contents.take(members.anchor_note(size))
    cosignatures = b""
    if contents.peek() == members.anchor_cosignatures(size):
        cosignatures = contents.take_next()
    tokens: list[bytes] = []
    while len(tokens) < TOKENS_MAX and contents.peek() == members.anchor_token(size, len(tokens)):
        tokens.append(contents.take_next())
    return _Files(leaf, proof, note, cosignatures, tuple(tokens))


def _included(contents: Contents, files: _Files, note: bytes, size: int) -> TreeHead:
    """Prove that the blinded leaf of the org's checkpoint is in the anchor; return its tree head.

    Raises the errors of what can't be read, MerkleError for a wrong proof.
    """
    checkpoint_size = contents.manifest.checkpoint
    leaf = decode(read_anchor_leaf, files.leaf, members.checkpoint_leaf(checkpoint_size))
    if (leaf.size, leaf.anchor_size) != (checkpoint_size, size):
        raise EvidenceError("the nonce is that of another checkpoint or anchor")
    proof = parse_proof(files.proof)
    if proof.index != leaf.anchor_index or proof.extra is not None:
        raise EvidenceError("the proof is of another leaf of the anchor log")
    if proof.checkpoint != files.note + files.cosignatures:
        raise EvidenceError("the proof ends in another note than the anchor's")
    checkpoint = parse_checkpoint(parse_note(files.note).text)
    if checkpoint.size != size:
        raise CheckpointError(f"it is of {checkpoint.size} checkpoints, not {size}")
    blinded = merkle.leaf_hash(anchor.blind(bytes.fromhex(leaf.nonce), note))
    merkle.verify_inclusion(proof.index, size, blinded, proof.hashes, checkpoint.root)
    return checkpoint


def _check_signatures(name: str, note: bytes, keys: LogKeyHistory, findings: Findings) -> None:
    """Check both signatures, each by itself, and then that one key made both."""
    verifiers = keys.anchor_verifiers()
    kinds = (
        ("classical_signature", "Ed25519", verifiers[::2]),
        ("pq_signature", "ML-DSA-44", verifiers[1::2]),
    )
    for check, algorithm, own in kinds:
        try:
            signer = open_note(note, own).verified[0].verifier
        except NoteError as error:
            findings.fails(check, f"{name}: {error}")
        else:
            findings.holds(check, f"{name}: {algorithm}, key {signer.key_id.hex()}")
    if findings.failed("pq_signature") or findings.failed("classical_signature"):
        return
    try:
        open_anchor(note, keys)
    except (NoteError, CheckpointError) as error:
        findings.fails("pq_signature", f"{name}: {error}")
