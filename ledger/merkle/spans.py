"""The parts of a tree that a proof consists of, as ranges of leaves, without hashes.

A span ``(start, end)`` represents the hash over the leaves [start, end). A caller
with the hashes, in memory or in tiles, looks them up to build the proof.
"""

from __future__ import annotations

from ledger.errors import MerkleError
from ledger.merkle.hashing import MAX_SIZE

Span = tuple[int, int]


def inclusion_spans(index: int, size: int) -> list[Span]:
    """Return the spans of the proof that leaf ``index`` is in a tree of ``size``, sibling first.

    RFC 6962 section 2.1.1. Raises MerkleError if the tree has no leaf ``index``.
    """
    if not 0 <= index < size <= MAX_SIZE:
        raise MerkleError(f"a tree of {size} leaves has no leaf {index}")
    spans: list[Span] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _left(end - start)
        if index < middle:
            spans.append((middle, end))
            end = middle
        else:
            spans.append((start, middle))
            start = middle
    return spans[::-1]


def consistency_spans(start: int, end: int, size: int) -> list[Span]:
    """Return the spans of the proof that a tree of ``size`` has the subtree [``start``, ``end``).

    With ``start`` 0 it is the consistency proof of RFC 6962 section 2.1.2, else
    the proof of draft-ietf-plants-merkle-tree-certs for subtrees. Raises
    MerkleError if the tree has no such subtree.
    """
    check_subtree(start, end)
    if not start < end <= size <= MAX_SIZE:
        raise MerkleError(f"a tree of {size} leaves has no subtree [{start}, {end})")
    spans: list[Span] = []
    low, high, known = 0, size, True
    while (low, high) != (start, end):
        middle = low + _left(high - low)
        if end <= middle:
            spans.append((middle, high))
            high = middle
        elif start >= middle:
            spans.append((low, middle))
            low = middle
        else:
            # The subtree extends across the middle: its left part is a whole node here,
            # and from now on the verifier does not have the hash of the rest.
            spans.append((low, middle))
            low = start = middle
            known = False
    if not known:
        spans.append((low, high))
    return spans[::-1]


def perfect_spans(start: int, end: int) -> list[Span]:
    """Return the perfect subtrees of [``start``, ``end``), the largest first.

    ``start`` must be a multiple of the least power of two that is not below
    ``end - start``, as in every span of a proof.
    """
    spans: list[Span] = []
    rest = end - start
    while rest:
        width = 1 << rest.bit_length() - 1
        spans.append((end - rest, end - rest + width))
        rest -= width
    return spans


def check_subtree(start: int, end: int) -> None:
    """Raise MerkleError unless [``start``, ``end``) is empty or a subtree of some tree.

    ``start`` must be a multiple of the least power of two that is not below
    ``end - start`` (draft-ietf-plants-merkle-tree-certs, "Subtrees").
    """
    if not 0 <= start <= end <= MAX_SIZE:
        raise MerkleError(f"[{start}, {end}) is not a range of leaves")
    if end > start and start & ((1 << (end - start - 1).bit_length()) - 1):
        raise MerkleError(
            f"[{start}, {end}) is not a subtree: its start is not aligned to its size"
        )


def _left(size: int) -> int:
    """Return the leaves of the left subtree: the greatest power of two below ``size``."""
    return 1 << (size - 1).bit_length() - 1
