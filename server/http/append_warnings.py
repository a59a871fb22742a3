"""The warnings of an append: fields of its events that look like a recognised field misspelt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from ledger.misspelt import Misspelling

WARNINGS_MAX: Final = 10
"""Warnings of one answer; one more says how many there are beside them."""


class AppendWarnings(NamedTuple):
    """JSON lists of warnings: of the whole request, and of single events by their index."""

    of_request: str
    of_event: dict[int, str]


def warnings_of(misspelt: Sequence[tuple[int, Misspelling]], *, single: bool) -> AppendWarnings:
    """Return the warnings for misspelt fields, each given with the index of its event."""
    named = [(index, str(field)) for index, field in misspelt[:WARNINGS_MAX]]
    of_event: dict[int, list[str]] = {}
    for index, said in named:
        of_event.setdefault(index, []).append(said)
    of_request = [said if single else f"event {index}: {said}" for index, said in named]
    if len(misspelt) > WARNINGS_MAX:
        of_request.append(f"{len(misspelt) - WARNINGS_MAX} more fields look misspelt")
    return AppendWarnings(_json(of_request), {at: _json(texts) for at, texts in of_event.items()})


def _json(said: list[str]) -> str:
    return msgspec.json.encode(said).decode()
