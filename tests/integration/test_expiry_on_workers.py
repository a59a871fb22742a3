"""A key that expires is refused by every worker of a server, and what it is sent breaks off."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from ledger.storage import database as storage
from ledger.storage import orgs
from server.access.administering import administering
from server.access.auth import Authenticator
from server.access.keys.changes import AskedKey, KeyChanges
from tests.support.clusters import Database, blocking
from tests.support.orgs import MASTER_KEY
from tests.support.quire_process import QuireProcess
from tests.support.waiting import PATIENCE_S

WORKERS, CONNECTIONS = 4, 32
LIFE = timedelta(seconds=8)


async def short_key(server: QuireProcess, url: str, slug: str) -> tuple[str, float]:
    """A key that ends soon, made by another process than the server's; and when, by this machine."""
    keyring, opened = server.keyring(), await storage.Database.open(url, size=2)
    try:
        async with administering(opened, lambda _: keyring, MASTER_KEY, None) as work:
            org = await orgs.org_by_slug(opened, slug)
            assert org is not None
            new = Authenticator(opened, MASTER_KEY, work.validity).new_key()
            asked = AskedKey(new.key_id, org.id, "short", "member", new.secret_hash, LIFE)
            made = await KeyChanges(work).add(asked, slug)
            assert made.expires_at is not None
            return new.token, time.monotonic() + made.expires_at.timestamp() - time.time()
    finally:
        await opened.close()


@contextmanager
def lines(url: str) -> Iterator[list[http.client.HTTPConnection]]:
    """Connections that stay open, spread over the workers by the kernel."""
    address = urlsplit(url)
    made = [
        http.client.HTTPConnection(address.hostname or "", address.port, timeout=60)
        for _ in range(CONNECTIONS)
    ]
    yield made
    for one in made:
        one.close()


def append(line: http.client.HTTPConnection, slug: str, key: str) -> int:
    headers = {"x-api-key": key, "content-type": "application/json"}
    line.request("POST", f"/v1/orgs/{slug}/entries", json.dumps({"n": 1}), headers)
    answer = line.getresponse()
    answer.read()
    return answer.status


@pytest.mark.slow
def test_an_expired_key_is_refused_on_every_worker(
    database: Database, data_dir: Path, record_property: Callable[[str, object], None]
) -> None:
    server = QuireProcess(data_dir, database.server_url, workers=WORKERS)
    server.start()
    try:
        slug, _ = server.create_org("plain")
        key, ends = blocking(short_key(server, database.server_url, slug))
        with lines(server.url) as open_lines:
            last = {append(line, slug, key) for line in open_lines}
            assert last == {201}, "each worker has the key in its cache"
            late: list[float] = []
            for line in open_lines:
                while append(line, slug, key) == 201:
                    at = time.monotonic()
                    assert at < ends + PATIENCE_S
                    late.append(at - ends)
            record_property("seconds from the end to the last append", max(late))
            assert {append(line, slug, key) for line in open_lines} == {401}
    finally:
        server.terminate()
