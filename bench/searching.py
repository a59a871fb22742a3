"""Rows about search: how fast the first page is, and what keeping the indexes costs appends."""

from __future__ import annotations

import shutil
from contextlib import AbstractContextManager
from statistics import quantiles
from typing import Final
from urllib.parse import quote

from bench import events, tenants
from bench.appends import UNIT, post_batches
from bench.figures import Figure, in_turns, ratio, value
from bench.load import LoadClient, Target, VerificationSetup
from bench.scope import Scope
from bench.stage import Scratch, StageFailed
from bench.synthetic import fill
from bench.tenants import Tenant

ENTRIES: Final = 10_000_000
QUERIES: Final = 2_000
BYTES_PER_ENTRY: Final = 1_400
"""Disk for one entry with its indexes, and WAL."""
_INDEXES: Final = ("entries_actor", "entries_subject")
LEAST_ENTRIES: Final = 1_000
P50: Final = 49
P99: Final = 98


class Archive:
    """The big trail that both rows use, filled when the first of them asks."""

    def __init__(self) -> None:
        self._filled: tuple[Scratch, Tenant] | None = None

    def trail(self, scope: Scope) -> tuple[Scratch, Tenant]:
        """A database with one trail of ten million entries (a tenth when quick)."""
        if self._filled is None:
            count = scope.sized(ENTRIES, least=LEAST_ENTRIES)
            free = shutil.disk_usage(scope.stage.directory).free
            if free < 3 * count * BYTES_PER_ENTRY:
                raise StageFailed(
                    f"{3 * count * BYTES_PER_ENTRY >> 30} GiB of disk are needed for the search "
                    f"rows and {free >> 30} are free; set TMPDIR to another place"
                )
            scratch = scope.stage.database()
            (org,) = tenants.create(scratch)
            fill(scope.stage, scratch, org, count)
            self._filled = scratch, org
        return self._filled


def search_first_page(scope: Scope, archive: Archive) -> Figure:
    """The first page by subject or actor over HTTP, one caller: p99, beside it p50, in ms."""
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
    """A server without a signer, which would stop an org whose entries are not chained."""
    return scope.stage.server(scratch, checkpoints="false")


def _latencies(client: LoadClient, port: int, queries: list[Target]) -> list[float]:
    """The 1st to 99th percentile of the queries' times in ms, and the longest of all."""
    order = VerificationSetup(
        port=port, targets=queries, requests=len(queries), connections=1, get=True
    )
    taken = [seconds * 1_000 for seconds in client.run(order).latencies_s]
    return [*quantiles(taken, n=100), max(taken)]


def _queries(org: Tenant, count: int, turn: int) -> list[Target]:
    """Half by subject, half by actor, other subjects in each turn."""
    made = []
    for number in range(turn * count, (turn + 1) * count):
        name, who = ("actor", events.actor(number // 2))
        if number % 2:
            name, who = ("subject", events.subject(number))
        made.append(Target(f"{org.entries.path}?{name}={quote(who)}", org.token))
    return made


def search_cost(scope: Scope, archive: Archive) -> Figure:
    """The append path with the two search indexes against the same without them."""
    stage = scope.stage
    count, runs = scope.sized(250, least=2), scope.runs(7)
    indexed, org = archive.trail(scope)
    bare = stage.clone(indexed)
    stage.execute(bare.owner_url, *(f"DROP INDEX {index}" for index in _INDEXES))
    with (
        _server(scope, indexed) as with_indexes,
        _server(scope, bare) as without,
        LoadClient() as client,
    ):
        for port in (with_indexes, without):
            post_batches(client, port, org.entries, max(count // 5, 1))
        ours, theirs = in_turns(
            lambda: post_batches(client, with_indexes, org.entries, count),
            lambda: post_batches(client, without, org.entries, count),
            runs,
        )
    stage.drop(bare)
    return ratio(UNIT, ours, theirs)
