"""The request by which a log submits a checkpoint to a witness (C2SP tlog-witness)."""

from __future__ import annotations

import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ledger.checkpoint import SIZE_MAX
from ledger.errors import SubmissionError
from ledger.note import NOTE_BYTES_MAX

PROOF_HASHES_MAX: Final = 63
HASH_BYTES: Final = 32
SUBMISSION_BYTES_MAX: Final = NOTE_BYTES_MAX + (PROOF_HASHES_MAX + 1) * 64
_OLD = re.compile(rb"old (0|[1-9][0-9]{0,18})")


@dataclass(frozen=True, slots=True)
class Submission:
    """A checkpoint for a witness: its note, and the proof that it extends ``old_size``.

    ``proof`` holds 32-byte hashes; the note is unverified.
    """

    old_size: int
    proof: tuple[bytes, ...]
    note: bytes

    def body(self) -> bytes:
        """Return the request's body."""
        assert len(self.proof) <= PROOF_HASHES_MAX
        hashes = map(binascii.b2a_base64, self.proof)  # each with its newline
        return b"".join((b"old %d\n" % self.old_size, *hashes, b"\n", self.note))


def parse_submission(body: bytes) -> Submission:
    """Parse the body of an add-checkpoint request. Raises SubmissionError."""
    if len(body) > SUBMISSION_BYTES_MAX:
        raise SubmissionError(f"a submission has at most {SUBMISSION_BYTES_MAX} bytes")
    head, blank, note = body.partition(b"\n\n")
    if not blank:
        raise SubmissionError(
            "a submission must be an old size, proof lines, a blank line and a note"
        )
    old, *lines = head.split(b"\n", PROOF_HASHES_MAX + 1)
    found = _OLD.fullmatch(old)
    if found is None or int(found[1]) > SIZE_MAX:
        raise SubmissionError('the first line must be "old" and a tree size')
    return Submission(int(found[1]), _hashes(lines), note)


def _hashes(lines: Sequence[bytes]) -> tuple[bytes, ...]:
    if len(lines) > PROOF_HASHES_MAX:
        raise SubmissionError(f"a consistency proof has at most {PROOF_HASHES_MAX} lines")
    return tuple(_hash(number, line) for number, line in enumerate(lines, 1))


def _hash(number: int, line: bytes) -> bytes:
    try:
        found = binascii.a2b_base64(line, strict_mode=True)
    except binascii.Error:
        found = b""
    # The comparison admits one spelling only: base64 can spell one hash in several ways.
    if len(found) != HASH_BYTES or binascii.b2a_base64(found, newline=False) != line:
        raise SubmissionError(f"line {number} of the proof is not the base64 of a 32-byte hash")
    return found
