"""Proofs that a log holds an entry, as a text file (C2SP tlog-proof).

The file holds the entry's index, its inclusion proof and the signed checkpoint,
but not the entry. Nothing is verified here: a caller that has the entry and the
keys checks the note, the origin and the proof (``docs/format.md`` describes how).
"""

from __future__ import annotations

import binascii
import re
from functools import partial
from typing import Final

import msgspec

from ledger.errors import ProofError
from ledger.merkle import HASH_BYTES, MAX_SIZE

HEADER: Final = b"c2sp.org/tlog-proof@v1"
MAX_PROOF_HASHES: Final = 64
"""More than the height of any tree."""
MAX_EXTRA_BYTES: Final = 2**16
MAX_PROOF_BYTES: Final = 2**20
"""Limit of a whole file; a checkpoint with many cosignatures has some kilobytes."""

_INDEX: Final = re.compile(rb"index (0|[1-9][0-9]{0,19})")
_EXTRA: Final = b"extra "
_encode = partial(binascii.b2a_base64, newline=False)


class TlogProof(msgspec.Struct, frozen=True):
    """The content of a proof file.

    ``index`` is the entry's 0-based index; ``hashes`` the inclusion proof, the
    leaf's sibling first, 32 bytes each; ``checkpoint`` the signed note, byte for
    byte; ``extra`` unauthenticated data of the application.
    """

    index: int
    hashes: tuple[bytes, ...]
    checkpoint: bytes
    extra: bytes | None = None

    def format(self) -> bytes:
        """Return the file. Raises ProofError for values that no proof file can hold."""
        _check(self)
        lines = [HEADER]
        if self.extra is not None:
            lines.append(_EXTRA + _encode(self.extra))
        lines.append(b"index %d" % self.index)
        lines += map(_encode, self.hashes)
        data = b"\n".join([*lines, b"", self.checkpoint])
        _check_length(data)
        return data


def parse_proof(data: bytes) -> TlogProof:
    """Parse a proof file. Raises ProofError for every spelling but the standard's."""
    _check_length(data)
    head, found, checkpoint = data.partition(b"\n\n")
    if not found:
        raise ProofError("the proof has no empty line between its hashes and the checkpoint")
    lines = head.split(b"\n")
    if lines[0] != HEADER:
        raise ProofError(f'a proof must begin with the line "{HEADER.decode()}"')
    extra: bytes | None = None
    rest = lines[1:]
    if rest and rest[0].startswith(_EXTRA):
        extra = _decode(rest[0].removeprefix(_EXTRA), "the extra data")
        rest = rest[1:]
    match = _INDEX.fullmatch(rest[0]) if rest else None
    if match is None:
        raise ProofError('the proof has no line "index" with the index in decimal digits')
    hashes = tuple(_decode(line, f"hash {at}") for at, line in enumerate(rest[1:]))
    proof = TlogProof(int(match[1]), hashes, checkpoint, extra)
    _check(proof)
    return proof


def _check_length(data: bytes) -> None:
    if len(data) > MAX_PROOF_BYTES:
        raise ProofError(f"a proof has at most {MAX_PROOF_BYTES} bytes, not {len(data)}")


def _check(proof: TlogProof) -> None:
    if not 0 <= proof.index < MAX_SIZE:
        raise ProofError(f"the index {proof.index} is beyond the largest log")
    if len(proof.hashes) > MAX_PROOF_HASHES:
        raise ProofError(f"a proof has at most {MAX_PROOF_HASHES} hashes, not {len(proof.hashes)}")
    for at, each in enumerate(proof.hashes):
        if len(each) != HASH_BYTES:
            raise ProofError(f"hash {at} has {len(each)} bytes instead of {HASH_BYTES}")
    if proof.extra is not None and not 0 < len(proof.extra) <= MAX_EXTRA_BYTES:
        raise ProofError(
            f"extra data has 1 to {MAX_EXTRA_BYTES} bytes, not {len(proof.extra)}; "
            "leave the line out if there is no extra data"
        )
    if not proof.checkpoint.endswith(b"\n"):
        raise ProofError("the checkpoint is missing, or does not end with a newline")


def _decode(line: bytes, name: str) -> bytes:
    """Decode base64 in its one canonical spelling (RFC 4648 section 4)."""
    try:
        decoded = binascii.a2b_base64(line, strict_mode=True)
    except binascii.Error as error:
        raise ProofError(f"{name} is not base64") from error
    if _encode(decoded) != line:
        raise ProofError(f"{name} is not canonical base64: unused bits at its end are set")
    return decoded
