"""The rows on signed logs: proofs and tiles over HTTP."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from statistics import median, quantiles
from typing import Final, NamedTuple

import uvloop

from bench import rows, tenants
from bench.figures import Figure, in_turns, ratio
from bench.load import LoadClient, LoadOrder, Target
from bench.scope import Scope
from bench.signed import settle
from bench.stage import Scratch
from bench.tenants import Tenant
from bench.trails import FinishedTrail
from ledger.entry import from_datetime, record_id
from ledger.storage.database import Database
from ledger.storage.entries.picked import chosen
from ledger.tiles import bundles_of, tiles_of

ENTRIES: Final = 1_000_000
LEAST_ENTRIES: Final = 2_000
PROOFS: Final = 10_000
TILES: Final = 30_000
CONNECTIONS: Final = 64
TARGETS: Final = 2_000
"""Number of different entries, tiles or bundles that are requested."""
PACE: Final = 200.0
"""Tile reads per second at which the latency is measured."""
PACED_REQUESTS: Final = 4_000
PACED_RUNS: Final = 3
P99: Final = 98
UNIT: Final = "requests/s"


class Log(NamedTuple):
    """A trail of ``size`` entries with a signed and anchored tree."""

    scratch: Scratch
    org: Tenant
    size: int


class SignedTrail:
    """The log that these rows read, built and signed on first use."""

    def __init__(self) -> None:
        self._log: Log | None = None

    def log(self, scope: Scope) -> Log:
        """Return a log of a million entries (a tenth when quick)."""
        if self._log is None:
            scratch = scope.stage.database()
            (org,) = tenants.create(scratch)
            size = scope.sized(ENTRIES, least=LEAST_ENTRIES)
            rows.create(scope.stage, scratch)
            FinishedTrail(scratch, org).build(size, raw=True)
            rows.vacuum(scratch)
            with scope.stage.server(scratch, anchor_seconds="1"):
                settle(scratch, anchored=True)
            self._log = Log(scratch, org, size)
        return self._log


@contextmanager
def _rivals(scope: Scope, log: Log) -> Iterator[tuple[int, int, LoadClient]]:
    """Start server, bare app and client; give the two ports and the client."""
    stage = scope.stage
    with stage.server(log.scratch) as port, stage.noop() as bare, LoadClient() as client:
        yield port, bare, client


def _rate(client: LoadClient, port: int, targets: Sequence[Target], count: int) -> float:
    order = LoadOrder(port=port, targets=targets, requests=count, connections=CONNECTIONS, get=True)
    return count / client.run(order).seconds


def proofs(scope: Scope, trail: SignedTrail) -> Figure:
    """Measure inclusion proofs with their anchoring over HTTP, against the no-op route."""
    log, runs = trail.log(scope), scope.runs(7)
    count = scope.sized(PROOFS, least=200)
    targets = uvloop.run(_proof_targets(log))
    with _rivals(scope, log) as (port, bare, client):
        for each in (port, bare):
            _rate(client, each, targets, max(count // 4, 100))
        ours, theirs = in_turns(
            lambda: _rate(client, port, targets, count),
            lambda: _rate(client, bare, targets, count),
            runs,
        )
    return ratio(UNIT, ours, theirs, {"entries": log.size})


async def _proof_targets(log: Log) -> list[Target]:
    """Return the targets of proofs for entries spread over the trail."""
    seqs = random.Random(0).sample(range(log.size), min(TARGETS, log.size))
    database = await Database.open(log.scratch.server_url, size=1)
    try:
        times = await chosen.times(database, log.org.org_id, seqs)
    finally:
        await database.close()
    org_id, path = log.org.org_id, log.org.entries.path
    return [
        Target(f"{path}/{record_id(org_id, from_datetime(at), seq)}/proof", log.org.token)
        for seq, at in times.items()
    ]


def tiles(scope: Scope, trail: SignedTrail) -> Figure:
    """Measure tiles of hashes over HTTP against the no-op route, and their p99 at a fixed rate."""
    log, runs = trail.log(scope), scope.runs(7)
    count = scope.sized(TILES, least=200)
    targets = _sampled(log, [tile.path() for tile in tiles_of(log.size)])
    bundles = _sampled(log, [bundle.path() for bundle in bundles_of(log.size)])
    with _rivals(scope, log) as (port, bare, client):
        for each in (port, bare):
            _rate(client, each, targets, max(count // 4, 100))
        ours, theirs = in_turns(
            lambda: _rate(client, port, targets, count),
            lambda: _rate(client, bare, targets, count),
            runs,
        )
        paced = [_p99_ms(client, port, targets, scope) for _ in range(PACED_RUNS)]
        extra = {
            "entries": log.size,
            "p99_ms_at_200": round(median(paced), 2),
            "worst_p99_ms_at_200": round(max(paced), 2),
            "bundles": round(_rate(client, port, bundles, count)),
        }
    return ratio(UNIT, ours, theirs, extra)


def _sampled(log: Log, paths: list[str]) -> list[Target]:
    chosen = random.Random(0).sample(paths, min(TARGETS, len(paths)))
    return [Target(f"/v1/orgs/{log.org.slug}/log/{path}", log.org.token) for path in chosen]


def _p99_ms(client: LoadClient, port: int, targets: Sequence[Target], scope: Scope) -> float:
    order = LoadOrder(
        port=port,
        targets=targets,
        requests=scope.sized(PACED_REQUESTS, least=100),
        connections=CONNECTIONS,
        get=True,
        rate=PACE,
    )
    return quantiles(client.run(order).latencies_s, n=100)[P99] * 1_000
