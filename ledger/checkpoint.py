"""Checkpoints: signed tree heads of a log (C2SP tlog-checkpoint)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from ledger.errors import CheckpointError
from ledger.note import NoteSignature, OpenedNote, VerifiedSignature, Verifier, open_note
from ledger.note.tree_head import (
    EXTENSIONS_MAX,
    ORIGIN_BYTES_MAX,
    ROOT_BYTES,
    SIZE_MAX,
    TreeHead,
    parse_checkpoint,
)

__all__ = [
    "EXTENSIONS_MAX",
    "ORIGIN_BYTES_MAX",
    "ROOT_BYTES",
    "SIZE_MAX",
    "OpenedCheckpoint",
    "SignedTreeHead",
    "TreeHead",
    "open_checkpoint",
    "parse_checkpoint",
]


class SignedTreeHead(NamedTuple):
    """The tree head of a checkpoint whose signature was verified: size in leaves, 32-byte root."""

    size: int
    root: bytes


@dataclass(frozen=True, slots=True)
class OpenedCheckpoint:
    """A checkpoint signed by known keys, and the note that contains it."""

    checkpoint: TreeHead
    note: OpenedNote

    @property
    def verified(self) -> tuple[VerifiedSignature, ...]:
        return self.note.verified

    @property
    def unknown(self) -> tuple[NoteSignature, ...]:
        return self.note.unknown


def open_checkpoint(
    data: bytes, origin: str, log: Iterable[Verifier], others: Iterable[Verifier] = ()
) -> OpenedCheckpoint:
    """Read a signed note as a checkpoint of the log with this origin.

    At least one of the log's own keys must have signed it; ``others`` are further
    keys, such as those of witnesses, whose signatures are verified if present.
    Raises NoteError (InvalidSignature, UnsignedNote) for the note and its
    signatures, CheckpointError for a text that is not a checkpoint of that log.
    """
    own = list(log)
    note = open_note(data, [*own, *others])
    if not any(signature.verifier in own for signature in note.verified):
        raise CheckpointError(f"no key of the log {origin!r} signed the checkpoint")
    checkpoint = parse_checkpoint(note.text)
    if checkpoint.origin != origin:
        raise CheckpointError(
            f"the checkpoint belongs to the log {checkpoint.origin!r}, not to {origin!r}"
        )
    return OpenedCheckpoint(checkpoint, note)
