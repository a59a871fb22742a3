"""The record of a disclosure in the trail: all disclosed entries, as runs of seqs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Final

from server.trails.own.runs import Run, runs

RUN_BYTES: Final = 32
"""Greatest size of ``[a,b],``, as a seq is below 2**40."""
OTHER_BYTES: Final = 1_024
"""Room for all other members of the record."""
RUNS_MIN: Final = 100
"""Lower bound for small payload limits, so that one disclosure has a few thousand records."""
RUNS_MAX: Final = 20_000


def records(
    seqs: Sequence[int], fields: Iterable[str], checkpoint: int, payload_bytes: int
) -> list[dict[str, object]]:
    """Return the payloads of the records that name all of ``seqs``, ascending, each once.

    It is one record if that stays within ``payload_bytes``, else several.
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
