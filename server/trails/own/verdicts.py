"""Verifications, as the recorder counts them."""

from __future__ import annotations

import msgspec

from ledger.core.verification.single import EntryResult
from ledger.core.verification.work.extent import TrailRange
from ledger.core.verification.work.faults import Result
from ledger.verdict import Verdict
from server.access.callers.traffic import NOBODY, TrafficCounts
from server.trails.own.recorder import ActRecorder, VerifiedPlace


def note_verification(
    recorder: ActRecorder, traffic: TrafficCounts, target: TrailRange, key: str, result: Result
) -> None:
    """Count the verification of a trail, or a range of it, that a key asked for."""
    if result.verdict is Verdict.REFUTED:
        traffic.failed(target.org_id, key, NOBODY)
    place = VerifiedPlace(
        target.org_id,
        key,
        "trail",
        result.verdict.value,
        _answers(result.checks),
        result.fault_count,
    )
    recorder.verified(place, result.first_seq, result.last_seq)


def note_entry(
    recorder: ActRecorder,
    traffic: TrafficCounts,
    org_id: int,
    key: str,
    seq: int,
    result: EntryResult,
) -> None:
    """Count the verification of one entry."""
    if result.verdict is Verdict.REFUTED:
        traffic.failed(org_id, key, NOBODY)
    place = VerifiedPlace(
        org_id, key, "entry", result.verdict.value, _answers(result.checks), len(result.errors)
    )
    recorder.verified(place, seq, seq)


def _answers(checks: msgspec.Struct) -> tuple[tuple[str, object], ...]:
    return tuple(msgspec.structs.asdict(checks).items())
