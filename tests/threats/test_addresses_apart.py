"""The addresses of blocked callers stand in one table: not in entries, rows, events or lines of the log."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from server.access.callers.notes import Cause, NotePlace
from server.threats.writing import EventWriter
from server.trails.services import Services
from tests.support.blocked_callers import Gate
from tests.support.waiting import until

ADDRESSES = ("203.0.113.201", "2001:db8:77:88:1234::5", "203.0.113.202")
BY_HAND, SITE, BY_RULE = ADDRESSES
TABLES = """
SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND n.nspname NOT IN ('pg_catalog', 'information_schema')"""


def services_of(gate: Gate) -> Services:
    services = gate.server.services
    assert services is not None
    return services


def in_server(gate: Gate, work: Any) -> Any:
    """Run a coroutine on the loop of the server."""
    loop = services_of(gate)._tasks[0].get_loop()
    return asyncio.run_coroutine_threadsafe(work, loop).result(60)


def acts(gate: Gate) -> None:
    """Ask without a key, block by hand, be refused, be blocked by the server itself, lift."""
    for address in ADDRESSES:  # callers without a key are counted by their addresses
        assert gate.coming(address, path="/livez").status == 200
    made = [gate.block(BY_HAND), gate.block(SITE)]
    for address in (BY_HAND, SITE):
        for path in ("/v1/whoami", f"/v1/orgs/{gate.server.org}/entries", "/livez"):
            assert gate.coming(address, path=path).status == 403
    services = services_of(gate)
    cause = Cause("a jailbreak, to override and bypass the system prompt by base64", 2_000)
    for number in range(5):  # of different keys: one key makes one event a minute
        place = NotePlace(
            services.register.system_id or 0, "injection_detected", f"{number:016x}", BY_RULE
        )
        services.callers.notes.note(place, cause)
    in_server(gate, services.part(EventWriter).write_noted())
    until(lambda: not gate.let_in(BY_RULE), "the server blocks it")
    assert gate.lift(made[0]["id"]) == 204
    in_server(gate, services.own.flush())


def tables_with(gate: Gate, text: str) -> set[str]:
    """The tables in which a text stands, also as bytes."""
    forms = (text, text.encode().hex())
    found = set()
    for (table,) in gate.owner(TABLES):
        for form in forms:
            query = f"SELECT 1 FROM {table} AS t WHERE strpos(t::text, '{form}') > 0 LIMIT 1"
            if gate.owner(query):
                found.add(table)
    return found


def test_no_other_place_holds_an_address(gate: Gate, capfd: pytest.CaptureFixture[str]) -> None:
    acts(gate)
    log = "".join(capfd.readouterr())
    assert "an address is blocked" in log
    trails = [
        gate.as_platform("GET", f"/v1/orgs/{slug}/{what}?limit=1000").body.decode()
        for slug in ("system", gate.server.org)
        for what in ("entries", "security-events")
    ]
    assert "quire.address_blocked" in trails[0]
    for address in (BY_HAND, BY_RULE, "2001:db8:77:88"):
        assert tables_with(gate, address) == {"addresses"}
        for text in (log, *trails):
            assert address not in text
