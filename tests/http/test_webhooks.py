"""Real input: every webhook payload of the collection is appended and read back byte for byte."""

from __future__ import annotations

import gzip
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ledger.chain import TrailFault, check_entry
from tests.support.appending import org_of, rows_of
from tests.support.clusters import blocking
from tests.support.reading import ServedTrail
from tests.support.serving import Server

COLLECTION = Path(__file__).parents[1] / "data" / "octokit" / "webhooks.jsonl.gz"


class Webhook(msgspec.Struct):
    """One line of the collection; the payload has the bytes that GitHub sent."""

    event: str
    payload: msgspec.Raw


def webhooks() -> list[bytes]:
    lines = gzip.decompress(COLLECTION.read_bytes()).splitlines()
    return [bytes(msgspec.json.decode(line, type=Webhook).payload) for line in lines]


def append_mixed(served_trail: ServedTrail, events: list[bytes]) -> list[dict[str, Any]]:
    """Append by turns an object, an array and NDJSON; returns the receipts in the events' order."""
    receipts: list[dict[str, Any]] = []
    place, turn = 0, 0
    while place < len(events):
        size = (1, 40, 25)[turn % 3]
        part = events[place : place + size]
        body = (part[0], b"[" + b",".join(part) + b"]", b"\n".join(part))[turn % 3]
        content_type = "application/x-ndjson" if turn % 3 == 2 else "application/json"
        answer = served_trail.server.request(
            "POST",
            f"/v1/orgs/{served_trail.org}/entries",
            body,
            key=served_trail.key,
            headers={"content-type": content_type},
        )
        assert answer.status == 201, answer.body
        receipts += answer.json()["entries"] if turn % 3 else [answer.json()]
        place, turn = place + len(part), turn + 1
    return receipts


@pytest.mark.parametrize("privacy", ["sealed", "plain"])
def test_every_webhook_is_read_back_as_sent(shared_server: Server, privacy: str) -> None:
    org, key = shared_server.create_org(privacy)
    trail = ServedTrail(shared_server, org, key, [])
    events = webhooks()
    assert len(events) > 300
    receipts = append_mixed(trail, events)

    assert [receipt["seq"] for receipt in receipts] == list(range(len(events)))
    assert all(b["previous_hash"] == a["entry_hash"] for a, b in pairwise(receipts))
    for event, receipt in zip(events, receipts, strict=True):
        assert trail.get(f"/entries/{receipt['record_id']}/payload").body == event
    listed = b"".join(
        trail.get("/entries", order="asc", limit=50, **cursor).body for cursor in cursors(trail)
    )
    place = 0
    for event in events:  # the pages contain each payload's bytes, in order
        place = listed.index(b'"payload":' + event + b",", place) + len(event)

    assert blocking(faults(trail)) == []
    verdict = shared_server.request("POST", f"/v1/orgs/{org}/verifications?wait=30", key=key)
    result = verdict.json()["result"]
    assert (result["valid"], result["verified_entries"]) == (True, len(events))
    for receipt in receipts[::50]:
        path = f"/admin/compliance/verify/{receipt['record_id']}"
        assert shared_server.request("GET", path, key=key).json()["valid"] is True


def cursors(served_trail: ServedTrail) -> list[dict[str, str]]:
    """The cursor parameters of all pages of fifty entries; the first page has none."""
    found: list[dict[str, str]] = [{}]
    while True:
        page = served_trail.get("/entries", order="asc", limit=50, **found[-1]).json()
        if page["next_cursor"] is None:
            return found
        found.append({"cursor": page["next_cursor"]})


async def faults(served_trail: ServedTrail) -> list[TrailFault]:
    """The faults that the reference check finds in the stored rows."""
    assert served_trail.server.services is not None
    ring = served_trail.server.services.keyring(False)
    database = served_trail.server.database
    org = await org_of(database, served_trail.org)
    found: list[TrailFault] = []
    previous = b""
    for entry in await rows_of(database, org.id):
        found += check_entry(entry, served_trail.org, ring, previous)
        previous = entry.entry_hash
    return found
