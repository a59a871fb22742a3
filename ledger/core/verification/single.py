"""The checks of one entry, against the entry before it."""

from __future__ import annotations

from typing import Final

import msgspec

from ledger.chain import Entry, Fault, check_entry
from ledger.core.verification.inclusion import Inclusion
from ledger.entry import entry_hash, from_datetime, record_id
from ledger.keys import SigningKeyring
from ledger.verdict import NOT_CHECKED, Check

NOT_LOOKED_FOR: Final = Inclusion(NOT_CHECKED)
CHECK_OF_KIND: Final = {
    "hash_mismatch": "hash_valid",
    "leaf_malformed": "hash_valid",
    "column_mismatch": "hash_valid",
    "foreign_org": "hash_valid",
    "signature_invalid": "signature_valid",
    "unknown_key": "signature_valid",
    "link_broken": "chain_valid",
    "seq_mismatch": "chain_valid",
    "missing": "chain_valid",
    "payload_mismatch": "payload_valid",
}


class EntryChecks(msgspec.Struct, frozen=True):
    """One verdict per check: true, false, or ``"not_checked"``."""

    hash_valid: Check
    signature_valid: Check
    chain_valid: Check
    payload_valid: Check
    included: Check


class EntryResult(msgspec.Struct, frozen=True):
    """The verdict on one entry; ``timestamp`` is when it was anchored, RFC 3339."""

    valid: bool
    checks: EntryChecks
    errors: list[Fault]
    record_id: str
    timestamp: str


def verify_entry(
    row: Entry,
    before: Entry | None,
    org: str,
    keyring: SigningKeyring,
    *,
    timestamp: str,
    inclusion: Inclusion = NOT_LOOKED_FOR,
) -> EntryResult:
    """Check one stored entry. ``before`` is the entry at ``seq - 1``, None where there is none.

    Hash, signature, payload and columns are those of this entry alone. The link
    holds if the leaf names the hash of the entry before, as stored or, should
    that have been altered, as its leaf gives it. ``inclusion`` is what was found of
    the leaf in the signed tree.
    """
    faults = _faults(row, before, org, keyring)
    failed = {CHECK_OF_KIND[fault.kind] for fault in faults}
    unread = any(fault.kind == "leaf_malformed" for fault in faults)

    def verdict(check: str) -> Check:
        if check == "included":
            return inclusion.verdict
        if check in failed:
            return False
        return NOT_CHECKED if unread else True

    if inclusion.fault is not None:
        faults = [*faults, inclusion.fault]
    return EntryResult(
        valid=not faults,
        checks=EntryChecks(*(verdict(name) for name in EntryChecks.__struct_fields__)),
        errors=faults,
        record_id=record_id(row.org_id, from_datetime(row.anchored_at), row.seq),
        timestamp=timestamp,
    )


def _faults(row: Entry, before: Entry | None, org: str, keyring: SigningKeyring) -> list[Fault]:
    if row.seq > 0 and before is None:
        missing = Fault(row.seq, "missing", f"the entry before, {row.seq - 1}, is missing")
        return [*check_entry(row, org, keyring, None), missing]
    links = (b"",) if before is None else (before.entry_hash, entry_hash(before.leaf))
    faults: list[Fault] = []
    for link in links:
        faults = check_entry(row, org, keyring, link)
        if all(fault.kind != "link_broken" for fault in faults):
            break
    return faults
