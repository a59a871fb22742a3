"""The warnings of an append: fields of its events that look like a recognised field misspelt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from ledger.event import Event

WARNINGS_MAX: Final = 10
"""Warnings of one answer; one more says how many there are beside them."""


class AppendWarnings(NamedTuple):
    """JSON lists of warnings: of the whole request, and of single events by their index."""

    of_request: str
    of_event: dict[int, str]


def warnings_of(events: Sequence[Event], *, single: bool) -> AppendWarnings | None:
    """The warnings of a request, None where there are none; a batch's name the event's index."""
    warned = [(index, event.misspelt) for index, event in enumerate(events) if event.misspelt]
    if not warned:
        return None
    found = [(index, str(one)) for index, misspelt in warned for one in misspelt]
    named = found[:WARNINGS_MAX]
    of_event: dict[int, list[str]] = {}
    for index, said in named:
        of_event.setdefault(index, []).append(said)
    of_request = [said if single else f"event {index}: {said}" for index, said in named]
    if len(found) > WARNINGS_MAX:
        of_request.append(f"{len(found) - WARNINGS_MAX} more fields look misspelt")
    return AppendWarnings(_json(of_request), {at: _json(texts) for at, texts in of_event.items()})


def _json(said: list[str]) -> str:
    return msgspec.json.encode(said).decode()
