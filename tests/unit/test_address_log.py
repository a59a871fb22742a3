"""Refusals are logged by address: few lines, and none of them lost without a count."""

from __future__ import annotations

from typing import Any

from server.addresses import address, client
from server.http.protocol.watching.address_log import AGAIN_S, MOST_LINES, AddressLog


class Lines:
    """The lines of a log, at a time that tests set."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.written: list[dict[str, Any]] = []
        self.log = AddressLog("a caller is refused", lambda: self.now)

    def refuse(self, text: str, cause: str = "unauthorized", **fields: Any) -> None:
        self.log.note(self._report, client(address(text)), cause, **fields)

    def _report(self, event: str, **fields: Any) -> None:
        assert event == "a caller is refused"
        self.written.append(fields)


def test_one_address_has_a_line_a_minute_for_each_cause() -> None:
    lines = Lines()
    for _ in range(1_000):
        lines.refuse("192.0.2.1")
        lines.refuse("192.0.2.1", "too-many-requests", org="acme")
    assert lines.written == [
        {"address": "192.0.2.1", "cause": "unauthorized", "times": 1},
        {"address": "192.0.2.1", "cause": "too-many-requests", "times": 1, "org": "acme"},
    ]
    lines.now += AGAIN_S
    lines.refuse("192.0.2.1")
    assert lines.written[2:] == [{"address": "192.0.2.1", "cause": "unauthorized", "times": 1_000}]


def test_many_addresses_have_few_lines_and_the_others_are_counted() -> None:
    lines = Lines()
    for number in range(50_000):
        lines.refuse(f"10.0.{number // 250}.{number % 250}")
    assert len(lines.written) == MOST_LINES
    lines.now += AGAIN_S
    lines.refuse("192.0.2.1")
    assert lines.written[-1]["others_left_out"] == 50_000 - MOST_LINES


def test_the_addresses_of_one_site_are_one() -> None:
    lines = Lines()
    for number in range(1, 500):
        lines.refuse(f"2001:db8::{number:x}")
    assert [line["address"] for line in lines.written] == ["2001:db8::1"]
