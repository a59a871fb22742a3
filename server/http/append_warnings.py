"""The warnings of an append: fields of its events that look like a recognised field misspelt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from ledger.misspelt import Misspelling

WARNINGS_MAX: Final = 10
"""Warnings of one answer; a further one has the number of those left out."""


class AppendWarnings(NamedTuple):
    """JSON lists of warnings: of the whole request, and of single events by their index."""

    of_request: str
    of_event: dict[int, str]


def warnings_of(misspelt: Sequence[tuple[int, Misspelling]], *, single: bool) -> AppendWarnings:
    """Return the warnings for misspelt fields, each given with the index of its event."""
    named = [(index, str(field)) for index, field in misspelt[:WARNINGS_MAX]]
    of_event: dict[int, list[str]] = {}
    for index, text in named:
        of_event.setdefault(index, []).append(text)
    of_request = [text if single else f"event {index}: {text}" for index, text in named]
    if len(misspelt) > WARNINGS_MAX:
        of_request.append(f"{len(misspelt) - WARNINGS_MAX} more fields look misspelt")
    return AppendWarnings(_json(of_request), {at: _json(texts) for at, texts in of_event.items()})


def _json(texts: list[str]) -> str:
    return msgspec.json.encode(texts).decode()
