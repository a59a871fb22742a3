"""After every route that changes something, the head of the org's trail or of `system` has moved."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ledger.storage import security_events
from ledger.storage.database import Database as Storage
from tests.support.clusters import blocking
from tests.support.offices import Office, office
from tests.support.route_matrix import Case, cases
from tests.support.serving import PeerAnswer, Server
from tests.support.signing import fetch

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


def tell(server: Server) -> None:
    """Write what is due in two hours."""
    services = server.services
    assert services is not None

    async def work() -> None:
        await services.own.flush()
        await services.own.write_due(datetime.now(UTC) + timedelta(hours=2))

    loop = services._tasks[0].get_loop()
    asyncio.run_coroutine_threadsafe(work(), loop).result(60)


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

    async def work() -> None:
        org = await services.database.fetchrow("SELECT id FROM orgs WHERE slug = $1", here.org)
        assert org is not None
        await services.sequencer.freezes.freeze(org[0], here.org, "a test")

    asyncio.run_coroutine_threadsafe(work(), services._tasks[0].get_loop()).result(60)


def call(here: Office, case: Case) -> PeerAnswer:
    server = here.server
    things = {"org": here.org, "subject": "bob@example.com"}
    if "{key_id}" in case.path:
        things["key_id"] = server.create_key(here.org, "viewer").split("_")[2]
    if "{event_id}" in case.path:
        blocking(raise_event(server.database.server_url, here.org))
        path = f"/v1/orgs/{here.org}/security-events?acknowledged=false"
        events = server.request("GET", path, key=here.key).json()["events"]
        things["event_id"] = str(events[0]["id"])
    if case.path.endswith("/thaw"):
        freeze(here)
    path = re.sub(r"{(\w+)}", lambda name: things[name[1]], case.path)
    if path.endswith("/verifications"):
        path += "?wait=60"
    body = BODIES.get(str(case), case.contract.example)
    tell(server)
    before = head(server)
    answer = server.request(case.method, path, body, key=server.platform_key)
    assert answer.status < 300, (str(case), answer.body)
    tell(server)
    assert head(server) > before, str(case)
    return answer


@pytest.mark.parametrize("case", WRITING, ids=str)
def test_the_head_has_moved_after_a_change(here: Office, case: Case) -> None:
    call(here, case)
