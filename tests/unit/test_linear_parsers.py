"""Every parser of outside bytes is linear, and takes a bounded time for a MiB, on hostile bodies.

Times are compared with a loop of plain Python on the same machine at the same moment, so that a slow or
busy machine changes nothing. Processor time is measured, not the clock on the wall.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import Any, Final

import pytest

from ledger.errors import QuireError
from ledger.event import parse_json, parse_msgpack, parse_ndjson
from server.http.api.bundles import CreateBundle
from server.http.bodies import decoded
from tests.support.hostile_bodies import JSON, MIB, MSGPACK, NDJSON

SMALL: Final = 1 << 18
GROWTH: Final = 4
MOST_GROWTH: Final = 12.0
"""A parser that is linear takes 4 times as long for 4 times as much; a quadratic one 16 times."""
MOST_LOOPS: Final = 100_000_000
"""Rounds of the plain loop that a MiB may cost: about a second on the machine of the benchmark."""
LIMITS: Final = {"max_events": 10_000, "max_payload": 64 * MIB}

Parse = Callable[[bytes], Any]


def quietly(parse: Parse) -> Parse:
    def parsed(body: bytes) -> Any:
        try:
            return parse(body)
        except QuireError:
            return None

    return parsed


PARSERS: Final[list[tuple[str, Parse, dict[str, Callable[[int], bytes]]]]] = [
    ("json", quietly(lambda body: parse_json(body, **LIMITS)), JSON),
    ("ndjson", quietly(lambda body: parse_ndjson(body, **LIMITS)), NDJSON),
    ("msgpack", quietly(lambda body: parse_msgpack(body, **LIMITS)), MSGPACK),
    ("administrative", quietly(lambda body: decoded(body, CreateBundle)), JSON),
]
CASES: Final = [
    pytest.param(parse, make, id=f"{name}: {case}")
    for name, parse, cases in PARSERS
    for case, make in cases.items()
]


def loop_s(rounds: int) -> float:
    """Return the processor time of the plain loop."""
    started = time.process_time()
    for _ in range(rounds):
        pass
    return time.process_time() - started


def spent_s(parse: Parse, body: bytes) -> float:
    """Return the least processor time of five runs, without the collection of cycles."""
    found = []
    for _ in range(5):
        gc.disable()
        started = time.process_time()
        parse(body)
        found.append(time.process_time() - started)
        gc.enable()
        if found[-1] > 1.0:
            break
    return min(found)


@pytest.mark.parametrize(("parse", "make"), CASES)
def test_a_parser_is_linear_and_fast_enough(parse: Parse, make: Callable[[int], bytes]) -> None:
    small, large = spent_s(parse, make(SMALL)), spent_s(parse, make(GROWTH * SMALL))
    assert large < MOST_LOOPS / 1_000_000 * loop_s(1_000_000)
    # What takes two thousandths of a second is fast enough, and can't be compared.
    assert large < MOST_GROWTH * max(small, 0.002)
