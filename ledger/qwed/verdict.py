"""What verifies one QWED row: its hash, its signature, its link to the row before."""

from __future__ import annotations

import hmac
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ledger.errors import MissingKey
from ledger.qwed.row import (
    Form,
    MalformedQwedRow,
    QwedRow,
    decode_result,
    possible_hashes,
    sign_hash,
)


@dataclass(frozen=True, slots=True)
class QwedVerdict:
    """What holds for one row. ``form`` is the form whose hash matched, or None.

    A warning names a change that none of QWED's hashes covers; ``valid`` ignores it.
    """

    row_id: int
    form: Form | None
    signature_valid: bool
    chain_valid: bool
    errors: tuple[str, ...]
    warnings: tuple[str, ...] = ()

    @property
    def hash_valid(self) -> bool:
        return self.form is not None

    @property
    def valid(self) -> bool:
        return self.hash_valid and self.signature_valid and self.chain_valid

    @property
    def checks(self) -> dict[str, bool]:
        """The three checks by the names QWED gives them."""
        return {
            "hash_valid": self.hash_valid,
            "signature_valid": self.signature_valid,
            "chain_valid": self.chain_valid,
        }


def usable_secrets(secrets: Iterable[bytes]) -> tuple[bytes, ...]:
    """The secrets a trail was signed with: several where QWED's was changed on the way.

    A short one is taken, for history can't be signed again with a better one.
    No secret, or an empty one, raises MissingKey.
    """
    kept = tuple(secrets)
    if not kept or not all(kept):
        raise MissingKey(
            "QWED_AUDIT_SECRET_KEY must be set: the signatures of a QWED trail can only be "
            "checked with the secret that made them"
        )
    return kept


def verify_row(row: QwedRow, previous: QwedRow | None, secrets: Sequence[bytes]) -> QwedVerdict:
    """Check a row against itself and the row before it in its organization.

    ``previous`` is None for the organization's first row. Never raises over what
    a row holds: that is in the verdict.
    """
    errors: list[str] = []
    form = _matching_form(row, errors)
    signed = _signature_matches(row, secrets)
    if not signed:
        errors.append("HMAC signature invalid")
    fault = _chain_fault(row, previous)
    if fault is not None:
        errors.append(fault)
    warnings = _unhashed_changes(row) if form else ()
    return QwedVerdict(row.id, form, signed, fault is None, tuple(errors), warnings)


def _matching_form(row: QwedRow, errors: list[str]) -> Form | None:
    if not row.entry_hash:
        errors.append("Hash missing from audit entry")
        return None
    try:
        for form, entry_hash in possible_hashes(row, decode_result(row.result)):
            if entry_hash == row.entry_hash:
                return form
    except MalformedQwedRow as error:
        errors.append(str(error))
        return None
    errors.append("Hash mismatch: audit entry does not match current or legacy canonical payload")
    return None


def _unhashed_changes(row: QwedRow) -> tuple[str, ...]:
    # QWED stores json.dumps(result) and hashes the value, not this text.
    if json.dumps(decode_result(row.result)) != row.result:
        return ("Result holds the value that was hashed, in text that QWED did not write",)
    return ()


def _signature_matches(row: QwedRow, secrets: Sequence[bytes]) -> bool:
    if not isinstance(row.entry_hash, str) or not isinstance(row.hmac_signature, str):
        return False
    if not row.entry_hash:
        return False
    stored = row.hmac_signature.encode("utf-8", "surrogatepass")
    made = (sign_hash(secret, row.entry_hash).encode() for secret in secrets)
    return any(hmac.compare_digest(signature, stored) for signature in made)


def _chain_fault(row: QwedRow, previous: QwedRow | None) -> str | None:
    if previous is None:
        if row.previous_hash is not None:
            return "Hash chain broken: genesis entry must not reference a previous hash"
        return None
    if not previous.entry_hash:
        return "Hash chain broken: previous entry is missing its hash"
    if previous.entry_hash != row.previous_hash:
        return "Hash chain broken: previous hash doesn't match"
    return None
