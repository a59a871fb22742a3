"""Verifies a bundle, from its bytes alone."""

from __future__ import annotations

from typing import BinaryIO

from ledger.errors import EvidenceError
from ledger.evidence import members
from ledger.evidence.format import Manifest, decode_names
from ledger.evidence.trust import Trust
from ledger.evidence.verdict import Findings, Judgement, unreadable
from ledger.evidence.verification.anchoring import check_anchor
from ledger.evidence.verification.contents import Contents
from ledger.evidence.verification.entries import check_entries
from ledger.evidence.verification.keys import open_keys
from ledger.evidence.verification.tree_head import check_checkpoint

SIGNATURES_LEFT_OUT = (
    "each entry also carries an HMAC signature, which only the operator's secret key could check; "
    "it is not part of a bundle"
)


def verify_bundle(file: BinaryIO, trust: Trust | None = None) -> Judgement:
    """Verify an evidence bundle. ``file`` is seekable; its members are read once, in order.

    Raises only OSError, where reading the file does: bytes that are not a bundle give the
    judgement ``unreadable``. Time grows with the file's size, memory with the number of members
    and the largest one.
    """
    trust = trust or Trust()
    findings = Findings()
    try:
        _check(Contents(file, findings), findings, trust)
    except EvidenceError as error:
        return unreadable(str(error))
    return findings.judgement(trust.asked)


def _check(contents: Contents, findings: Findings, trust: Trust) -> None:
    manifest = contents.manifest
    _describe(manifest, findings)
    findings.leaves_out("signatures", SIGNATURES_LEFT_OUT)
    for name in (members.README, members.STATEMENT, members.PAGE):
        contents.take(name)
    keys = open_keys(contents.take(members.LOG_KEYS), manifest, trust.pins, findings)
    head = check_checkpoint(contents, keys, findings)
    check_anchor(contents, keys, head, trust, findings)
    check_entries(contents, head, findings)
    if contents.peek() == members.NAMES:
        decode_names(contents.take(members.NAMES), members.NAMES)
        findings.warnings.append("names.json is what the server states; nothing proves a name")
    contents.finish()


def _describe(manifest: Manifest, findings: Findings) -> None:
    entries = manifest.entries
    findings.about = {
        "org": manifest.org,
        "origin": manifest.origin,
        "entries": entries.count,
        "first_seq": entries.first_seq,
        "last_seq": entries.last_seq,
        "checkpoint": manifest.checkpoint,
    }
    if manifest.anchor is not None:
        findings.about["anchor"] = manifest.anchor
