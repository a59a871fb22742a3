"""Inclusion proofs of many entries in one checkpoint, as quick as they are alike.

Proofs of neighbours end in the same hashes. A walk towards the root stops where an
earlier one went on from the same node and hash with the same rest of the file, for
it would end as that one did: at the root. What does not pass here is judged by the
parser and the verification of :mod:`ledger.proof` and :mod:`ledger.merkle`, which say why.
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
    """A node on a way that led to the root, its hash, and the rest of the file from there."""

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
        """By the number of hashes before it; the newest way."""

    def check(self, seq: int, digest: bytes, file: bytes) -> None:
        """The file proves that entry ``seq`` has this hash. Raises ProofError, MerkleError."""
        if seq < self._size and self._leads_to_root(seq, digest, file):
            return
        proof = parse_proof(file)
        if proof.checkpoint != self._note:
            raise ProofError("it ends in another checkpoint than the bundle's")
        if proof.index != seq or proof.extra is not None:
            raise ProofError(f"it is of entry {proof.index}, or says more than it should")
        verify_inclusion(seq, self._size, digest, proof.hashes, self._root)

    def _leads_to_root(self, seq: int, digest: bytes, file: bytes) -> bool:
        """RFC 9162 section 2.1.3.2, along the lines of the file."""
        start = b"%b\nindex %d\n" % (HEADER, seq)
        if not file.startswith(start):
            return False
        at, node, last = len(start), seq, self._size - 1
        way: list[_Step] = []
        while last and len(way) < MAX_PROOF_HASHES:
            step = _Step(node, last, digest, file[at:])
            if len(way) < len(self._known) and step == self._known[len(way)]:
                self._known[: len(way)] = way
                return True
            way.append(step)
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
            self._known = way
        return right


def _hash_of(line: bytes) -> bytes | None:
    """The hash in a line of a proof, None where it is not in its one spelling."""
    try:
        decoded = binascii.a2b_base64(line[:-1], strict_mode=True)
    except binascii.Error:
        return None
    return decoded if len(decoded) == 32 and binascii.b2a_base64(decoded) == line else None
