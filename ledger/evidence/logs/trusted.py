"""The keys that a log's notes are held against, and whose word it is that they are its own."""

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
    "the keys are the log's own: they show that one log made all of this, not whose log it is. Ask "
    "the operator of {origin}, by another way than this log, for keys.json (quire keys log show "
    "--pins) and verify with --trust keys.json, or for the log's key and verify with --key"
)
NO_KEYS: Final = "no key of the log is known: give one with --key, or keys.json with --trust"


@dataclass(frozen=True, slots=True)
class LogVerifiers:
    """Verifiers of a log by kind, and the slug of the org whose trail it is, if it is one."""

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
        """One of these must have signed the note."""
        try:
            signer = open_note(note, verifiers).verified[0].verifier
        except NoteError as error:
            findings.fails(check, f"{name}: {error}")
        else:
            findings.holds(check, f"{name}: key {signer.key_id.hex()}")


def find_keys(
    source: Source, origin: str, given: list[Verifier], trust: Trust, findings: Findings
) -> LogVerifiers:
    """What was given goes before what was pinned, and that before the log's own."""
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
    """Why the history is held against no pin; None where it is. Raises ForeignHistory."""
    if trust.pins is None:
        return OWN_KEYS.format(origin=history.origin)
    try:
        history.check_pins(trust.pins)
    except HistoryBeforePins as error:
        return str(error)
    return None


def _of_origin(given: list[Verifier], origin: str, findings: Findings) -> list[Verifier]:
    """The given keys that are of this log; to have given only others fails the check.

    The logs of all orgs may be signed by one key under many names, and a signature
    covers nothing but the text: only the origin in it says whose log this is.
    """
    own = [key for key in given if key.name == origin]
    if given and not own:
        names = ", ".join(sorted({repr(key.name) for key in given}))
        for check in ("classical_signature", "keys"):
            findings.fails(check, f"the key given is of {names}, the checkpoint of {origin!r}")
    return own


def _of_history(history: LogKeyHistory, origin: str, slug: str | None) -> LogVerifiers:
    if origin == history.anchor_origin:
        return _by_kind(history.anchor_verifiers(), None)
    if slug is None or history.org_origin(slug) != origin:
        raise ForeignHistory(f"they are of log {history.origin!r}, the checkpoint is of {origin!r}")
    return _by_kind(history.org_verifiers(slug), slug)


def _by_kind(verifiers: tuple[Verifier, ...] | list[Verifier], slug: str | None) -> LogVerifiers:
    classical = [one for one in verifiers if one.kind is SignatureType.ED25519]
    post_quantum = [one for one in verifiers if one.kind is SignatureType.ML_DSA_44_COSIGNATURE]
    return LogVerifiers(tuple(classical), tuple(post_quantum), slug)
