"""Runs of consecutive seqs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

Run = tuple[int, int]


def runs(seqs: Iterable[int]) -> Iterator[Run]:
    """Yield runs of consecutive seqs, both ends included, for ascending seqs."""
    first = last = -1
    for seq in seqs:
        if seq == last + 1 and first >= 0:
            last = seq
            continue
        if first >= 0:
            yield first, last
        first = last = seq
    if first >= 0:
        yield first, last
