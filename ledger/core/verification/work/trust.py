"""The keys and heads that a verification trusts, and the check of the logs' notes with them.

They come from outside the database: the keys from the log's key file, the
heads from the signer's memory. A database that supplied its own keys would prove
nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from ledger.checkpoint import SignedTreeHead, TreeHead, open_checkpoint
from ledger.core.verification.work.faults import LogKinds
from ledger.errors import CheckpointError, InvalidSignature, NoteError, UnsignedNote
from ledger.note import SignatureType, Verifier, parse_vkey

if TYPE_CHECKING:  # workers receive the keys in their setup, without the history
    from ledger.log_keys import LogKeyHistory


class LogTrust(msgspec.Struct, frozen=True):
    """One log: its origin, and its keys as vkeys.

    ``keys`` has one list for each key of the history; a note must have the
    signatures of all vkeys of one list. ``remembered`` are heads that
    the signer, a witness or an archive remembers.
    """

    origin: str
    keys: list[list[str]]
    remembered: list[SignedTreeHead] = []


class TrailTrust(msgspec.Struct, frozen=True):
    """The trusted keys and heads of a trail's own log and of the anchor log.

    ``authorities`` are timestamp authorities' CA certificates (PEM), ``witnesses``
    is a tlog-policy file; None without authorities or witnesses.
    """

    trail: LogTrust
    anchors: LogTrust
    authorities: bytes | None = None
    witnesses: bytes | None = None

    @classmethod
    def of(
        cls,
        history: LogKeyHistory,
        slug: str,
        *,
        trail: Sequence[SignedTreeHead] = (),
        anchors: Sequence[SignedTreeHead] = (),
        authorities: bytes | None = None,
        witnesses: bytes | None = None,
    ) -> TrailTrust:
        """The trust for an org's log by a history of keys, and the remembered heads of both logs.

        Raises KeyHistoryError for a slug that no log can have.
        """
        of_org = [[key.vkey()] for key in history.org_verifiers(slug)]
        of_anchors = [key.vkey() for key in history.anchor_verifiers()]
        pairs = [of_anchors[at : at + 2] for at in range(0, len(of_anchors), 2)]
        return cls(
            LogTrust(history.org_origin(slug), of_org, list(trail)),
            LogTrust(history.anchor_origin, pairs, list(anchors)),
            authorities,
            witnesses,
        )


class JudgedNote(NamedTuple):
    """A checked note: faults as (kind, reason), and the tree head if its signatures are valid.

    ``classical`` and ``pq``: its Ed25519 and its ML-DSA-44 signature are valid.
    """

    faults: list[tuple[str, str]]
    head: TreeHead | None
    classical: bool
    pq: bool


class NoteJudge:
    """Checks the notes of one log."""

    def __init__(self, log: LogTrust, kinds: LogKinds) -> None:
        self._origin = log.origin
        self._kinds = kinds
        self._classical: list[Verifier] = []
        self._pq: list[Verifier] = []
        self._key_of: dict[Verifier, int] = {}
        for number, vkeys in enumerate(log.keys):
            for verifier in map(parse_vkey, vkeys):
                self._key_of[verifier] = number
                is_pq = verifier.kind == SignatureType.ML_DSA_44_COSIGNATURE
                (self._pq if is_pq else self._classical).append(verifier)

    def judge(self, size: int, root: bytes | None, note: bytes | None) -> JudgedNote:
        """Check a stored checkpoint, its columns and its note, with the log's keys."""
        if note is None:
            reason = "its note is missing or too large"
            return JudgedNote([(self._kinds.malformed, reason)], None, classical=False, pq=False)
        faults: list[tuple[str, str]] = []
        classical = self._open(note, self._classical, faults)
        pq = self._open(note, self._pq, faults, pq=True) if self._pq else None
        if classical and pq and not {k for _, k in classical} & {k for _, k in pq}:
            reason = "its two signatures are by different keys of the log"
            faults.append((self._kinds.foreign, reason))
        head = classical[0][0] if classical and not faults else None
        if head is not None and (head.size, head.root) != (size, root):
            reason = "its columns size and root differ from its note"
            faults.append((self._kinds.columns, reason))
        return JudgedNote(faults, head, classical=bool(classical), pq=bool(pq))

    def _open(
        self,
        note: bytes,
        verifiers: list[Verifier],
        faults: list[tuple[str, str]],
        *,
        pq: bool = False,
    ) -> list[tuple[TreeHead, int]]:
        """The tree head with each key that signed it; empty, with a fault added, if none did."""
        kinds = self._kinds
        try:
            opened = open_checkpoint(note, self._origin, verifiers)
        except InvalidSignature as error:
            faults.append((kinds.pq_signature if pq else kinds.altered, str(error)))
        except UnsignedNote as error:
            faults.append((kinds.pq_signature if pq else kinds.foreign, str(error)))
        except (CheckpointError, NoteError) as error:
            if not pq:  # the classical pass has added this fault already
                faults.append((kinds.malformed, str(error)))
        else:
            keys = [self._key_of[signature.verifier] for signature in opened.verified]
            return [(opened.checkpoint, key) for key in keys]
        return []
