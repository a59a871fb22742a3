"""Limits of appends and bundles."""

from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta


@dataclass(frozen=True, kw_only=True, repr=False)
class AppendSettings:
    """How large an append may be, and how many events may wait."""

    max_events: Annotated[
        int, Meta(ge=1, le=100_000, description="Events in one append request")
    ] = 10_000
    max_body_bytes: Annotated[
        int, Meta(ge=1024, le=1 << 30, description="Bytes of one request body")
    ] = 16 << 20
    max_payload_bytes: Annotated[
        int, Meta(ge=1, le=64 << 20, description="Bytes of one event's payload")
    ] = 1 << 20
    queue_events: Annotated[
        int,
        Meta(
            ge=1,
            le=10_000_000,
            description="Events that may wait per org; more are answered with 429",
        ),
    ] = 50_000


@dataclass(frozen=True, kw_only=True, repr=False)
class RecordingSettings:
    """How often the server records what callers do."""

    own_entries_seconds: Annotated[
        float,
        Meta(
            ge=60,
            le=3_600,
            description="Seconds after which opened payloads, verifications, bundles, starts, stops "
            "and security events become entries of a trail, in batches",
        ),
    ] = 60.0


@dataclass(frozen=True, kw_only=True, repr=False)
class BundleSettings:
    """How large bundles may be, and how many are made at once."""

    max_bundle_entries: Annotated[
        int, Meta(ge=1, le=200_000, description="Entries in one evidence bundle")
    ] = 100_000
    bundles_at_once: Annotated[
        int,
        Meta(
            ge=1,
            le=64,
            description="Evidence bundles that one server process makes at once, half of them at "
            "most for one org",
        ),
    ] = 4
    bundle_wait_seconds: Annotated[
        float,
        Meta(
            ge=0,
            le=300,
            description="Seconds that a bundle waits until its newest entry is signed and anchored",
        ),
    ] = 15.0


@dataclass(frozen=True, kw_only=True, repr=False)
class TimeSettings:
    """How long requests are remembered, and how far the clock is trusted."""

    idempotency_days: Annotated[
        int, Meta(ge=1, le=365, description="Days for which idempotency keys are remembered")
    ] = 7
    verification_days: Annotated[
        int,
        Meta(ge=1, le=36_500, description="Days for which finished verification jobs are kept"),
    ] = 30
    clock_tolerance_seconds: Annotated[
        float,
        Meta(
            ge=1,
            le=3_600,
            description="Seconds by which the wall clock may be off before appends wait",
        ),
    ] = 5.0
    clock_hold_seconds: Annotated[
        float,
        Meta(
            ge=1,
            le=86_400,
            description="Seconds for which a clock that leapt must be steady before it is trusted",
        ),
    ] = 300.0
