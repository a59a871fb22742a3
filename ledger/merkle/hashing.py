"""Hashing of leaves and nodes, RFC 6962 section 2.1."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Final

from ledger.errors import MerkleError

HASH_BYTES: Final = 32
MAX_SIZE: Final = 2**64 - 1
"""Leaves of a tree: what the uint64 of RFC 9162 section 4.10 can say."""

EMPTY_ROOT: Final = sha256().digest()
"""Root of the tree without leaves."""

LEAF: Final = b"\x00"
NODE: Final = b"\x01"


def leaf_hash(leaf: bytes) -> bytes:
    """SHA-256(0x00 || leaf)."""
    return sha256(LEAF + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 || left || right)."""
    return sha256(NODE + left + right).digest()


def parents(level: Sequence[bytes]) -> list[bytes]:
    """The nodes over an even number of nodes that lie side by side."""
    each = iter(level)
    return [sha256(NODE + left + right).digest() for left, right in zip(each, each, strict=True)]


def perfect_root(hashes: bytes) -> bytes:
    """The root over a power of two of hashes that follow one another, as in a tile."""
    pair = 2 * HASH_BYTES
    level = [hashes]
    if len(hashes) > HASH_BYTES:
        starts = range(0, len(hashes), pair)
        level = [sha256(NODE + hashes[at : at + pair]).digest() for at in starts]
    while len(level) > 1:
        level = parents(level)
    return level[0]


def fold(nodes: Sequence[bytes]) -> bytes:
    """The root over perfect subtrees that lie side by side, the largest and leftmost first."""
    if not nodes:
        return EMPTY_ROOT
    digest = nodes[-1]
    for left in reversed(nodes[:-1]):
        digest = node_hash(left, digest)
    return digest


def root(leaf_hashes: Sequence[bytes]) -> bytes:
    """The Merkle tree hash over leaf hashes. Raises MerkleError for one that is not 32 bytes."""
    check_hashes(leaf_hashes, "leaf hash")
    level = list(leaf_hashes)
    edge: list[bytes] = []  # smallest subtree first
    while level:
        if len(level) & 1:
            edge.append(level.pop())
        level = parents(level)
    return fold(edge[::-1])


def check_hashes(hashes: Sequence[bytes], what: str) -> None:
    """Raises MerkleError unless each is 32 bytes; ``what`` names them in the message."""
    for index, digest in enumerate(hashes):
        if len(digest) != HASH_BYTES:
            raise MerkleError(f"{what} {index} has {len(digest)} bytes instead of {HASH_BYTES}")
