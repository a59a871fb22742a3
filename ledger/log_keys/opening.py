"""Opening what a log signed, by the history of its keys."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ledger.checkpoint import Checkpoint, OpenedCheckpoint, open_checkpoint
from ledger.errors import CheckpointError, UnsignedNote
from ledger.log_keys.history import LogKeyHistory, PublicLogKey
from ledger.note import OpenedNote, Verifier


@dataclass(frozen=True, slots=True)
class OpenedAnchor:
    """An anchor that one key of the log signed twice: with Ed25519 and with ML-DSA-44."""

    checkpoint: Checkpoint
    note: OpenedNote
    key: PublicLogKey
    """The newest key of which both signatures stand."""
    time_s: int
    """POSIX seconds that its ML-DSA-44 signature states; 0: none."""


def open_org_checkpoint(
    note: bytes, slug: str, history: LogKeyHistory, others: Iterable[Verifier] = ()
) -> OpenedCheckpoint:
    """Open a checkpoint of an org's log. Raises as :func:`ledger.checkpoint.open_checkpoint`."""
    return open_checkpoint(note, history.org_origin(slug), history.org_verifiers(slug), others)


def open_anchor(
    note: bytes, history: LogKeyHistory, witnesses: Iterable[Verifier] = ()
) -> OpenedAnchor:
    """Open an anchor: both signatures of one key of the log must stand and verify.

    A note that lost one of the two is refused with UnsignedNote. Raises also as
    :func:`ledger.checkpoint.open_checkpoint`, and CheckpointError for extension
    lines, which ML-DSA-44 would not cover.
    """
    verifiers = history.anchor_verifiers()
    opened = open_checkpoint(note, history.anchor_origin, verifiers, witnesses)
    if opened.checkpoint.extensions:
        raise CheckpointError("an anchor has no extension lines: one of its signatures covers none")
    times = {signature.verifier: signature.time_s for signature in opened.verified}
    pairs = zip(verifiers[::2], verifiers[1::2], strict=True)
    for key, (classical, post_quantum) in reversed(list(zip(history.keys, pairs, strict=True))):
        if classical in times and post_quantum in times:
            return OpenedAnchor(opened.checkpoint, opened.note, key, times[post_quantum] or 0)
    raise UnsignedNote(
        "an anchor needs an Ed25519 and an ML-DSA-44 signature of one key; this one lacks one of them"
    )
