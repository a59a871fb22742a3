"""The rows of the table, in its order, and the measurement of each."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from bench import (
    appends,
    archives,
    bundling,
    checkpoints,
    evidence,
    logs,
    rebuilding,
    searching,
    tag_searching,
    verifying,
)
from bench.figures import Figure, Row
from bench.scope import Scope

TABLE: Final = (
    Row("append_batch", "batches of 1,000 events, one org, HTTP", "COPY of finished rows", 0.5),
    Row("append_sealed", "the same to an org that seals, 5,000 subjects", "a plain org", 0.6),
    Row("append_single", "single events, 64 connections", "no-op route of a bare app", 0.5),
    Row("append_many_orgs", "single events over 10,000 orgs", "one org", 0.6),
    Row("checkpoint_lag", "commit to checkpoint at full rate, p99 s", "p50", 2.0, "at most"),
    Row("checkpoint_cost", "batches with the signer", "without it", 0.85),
    Row("proofs", "inclusion proofs, 64 connections", "no-op route of a bare app", 0.05),
    Row("tiles", "tiles of hashes, 64 connections", "no-op route of a bare app", 0.25),
    Row("tree_rebuild", "from stored entries to the root", "SHA-256 of the leaves", 0.1),
    Row("verify_full", "full verification, all cores", "COPY out of rows", 0.35),
    Row("verify_memory", "peak memory of a verification, MiB", "of a fifth", 400.0, "at most"),
    Row("bundle_build", "entries of a bundle, out of the database", "a zip of its members", 0.3),
    Row("bundle_verify", "quire-verify of 10,000 entries, s", "hashing the file", 2.0, "at most"),
    Row("verifier_start", "quire-verify of one entry, s", "an idle interpreter", 0.3, "at most"),
    Row("archive_verify", "a local archive, all cores", "BLAKE3 and SHA-256 of its bytes", 0.5),
    Row("search_first_page", "first page by subject or actor, p99 ms", "p50", 50.0, "at most"),
    Row("search_pages", "pages by actor, with the index, p99", "SQL over rows", 1.2, "at most"),
    Row("search_cost", "batches to that long trail", "to an empty one", 0.75),
)

Measure = Callable[[Scope], Figure]


def measures() -> dict[str, Measure]:
    """Return the measurement of each row; rows of one call share the trails that they read."""
    subject, archive = verifying.Subject(), searching.Archive()
    trail = logs.SignedTrail()
    return {
        "append_batch": appends.append_batch,
        "append_sealed": appends.append_sealed,
        "append_single": appends.append_single,
        "append_many_orgs": appends.append_many_orgs,
        "checkpoint_lag": checkpoints.checkpoint_lag,
        "checkpoint_cost": checkpoints.checkpoint_cost,
        "proofs": partial(logs.proofs, trail=trail),
        "tiles": partial(logs.tiles, trail=trail),
        "tree_rebuild": partial(rebuilding.tree_rebuild, trail=trail),
        "verify_full": partial(verifying.verify_full, subject=subject),
        "verify_memory": partial(verifying.verify_memory, subject=subject),
        "bundle_build": bundling.bundle_build,
        "bundle_verify": evidence.bundle_verify,
        "verifier_start": evidence.verifier_start,
        "archive_verify": archives.archive_verify,
        "search_first_page": partial(searching.search_first_page, archive=archive),
        "search_pages": tag_searching.search_pages,
        "search_cost": partial(searching.search_cost, archive=archive),
    }
