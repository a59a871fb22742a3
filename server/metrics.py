"""Prometheus metrics; with several workers they are summed over all of them."""

from __future__ import annotations

import os
from typing import Final

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    multiprocess,
)

REGISTRY: Final = CollectorRegistry()

ENTRIES: Final = Counter("quire_entries", "Entries made durable", registry=REGISTRY)
TRANSACTIONS: Final = Counter(
    "quire_append_transactions", "Append transactions committed", registry=REGISTRY
)
BATCH_ENTRIES: Final = Histogram(
    "quire_append_batch_entries",
    "Entries per append transaction",
    buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000),
    registry=REGISTRY,
)
BATCH_SECONDS: Final = Histogram(
    "quire_append_transaction_seconds",
    "Time of an append transaction, retries included",
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 15),
    registry=REGISTRY,
)
MISHAPS: Final = Counter(
    "quire_append_internal_errors",
    "Exceptions outside the commit of an append transaction, by step: settle, observe, health, "
    "release or turn",
    ["step"],
    registry=REGISTRY,
)
OWN_ENTRIES: Final = Counter(
    "quire_own_entries",
    "Entries that tell what callers read, and who was refused",
    registry=REGISTRY,
)
ACTS_LOST: Final = Counter(
    "quire_acts_lost",
    "Reads and refusals that no entry will tell, as they did not fit into memory",
    registry=REGISTRY,
)
FROZEN: Final = Counter("quire_orgs_frozen", "Orgs frozen by an integrity check", registry=REGISTRY)
FAULTS: Final = Counter(
    "quire_verification_faults", "Faults found by full verifications", registry=REGISTRY
)
PROBLEMS: Final = Counter(
    "quire_http_problems", "Requests answered with a problem", ["status"], registry=REGISTRY
)
BLOCKED_REQUESTS: Final = Counter(
    "quire_blocked_requests", "Requests refused as their address is blocked", registry=REGISTRY
)
RATE_LIMITED: Final = Counter(
    "quire_rate_limited",
    "Requests that a rate limit refused, by scope (key, org, address, installation) and by what they "
    "asked for (append, read, verify, keys, other)",
    ["scope", "request"],
    registry=REGISTRY,
)
RATES_TOLD: Final = Histogram(
    "quire_rate_limits_told_seconds",
    "Time between two moments at which a process told the others what was used of rate limits",
    buckets=(1.1, 1.5, 2, 3, 5, 10, 30),
    registry=REGISTRY,
)
CONNECTIONS_ENDED: Final = Counter(
    "quire_http_connections_ended",
    "Connections that the server ended: for their slowness (head, body, answer, rest), or because "
    "there were too many (address, full, room)",
    ["cause"],
    registry=REGISTRY,
)
WAITING_BYTES: Final = Gauge(
    "quire_append_waiting_bytes",
    "Bytes waiting for, or in, an append transaction",
    multiprocess_mode="livesum",
    registry=REGISTRY,
)
CLOCK_LEAPS: Final = Counter(
    "quire_clock_leaps", "Leaps of the wall clock that made appends wait", registry=REGISTRY
)
CLOCK_OFF: Final = Gauge(
    "quire_clock_off_seconds",
    "Seconds by which the wall clock is off while appends wait for it; 0 while none wait",
    multiprocess_mode="livemax",
    registry=REGISTRY,
)

# These describe the database, not a process: each scrape returns the most recent value.
UNSIGNED: Final = Gauge(
    "quire_unsigned_entries",
    "Entries that no checkpoint covers yet",
    multiprocess_mode="mostrecent",
    registry=REGISTRY,
)
STOPPED: Final = Gauge(
    "quire_stopped_trees",
    "Trees that are not signed because something is wrong with them",
    multiprocess_mode="mostrecent",
    registry=REGISTRY,
)
SIGNED_AT: Final = Gauge(
    "quire_last_anchor_timestamp_seconds",
    "When the newest anchor was signed, POSIX seconds; 0 before the first",
    multiprocess_mode="mostrecent",
    registry=REGISTRY,
)
BLOCKS: Final = Gauge(
    "quire_address_blocks",
    "Addresses that are blocked now",
    multiprocess_mode="mostrecent",
    registry=REGISTRY,
)
UNINDEXED: Final = Gauge(
    "quire_search_unindexed_entries",
    "Entries in whole runs of 1,024 that the search index does not have yet",
    multiprocess_mode="mostrecent",
    registry=REGISTRY,
)
ARCHIVER_CPU: Final = Gauge(
    "quire_archiver_cpu_seconds",
    "CPU seconds that all archivers have spent on the target so far",
    multiprocess_mode="mostrecent",
    registry=REGISTRY,
)
ARCHIVED_OBJECTS: Final = Gauge(
    "quire_archived_objects",
    "Objects stored in the archive target",
    multiprocess_mode="mostrecent",
    registry=REGISTRY,
)
ARCHIVED_BYTES: Final = Gauge(
    "quire_archived_bytes",
    "Bytes stored in the archive target",
    multiprocess_mode="mostrecent",
    registry=REGISTRY,
)
ARCHIVE_BEHIND: Final = Gauge(
    "quire_archive_behind_entries",
    "Signed entries that are not archived yet",
    multiprocess_mode="mostrecent",
    registry=REGISTRY,
)
ARCHIVE_AGE: Final = Gauge(
    "quire_archive_behind_seconds",
    "Age of the oldest signed checkpoint that is not archived yet; 0 where all are",
    multiprocess_mode="mostrecent",
    registry=REGISTRY,
)


def count_mishap(step: str) -> None:
    """Count one exception outside the commit of an append transaction."""
    MISHAPS.labels(step).inc()


def exposition() -> tuple[bytes, str]:
    """Return the metrics as text, and their content type."""
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry), CONTENT_TYPE_LATEST
    return generate_latest(REGISTRY), CONTENT_TYPE_LATEST
