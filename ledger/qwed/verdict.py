"""Verification of one QWED row: its hash, its signature, its link to the previous row."""

from __future__ import annotations

import hmac
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from ledger.errors import MissingKey
from ledger.qwed.row import (
    Form,
    MalformedQwedRow,
    QwedRow,
    decode_result,
    possible_hashes,
    sign_hash,
    time_as_stored,
)

Outcome: TypeAlias = Literal["valid", "broken", "unsigned"]
Check: TypeAlias = bool | Literal["not_checked"]


@dataclass(frozen=True, slots=True)
class QwedVerdict:
    """The verdict on one row. ``form`` is the form whose hash matched, or None.

    A warning names a change that QWED's hashes do not cover; ``valid`` ignores it.
    ``unsigned`` rows were written before the chain began and can't be checked, so
    they are neither valid nor broken. ``secret`` is the index of the given secret
    that signed the row, None if none did.
    """

    row_id: int
    form: Form | None
    signature_valid: bool
    chain_valid: bool
    errors: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    unsigned: bool = False
    secret: int | None = None

    @property
    def hash_valid(self) -> bool:
        return self.form is not None

    @property
    def valid(self) -> bool:
        return self.hash_valid and self.signature_valid and self.chain_valid

    @property
    def outcome(self) -> Outcome:
        """The verdict in one word."""
        if self.unsigned:
            return "unsigned"
        return "valid" if self.valid else "broken"

    @property
    def checks(self) -> dict[str, Check]:
        """The three checks, by QWED's names."""
        if self.unsigned:
            return dict.fromkeys(("hash_valid", "signature_valid", "chain_valid"), "not_checked")
        return {
            "hash_valid": self.hash_valid,
            "signature_valid": self.signature_valid,
            "chain_valid": self.chain_valid,
        }


def usable_secrets(secrets: Iterable[bytes]) -> tuple[bytes, ...]:
    """Return the secrets that signed a trail; several if QWED's secret was changed.

    A short secret is accepted: history can't be signed again with a longer one.
    Raises MissingKey without a secret, or for an empty one.
    """
    usable = tuple(secrets)
    if not usable or not all(usable):
        raise MissingKey(
            "QWED_AUDIT_SECRET_KEY must be set: the signatures of a QWED trail can only be "
            "checked with the secret that made them"
        )
    return usable


def verify_row(row: QwedRow, previous: QwedRow | None, secrets: Sequence[bytes]) -> QwedVerdict:
    """Check a row by itself and against the previous row of its organization.

    ``previous`` is None if the chain has no earlier row: for the first row, and for
    the first row after unsigned rows. Faults of a row never raise: they are in the
    verdict.
    """
    if previous is None and row.outside_chain:
        return _unsigned(row)
    errors: list[str] = []
    form = _matching_form(row, errors)
    secret = _signing_secret(row, secrets)
    if secret is None:
        errors.append("HMAC signature invalid")
    fault = _chain_fault(row, previous)
    if fault is not None:
        errors.append(fault)
    warnings = tuple(_unhashed_changes(row)) if form else ()
    return QwedVerdict(
        row.id, form, secret is not None, fault is None, tuple(errors), warnings, secret=secret
    )


def _unsigned(row: QwedRow) -> QwedVerdict:
    """Return the verdict on a row without hash, signature and link, before the chain begins."""
    if not row.written_by_qwed_8:
        return QwedVerdict(row.id, None, False, False, (), unsigned=True)
    reason = (
        "Hash missing from audit entry: it names a caller, a version or an admission, "
        "and QWED chains every row that does"
    )
    return QwedVerdict(row.id, None, False, True, (reason, "HMAC signature invalid"))


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


def _unhashed_changes(row: QwedRow) -> Iterator[str]:
    # QWED stores json.dumps(result) and hashes the value, not this text. A result that
    # it cut at 64,000 characters is stored without escapes.
    result = decode_result(row.result)
    if row.result not in (json.dumps(result), json.dumps(result, ensure_ascii=False)):
        yield "Result holds the value that was hashed, in text that QWED did not write"
    if not time_as_stored(row.columns):
        yield "Timestamp holds the time that was hashed, in text that no QWED database writes"


def _signing_secret(row: QwedRow, secrets: Sequence[bytes]) -> int | None:
    """Return the index of the secret that signed the row's hash, None if none did."""
    if not isinstance(row.entry_hash, str) or not isinstance(row.hmac_signature, str):
        return None
    if not row.entry_hash:
        return None
    stored = row.hmac_signature.encode("utf-8", "surrogatepass")
    for place, secret in enumerate(secrets):
        if hmac.compare_digest(sign_hash(secret, row.entry_hash).encode(), stored):
            return place
    return None


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
