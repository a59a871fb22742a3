"""The rows on the checkpointer: its lag behind the appends, and its cost to them."""

from __future__ import annotations

import random
from statistics import median, quantiles
from typing import Final

from bench import tenants
from bench.appends import MANY_ORGS, UNIT, post_batches, post_singles
from bench.figures import Figure, in_turns, ratio, value
from bench.load import LoadClient
from bench.scope import Scope
from bench.signed import PollingDelay, settle, settled

P50: Final = 49
P99: Final = 98
WATCHED_ORGS: Final = 200


def checkpoint_lag(scope: Scope) -> Figure:
    """Measure the seconds from a commit to its checkpoint, one org at the full rate: p99."""
    stage, count, runs = scope.stage, scope.sized(600, least=20), scope.runs(3)
    served = stage.database()
    (org,) = tenants.create(served)
    cuts: list[list[float]] = []
    rates: list[float] = []
    with stage.server(served) as port, LoadClient() as client:
        post_batches(client, port, org.entries, max(count // 5, 1))
        for _ in range(runs):
            with PollingDelay(served, [org.org_id]) as watch:
                rates.append(post_batches(client, port, org.entries, count))
            cuts.append(quantiles(watch.lags, n=100, method="inclusive"))
        settle(served)
    extra = {"events_per_s": round(median(rates)), **_many_orgs(scope)}
    return value("s", [cut[P99] for cut in cuts], [cut[P50] for cut in cuts], extra)


def _many_orgs(scope: Scope) -> dict[str, float]:
    """Measure the lag with single events spread over many orgs, all of them active."""
    stage, count = scope.stage, scope.sized(60_000, least=200)
    served = stage.database()
    orgs = tenants.create(served, scope.sized(MANY_ORGS, least=20))
    order = random.Random(0)
    watched = [org.org_id for org in order.sample(orgs, min(WATCHED_ORGS, len(orgs)))]
    with stage.server(served) as port, LoadClient() as client:
        targets = [org.entries for org in orgs]
        post_singles(client, port, targets, len(targets))
        with PollingDelay(served, watched) as watch:
            rate = post_singles(client, port, order.sample(targets, len(targets)), count)
    stage.drop(served)
    return {
        "many_orgs": len(orgs),
        "many_orgs_p99": round(quantiles(watch.lags, n=100, method="inclusive")[P99], 3),
        "many_orgs_events_per_s": round(rate),
    }


def checkpoint_cost(scope: Scope) -> Figure:
    """Measure batches with a running signer against batches without a signer."""
    stage, count, runs = scope.stage, scope.sized(500, least=2), scope.runs(5)
    signed, bare = stage.database(), stage.database()
    (org,), (other,) = tenants.create(signed), tenants.create(bare)
    with (
        stage.server(signed) as with_signer,
        stage.server(bare, checkpoints="false") as without,
        LoadClient() as client,
    ):

        def measure() -> float:
            # This leaves the signer as much unfinished work at the start as at the end.
            post_batches(client, with_signer, org.entries, max(count // 5, 1))
            return post_batches(client, with_signer, org.entries, count)

        def baseline() -> float:
            post_batches(client, without, other.entries, max(count // 5, 1))
            return post_batches(client, without, other.entries, count)

        ours, theirs = in_turns(settled(signed, measure), baseline, runs)
    return ratio(UNIT, ours, theirs)
