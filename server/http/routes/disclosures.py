"""What the trail keeps of a disclosure in a bundle: each entry that leaves, in runs of seqs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Final

RUN_BYTES: Final = 32
"""Of ``[a,b],`` at most, as a seq is below 2**40."""
OTHER_BYTES: Final = 1_024
"""Of everything else that such an entry says."""
RUNS_MIN: Final = 100
"""However small a payload may be: the entries of one disclosure stay a few thousand."""
RUNS_MAX: Final = 20_000

Run = tuple[int, int]


def runs(seqs: Iterable[int]) -> Iterator[Run]:
    """Ascending seqs as runs of those that follow each other, both ends included."""
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


def records(
    seqs: Sequence[int], fields: Iterable[str], checkpoint: int, payload_bytes: int
) -> list[dict[str, object]]:
    """The payloads of the entries that name all of ``seqs``, ascending, each of them once.

    One entry where it stays within ``payload_bytes``, else as many as it takes.
    """
    room = min(max((payload_bytes - OTHER_BYTES) // RUN_BYTES, RUNS_MIN), RUNS_MAX)
    found = runs(seqs)
    parts: list[list[Run]] = []
    while part := list(islice(found, room)):
        parts.append(part)
    shown = sorted(fields)
    return [
        {
            "fields": shown,
            "first_seq": part[0][0],
            "last_seq": part[-1][1],
            "count": sum(last - first + 1 for first, last in part),
            "runs": part,
            "part": number,
            "parts": len(parts),
            "checkpoint": checkpoint,
        }
        for number, part in enumerate(parts, 1)
    ]
