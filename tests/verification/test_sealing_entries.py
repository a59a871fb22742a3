"""Entries that seal security events are found in every segment, block and archive; only right ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
import pytest

from ledger.chain import EMPTY_HEAD, StoredEntry, extend
from ledger.core.verification.rows.scan import SegmentScan
from ledger.core.verification.work.sealed_digests import SealedDigest, SealedDigests
from ledger.core.verification.work.sealing_entries import SealingEntry
from ledger.core.verification.work.segments import Segment
from ledger.sealed_events import (
    MAX_PAYLOAD_BYTES,
    SECURITY_EVENTS,
    MalformedSealedEvents,
    SealedEvent,
    SecurityEventsSealed,
    events_of,
)
from tests.support.trails import KEY, NOW_US, ORG, ORG_ID, RING, draft
from tests.verification.streams import blocks, copied, sent

pytestmark = pytest.mark.usefixtures("any_borders")

LENGTH: Final = 20
SEALING: Final = (0, 1, 7, 8, 12, 19)
SEGMENTS: Final = (
    Segment(0, 7, open_start=True),
    Segment(8, 11, context=True),
    Segment(12, 19, context=True),
)
EVENT: Final = SealedEvent(
    id=7, at="2026-01-31T12:00:00.000000Z", kind="made_up", severity="low", digest="ab" * 32
)


def payload(seq: int) -> bytes:
    return msgspec.json.encode(
        SecurityEventsSealed(events=[msgspec.structs.replace(EVENT, id=seq)])
    )


def trail_of(*sealing: int, size: int = 0) -> list[StoredEntry]:
    """A trail with entries of the kind at these seqs; other texts only mention it."""
    drafts = [
        draft(payload(seq) + b" " * size, event_type=SECURITY_EVENTS)
        if seq in sealing
        else draft(payload(seq), subject=f'"event_type":"{SECURITY_EVENTS}",')
        for seq in range(LENGTH)
    ]
    return extend(ORG_ID, ORG, EMPTY_HEAD, drafts, NOW_US, KEY)[0]


def found(rows: Sequence[StoredEntry], segment: Segment, entries: int) -> list[SealingEntry]:
    """The entries that a scan of a segment finds, with blocks of so many entries."""
    checking = SegmentScan(ORG, RING, segment)
    made = [sent(block) for block in blocks(rows, entries)]
    data = copied([row for row in made if segment.lower <= row[1]])
    taken: list[SealingEntry] = []
    for start in range(0, len(data), 700):
        checking.feed(data[start : start + 700])
        taken += [one for some in checking.sealing() for one in some]
    checking.finish()
    return taken + [one for some in checking.sealing() for one in some]


@pytest.mark.parametrize("entries", [1, 3, 256])
def test_each_is_found_once_in_its_segment(entries: int) -> None:
    rows = trail_of(*SEALING)
    taken = [one for segment in SEGMENTS for one in found(rows, segment, entries)]
    assert taken == [SealingEntry(seq, None, payload(seq)) for seq in SEALING]


def test_archived_entries_are_found_too() -> None:
    checking = SegmentScan(ORG, RING, SEGMENTS[0])
    checking.add(trail_of(*SEALING)[:8])
    assert [one.seq for some in checking.sealing() for one in some] == [0, 1, 7]


@pytest.mark.parametrize("entries", [1, 256])
@pytest.mark.parametrize("name", ["payload", "leaf", "signature"])
def test_an_altered_entry_is_found_without_its_payload(name: str, entries: int) -> None:
    rows = trail_of(7, 9)
    value = bytes(getattr(rows[7], name))
    spoilt = value.replace(b"approve", b"approvE") if name == "leaf" else value[:-1] + b"\x00"
    changed: dict[str, Any] = {name: spoilt}
    rows[7] = rows[7]._replace(**changed)
    taken = found(rows, Segment(0, LENGTH - 1, open_start=True), entries)
    assert [(one.seq, one.payload is None) for one in taken] == [(7, True), (9, False)]


def test_entries_beyond_the_trail_are_left_out() -> None:
    assert found(trail_of(*SEALING), Segment(0, LENGTH, open_start=True, beyond=True), 256) == []


def test_a_payload_that_is_too_large_is_not_handed_over() -> None:
    (taken,) = found(trail_of(7, size=MAX_PAYLOAD_BYTES), SEGMENTS[0], 256)
    assert taken.payload is None


def test_digests_are_grouped_by_event_in_the_order_of_the_trail() -> None:
    sealed = SealedDigests()
    for seq, event_id in ((3, 9), (5, 4), (4, 9)):
        sealed.add(seq, [msgspec.structs.replace(EVENT, id=event_id)])
    groups = list(sealed.groups(sealed.order()))
    at_us = 1_769_860_800_000_000
    digest = bytes.fromhex("ab" * 32)
    assert groups == [
        (4, [SealedDigest(5, at_us, digest)]),
        (9, [SealedDigest(3, at_us, digest), SealedDigest(4, at_us, digest)]),
    ]


@pytest.mark.parametrize(
    "change",
    [{"digest": "ab"}, {"digest": "xy" * 32}, {"at": "then"}, {"id": 2**63}, {"at": "0001-01-01"}],
    ids=str,
)
def test_malformed_events_are_not_added(change: dict[str, object]) -> None:
    sealed = SealedDigests()
    with pytest.raises(MalformedSealedEvents):
        sealed.add(1, [EVENT, msgspec.structs.replace(EVENT, **change)])
    assert len(sealed) == 0


@pytest.mark.parametrize("data", [b"", b"{}", b"[" * 100_000, b'{"event_type":"other"}', b"\xff"])
def test_other_payloads_are_refused(data: bytes) -> None:
    with pytest.raises(MalformedSealedEvents):
        events_of(data)
