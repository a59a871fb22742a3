"""The log's keys: the history that the bundle brings, held against the pins."""

from __future__ import annotations

from ledger.errors import ForeignHistory, KeyHistoryError
from ledger.evidence.format import Manifest
from ledger.evidence.verdict import Findings
from ledger.log_keys import KeyPins, LogKeyHistory

OWN_KEYS = (
    "the keys are the bundle's own: signatures show that one log made all of this, not whose log "
    "it is. Obtain its key pins in another way and verify with --trust"
)


def open_keys(
    document: bytes, manifest: Manifest, pins: KeyPins | None, findings: Findings
) -> LogKeyHistory | None:
    """The verified history; None, and no signature holds, where it can't be trusted."""
    try:
        history = _history(document, manifest, pins)
    except KeyHistoryError as error:
        # Nothing that a key of another log signed holds.
        foreign = isinstance(error, ForeignHistory)
        what = "are not those that are trusted" if foreign else "can't be believed"
        for check in ("classical_signature", "pq_signature"):
            findings.fails(check, f"the log's keys {what}: {error}")
        return None
    findings.about["keys"] = "the bundle's own" if pins is None else "pinned"
    findings.about["key_id"] = history.newest.id
    findings.about["key_sha256"] = history.newest.digest
    if pins is None:
        findings.warnings.append(OWN_KEYS)
    return history


def _history(document: bytes, manifest: Manifest, pins: KeyPins | None) -> LogKeyHistory:
    history = LogKeyHistory.parse(document)
    if pins is not None:
        history.check_pins(pins)
    if history.org_origin(manifest.org) != manifest.origin:
        raise ForeignHistory(
            f"they are of log {history.origin!r}, the bundle is of {manifest.origin!r}"
        )
    return history
