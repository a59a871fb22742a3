"""Trust policies: the known logs, and the cosignatures a checkpoint needs (C2SP tlog-policy).

A policy file is lines of ``log``, ``witness``, ``group`` and exactly one ``quorum``.
A checkpoint is valid under a policy if a listed log signed it and the quorum of
witnesses cosigned it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from ledger.checkpoint import TreeHead, open_checkpoint, parse_checkpoint
from ledger.errors import CheckpointError, NoteError, TrustPolicyError
from ledger.malformed import mark_of
from ledger.note import (
    Note,
    OpenedNote,
    SignatureType,
    Verifier,
    parse_note,
    parse_signatures,
    parse_vkey,
)

POLICY_BYTES_MAX: Final = 1 << 20
DEFINITIONS_MAX: Final = 256
"""Logs, witnesses and groups together; the specification asks for 32 of each."""
NO_QUORUM: Final = "none"
_FORBIDDEN = re.compile(rb"[^\t\n\x20-\x7e\x80-\xff]")
_BLANKS = re.compile(r"[ \t]+")
_NUMBER = re.compile(r"[1-9][0-9]{0,5}")
_COSIGNATURES: Final = {
    SignatureType.ED25519_COSIGNATURE,
    SignatureType.ML_DSA_44_COSIGNATURE,
}


@dataclass(frozen=True, slots=True)
class Log:
    """A known log: its key, whose name is the log's origin, and the log's URL."""

    verifier: Verifier
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Witness:
    """A known witness; ``name`` is the policy's name for it, ``url`` its submission prefix."""

    name: str
    verifier: Verifier
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """Witnesses and other groups of which ``threshold`` must have cosigned."""

    name: str
    threshold: int
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Cosigned:
    """A checkpoint signed by a listed log: the witnesses that cosigned it, and if they suffice."""

    checkpoint: TreeHead
    note: OpenedNote
    witnesses: frozenset[str]
    quorum: bool


@dataclass(frozen=True, slots=True)
class Policy:
    """A trust policy. ``groups`` have the order of the file; ``quorum`` names the rule."""

    logs: tuple[Log, ...]
    witnesses: tuple[Witness, ...]
    groups: tuple[Group, ...]
    quorum: str

    def satisfied_by(self, cosigned: Collection[str]) -> bool:
        """Return whether the cosignatures of these witnesses, by name, meet the quorum."""
        if self.quorum == NO_QUORUM:
            return True
        known = {witness.name for witness in self.witnesses}
        satisfied = known.intersection(cosigned)
        for group in self.groups:  # the file defines members before their group
            if len(satisfied.intersection(group.members)) >= group.threshold:
                satisfied.add(group.name)
        return self.quorum in satisfied

    def cosigners(self, note: OpenedNote) -> frozenset[str]:
        """Return the names of the witnesses whose signatures in a note verified."""
        keys = {signature.verifier for signature in note.verified}
        return frozenset(w.name for w in self.witnesses if w.verifier in keys)

    def cosigned_by(self, note: Note, lines: bytes) -> set[str]:
        """Verify signature lines and return the names of their witnesses.

        Lines by other keys are ignored. Raises NoteError for a malformed line,
        InvalidSignature for a signature that does not verify.
        """
        names: set[str] = set()
        for signature in parse_signatures(lines):
            for witness in self.witnesses:
                key = witness.verifier
                if (key.name, key.key_id) == (signature.name, signature.key_id):
                    key.verify(note.text, signature.blob)
                    names.add(witness.name)
        return names

    def keys_of(self, origin: str) -> list[Verifier]:
        """Return the keys of the log with this origin; empty if the policy does not list it."""
        return [log.verifier for log in self.logs if log.verifier.name == origin]

    def open(self, data: bytes, log: Iterable[Verifier] | None = None) -> Cosigned:
        """Read a checkpoint and verify its signatures under this policy.

        ``log``: log keys known from elsewhere, which replace the listed keys; keys
        whose name is not the checkpoint's origin are ignored. Raises NoteError
        (InvalidSignature, UnsignedNote) and CheckpointError as
        :func:`~ledger.checkpoint.open_checkpoint` does, and CheckpointError for a
        log that is not listed. Too few cosignatures raise no error: ``quorum`` is
        False.
        """
        origin = parse_checkpoint(parse_note(data).text).origin
        keys = self.keys_of(origin) if log is None else _named(log, origin)
        if not keys:
            raise CheckpointError(f"the policy does not list the log {origin!r}")
        others = [witness.verifier for witness in self.witnesses]
        opened = open_checkpoint(data, origin, keys, others)
        names = self.cosigners(opened.note)
        return Cosigned(opened.checkpoint, opened.note, names, self.satisfied_by(names))


def parse_policy(data: bytes) -> Policy:
    """Parse a policy file. Raises TrustPolicyError, which names the line.

    Names are octets in the specification. Here they are text with surrogate
    escapes, so that two names are equal if and only if their octets are.
    """
    if len(data) > POLICY_BYTES_MAX:
        raise TrustPolicyError(f"a policy has at most {POLICY_BYTES_MAX} bytes, not {len(data)}")
    if mark := mark_of(data):
        raise TrustPolicyError(f"the policy can't be read: {mark}")
    forbidden = _FORBIDDEN.search(data)
    if forbidden:
        number = data.count(b"\n", 0, forbidden.start()) + 1
        crlf = data.startswith(b"\r\n", forbidden.start())
        hint = "; this line ends in CRLF, so save the file with LF line ends" if crlf else ""
        raise TrustPolicyError(
            f"line {number}: a policy must not contain control characters other than the tab{hint}"
        )
    if not data.endswith(b"\n"):
        raise TrustPolicyError("the policy's last line must end in a newline; was the file cut?")
    definitions = _Definitions()
    for number, line in enumerate(data[:-1].split(b"\n"), 1):
        try:
            definitions.add_line(line.decode("utf-8", "surrogateescape"))
        except (TrustPolicyError, NoteError) as error:
            raise TrustPolicyError(f"line {number}: {error}") from error
    return definitions.policy()


class _Definitions:
    """The definitions of the lines read so far."""

    def __init__(self) -> None:
        self._logs: list[Log] = []
        self._witnesses: dict[str, Witness] = {}
        self._groups: dict[str, Group] = {}
        self._grouped: set[str] = set()
        self._quorum: str | None = None

    def policy(self) -> Policy:
        if self._quorum is None:
            raise TrustPolicyError(
                'the policy has no quorum line; "quorum none" requires no cosignatures'
            )
        witnesses, groups = tuple(self._witnesses.values()), tuple(self._groups.values())
        return Policy(tuple(self._logs), witnesses, groups, self._quorum)

    def add_line(self, line: str) -> None:
        line = line.strip(" \t")
        if not line or line.startswith("#"):
            return
        match _BLANKS.split(line):
            case ["log", vkey, *url] if len(url) <= 1:
                self._log(parse_vkey(vkey), *url)
            case ["witness", name, vkey, *url] if len(url) <= 1:
                self._witness(name, parse_vkey(vkey), *url)
            case ["group", name, threshold, *members] if members:
                self._group(name, threshold, members)
            case ["quorum", name]:
                self._set_quorum(name)
            case _:
                raise TrustPolicyError(
                    "the line must be: log VKEY [URL], witness NAME VKEY [URL], "
                    "group NAME all|any|K NAME..., or quorum NAME"
                )

    def _log(self, verifier: Verifier, url: str | None = None) -> None:
        _refuse_known_key(verifier, (log.verifier for log in self._logs))
        self._logs.append(Log(verifier, url))
        self._check_number()

    def _witness(self, name: str, verifier: Verifier, url: str | None = None) -> None:
        self._check_new(name)
        if verifier.kind not in _COSIGNATURES:
            raise TrustPolicyError(
                f"the key of witness {name!r} has type 0x{verifier.kind:02x}; "
                "a witness cosigns with 0x04 or 0x06"
            )
        _refuse_known_key(verifier, (witness.verifier for witness in self._witnesses.values()))
        self._witnesses[name] = Witness(name, verifier, url)
        self._check_number()

    def _group(self, name: str, threshold: str, members: list[str]) -> None:
        self._check_new(name)
        for member in members:
            self._check_defined(member)
            if member in self._grouped:
                raise TrustPolicyError(
                    f"{member!r} is a member of a group already; list it in one group, once"
                )
            self._grouped.add(member)
        self._groups[name] = Group(name, _threshold(threshold, len(members)), tuple(members))
        self._check_number()

    def _set_quorum(self, name: str) -> None:
        if self._quorum is not None:
            raise TrustPolicyError("this is a second quorum line; a policy must have exactly one")
        if name != NO_QUORUM:
            self._check_defined(name)
        self._quorum = name

    def _check_new(self, name: str) -> None:
        if name == NO_QUORUM or name in self._witnesses or name in self._groups:
            raise TrustPolicyError(f"the name {name!r} is taken; choose another name")

    def _check_defined(self, name: str) -> None:
        if name not in self._witnesses and name not in self._groups:
            raise TrustPolicyError(f"no line above defines {name!r}")

    def _check_number(self) -> None:
        if len(self._logs) + len(self._witnesses) + len(self._groups) > DEFINITIONS_MAX:
            raise TrustPolicyError(
                f"a policy defines at most {DEFINITIONS_MAX} logs, witnesses and groups"
            )


def _named(keys: Iterable[Verifier], origin: str) -> list[Verifier]:
    """Return the keys of the log with this origin. Raises CheckpointError if there is none."""
    known = list(keys)
    named = [key for key in known if key.name == origin]
    if known and not named:
        raise CheckpointError(
            f"the checkpoint belongs to the log {origin!r}, but the known key to {known[0].name!r}"
        )
    return named


def _refuse_known_key(verifier: Verifier, known: Iterable[Verifier]) -> None:
    if any(other.public_key == verifier.public_key for other in known):
        raise TrustPolicyError(f"an earlier line has the public key of {verifier.name!r} already")


def _threshold(text: str, members: int) -> int:
    named: Mapping[str, int] = {"all": members, "any": 1}
    if text in named:
        return named[text]
    if not _NUMBER.fullmatch(text) or int(text) > members:
        raise TrustPolicyError(f"{text!r} must be all, any, or a number from 1 to {members}")
    return int(text)
