"""Blocks on several processes: what one decides all do; rows in the database decide nothing."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from server.threats.blocks.parts import block_list
from tests.cli.commands import call, run
from tests.support.blocked_callers import EXEMPT, Gate
from tests.support.clusters import blocking
from tests.support.raw_http import Line
from tests.support.serving import MASTER_KEY, SIGNING_KEY, start_server
from tests.support.waiting import until
from tests.support.watching import never_ending

OTHERS_EXEMPT = "203.0.113.99"


@pytest.fixture(scope="module")
def second_gate(gate: Gate) -> Iterator[Gate]:
    """Another server on the same database, with one more exempt address, and a private listener."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    running = start_server(
        gate.server.database,
        gate.server.settings.data_dir,
        trusted_proxies="127.0.0.0/8",
        block_exempt=f"{EXEMPT}, {OTHERS_EXEMPT}",
        metrics_port=port,
    )
    running.platform_key = gate.server.platform_key
    running.org, running.admin_key = gate.server.org, gate.server.admin_key
    yield Gate(running)
    running.stop()


def silenced(gate: Gate, *names: str) -> None:
    """End tasks of a server."""
    services = gate.server.services
    assert services is not None
    tasks = [task for task in services._tasks if task.get_name().rpartition(":")[2] in names]
    for task in tasks:
        task.get_loop().call_soon_threadsafe(task.cancel)
    until(lambda: all(task.done() for task in tasks))


def reported(gate: Gate, digest: str) -> None:
    """Wait for a security event about the row of an address."""
    query = (
        "SELECT 1 FROM security_events WHERE kind = 'row_not_authentic' "
        f"AND detail LIKE '%address_blocks%{digest}%'"
    )
    until(lambda: gate.owner(query), "no event about the row")


def digest_of(gate: Gate, block_id: str) -> str:
    found = gate.owner(f"SELECT encode(digest, 'hex') FROM address_blocks WHERE id = '{block_id}'")
    return str(found[0][0])


def compared(gate: Gate) -> int:
    """How many rows of blocks are not right, as the server finds once a minute."""
    services = gate.server.services
    assert services is not None
    listed = services.part(block_list)
    loop = services._tasks[0].get_loop()
    return asyncio.run_coroutine_threadsafe(listed.compare(), loop).result(60)


def test_a_block_and_its_end_reach_other_servers(gate: Gate, second_gate: Gate) -> None:
    made = gate.block("203.0.113.1")
    until(lambda: not second_gate.let_in("203.0.113.1"))
    assert second_gate.blocks()[made["id"]] == made
    assert second_gate.lift(made["id"]) == 204
    until(lambda: gate.let_in("203.0.113.1"))


def test_a_server_that_hears_no_notice_follows_the_trail(gate: Gate, second_gate: Gate) -> None:
    silenced(second_gate, "follow_notifications")
    made = gate.block("203.0.113.2")
    until(lambda: not second_gate.let_in("203.0.113.2"))
    assert gate.lift(made["id"]) == 204
    until(lambda: second_gate.let_in("203.0.113.2"))


def test_the_exempt_of_each_server_is_let_in_whatever_another_says(
    gate: Gate, second_gate: Gate
) -> None:
    made = gate.block(OTHERS_EXEMPT)
    assert not gate.let_in(OTHERS_EXEMPT)
    until(lambda: made["id"] in second_gate.blocks())
    assert second_gate.let_in(OTHERS_EXEMPT)
    assert gate.lift(made["id"]) == 204


def test_the_private_listener_refuses_nobody(gate: Gate, second_gate: Gate) -> None:
    made = gate.block("203.0.113.9")
    until(lambda: not second_gate.let_in("203.0.113.9"))
    port = second_gate.server.settings.metrics_port
    private = Gate(replace(second_gate.server, url=f"http://127.0.0.1:{port}"))
    for path in ("/livez", "/readyz", "/metrics"):
        assert private.coming("203.0.113.9", path=path).status in {200, 503}
        assert second_gate.coming("203.0.113.9", path=path).status == 403
    assert gate.lift(made["id"]) == 204


def test_a_block_ends_by_the_clock(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    services = gate.server.services
    assert services is not None
    made = gate.block("203.0.113.3", 1)
    now_us = services.blocked.now_us
    ahead_us = 3_600_000_000
    monkeypatch.setattr(services.blocked, "now_us", lambda: now_us() + ahead_us - 2_000_000)
    refused = gate.coming("203.0.113.3")
    assert refused.headers["retry-after"] in {"1", "2"}
    monkeypatch.setattr(services.blocked, "now_us", lambda: now_us() + ahead_us)
    assert gate.let_in("203.0.113.3")
    assert gate.blocks() == {}
    monkeypatch.undo()
    assert gate.lift(made["id"]) == 204


@pytest.mark.parametrize("blocked_by", ["this server", "another"])
def test_the_event_stream_of_a_blocked_caller_ends(
    gate: Gate, second_gate: Gate, blocked_by: str
) -> None:
    server, job = gate.server, blocking(never_ending(gate.server))
    path = f"/v1/orgs/{server.org}/verifications/{job}/events"
    with Line(server) as line, Line(server) as another:
        for one, address in ((line, "203.0.113.4"), (another, "203.0.113.5")):
            one.send(
                f"GET {path} HTTP/1.1\r\nhost: x\r\nx-api-key: {server.admin_key}\r\n"
                f"x-forwarded-for: {address}\r\n\r\n".encode()
            )
            received = b""
            while b"event: progress" not in received:
                received += one.socket.recv(65_536)
        by = gate if blocked_by == "this server" else second_gate
        made = by.block("203.0.113.4")
        assert not line.read().endswith(b"0\r\n\r\n")
        another.socket.settimeout(0.5)
        with pytest.raises(TimeoutError):  # that of another address goes on
            another.socket.recv(1)
    assert by.lift(made["id"]) == 204
    until(lambda: gate.let_in("203.0.113.4"))


CHANGES = {
    "removed": "DELETE FROM address_blocks WHERE id = '{id}' RETURNING 1",
    "ended": "UPDATE address_blocks SET until = now() WHERE id = '{id}' RETURNING 1",
    "lifted": "UPDATE address_blocks SET lifted_at = now(), lifted_by = 'x' WHERE id = '{id}' "
    "RETURNING 1",
    "of another address": "UPDATE address_blocks SET digest = decode(md5('x'), 'hex') "
    "WHERE id = '{id}' RETURNING 1",
    "for another reason": "UPDATE address_blocks SET reason = 'x' WHERE id = '{id}' RETURNING 1",
    "without its MAC": "UPDATE address_blocks SET mac = '' WHERE id = '{id}' RETURNING 1",
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_changed_row_lifts_no_block_and_is_reported(
    gate: Gate, second_gate: Gate, change: str
) -> None:
    made = gate.block("203.0.113.6")
    digest = digest_of(gate, made["id"])
    assert gate.owner(change.format(**made))
    assert compared(second_gate) >= 1
    reported(gate, digest)
    for each in (gate, second_gate):
        until(lambda each=each: not each.let_in("203.0.113.6"))  # type: ignore[misc]
    shown = gate.blocks()[made["id"]]
    assert (shown["authentic"], shown["reason"], shown["until"]) == (False, None, made["until"])
    gate.owner("DELETE FROM security_events RETURNING 1")
    assert gate.lift(made["id"]) == 204
    assert gate.let_in("203.0.113.6")
    gate.owner("DELETE FROM address_blocks WHERE digest = decode(md5('x'), 'hex') RETURNING 1")
    assert compared(gate) == 0, "lifting makes the row anew"


def test_a_row_that_is_planted_or_put_back_blocks_nobody(gate: Gate, second_gate: Gate) -> None:
    made = gate.block("203.0.113.7")
    digest = digest_of(gate, made["id"])
    gate.owner("CREATE TABLE kept_block AS SELECT * FROM address_blocks", "SELECT 1")
    assert gate.lift(made["id"]) == 204
    gate.owner(
        f"DELETE FROM address_blocks WHERE digest = decode('{digest}', 'hex')",
        f"INSERT INTO address_blocks SELECT * FROM kept_block WHERE id = '{made['id']}' RETURNING 1",
    )
    planted = "ab" * 16
    gate.owner(
        f"UPDATE kept_block SET digest = decode('{planted}', 'hex')",
        f"INSERT INTO address_blocks SELECT * FROM kept_block WHERE id = '{made['id']}' RETURNING 1",
    )
    assert compared(gate) == 2
    reported(gate, digest)
    reported(gate, planted)
    assert made["id"] not in gate.blocks()
    assert gate.let_in("203.0.113.7")
    until(lambda: second_gate.let_in("203.0.113.7"))
    verified = gate.as_platform("POST", "/v1/orgs/system/verifications?wait=60", {}).json()
    assert verified["result"]["checks"]["rows"] is False
    assert all("address_blocks" in each["reason"] for each in verified["result"]["errors"])
    gate.owner("DELETE FROM address_blocks RETURNING 1")
    anew = gate.block("203.0.113.7")
    assert gate.lift(anew["id"]) == 204


def settings_of(gate: Gate) -> dict[str, str]:
    server = gate.server
    return {
        "QUIRE_DATABASE_URL": server.database.server_url,
        "QUIRE_DATABASE_OWNER_URL": server.database.owner_url,
        "QUIRE_DATA_DIR": str(server.settings.data_dir),
        "QUIRE_MASTER_KEY": MASTER_KEY,
        "QUIRE_AUDIT_SECRET_KEY": SIGNING_KEY,
        "QUIRE_BLOCK_EXEMPT": EXEMPT,
    }


def documents(text: bytes) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]


def test_the_command_line_blocks_and_lifts_while_the_server_runs(gate: Gate) -> None:
    settings = settings_of(gate)
    arguments = ("203.0.113.8", "--reason", "tries keys", "--hours", "2", "--json")
    (made,) = documents(call("security", "block", *arguments, settings=settings).stdout)
    assert (made["address"], made["blocked_by"]) == ("203.0.113.8", "operator")
    until(lambda: not gate.let_in("203.0.113.8"))
    listed = call("security", "list", "--json", settings=settings).stdout
    assert documents(listed) == [made] == list(gate.blocks().values())
    assert b"203.0.113.8" in call("security", "list", settings=settings).stdout
    lifted = call("security", "unblock", "203.0.113.8", settings=settings)
    assert lifted.returncode == 0, lifted.stderr
    until(lambda: gate.let_in("203.0.113.8"))
    again = call("security", "unblock", made["id"], settings=settings)
    assert again.returncode == 2
    assert b"is not blocked" in again.stderr
    exempt = call("security", "block", "127.0.0.1", "--reason", "x", settings=settings)
    assert exempt.returncode == 2
    assert b"never blocked" in exempt.stderr
    nobody = run("security", "list", settings=settings)
    assert (nobody.returncode, nobody.stdout) == (0, b"")
