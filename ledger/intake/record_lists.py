"""Requests that list very many record ids: the lists are checked and taken out in another process.

What is left of such a request is small, and is decoded on the event loop like all others.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from ledger.entry import RecordId, parse_record_id
from ledger.errors import FormatError, InvalidEvent
from ledger.event import refuse_repeated_names
from ledger.intake.bodies import ListAnswer
from ledger.malformed import json_fault

LISTS: Final = (("record_ids",), ("disclose", "records"))
"""The places of lists of record ids in a request."""
MAX_IDS: Final = 200_000
"""Ids in one list."""
MAX_ID_CHARS: Final = 64
LEFT: Final = 1_000
"""A shorter list is left where it is."""
SLICE_IDS: Final = 5_000
"""Ids in one message, and those that are handled in one go on the event loop."""


class RecordList(msgspec.Struct):
    """One list: its ids as they were sent, and the places that they name.

    The places are ascending and distinct; None if one of the ids names none.
    """

    texts: list[str]
    places: list[RecordId] | None


RecordLists = dict[str, RecordList]
"""Lists by the name of the member that had them."""


def take_out(body: bytes) -> tuple[bytes, RecordLists]:
    """Return a request with the first id of each long list alone, and the lists.

    A list with a fault keeps the value at fault, for those who check the rest. Raises InvalidEvent.
    """
    try:
        refuse_repeated_names(body)
        document = msgspec.json.decode(body)
    except InvalidEvent:
        raise
    except (ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise InvalidEvent(f"the body is not JSON: {json_fault(body, error)}") from None
    taken: RecordLists = {}
    for *parents, name in LISTS:
        holder: Any = document
        for parent in parents:
            holder = holder.get(parent) if isinstance(holder, dict) else None
        found = holder.get(name) if isinstance(holder, dict) else None
        if isinstance(found, list) and len(found) > LEFT:
            holder[name] = _left(found, name)
            taken[name] = RecordList(found, places_of(found))
    return msgspec.json.encode(document), taken


def _left(found: list[Any], name: str) -> list[Any]:
    if len(found) > MAX_IDS:
        raise InvalidEvent(f"the body is not valid: {name} must have at most {MAX_IDS} elements")
    faults = (one for one in found if not isinstance(one, str) or len(one) > MAX_ID_CHARS)
    return [next(faults, found[0])]


def places_of(texts: Iterable[Any]) -> list[RecordId] | None:
    """Return the places that record ids name, ascending and each once; None if one names none."""
    try:
        found = {parse_record_id(text) for text in texts}
    except (FormatError, TypeError):
        return None
    return sorted(found, key=lambda place: (place.seq, place.anchored_us))


def add_part(lists: RecordLists, part: ListAnswer) -> None:
    """Add what a message has of a list."""
    if not part.name:
        return
    found = lists.setdefault(part.name, RecordList([], []))
    found.texts += part.texts
    if part.places is None:
        found.places = None
    elif found.places is not None:
        found.places += (RecordId(*place) for place in part.places)


def slices(listed: Sequence[Any]) -> Iterable[Sequence[Any]]:
    """Yield the parts of a list that are handled in one go."""
    for first in range(0, len(listed), SLICE_IDS):
        yield listed[first : first + SLICE_IDS]
