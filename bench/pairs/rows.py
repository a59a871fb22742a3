"""The rows that can be measured in pairs, and the work of each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from bench.load import BATCH_EVENTS, LoadClient, LoadOrder, Target
from bench.pairs.cpu import Cpu
from bench.pairs.serving import Session

BATCH_CONNECTIONS: Final = 6
SINGLE_CONNECTIONS: Final = 64
WARM_SHARE: Final = 10
"""Each session does a tenth of the work before the clock runs."""
SIGNED_SAMPLE: Final = 20
"""Number of orgs, the last ones written to, whose signing is waited for."""


class Row(NamedTuple):
    """A kind of work: the number of its orgs, and the function that does it."""

    orgs: int
    privacy: str
    size: int
    """Events, or entries, of one measurement at full scale."""
    work: Callable[[Session, LoadClient, list[Target], int], int]
    """Does about the given amount of work; returns the number of events."""
    addresses: tuple[str, ...] = ()
    """The addresses to which the keys of the side after are bound; those of the other side are not."""
    per_minute: int = 0
    """Appends a minute of each key and of the org on the side after; 0: no limit, as on the other."""


def batches(session: Session, client: LoadClient, targets: list[Target], events: int) -> int:
    """Append batches of a thousand events."""
    requests = max(events // BATCH_EVENTS, 1)
    client.run(
        LoadOrder(
            port=session.port,
            targets=targets,
            requests=requests,
            connections=BATCH_CONNECTIONS,
            batch=True,
            minimal=True,
        )
    )
    return requests * BATCH_EVENTS


def singles(session: Session, client: LoadClient, targets: list[Target], events: int) -> int:
    """Append single events, spread over the orgs in turn; each org gets at least one."""
    requests = max(events, len(targets))
    client.run(
        LoadOrder(
            port=session.port, targets=targets, requests=requests, connections=SINGLE_CONNECTIONS
        )
    )
    return requests


def refused(session: Session, client: LoadClient, targets: list[Target], events: int) -> int:
    """Send single events to orgs that may append once a minute, if they have a limit."""
    client.run(
        LoadOrder(
            port=session.port,
            targets=targets,
            requests=events,
            connections=SINGLE_CONNECTIONS,
            refusable=True,
        )
    )
    return events


def verification(session: Session, client: LoadClient, targets: list[Target], entries: int) -> int:
    """Verify a whole trail of ``entries`` entries, which the first session appends."""
    (org,) = targets
    missing = entries - session.size(org)
    if missing > 0:
        batches(session, client, targets, missing)
        session.settle(targets)
    return session.verify(org)


ROWS: Final = {
    "append_batch": Row(1, "plain", 120_000, batches),
    "append_sealed": Row(1, "sealed", 80_000, batches),
    "append_single": Row(1, "plain", 20_000, singles),
    "append_guarded": Row(
        1, "plain", 20_000, singles, ("10.0.0.0/8", "127.0.0.0/8", "2001:db8::/32")
    ),
    "append_limited": Row(1, "plain", 20_000, singles, per_minute=10_000_000),
    "append_refused": Row(1, "plain", 20_000, refused, per_minute=1),
    "append_many_orgs": Row(1_000, "plain", 20_000, singles),
    "verify_full": Row(1, "plain", 300_000, verification),
}


def measure(key: str, session: Session, client: LoadClient, scale: float) -> Cpu:
    """Do a row's work once, after a warm-up; return its CPU in microseconds per event."""
    row = ROWS[key]
    orgs = max(round(row.orgs * min(scale, 1)), 1)
    targets = session.side.targets.setdefault(key, [])
    while len(targets) < orgs:
        slug = f"{key.replace('_', '-')}-{len(targets)}"
        addresses = row.addresses if session.side.guarded else ()
        targets.append(session.new_org(slug, row.privacy, addresses))
        if row.per_minute and session.side.guarded:
            session.limit(slug, row.per_minute)
    size = max(round(row.size * scale), 1)
    row.work(session, client, targets, size if row.work is verification else size // WARM_SHARE)
    session.settle(targets[-SIGNED_SAMPLE:])
    session.rest()
    before = session.cpu()
    events = row.work(session, client, targets, size)
    session.settle(targets[-SIGNED_SAMPLE:])
    return session.cpu().since(before).per(events)
