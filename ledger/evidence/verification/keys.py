"""Checks the log's keys: the bundle's key history, compared with the pins."""

from __future__ import annotations

from contextlib import suppress

from ledger.errors import ForeignHistory, HistoryBeforePins, KeyHistoryError
from ledger.evidence.format import Manifest
from ledger.evidence.verdict import Findings
from ledger.log_keys import KeyPins, LogKeyHistory

OWN_KEYS = (
    "the keys are the bundle's own, which shows that one log made all of this, not whose it is. "
    "Key number {position} has the digest {digest}: ask the operator of {origin} for it, in another "
    "way than this bundle, as keys.json (quire keys log show --pins), and verify with --trust "
    "keys.json"
)


def open_keys(
    document: bytes, manifest: Manifest, pins: KeyPins | None, findings: Findings
) -> LogKeyHistory | None:
    """Return the verified history; None where it can't be trusted: then no signature holds."""
    try:
        history = _history(document, manifest, pins)
    except KeyHistoryError as error:
        # A signature by another log's key proves nothing.
        foreign = isinstance(error, ForeignHistory)
        fault = "are not those that are trusted" if foreign else "can't be believed"
        for check in ("classical_signature", "pq_signature", "keys"):
            findings.fails(check, f"the log's keys {fault}: {error}")
        return None
    why_not = own_keys(history) if pins is None else _before_pins(history, pins)
    findings.about["keys"] = "the bundle's own" if why_not else "pinned"
    findings.about["key_id"] = history.newest.id
    findings.about["key_sha256"] = history.newest.digest
    if why_not:
        findings.leaves_out("keys", why_not)
    else:
        findings.holds("keys", f"the keys of {history.origin} are those that were pinned")
    return history


def _before_pins(history: LogKeyHistory, pins: KeyPins) -> str | None:
    """Return why a history that ends before the pinned keys can't be compared; None otherwise."""
    try:
        history.check_pins(pins)
    except HistoryBeforePins as error:
        return str(error)
    return None


def own_keys(history: LogKeyHistory) -> str:
    """Return why keys without a pin do not prove their owner, and where to get the pins."""
    newest = history.newest
    return OWN_KEYS.format(origin=history.origin, position=newest.position, digest=newest.digest)


def _history(document: bytes, manifest: Manifest, pins: KeyPins | None) -> LogKeyHistory:
    history = LogKeyHistory.parse(document)
    if pins is not None:
        with suppress(HistoryBeforePins):
            history.check_pins(pins)
    if history.org_origin(manifest.org) != manifest.origin:
        raise ForeignHistory(
            f"they are of log {history.origin!r}, the bundle is of {manifest.origin!r}"
        )
    return history
