"""The trail's records of a disclosure name every disclosed entry, within the payload limit."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.http.routes.disclosures import records
from server.trails.own.runs import runs

MIB = 1 << 20


def named(parts: list[dict[str, object]]) -> list[int]:
    """All seqs that these payloads name, read from their runs."""
    found: list[int] = []
    for part in parts:
        for first, last in msgspec.json.decode(msgspec.json.encode(part))["runs"]:
            found += range(first, last + 1)
    return found


@given(st.sets(st.integers(0, 60)))
def test_runs_name_each_seq_once_and_join_neighbours(seqs: set[int]) -> None:
    found = list(runs(sorted(seqs)))
    assert [seq for first, last in found for seq in range(first, last + 1)] == sorted(seqs)
    assert all(after[0] > before[1] + 1 for before, after in pairwise(found))


def test_a_range_is_one_run() -> None:
    (part,) = records(range(5, 100_005), {"payload"}, 100_005, MIB)
    assert (part["runs"], part["count"]) == ([(5, 100_004)], 100_000)
    assert (part["first_seq"], part["last_seq"], part["part"], part["parts"]) == (5, 100_004, 1, 1)


@pytest.mark.parametrize("limit", [1 << 14, 1 << 18, MIB, 64 * MIB])
def test_the_largest_bundle_is_named_whole_within_the_limit(limit: int) -> None:
    seqs = range(2**40 - 400_000, 2**40, 2)
    parts = records(seqs, {"payload", "actor", "subject"}, 2**40, limit)
    assert named(parts) == list(seqs)
    assert sum(part["count"] for part in parts if isinstance(part["count"], int)) == len(seqs)
    assert [part["part"] for part in parts] == list(range(1, len(parts) + 1))
    assert {part["parts"] for part in parts} == {len(parts)}
    assert max(len(msgspec.json.encode(part)) for part in parts) <= limit
    assert len(parts) <= 2_000


def test_a_tiny_payload_limit_does_not_make_an_entry_per_seq() -> None:
    seqs = range(0, 2_000, 2)
    parts = records(seqs, {"payload"}, 2_000, 1)
    assert named(parts) == list(seqs)
    assert len(parts) == 10
