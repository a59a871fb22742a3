"""Checks the org's checkpoint, in which the proofs of all entries end."""

from __future__ import annotations

from typing import NamedTuple

from ledger.checkpoint import TreeHead, parse_checkpoint
from ledger.errors import CheckpointError, NoteError
from ledger.evidence import members
from ledger.evidence.format import Manifest
from ledger.evidence.verdict import Findings
from ledger.evidence.verification.contents import Contents
from ledger.log_keys import LogKeyHistory
from ledger.note import open_note, parse_note


class TrailHead(NamedTuple):
    """The checkpoint's note and its tree head; None where it is not the expected checkpoint."""

    note: bytes
    checkpoint: TreeHead | None


def check_checkpoint(
    contents: Contents, keys: LogKeyHistory | None, findings: Findings
) -> TrailHead:
    """Read the checkpoint and check its origin, size and signature."""
    manifest = contents.manifest
    name = members.checkpoint_note(manifest.checkpoint)
    note = contents.take(name)
    try:
        checkpoint = _checkpoint(note, manifest)
    except (NoteError, CheckpointError) as error:
        findings.fails("checkpoints", f"{name}: {error}")
        findings.leaves_out("classical_signature", f"{name}: not looked at, it is another one")
        return TrailHead(note, None)
    findings.holds("checkpoints", f"a checkpoint of {checkpoint.origin}, {checkpoint.size} entries")
    if keys is not None:
        check_signature(name, note, keys, manifest, findings)
    return TrailHead(note, checkpoint)


def _checkpoint(note: bytes, manifest: Manifest) -> TreeHead:
    checkpoint = parse_checkpoint(parse_note(note).text)
    if checkpoint.origin != manifest.origin:
        raise CheckpointError(f"it is of log {checkpoint.origin!r}, not of {manifest.origin!r}")
    if checkpoint.size != manifest.checkpoint:
        raise CheckpointError(f"it is of {checkpoint.size} entries, not {manifest.checkpoint}")
    return checkpoint


def check_signature(
    name: str, note: bytes, keys: LogKeyHistory, manifest: Manifest, findings: Findings
) -> None:
    """Check that one of the log's Ed25519 keys signed the checkpoint."""
    try:
        opened = open_note(note, keys.org_verifiers(manifest.org))
    except NoteError as error:
        findings.fails("classical_signature", f"{name}: {error}")
        return
    signer = opened.verified[0].verifier
    findings.holds("classical_signature", f"{name}: Ed25519, key {signer.key_id.hex()}")
