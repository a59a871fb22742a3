"""Trust policies: which logs are known, and whose cosignatures are enough (C2SP tlog-policy).

A policy file is lines of ``log``, ``witness``, ``group`` and exactly one ``quorum``.
A checkpoint is valid under it when a listed log signed it and the quorum of
witnesses cosigned it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from ledger.checkpoint import TreeHead, open_checkpoint, parse_checkpoint
from ledger.errors import CheckpointError, NoteError, TrustPolicyError
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
    """A known log: its key, whose name is the log's origin, and where the log is."""

    verifier: Verifier
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Witness:
    """A known witness under the policy's own name for it; ``url`` is its submission prefix."""

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
    """A checkpoint that a listed log signed: which witnesses cosigned it, and are they enough."""

    checkpoint: TreeHead
    note: OpenedNote
    witnesses: frozenset[str]
    quorum: bool


@dataclass(frozen=True, slots=True)
class Policy:
    """A trust policy. ``groups`` stand in the order of the file; ``quorum`` names the rule."""

    logs: tuple[Log, ...]
    witnesses: tuple[Witness, ...]
    groups: tuple[Group, ...]
    quorum: str

    def satisfied_by(self, cosigned: Collection[str]) -> bool:
        """Whether cosignatures of the witnesses with these names are enough."""
        if self.quorum == NO_QUORUM:
            return True
        known = {witness.name for witness in self.witnesses}
        satisfied = known.intersection(cosigned)
        for group in self.groups:  # members stand before their group
            if len(satisfied.intersection(group.members)) >= group.threshold:
                satisfied.add(group.name)
        return self.quorum in satisfied

    def cosigners(self, note: OpenedNote) -> frozenset[str]:
        """Names of the witnesses among those whose signatures in a note verified."""
        keys = {signature.verifier for signature in note.verified}
        return frozenset(one.name for one in self.witnesses if one.verifier in keys)

    def cosigned_by(self, note: Note, lines: bytes) -> set[str]:
        """Names of the witnesses whose signature lines these are; those of others are left aside.

        Raises NoteError for a line that is no signature, or InvalidSignature.
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
        """The keys of the log with this origin; none where the policy does not list it."""
        return [log.verifier for log in self.logs if log.verifier.name == origin]

    def open(self, data: bytes, log: Iterable[Verifier] | None = None) -> Cosigned:
        """Read a checkpoint and verify its signatures under this policy.

        ``log``: keys of logs where they are known otherwise, in place of the listed
        ones; those of another name than the checkpoint's origin do not count. Raises NoteError (InvalidSignature, UnsignedNote) and CheckpointError as
        :func:`~ledger.checkpoint.open_checkpoint` does, also for a log that is not
        listed. Too few cosignatures are no error but ``quorum`` False.
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
    """Read a policy file. Raises TrustPolicyError, which names the line.

    Names are octets to the specification; here they are text with surrogate
    escapes, so that two are equal when their octets are.
    """
    if len(data) > POLICY_BYTES_MAX:
        raise TrustPolicyError(f"a policy has at most {POLICY_BYTES_MAX} bytes, not {len(data)}")
    forbidden = _FORBIDDEN.search(data)
    if forbidden:
        number = data.count(b"\n", 0, forbidden.start()) + 1
        raise TrustPolicyError(f"line {number}: a policy holds no control character but the tab")
    if not data.endswith(b"\n"):
        raise TrustPolicyError("the policy's last line must end in a newline; was the file cut?")
    reading = _Reading()
    for number, line in enumerate(data[:-1].split(b"\n"), 1):
        try:
            reading.line(line.decode("utf-8", "surrogateescape"))
        except (TrustPolicyError, NoteError) as error:
            raise TrustPolicyError(f"line {number}: {error}") from error
    return reading.policy()


class _Reading:
    """What the lines so far have defined."""

    def __init__(self) -> None:
        self._logs: list[Log] = []
        self._witnesses: dict[str, Witness] = {}
        self._groups: dict[str, Group] = {}
        self._grouped: set[str] = set()
        self._quorum: str | None = None

    def policy(self) -> Policy:
        if self._quorum is None:
            raise TrustPolicyError(
                'the policy has no quorum line; "quorum none" asks for no cosignatures'
            )
        witnesses, groups = tuple(self._witnesses.values()), tuple(self._groups.values())
        return Policy(tuple(self._logs), witnesses, groups, self._quorum)

    def line(self, line: str) -> None:
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
                    "a line is: log VKEY [URL], witness NAME VKEY [URL], "
                    "group NAME all|any|K NAME..., or quorum NAME"
                )

    def _log(self, verifier: Verifier, url: str | None = None) -> None:
        _refuse_twice(verifier, (log.verifier for log in self._logs))
        self._logs.append(Log(verifier, url))
        self._check_number()

    def _witness(self, name: str, verifier: Verifier, url: str | None = None) -> None:
        self._check_new(name)
        if verifier.kind not in _COSIGNATURES:
            raise TrustPolicyError(
                f"the key of witness {name!r} has type 0x{verifier.kind:02x}; "
                "a witness cosigns with 0x04 or 0x06"
            )
        _refuse_twice(verifier, (witness.verifier for witness in self._witnesses.values()))
        self._witnesses[name] = Witness(name, verifier, url)
        self._check_number()

    def _group(self, name: str, threshold: str, members: list[str]) -> None:
        self._check_new(name)
        for member in members:
            self._check_defined(member)
            if member in self._grouped:
                raise TrustPolicyError(f"{member!r} can be a member of one group only, once")
            self._grouped.add(member)
        self._groups[name] = Group(name, _threshold(threshold, len(members)), tuple(members))
        self._check_number()

    def _set_quorum(self, name: str) -> None:
        if self._quorum is not None:
            raise TrustPolicyError("a policy has one quorum line, and this is the second")
        if name != NO_QUORUM:
            self._check_defined(name)
        self._quorum = name

    def _check_new(self, name: str) -> None:
        if name == NO_QUORUM or name in self._witnesses or name in self._groups:
            raise TrustPolicyError(f"the name {name!r} is taken")

    def _check_defined(self, name: str) -> None:
        if name not in self._witnesses and name not in self._groups:
            raise TrustPolicyError(f"no line above defines {name!r}")

    def _check_number(self) -> None:
        if len(self._logs) + len(self._witnesses) + len(self._groups) > DEFINITIONS_MAX:
            raise TrustPolicyError(f"a policy defines at most {DEFINITIONS_MAX} things")


def _named(keys: Iterable[Verifier], origin: str) -> list[Verifier]:
    """The keys of the log with this origin. Raises CheckpointError where all are of others."""
    known = list(keys)
    named = [key for key in known if key.name == origin]
    if known and not named:
        raise CheckpointError(
            f"the checkpoint is of {origin!r}, the key known is of {known[0].name!r}"
        )
    return named


def _refuse_twice(verifier: Verifier, known: Iterable[Verifier]) -> None:
    if any(one.public_key == verifier.public_key for one in known):
        raise TrustPolicyError(f"the public key of {verifier.name!r} stands there already")


def _threshold(text: str, members: int) -> int:
    named: Mapping[str, int] = {"all": members, "any": 1}
    if text in named:
        return named[text]
    if not _NUMBER.fullmatch(text) or int(text) > members:
        raise TrustPolicyError(f"{text!r} must be all, any, or a number from 1 to {members}")
    return int(text)
