"""The decision of a witness about one submission (C2SP tlog-witness)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from ledger.checkpoint import OpenedCheckpoint, TreeHead, open_checkpoint, parse_checkpoint
from ledger.errors import CheckpointError, MerkleError, NoteError, SubmissionError
from ledger.merkle import EMPTY_ROOT, verify_consistency
from ledger.note import NoteSignature, Signer, parse_note
from ledger.policy import Policy
from ledger.submission import Submission, parse_submission
from server.witness.heads import LogHead, WitnessHeads

TEXT: Final = "text/plain; charset=utf-8"
SIZE: Final = "text/x.tlog.size"


class Clock(Protocol):
    """Returns the current time in POSIX seconds."""

    def __call__(self) -> int: ...


@dataclass(frozen=True, slots=True)
class CosignerAnswer:
    """An HTTP answer; ``allow`` are the methods of its path, where they are asked for."""

    status: int
    body: bytes
    media_type: str = TEXT
    allow: str = ""


class _Refusal(Exception):
    """Ends a submission with an answer and without a cosignature."""

    def __init__(self, status: int, reason: str, media_type: str = TEXT) -> None:
        super().__init__(reason)
        self.answer = CosignerAnswer(status, f"{reason}\n".encode(), media_type)


class Cosigner:
    """Checks submissions for the logs of a policy, and cosigns with all of its keys."""

    def __init__(
        self, logs: Policy, signers: Sequence[Signer], heads: WitnessHeads, clock: Clock
    ) -> None:
        self._logs = logs
        self._signers = tuple(signers)
        self._heads = heads
        self._clock = clock

    def add_checkpoint(self, body: bytes) -> CosignerAnswer:
        """Return the answer to an add-checkpoint request.

        Raises sqlite3.Error if the state can't be read or written: then nothing was cosigned.
        """
        try:
            submission = _parsed(body)
            opened = self._opened(submission.note)
            if submission.old_size > opened.checkpoint.size:
                raise _Refusal(400, "the old size is larger than the checkpoint's size")
            with self._heads.exclusively():
                cosignatures = self._extended(submission, opened)
            # A cosignature may leave this process only after the commit. A crash here leaves the
            # head moved and the log without an answer; it gets the size by 409 and submits again.
            return CosignerAnswer(200, cosignatures)
        except _Refusal as refusal:
            return refusal.answer

    def latest(self, origin: str) -> CosignerAnswer:
        """Return the answer to a monitor that reads a log's newest checkpoint."""
        head = self._heads.find(origin)
        if head is None:
            return CosignerAnswer(404, b"no checkpoint of this log was cosigned here\n")
        return CosignerAnswer(200, head.note)

    def _opened(self, note: bytes) -> OpenedCheckpoint:
        origin = _origin(note)
        keys = self._logs.keys_of(origin)
        if not keys:
            raise _Refusal(404, "this witness does not know the log")
        try:
            return open_checkpoint(note, origin, keys)
        except (NoteError, CheckpointError) as error:
            raise _Refusal(403, str(error)) from None

    def _extended(self, submission: Submission, opened: OpenedCheckpoint) -> bytes:
        """Check the checkpoint against the log's head, move the head, return the cosignatures."""
        new = opened.checkpoint
        head = self._heads.find(new.origin)
        last_size = head.size if head else 0
        if submission.old_size != last_size:
            raise _Refusal(409, str(last_size), SIZE)
        _check_growth(new, head, submission.proof)
        # A machine's clock may be set back; the times in cosignatures must not go back.
        time_s = max(self._clock(), head.time_s if head else 1)
        text = opened.note.text
        lines = b"".join(signer.line(text, time_s) for signer in self._signers)
        log_signatures = [found.signature for found in opened.verified]
        note = _joined(text, log_signatures, lines)
        self._heads.keep(LogHead(new.origin, new.size, new.root, time_s, note))
        return lines


def _parsed(body: bytes) -> Submission:
    try:
        return parse_submission(body)
    except SubmissionError as error:
        raise _Refusal(400, str(error)) from None


def _origin(note: bytes) -> str:
    try:
        return parse_checkpoint(parse_note(note).text).origin
    except (NoteError, CheckpointError) as error:
        raise _Refusal(400, str(error)) from None


def _check_growth(new: TreeHead, head: LogHead | None, proof: Sequence[bytes]) -> None:
    """Check that the new tree extends the tree of the head. Raises _Refusal."""
    if new.size == 0 and new.root != EMPTY_ROOT:
        raise _Refusal(422, "the root is not that of an empty tree")
    if head is None or head.size == 0:
        if proof:
            raise _Refusal(422, "a proof from size 0 must be empty")
        return
    try:
        verify_consistency(head.size, new.size, head.root, new.root, proof)
    except MerkleError as error:
        raise _Refusal(422, str(error)) from None


def _joined(text: bytes, log: Sequence[NoteSignature], cosignatures: bytes) -> bytes:
    return b"".join((text, b"\n", *[signature.line() for signature in log], cosignatures))
