"""The digests of security events that the entries of a trail state, in little memory; pure."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import groupby
from typing import NamedTuple

from ledger.entry import HASH_BYTES, from_datetime
from ledger.sealed_events import MalformedSealedEvents, SealedEvent


class SealedDigest(NamedTuple):
    """The digest and time of an event, as one entry states them; the time is in microseconds since the epoch."""

    seq: int
    at_us: int
    digest: bytes


class SealedDigests:
    """The events of all entries that were added: some 60 bytes for each."""

    def __init__(self) -> None:
        self._ids, self._seqs, self._times = array("q"), array("q"), array("q")
        self._digests = bytearray()

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, seq: int, events: Sequence[SealedEvent]) -> None:
        """Add the events of an entry. Raises MalformedSealedEvents, and then adds none."""
        try:
            said = [
                (event.id, from_datetime(datetime.fromisoformat(event.at)), event.digest)
                for event in events
            ]
            digests = b"".join(bytes.fromhex(digest) for _, _, digest in said)
            ids, times = array("q", [one[0] for one in said]), array("q", [one[1] for one in said])
        except (ValueError, OverflowError, TypeError) as error:  # TypeError: a time without offset
            raise MalformedSealedEvents(f"an event in it is malformed: {error}") from None
        if len(digests) != HASH_BYTES * len(said):
            raise MalformedSealedEvents("a digest in it does not have 32 bytes")
        self._ids += ids
        self._times += times
        self._seqs += array("q", [seq]) * len(said)
        self._digests += digests

    def order(self) -> list[int]:
        """Return the places of all, by the numbers of their events; of one event by seq."""
        places = sorted(range(len(self)), key=self._seqs.__getitem__)
        places.sort(key=self._ids.__getitem__)
        return places

    def groups(self, order: Sequence[int]) -> Iterator[tuple[int, list[SealedDigest]]]:
        """Yield each event with all that was said of it, by ascending number."""
        for event_id, places in groupby(order, self._ids.__getitem__):
            yield event_id, [self._said(place) for place in places]

    def _said(self, place: int) -> SealedDigest:
        digest = bytes(self._digests[place * HASH_BYTES : (place + 1) * HASH_BYTES])
        return SealedDigest(self._seqs[place], self._times[place], digest)
