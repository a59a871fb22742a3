"""Finds the keys for a log's notes, and records whether they were given, pinned or its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ledger.errors import ForeignHistory, HistoryBeforePins, KeyHistoryError, NoteError
from ledger.evidence.logs.source import Source
from ledger.evidence.trust import Trust
from ledger.evidence.verdict import Findings
from ledger.log_keys import LogKeyHistory
from ledger.note import SignatureType, Verifier, open_note

LOG_KEYS: Final = "log-keys.json"
_ORGS: Final = "/orgs/"
OWN_KEYS: Final = (
    "the keys are the log's own: they show that one log made all of this, not whose log it is. Get "
    "keys.json (quire keys log show --pins) from the operator of {origin} in another way than from "
    "this log, and verify with --trust keys.json; or get the log's key, and verify with --key"
)
NO_KEYS: Final = "no key of the log is known: give one with --key, or keys.json with --trust"


@dataclass(frozen=True, slots=True)
class LogVerifiers:
    """A log's verifiers by kind, and the org's slug where the log is an org's trail."""

    classical: tuple[Verifier, ...] = ()
    post_quantum: tuple[Verifier, ...] = ()
    slug: str | None = None

    def check(
        self,
        check: str,
        name: str,
        note: bytes,
        verifiers: tuple[Verifier, ...],
        findings: Findings,
    ) -> None:
        """Check that one of these verifiers' keys signed the note."""
        try:
            signer = open_note(note, verifiers).verified[0].verifier
        except NoteError as error:
            findings.fails(check, f"{name}: {error}")
        else:
            findings.holds(check, f"{name}: key {signer.key_id.hex()}")


def find_keys(
    source: Source, origin: str, given: list[Verifier], trust: Trust, findings: Findings
) -> LogVerifiers:
    """Return the log's verifiers: given keys come before pinned ones, and these before its own."""
    slug = origin.rpartition(_ORGS)[2] if _ORGS in origin else None
    listed = [] if trust.policy is None else trust.policy.keys_of(origin)
    if given or (listed and trust.pins is None):
        findings.about["keys"] = "given"
        own = [*_of_origin(given, origin, findings), *listed]
        if own:
            findings.holds("keys", f"{len(own)} keys of {origin} were given")
        return _by_kind(own, slug)
    history = trust.history
    try:
        if history is None:
            document = source.read(LOG_KEYS)
            history = None if document is None else LogKeyHistory.parse(document)
        if history is None:
            findings.leaves_out("keys", NO_KEYS)
            return _by_kind([], slug)
        why_not = _unpinned(history, trust)
        keys = _of_history(history, origin, slug)
    except KeyHistoryError as error:
        for check in ("classical_signature", "keys"):
            findings.fails(check, f"the log's keys can't be believed: {error}")
        return _by_kind([], slug)
    findings.about["keys"] = "the log's own" if why_not else "pinned"
    if why_not:
        findings.leaves_out("keys", why_not)
    else:
        findings.holds("keys", f"the keys of {history.origin} are those that were pinned")
    return keys


def _unpinned(history: LogKeyHistory, trust: Trust) -> str | None:
    """Return why the history can't be compared with a pin; None where it agrees with the pins.

    Raises ForeignHistory where it differs from them.
    """
    if trust.pins is None:
        return OWN_KEYS.format(origin=history.origin)
    try:
        history.check_pins(trust.pins)
    except HistoryBeforePins as error:
        return str(error)
    return None


def _of_origin(given: list[Verifier], origin: str, findings: Findings) -> list[Verifier]:
    """Return the given keys that are of this log; record a failure where only others were given.

    One key may sign the logs of all orgs under many names, and a signature covers only the
    text: only the origin in the text says whose log this is.
    """
    own = [key for key in given if key.name == origin]
    if given and not own:
        names = ", ".join(sorted({repr(key.name) for key in given}))
        for check in ("classical_signature", "keys"):
            findings.fails(
                check, f"the given key is of {names}, but the checkpoint is of {origin!r}"
            )
    return own


def _of_history(history: LogKeyHistory, origin: str, slug: str | None) -> LogVerifiers:
    if origin == history.anchor_origin:
        return _by_kind(history.anchor_verifiers(), None)
    if slug is None or history.org_origin(slug) != origin:
        raise ForeignHistory(f"they are of log {history.origin!r}, the checkpoint is of {origin!r}")
    return _by_kind(history.org_verifiers(slug), slug)


def _by_kind(verifiers: tuple[Verifier, ...] | list[Verifier], slug: str | None) -> LogVerifiers:
    classical = [key for key in verifiers if key.kind is SignatureType.ED25519]
    post_quantum = [key for key in verifiers if key.kind is SignatureType.ML_DSA_44_COSIGNATURE]
    return LogVerifiers(tuple(classical), tuple(post_quantum), slug)
