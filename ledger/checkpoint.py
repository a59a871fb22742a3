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
    """A tree head that is known to have been signed: size in leaves, 32-byte root."""

    size: int
    root: bytes


@dataclass(frozen=True, slots=True)
class OpenedCheckpoint:
    """A checkpoint that known keys signed, and the note it was read from."""

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

    At least one of the log's own keys must have signed it; ``others`` are keys,
    such as those of witnesses, whose signatures are verified where they stand.
    Raises NoteError (InvalidSignature, UnsignedNote) for the note and its
    signatures, CheckpointError for a text that is no checkpoint of that log.
    """
    own = list(log)
    note = open_note(data, [*own, *others])
    if not any(signature.verifier in own for signature in note.verified):
        raise CheckpointError(f"only keys of others signed the checkpoint, none of {origin!r}'s")
    checkpoint = parse_checkpoint(note.text)
    if checkpoint.origin != origin:
        raise CheckpointError(f"this checkpoint is of log {checkpoint.origin!r}, not of {origin!r}")
    return OpenedCheckpoint(checkpoint, note)
