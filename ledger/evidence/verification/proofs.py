"""Checks inclusion proofs of many entries in one checkpoint; similar proofs share the work.

Proofs of neighbours end in the same hashes. A walk towards the root stops where an earlier walk
continued from the same node and hash with the same rest of the file, because it would end at
the root as that one did. A proof that fails here is checked again with :mod:`ledger.proof` and
:mod:`ledger.merkle`, which give the reason.
"""

from __future__ import annotations

import binascii
from hashlib import sha256
from typing import Final, NamedTuple

from ledger.checkpoint import TreeHead
from ledger.errors import ProofError
from ledger.merkle import verify_inclusion
from ledger.proof import HEADER, MAX_PROOF_HASHES, parse_proof

_LINE_BYTES: Final = 45
"""32 bytes in base64, and a newline."""


class _Step(NamedTuple):
    """A node on a path that led to the root, its hash, and the rest of the file from there."""

    node: int
    last: int
    digest: bytes
    rest: bytes


class Proofs:
    """Checks proofs of entries in the checkpoint whose note is ``note``."""

    def __init__(self, checkpoint: TreeHead, note: bytes) -> None:
        self._size = checkpoint.size
        self._root = checkpoint.root
        self._note = note
        self._known: list[_Step] = []
        """The newest path that led to the root, by the number of hashes before each step."""

    def check(self, seq: int, digest: bytes, file: bytes) -> None:
        """Check that the file proves entry ``seq`` and its hash. Raises ProofError, MerkleError."""
        if seq < self._size and self._leads_to_root(seq, digest, file):
            return
        proof = parse_proof(file)
        if proof.checkpoint != self._note:
            raise ProofError("it ends in another checkpoint than the bundle's")
        if proof.index != seq or proof.extra is not None:
            raise ProofError(f"it is of entry {proof.index}, or says more than it should")
        verify_inclusion(seq, self._size, digest, proof.hashes, self._root)

    def _leads_to_root(self, seq: int, digest: bytes, file: bytes) -> bool:
        """Compute the root from the file's lines (RFC 9162, section 2.1.3.2) and compare it."""
        start = b"%b\nindex %d\n" % (HEADER, seq)
        if not file.startswith(start):
            return False
        at, node, last = len(start), seq, self._size - 1
        path: list[_Step] = []
        while last and len(path) < MAX_PROOF_HASHES:
            step = _Step(node, last, digest, file[at:])
            if len(path) < len(self._known) and step == self._known[len(path)]:
                self._known[: len(path)] = path
                return True
            path.append(step)
            line = file[at : at + _LINE_BYTES]
            sibling = _hash_of(line)
            if sibling is None:
                return False
            climb = 1
            if node & 1 or node == last:
                digest = sha256(b"\x01" + sibling + digest).digest()
                climb = (node & -node).bit_length()
            else:
                digest = sha256(b"\x01" + digest + sibling).digest()
            node, last, at = node >> climb, last >> climb, at + _LINE_BYTES
        right = digest == self._root and last == 0 and file[at:] == b"\n" + self._note
        if right:
            self._known = path
        return right


def _hash_of(line: bytes) -> bytes | None:
    """Return the hash in a line of a proof; None unless the line has its only valid form."""
    try:
        decoded = binascii.a2b_base64(line[:-1], strict_mode=True)
    except binascii.Error:
        return None
    return decoded if len(decoded) == 32 and binascii.b2a_base64(decoded) == line else None
