"""Pages of a trail are complete while it grows, and bounded in bytes and in scanned entries."""

from __future__ import annotations

import re
import threading
from typing import Any

import asyncpg
import pytest

from ledger.entry import parse_record_id, to_datetime
from ledger.storage.entries import search
from ledger.storage.entries.columns import PAGE_BYTES
from ledger.storage.entries.picked import single
from ledger.storage.entries.searching import block_rows
from ledger.storage.entries.searching.block_rows import BlockRange, blocks_query, tags_query
from tests.support.clusters import blocking
from tests.support.reading import ServedTrail
from tests.support.serving import Server

MIB = 1 << 20


def empty_trail(server: Server, privacy: str = "plain") -> ServedTrail:
    org, key = server.create_org(privacy)
    return ServedTrail(server, org, key, [])


def append(served_trail: ServedTrail, body: Any) -> list[int]:
    answer = served_trail.server.request(
        "POST", f"/v1/orgs/{served_trail.org}/entries", body, key=served_trail.key
    )
    assert answer.status == 201, answer.body
    return [receipt["seq"] for receipt in answer.json()["entries"]]


@pytest.mark.parametrize("privacy", ["sealed", "plain"])
@pytest.mark.parametrize("query", [{}, {"actor": "ada"}, {"event_type": "tick"}])
def test_pages_have_no_gap_while_the_trail_grows(
    shared_server: Server, privacy: str, query: dict[str, Any]
) -> None:
    trail = empty_trail(shared_server, privacy)
    append(trail, [{"actor": "ada", "event_type": "tick"}] * 50)
    acknowledged = [49]
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            acknowledged.append(append(trail, [{"actor": "ada", "event_type": "tick"}] * 3)[-1])

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(4):
            known = acknowledged[-1]
            upwards = [entry["seq"] for entry in trail.find(**query, order="asc", limit=17)]
            assert upwards == list(range(len(upwards)))
            assert upwards[-1] >= known
            known = acknowledged[-1]
            downwards = [entry["seq"] for entry in trail.find(**query, order="desc", limit=17)]
            assert downwards == list(range(downwards[0], -1, -1))
            assert downwards[0] >= known
    finally:
        stop.set()
        writer.join()


def test_an_acknowledged_entry_is_on_the_next_page_read(shared_server: Server) -> None:
    trail = empty_trail(shared_server, "sealed")
    for number in range(30):
        seq = append(trail, [{"actor": f"a{number}", "subject": "bob"}])[0]
        for query in ({}, {"actor": f"a{number}"}, {"subject": "bob"}):
            page = trail.get("/entries", **query, limit=1).json()
            assert page["entries"][0]["seq"] == seq


def test_a_page_of_large_payloads_ends_early(shared_server: Server) -> None:
    trail = empty_trail(shared_server)
    large = '{"x":"' + "y" * (MIB - 8) + '"}'
    for _ in range(2):
        append(trail, f"[{','.join([large] * 14)}]".encode())
    for order in ("asc", "desc"):
        sizes = []
        seqs: list[int] = []
        query: dict[str, Any] = {"order": order, "limit": 100}
        while query.get("cursor", "") is not None:
            answer = trail.get("/entries", **query)
            sizes.append(len(answer.body))
            seqs += [entry["seq"] for entry in answer.json()["entries"]]
            query["cursor"] = answer.json()["next_cursor"]
        assert seqs == (list(range(28)) if order == "asc" else list(range(27, -1, -1)))
        assert max(sizes) < PAGE_BYTES + 2 * MIB
        assert len(sizes) == 4
    assert len(trail.get("/entries", limit=1).json()["entries"]) == 1


def test_a_rare_value_is_found_window_by_window(
    shared_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "SCAN_WINDOW", 100)
    trail = empty_trail(shared_server)
    events = [{"event_type": "common"} for _ in range(950)]
    for seq in (3, 555):
        events[seq]["event_type"] = "rare"
    append(trail, events)
    for order, expected in (("asc", [3, 555]), ("desc", [555, 3])):
        found, pages, query = [], 0, {"event_type": "rare", "order": order}
        while query.get("cursor", "") is not None:
            page = trail.get("/entries", **query).json()
            found += [entry["seq"] for entry in page["entries"]]
            pages += 1
            query["cursor"] = page["next_cursor"]
        assert found == expected
        assert pages == 10  # each page scanned a hundred entries, most found none


@pytest.fixture(scope="module")
def large_trail(shared_server: Server) -> ServedTrail:
    """A trail long enough to matter for the planner: many actors and subjects, one of each frequent."""
    trail = empty_trail(shared_server)
    for start in range(0, 40_000, 10_000):
        append(
            trail,
            [
                {
                    "actor": "busy" if n % 2 else f"a{n % 997}",
                    "subject": f"s{n % 1009}" if n % 2 else "busy",
                    "event_type": "x",
                }
                for n in range(start, start + 10_000)
            ],
        )
    blocking(_analyze(shared_server.database.owner_url))
    return trail


async def _analyze(url: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute("ANALYZE entries")
    await connection.close()


def plan_of(server: Server, mode: str, query: str, *arguments: object) -> str:
    """The plan of a query as a prepared statement, as the server's connections run it."""
    literals = ", ".join(map(_literal, arguments))

    async def explain() -> str:
        connection = await asyncpg.connect(server.database.server_url)
        try:
            await connection.execute(f"SET plan_cache_mode = {mode}")
            await connection.execute(f"PREPARE page AS {query}")
            async with connection.transaction():
                await connection.execute(search.IN_ORDER)
                rows = await connection.fetch(
                    f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) EXECUTE page ({literals})"
                )
        finally:
            await connection.close()
        return "\n".join(row[0] for row in rows)

    return blocking(explain())


class Sql(str):
    """An argument that is written in SQL already."""


def _literal(value: object) -> str:
    if isinstance(value, Sql):
        return value
    if isinstance(value, bytes):
        return f"'\\x{value.hex()}'"
    return str(value) if isinstance(value, int) else f"'{value}'"


def org_id(served_trail: ServedTrail) -> int:
    return parse_record_id(
        served_trail.get("/entries", limit=1).json()["entries"][0]["record_id"]
    ).org_id


def rows_read(plan: str) -> int:
    """The most rows that one node of an executed plan returned."""
    return max(int(float(rows)) for rows in re.findall(r"actual rows=([\d.]+)", plan))


PLANS = pytest.mark.parametrize("mode", ["force_generic_plan", "force_custom_plan"])
SCANNED = re.compile(r"Seq Scan on \w+( \w+)? \(actual")
ORDERS = pytest.mark.parametrize("descending", [True, False])


@PLANS
@ORDERS
@pytest.mark.parametrize(("last", "limit", "rows"), [(20_735, 1_024, 1), (40_000, 3, 3)])
def test_blocks_are_read_by_primary_key_and_no_more_than_asked_for(
    large_trail: ServedTrail, last: int, limit: int, rows: int, descending: bool, mode: str
) -> None:
    part = BlockRange(org_id(large_trail), 20_480, last, descending)
    tags = tags_query(descending=descending), (*part.key(), limit)
    blocks = blocks_query(descending=descending), (1 << 17, 1 << 16, *part.key(), limit)
    for query, arguments in (tags, blocks):
        plan = plan_of(large_trail.server, mode, query, *arguments)
        assert "_pkey" in plan, plan
        assert not SCANNED.search(plan), plan
        assert rows_read(plan) <= rows, plan


@PLANS
def test_frames_and_chosen_blocks_are_read_by_primary_key(
    large_trail: ServedTrail, mode: str
) -> None:
    org = org_id(large_trail)
    found = plan_of(
        large_trail.server, mode, tags_query(descending=False),
        *BlockRange(org, 0, 10**6, False).key(), 5,
    )  # fmt: skip
    assert rows_read(found) == 5, found
    seqs, times = "array[255, 511]::bigint[]", "array['epoch', 'epoch']::timestamptz[]"
    chosen = plan_of(large_trail.server, mode, block_rows.CHOSEN, 1, 1, org, Sql(seqs), Sql(times))
    numbers = Sql("array[0, 5]::integer[]")
    sliced = plan_of(
        large_trail.server, mode, block_rows.SLICES["leaves"],
        org, Sql(seqs), Sql(times), numbers, numbers,
    )  # fmt: skip
    for plan in (chosen, sliced):
        assert "_pkey" in plan, plan
        assert not SCANNED.search(plan), plan


def test_a_record_is_found_in_one_partition_by_primary_key(large_trail: ServedTrail) -> None:
    place = parse_record_id(large_trail.get("/entries", limit=1).json()["entries"][0]["record_id"])
    for mode in ("force_generic_plan", "force_custom_plan"):
        plan = plan_of(
            large_trail.server,
            mode,
            single.AT,
            place.org_id,
            place.seq,
            to_datetime(place.anchored_us),
        )
        scans = [line for line in plan.splitlines() if " Scan" in line]
        assert len(scans) == 1, plan
        assert "_pkey" in scans[0], plan


@pytest.mark.parametrize("stretches", [1, 2_048])
@pytest.mark.parametrize("order", ["asc", "desc"])
def test_a_search_goes_on_from_stretch_to_stretch(
    large_trail: ServedTrail, order: str, stretches: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "TAG_WINDOW", stretches << search.STRETCH_BITS)
    people = {
        "a6": [n for n in range(40_000) if n % 2 == 0 and n % 997 == 6],
        "busy": list(range(1, 40_000, 2)),
        "nobody": [],
    }
    for actor, seqs in people.items():
        found = [entry["seq"] for entry in large_trail.find(actor=actor, order=order, limit=1000)]
        assert found == (seqs if order == "asc" else seqs[::-1])
    both = large_trail.find(actor="a6", subject="busy", order=order, limit=7)
    assert [entry["seq"] for entry in both] == (
        people["a6"] if order == "asc" else people["a6"][::-1]
    )
