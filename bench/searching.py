"""The rows on search: the speed of the first page, and the cost of a long trail to appends."""

from __future__ import annotations

import shutil
from contextlib import AbstractContextManager
from statistics import quantiles
from typing import Final
from urllib.parse import quote

from bench import events, tenants
from bench.appends import UNIT, post_batches
from bench.figures import Figure, in_turns, ratio, value
from bench.load import LoadClient, LoadOrder, Target
from bench.scope import Scope
from bench.stage import Scratch, StageFailed
from bench.synthetic import fill
from bench.tenants import Tenant

ENTRIES: Final = 10_000_000
QUERIES: Final = 2_000
BYTES_PER_ENTRY: Final = 700
"""Disk space of one entry in its block, with its WAL."""
LEAST_ENTRIES: Final = 1_000
P50: Final = 49
P99: Final = 98


class Archive:
    """The large trail that both rows use, filled on first use."""

    def __init__(self) -> None:
        self._filled: tuple[Scratch, Tenant] | None = None

    def trail(self, scope: Scope) -> tuple[Scratch, Tenant]:
        """Return a database with one trail of ten million entries (a tenth when quick)."""
        if self._filled is None:
            count = scope.sized(ENTRIES, least=LEAST_ENTRIES)
            free = shutil.disk_usage(scope.stage.directory).free
            if free < count * BYTES_PER_ENTRY:
                raise StageFailed(
                    f"the search rows need {count * BYTES_PER_ENTRY >> 30} GiB of disk, but "
                    f"{free >> 30} GiB are free; set TMPDIR to a larger disk"
                )
            scratch = scope.stage.database()
            (org,) = tenants.create(scratch)
            fill(scope.stage, scratch, org, count)
            self._filled = scratch, org
        return self._filled


def search_first_page(scope: Scope, archive: Archive) -> Figure:
    """Measure the first page by subject or actor over HTTP, one caller: p99 and p50 in ms."""
    scratch, org = archive.trail(scope)
    count, runs = scope.sized(QUERIES, least=20), scope.runs(3)
    with _server(scope, scratch) as port, LoadClient() as client:
        cold = _latencies(client, port, _queries(org, count, runs))
        cuts = [_latencies(client, port, _queries(org, count, turn)) for turn in range(runs)]
    extra = {
        "entries": scope.sized(ENTRIES, least=LEAST_ENTRIES),
        "worst": max(cut[-1] for cut in cuts),
        "worst_after_start": cold[-1],
    }
    return value("ms", [cut[P99] for cut in cuts], [cut[P50] for cut in cuts], extra)


def _server(scope: Scope, scratch: Scratch) -> AbstractContextManager[int]:
    """Start a server without a signer, which would stop on entries that are not chained."""
    return scope.stage.server(scratch, checkpoints="false")


def _latencies(client: LoadClient, port: int, queries: list[Target]) -> list[float]:
    """Return the 1st to 99th percentile of the queries' times in ms, and the longest time."""
    order = LoadOrder(port=port, targets=queries, requests=len(queries), connections=1, get=True)
    taken = [seconds * 1_000 for seconds in client.run(order).latencies_s]
    return [*quantiles(taken, n=100), max(taken)]


def _queries(org: Tenant, count: int, turn: int) -> list[Target]:
    """Return queries, half by subject and half by actor, with other subjects in each turn."""
    targets = []
    for number in range(turn * count, (turn + 1) * count):
        name, value = ("actor", events.actor(number // 2))
        if number % 2:
            name, value = ("subject", events.subject(number))
        targets.append(Target(f"{org.entries.path}?{name}={quote(value)}", org.token))
    return targets


def search_cost(scope: Scope, archive: Archive) -> Figure:
    """Measure appends to the long trail, which search reads, against appends to an empty one."""
    stage = scope.stage
    count, runs = scope.sized(250, least=2), scope.runs(7)
    searched, org = archive.trail(scope)
    empty = stage.database()
    (other,) = tenants.create(empty)
    with (
        _server(scope, searched) as long,
        _server(scope, empty) as short,
        LoadClient() as client,
    ):
        post_batches(client, long, org.entries, max(count // 5, 1))
        post_batches(client, short, other.entries, max(count // 5, 1))
        ours, theirs = in_turns(
            lambda: post_batches(client, long, org.entries, count),
            lambda: post_batches(client, short, other.entries, count),
            runs,
        )
    stage.drop(empty)
    return ratio(UNIT, ours, theirs)
