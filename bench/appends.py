"""Rows about appending: batches, sealed batches, single events, many orgs."""

from __future__ import annotations

import random
from statistics import median
from typing import Final

from bench import rows, tenants
from bench.figures import Figure, in_turns, ratio
from bench.load import BATCH_EVENTS, LoadClient, LoadOrder, Target
from bench.scope import Scope
from bench.signed import settle, settled
from bench.trails import FinishedTrail

BATCH_CONNECTIONS: Final = 6
SINGLE_CONNECTIONS: Final = 64
MANY_ORGS: Final = 10_000
UNIT: Final = "events/s"


def post_batches(
    client: LoadClient, port: int, to: Target, count: int, *, minimal: bool = True
) -> float:
    """Return events per second, with a thousand events per request."""
    order = LoadOrder(
        port=port,
        targets=[to],
        requests=count,
        connections=BATCH_CONNECTIONS,
        batch=True,
        minimal=minimal,
    )
    return count * BATCH_EVENTS / client.run(order).seconds


def post_singles(client: LoadClient, port: int, to: list[Target], count: int) -> float:
    """Return requests per second, with one event each."""
    order = LoadOrder(port=port, targets=to, requests=count, connections=SINGLE_CONNECTIONS)
    return count / client.run(order).seconds


def append_batch(scope: Scope) -> Figure:
    """Measure batches over HTTP against COPY of the same finished rows into a table of rows."""
    stage, count, runs = scope.stage, scope.sized(250, least=2), scope.runs(7)
    served, raw = stage.database(), stage.database()
    (org,) = tenants.create(served)
    rows.create(stage, raw)
    trail = FinishedTrail(raw, tenants.create(raw)[0])
    full: list[float] = []
    with stage.server(served) as port, LoadClient() as client:
        trail.write(scope.sized(20, least=1) * BATCH_EVENTS)
        post_batches(client, port, org.entries, scope.sized(20, least=1))
        settle(served)

        def measure() -> float:
            full.append(post_batches(client, port, org.entries, count, minimal=False))
            return post_batches(client, port, org.entries, count)

        ours, theirs = in_turns(
            settled(served, measure),
            lambda: count * BATCH_EVENTS / trail.write(count * BATCH_EVENTS),
            runs,
        )
    extra = {"full_answer": round(median(full)), "full_answer_ratio": median(full) / median(theirs)}
    return ratio(UNIT, ours, theirs, extra)


def append_sealed(scope: Scope) -> Figure:
    """Measure batches to an org that seals, 5,000 subjects, against the same to a plain org."""
    stage, count, runs = scope.stage, scope.sized(250, least=2), scope.runs(7)
    served = stage.database()
    (plain,), (sealed,) = tenants.create(served), tenants.create(served, seals=True)
    with stage.server(served) as port, LoadClient() as client:
        # Every subject occurs once before the clock starts: its key is made on first use.
        first_use = post_batches(client, port, sealed.entries, 5)
        post_batches(client, port, plain.entries, 5)
        settle(served)
        ours, theirs = in_turns(
            settled(served, lambda: post_batches(client, port, sealed.entries, count)),
            settled(served, lambda: post_batches(client, port, plain.entries, count)),
            runs,
        )
    return ratio(UNIT, ours, theirs, {"first_use": round(first_use)})


def append_single(scope: Scope) -> Figure:
    """Measure single events over 64 connections against a bare app that decodes the same body."""
    stage, count, runs = scope.stage, scope.sized(30_000, least=200), scope.runs(7)
    served = stage.database()
    (org,) = tenants.create(served)
    with stage.server(served) as port, stage.noop() as bare, LoadClient() as client:
        post_singles(client, port, [org.entries], count // 4)
        post_singles(client, bare, [org.entries], count // 4)
        settle(served)
        ours, theirs = in_turns(
            settled(served, lambda: post_singles(client, port, [org.entries], count)),
            lambda: post_singles(client, bare, [org.entries], count),
            runs,
        )
    return ratio("requests/s", ours, theirs)


def append_many_orgs(scope: Scope) -> Figure:
    """Measure single events spread over 10,000 orgs, each with its own key, against one org."""
    stage, count, runs = scope.stage, scope.sized(30_000, least=200), scope.runs(7)
    served = stage.database()
    many = [org.entries for org in tenants.create(served, scope.whole(MANY_ORGS))]
    (one,) = tenants.create(served)
    order = random.Random(0)
    with stage.server(served) as port, LoadClient() as client:
        first_use = post_singles(client, port, many, len(many))
        post_singles(client, port, [one.entries], count // 4)
        settle(served)

        def measure() -> float:
            return post_singles(client, port, order.sample(many, len(many)), count)

        def baseline() -> float:
            return post_singles(client, port, [one.entries], count)

        ours, theirs = in_turns(settled(served, measure), settled(served, baseline), runs)
    return ratio("requests/s", ours, theirs, {"first_use": round(first_use)})
