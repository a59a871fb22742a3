"""Checks the attestations of an anchor: timestamps by authorities, cosignatures by witnesses."""

from __future__ import annotations

from typing import NamedTuple

from ledger.errors import CheckpointError, NoteError, TimestampError
from ledger.evidence import members
from ledger.evidence.verdict import Findings
from ledger.log_keys import LogKeyHistory
from ledger.note import parse_signatures
from ledger.policy import Cosigned, Policy


class AttestedAnchor(NamedTuple):
    """An anchor's size, the note that the log signed, and its cosignatures and timestamps."""

    size: int
    note: bytes
    cosignatures: bytes
    tokens: tuple[bytes, ...]


def check_time(anchor: AttestedAnchor, tsa_ca: bytes | None, findings: Findings) -> None:
    """Check that one timestamp is by a trusted authority: the anchor existed at its time."""
    if not anchor.tokens:
        findings.leaves_out("external_time", "the anchor has no timestamp")
        return
    if tsa_ca is None:
        findings.leaves_out(
            "external_time",
            f"the anchor has {len(anchor.tokens)} timestamps; name the certificate of the "
            "authority that you trust with --tsa-ca",
        )
        return
    from ledger import timestamp  # noqa: PLC0415 - most runs check none, and it is slow to load

    refused = []
    for number, token in enumerate(anchor.tokens):
        name = members.anchor_token(anchor.size, number)
        try:
            verified = timestamp.verify(token, anchor.note, tsa_ca)
        except TimestampError as error:
            refused.append(f"{name}: {error}")
            continue
        time = verified.gen_time.isoformat().replace("+00:00", "Z")
        findings.about.setdefault("existed_at", time)
        findings.holds("external_time", f"{name}: existed at {time}, says {verified.authority}")
    for reason in refused:
        if findings.about.get("existed_at") is None:
            findings.fails("external_time", reason)
        else:
            findings.warnings.append(f"a timestamp that was not counted: {reason}")


def check_witnesses(
    anchor: AttestedAnchor, keys: LogKeyHistory | None, policy: Policy | None, findings: Findings
) -> None:
    """Check the cosignatures that the policy requires, with the log's keys or those it lists."""
    names = _names(anchor, findings)
    if policy is None:
        reason = (
            f"cosigned by {names}; name those that you trust with --policy" if names else "none"
        )
        findings.leaves_out("witnesses", reason)
        return
    if keys is None:
        findings.leaves_out("witnesses", "the log's own signature could not be checked")
        return
    own = None if policy.logs else keys.anchor_verifiers()
    try:
        cosigned = policy.open(anchor.note + anchor.cosignatures, own)
    except (NoteError, CheckpointError) as error:
        findings.fails("witnesses", str(error))
        return
    judge_cosignatures(cosigned, findings)


def judge_cosignatures(cosigned: Cosigned, findings: Findings) -> None:
    """Record whether enough witnesses cosigned; too few refute nothing, as more may follow."""
    found = ", ".join(sorted(cosigned.witnesses)) or "none"
    if not cosigned.quorum:
        findings.leaves_out(
            "witnesses",
            f"too few cosignatures for the policy (there are: {found}). Witnesses cosign some "
            "seconds after an anchor is made: ask the operator for the same bundle once more",
        )
    elif not cosigned.witnesses:
        findings.leaves_out("witnesses", "the policy asks for no cosignature, and there is none")
    else:
        findings.holds("witnesses", f"cosigned as the policy asks, by: {found}")


def _names(anchor: AttestedAnchor, findings: Findings) -> str:
    """Return the names in the cosignatures, which are not verified here."""
    if not anchor.cosignatures:
        return ""
    try:
        lines = parse_signatures(anchor.cosignatures)
    except NoteError as error:
        findings.fails("witnesses", f"{members.anchor_cosignatures(anchor.size)}: {error}")
        return ""
    return ", ".join(sorted({line.name for line in lines}))
