"""Large entry bundles, and more concurrent readers than a server admits."""

from __future__ import annotations

import asyncio
import gzip
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager

import pytest

from ledger.errors import QueueFull
from ledger.storage.asking import Work, asking
from ledger.tiles import EntryTile, pack_entries, unpack_entries
from server.trails import entry_bundles
from server.trails.entry_bundles import AT_ONCE, SMALL_BYTES, EntryBundles
from tests.support import blocks
from tests.support.clusters import Database
from tests.support.locks import held
from tests.support.serving import PeerAnswer, Server
from tests.support.signed_trees import SignedTrees

WHOLE = EntryTile(0)
PATIENCE_S = 60


def entries_locked(database: Database) -> AbstractContextManager[None]:
    """Lock the table of entries, as a migration does: readers wait while the block runs."""
    return held(database, blocks.lock_out)


class Leaves(list[bytes]):
    """Leaves that record the threads that iterate over them to pack them."""

    def __init__(self, *leaves: bytes) -> None:
        super().__init__(leaves)
        self.threads: set[int] = set()

    def __iter__(self) -> Iterator[bytes]:
        self.threads.add(threading.get_ident())
        return super().__iter__()


@pytest.mark.parametrize("gzipped", [False, True])
async def test_a_large_bundle_is_packed_off_the_event_loop(*, gzipped: bool) -> None:
    large, small = Leaves(*[b"x" * 1025] * 256), Leaves(*[b"x" * 1024] * 256)
    assert sum(map(len, small)) == SMALL_BYTES
    for leaves, elsewhere in ((large, True), (small, False)):
        leaves.threads.clear()

        async def read(_org: int, _first: int, _count: int, leaves: Leaves = leaves) -> Leaves:
            return leaves

        body = await EntryBundles(read).read(1, WHOLE, gzipped=gzipped)
        assert (leaves.threads != {threading.get_ident()}) is elsewhere
        assert body is not None
        assert (gzip.decompress(body) if gzipped else body) == pack_entries(leaves)


async def test_few_bundles_are_read_at_once_and_few_more_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(entry_bundles, "MAX_REQUESTS", 12)
    release, reading = asyncio.Event(), 0

    async def read(_org: int, first: int, _count: int) -> list[bytes] | None:
        nonlocal reading
        reading += 1
        await release.wait()
        return None if first else [b"leaf"]

    bundles = EntryBundles(read)

    async def ask(caller: object, tile: EntryTile = WHOLE) -> bytes | None:
        with asking(Work.READ, caller):
            return await bundles.read(1, tile, gzipped=False)  # all of one log

    reads = [asyncio.create_task(ask(1)) for _ in range(6)]
    await asyncio.sleep(0)
    with pytest.raises(QueueFull) as mine:
        await ask(1)
    assert (mine.value.everyone, mine.value.retry_after) == (False, 1)
    reads += [asyncio.create_task(ask("192.0.2.1")) for _ in range(6)]
    await asyncio.sleep(0)
    with pytest.raises(QueueFull) as all_of_them:
        await ask(3)
    assert all_of_them.value.everyone
    assert reading == AT_ONCE
    reads.pop().cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    reads += [asyncio.create_task(ask(3, EntryTile(1)))]
    release.set()
    assert await asyncio.gather(*reads) == [b"\x00\x04leaf"] * 11 + [None]
    assert await ask(1) is not None


def test_a_large_bundle_is_served_whole(shared_server: Server) -> None:
    server = shared_server
    org, key = server.create_org("plain")
    path = f"/v1/orgs/{org}"
    long = dict.fromkeys(
        ("actor", "subject", "action", "outcome", "legal_basis"), "\U0001d538" * 1000
    )
    events = [{"event_type": "large", "n": n, **long} for n in range(256)]
    for start in (0, 128):
        made = server.request("POST", f"{path}/entries", events[start : start + 128], key=key)
        assert made.status == 201, made.body
    SignedTrees(server).sign()
    plain = server.request("GET", f"{path}/log/tile/entries/000", key=key)
    assert len(plain.body) > 10 * SMALL_BYTES
    assert len(unpack_entries(plain.body)) == 256
    packed = server.request(
        "GET", f"{path}/log/tile/entries/000", key=key, headers={"accept-encoding": "gzip"}
    )
    assert gzip.decompress(packed.body) == plain.body


def test_readers_beyond_the_limit_are_asked_to_retry(
    shared_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = shared_server
    org, key = server.create_org()
    path = f"/v1/orgs/{org}"
    assert server.request("POST", f"{path}/entries", {"n": 1}, key=key).status == 201
    SignedTrees(server).sign()

    def read(_: int = 0) -> PeerAnswer:
        return server.request("GET", f"{path}/log/tile/entries/000.p/1", key=key)

    assert read().status == 200
    assert server.services is not None
    monkeypatch.setattr(server.services.entry_bundles.places, "of_org", 2)
    with ThreadPoolExecutor(8) as readers, entries_locked(server.database):
        answers = [readers.submit(read) for _ in range(3)]
        refused = next(as_completed(answers, PATIENCE_S)).result()
        assert (refused.status, refused.headers["retry-after"]) == (429, "1")
        tile = server.request("GET", f"{path}/log/tile/0/000.p/1", key=key)
        assert tile.status == 200  # all other requests go on
    assert sorted(one.result().status for one in answers) == [200, 200, 429]
    assert read().status == 200
