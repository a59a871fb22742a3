"""The checks of one entry, against the entry before it."""

from __future__ import annotations

from typing import Final

import msgspec

from ledger.chain import Entry, Fault, check_entry
from ledger.core.verification.inclusion import Inclusion
from ledger.entry import RecordId, entry_hash, format_time, from_datetime, record_id
from ledger.keys import SigningKeyring
from ledger.verdict import NOT_CHECKED, Check, Verdict, combine

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
    "inserted": "chain_valid",
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
    """The verdict on one entry; ``timestamp`` is when it was written, RFC 3339.

    ``unsigned_entries`` is 1 where no signed checkpoint covers the entry yet.
    """

    valid: bool
    verdict: Verdict
    checks: EntryChecks
    errors: list[Fault]
    record_id: str
    timestamp: str
    unsigned_entries: int = 0


def verify_entry(
    row: Entry,
    before: Entry | None,
    org: str,
    keyring: SigningKeyring,
    *,
    timestamp: str,
    inclusion: Inclusion = NOT_LOOKED_FOR,
    late: bool = False,
    rows: int = 1,
) -> EntryResult:
    """Check one stored entry. ``before`` is the entry at ``seq - 1``, None where there is none.

    Hash, signature, payload and columns are those of this entry alone. The link
    holds if the leaf names the hash of the entry before, as stored or, should
    that have been altered, as its leaf gives it. ``inclusion`` is what was found of
    the leaf in the signed tree. ``late``: the entry should be signed by now, so its
    inclusion is asked for, as where the signer remembers a tree with it. ``rows`` is how many rows stand at its seq.
    """
    faults = _faults(row, before, org, keyring)
    if rows > 1:
        reason = f"{rows} rows stand at this seq, of which one can be the entry"
        faults = [*faults, Fault(row.seq, "inserted", reason)]
    failed = {CHECK_OF_KIND[fault.kind] for fault in faults}
    unread = any(fault.kind == "leaf_malformed" for fault in faults)

    def answer(check: str) -> Check:
        if check == "included":
            return inclusion.verdict
        if check in failed:
            return False
        return NOT_CHECKED if unread else True

    if inclusion.fault is not None:
        faults = [*faults, inclusion.fault]
    answers = {name: answer(name) for name in EntryChecks.__struct_fields__}
    unsigned = answers["included"] == NOT_CHECKED
    late = late or inclusion.expected
    asked = [name for name in answers if name != "included" or late or not unsigned]
    verdict = combine(answers, asked, fault_count=len(faults))
    return EntryResult(
        valid=verdict.valid,
        verdict=verdict,
        checks=EntryChecks(**answers),
        errors=faults,
        record_id=record_id(row.org_id, from_datetime(row.anchored_at), row.seq),
        timestamp=timestamp,
        unsigned_entries=int(unsigned),
    )


def missing_entry(place: RecordId, reason: str) -> EntryResult:
    """The verdict on an entry that is known to have been in the trail, and is gone."""
    return EntryResult(
        valid=False,
        verdict=Verdict.REFUTED,
        checks=EntryChecks(
            NOT_CHECKED,
            NOT_CHECKED,
            chain_valid=False,
            payload_valid=NOT_CHECKED,
            included=NOT_CHECKED,
        ),
        errors=[Fault(place.seq, "missing", reason)],
        record_id=record_id(*place),
        timestamp=format_time(place.anchored_us),
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
