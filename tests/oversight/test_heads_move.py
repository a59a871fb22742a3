"""After every route that changes something, the head of the org's trail or of `system` has moved.

What the server wrote there has the form that docs/own-entries.md states.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from typing import Any, NamedTuple

import jsonschema_rs
import msgspec
import pytest

from ledger.storage import security_events
from ledger.storage.database import Database as Storage
from server.app.features import FEATURES
from server.feature import load
from tests.support.clusters import blocking
from tests.support.offices import Office, office
from tests.support.route_matrix import Case, cases
from tests.support.serving import PeerAnswer, Server
from tests.support.signing import fetch
from tests.support.telling import LATER, run_in, tell

HEADS = "SELECT sum(seq + 1) FROM heads"
NOT_TRIED = {
    "POST /v1/orgs/{org}/archive": "this server has no archive; archiving changes no trail",
    "POST /v1/orgs/{org}/log/add": "only with a setting of load tests; it is an append",
    "POST /admin/keys/rotate": "another form of POST /v1/orgs/{org}/keys/{key_id}/rotate",
}
WRITING = [case for case in cases() if case.contract.writes and str(case) not in NOT_TRIED]
BODIES: dict[str, Any] = {
    "POST /v1/orgs": {"slug": "another-org"},
    "POST /v1/orgs/{org}/entries": {"event_type": "met"},
    "POST /v1/orgs/{org}/bundles": {"from_seq": 0, "to_seq": 2},
    "POST /v1/orgs/{org}/erasures": {"subject": "ann@example.com"},
    "POST /v1/orgs/{org}/verifications": {},
}


@pytest.fixture(scope="module")
def here(shared_server: Server) -> Office:
    return office(shared_server, count=3)


def head(server: Server) -> int:
    return int(blocking(fetch(server.database, HEADS))[0][0])


async def raise_event(url: str, slug: str) -> None:
    database = await Storage.open(url, size=1)
    try:
        row = await database.fetchrow("SELECT id FROM orgs WHERE slug = $1", slug)
        assert row is not None
        await security_events.add(database, row[0], "quota_used_up", "all of it")
    finally:
        await database.close()


def freeze(here: Office) -> None:
    services = here.server.services
    assert services is not None
    rows = fetch(here.server.database, "SELECT id FROM orgs WHERE slug = $1", here.org)
    org_id = blocking(rows)[0][0]
    run_in(here.server, services.sequencer.freezes.freeze(org_id, here.org, "a test"))


class Called(NamedTuple):
    """The answer of a route, and how many entries all trails have more afterwards."""

    answer: PeerAnswer
    entries: int


def call(here: Office, case: Case) -> Called:
    server = here.server
    things = {"org": here.org, "subject": "bob@example.com"}
    if "{key_id}" in case.path:
        things["key_id"] = server.create_key(here.org, "viewer").split("_")[2]
    if "{event_id}" in case.path:
        blocking(raise_event(server.database.server_url, here.org))
        path = f"/v1/orgs/{here.org}/security-events?acknowledged=false"
        events = server.request("GET", path, key=here.key).json()["events"]
        things["event_id"] = str(events[0]["id"])
    if "{block_id}" in case.path:
        asked = {"address": "198.51.100.77", "reason": "to be lifted"}
        made = server.request("POST", "/v1/blocks", asked, key=server.platform_key)
        things["block_id"] = made.json()["id"]
    if case.path.endswith("/thaw"):
        freeze(here)
    path = re.sub(r"{(\w+)}", lambda name: things[name[1]], case.path)
    if path.endswith("/verifications"):
        path += "?wait=60"
    body = BODIES.get(str(case), case.contract.example)
    tell(server)
    before = head(server)
    answer = server.request(case.method, path, body, key=server.platform_key)
    tell(server)
    return Called(answer, head(server) - before)


@pytest.fixture(scope="module")
def called(here: Office) -> dict[str, Called]:
    """What each route answered and wrote, all of them one after the other."""
    return {str(case): call(here, case) for case in WRITING}


@pytest.mark.parametrize("case", WRITING, ids=str)
def test_the_head_has_moved_after_a_change(called: dict[str, Called], case: Case) -> None:
    answer, entries = called[str(case)]
    assert answer.status < 300, answer.body
    assert entries > 0


KINDS = {kind.event_type: kind for each in FEATURES for kind in each.entry_kinds}
NOT_WRITTEN = {
    "quire.added": "only with a setting of load tests",
    "quire.loss_accepted": "by a command on the server's machine (tests/torture/test_losses.py)",
    "quire.month_leaving": "by retention (tests/archive/test_retention.py)",
    "quire.org_restored": "by a command on the server's machine (tests/archive/test_restore.py)",
    "quire.partition_dropped": "by retention (tests/archive/test_retention.py)",
    "quire.server_stopped": "by a process that ends (tests/oversight/test_started_and_stopped.py)",
}


def test_what_the_server_writes_has_its_documented_form(
    here: Office, called: dict[str, Called]
) -> None:
    server = here.server
    assert called
    here.bundle(from_seq=0, to_seq=2, disclose={"fields": ["payload"]})
    assert server.request("GET", "/v1/whoami").status == 401
    list(all_payloads(server, here.org))
    tell(server)
    assert server.services is not None
    run_in(server, server.services.sealing.seal_due(datetime.now(UTC) + LATER))
    written = [
        payload
        for slug in ("system", here.org, "another-org")
        for payload in all_payloads(server, slug)
        if (payload or {}).get("event_type", "").startswith("quire.")
    ]
    wrong = [
        f"{payload['event_type']}: {error}"
        for payload in written
        for error in jsonschema_rs.iter_errors(form(payload["event_type"]), payload)
    ]
    assert wrong == []
    assert {payload["event_type"] for payload in written} == KINDS.keys() - NOT_WRITTEN.keys()


def all_payloads(server: Server, slug: str) -> Iterator[Any]:
    """The payloads of a trail, the newest first."""
    cursor = ""
    while True:
        path = f"/v1/orgs/{slug}/entries?limit=1000{cursor}"
        page = server.request("GET", path, key=server.platform_key).json()
        yield from (entry["payload"] for entry in page["entries"])
        if page["next_cursor"] is None:
            return
        cursor = f"&cursor={page['next_cursor']}"


@cache
def form(event_type: str) -> dict[str, Any]:
    """The documented schema of a kind, which here allows no member that it does not state."""
    made: dict[str, Any] = closed(msgspec.json.schema(load(KINDS[event_type].payload)))
    return made


def closed(schema: Any) -> Any:
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    more = {"additionalProperties": False} if "properties" in schema else {}
    return {**{name: closed(value) for name, value in schema.items()}, **more}
