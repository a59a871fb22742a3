"""A bundle that can't be finished is a problem answer or an aborted one, never a truncated success."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from ledger.client import ConnectFailedError, ConnectionLostError, LedgerClient, LedgerError
from ledger.client.bundles import PartFile
from server.http.streams import streamed_response
from tests.support.broken_bundles import BROKEN, DAMAGE
from tests.support.clusters import Database
from tests.support.offices import Bundle, Office, event, office
from tests.support.quire_process import QuireProcess
from tests.support.serving import Server
from tests.support.tampering import Tampering, statement, tamper
from tests.support.waiting import until

COUNT = 2_000
PATIENCE_S = 60


@pytest.fixture(scope="module")
def intact_office(shared_server: Server) -> Office:
    return office(shared_server, count=COUNT)


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damage_is_never_given_out_as_evidence(shared_server: Server, damage: Tampering) -> None:
    here = office(shared_server, count=COUNT)
    tamper(shared_server.database, here.org, damage)
    answer = here.request_bundle(from_seq=BROKEN - 5, to_seq=BROKEN + 5)
    kind = answer.json()["type"].rsplit("/")[-1]
    assert (answer.status, kind) in {(500, "trail-damaged"), (503, "unavailable")}
    with pytest.raises(http.client.IncompleteRead):
        here.request_bundle(from_seq=0, to_seq=COUNT - 1)
    assert here.request_bundle(from_seq=0, to_seq=200).status == 200
    assert not shared_server.services or not shared_server.services.bundles.building


def test_a_bundle_that_broke_off_leaves_no_file(shared_server: Server, tmp_path: Path) -> None:
    here = office(shared_server, count=COUNT)
    tamper(shared_server.database, here.org, DAMAGE["payload"])
    with (
        LedgerClient(shared_server.url, here.key, attempts=1) as ledger,
        pytest.raises(LedgerError, match="broke before the answer was complete"),
    ):
        ledger.export_evidence_bundle(from_seq=0).save(tmp_path / "evidence.zip")
    assert not list(tmp_path.iterdir())


def test_a_server_killed_in_the_middle_leaves_no_file(
    database: Database, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = QuireProcess(data_dir, database.server_url)
    server.start()
    org, key = server.create_org("sealed")
    taken, killed = threading.Event(), threading.Event()
    write = PartFile.write

    def write_slowly(part: PartFile, data: bytes) -> None:
        write(part, data)
        taken.set()
        assert killed.wait(PATIENCE_S)

    monkeypatch.setattr(PartFile, "write", write_slowly)
    failures: list[BaseException] = []

    def save() -> None:
        try:
            bundle = ledger.export_evidence_bundle(from_seq=0, include_pq_attestation=False)
            bundle.save(tmp_path / "evidence.zip")
        except LedgerError as error:
            failures.append(error)

    with LedgerClient(server.url, key, org, attempts=2, timeout=60) as ledger:
        # More than the socket buffers hold: the server waits in the middle of the answer.
        ledger.append_many({"n": number, "text": "x" * 8_000} for number in range(2_000))
        while ledger.proof(ledger.append({}).record_id).checkpoint.size < 2_000:
            time.sleep(0.1)
        saving = threading.Thread(target=save)
        saving.start()
        assert taken.wait(PATIENCE_S)
        server.kill()
        killed.set()
        saving.join(PATIENCE_S)
    # Not always the first: another process may have got the port and refuse the second attempt.
    assert [type(error) for error in failures] in ([ConnectFailedError], [ConnectionLostError])
    assert not list(tmp_path.iterdir())


def request_of(here: Office) -> bytes:
    body = json.dumps({"from_seq": 0, "to_seq": COUNT - 1}).encode()
    head = (
        f"POST /v1/orgs/{here.org}/bundles HTTP/1.1\r\nhost: x\r\nx-api-key: {here.key}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def begin_bundle(here: Office) -> socket.socket:
    """A connection on which a bundle has begin_bundle to arrive; the rest is not read."""
    address = urlsplit(here.server.url)
    assert address.hostname is not None
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect((address.hostname, address.port))
    connection.sendall(request_of(here))
    assert connection.recv(15) == b"HTTP/1.1 200 OK"
    return connection


def building(here: Office) -> bool:
    assert here.server.services is not None
    return here.server.services.bundles.places.open > 0


def wait_until_none_is_built(here: Office) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while building(here):
        assert time.monotonic() < deadline, "a bundle is still held"
        time.sleep(0.01)


def test_a_caller_that_disconnects_frees_its_place(intact_office: Office) -> None:
    connection = begin_bundle(intact_office)
    assert building(intact_office)
    connection.close()
    wait_until_none_is_built(intact_office)


def test_a_caller_that_reads_nothing_is_disconnected(
    intact_office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    connections = intact_office.server.connections
    monkeypatch.setattr(connections, "limits", replace(connections.limits, patience_s=0.3))
    with begin_bundle(intact_office) as connection:
        assert building(intact_office)
        wait_until_none_is_built(intact_office)
        connection.settimeout(PATIENCE_S)
        received = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := connection.recv(1 << 16):
                received += piece
    assert not received.endswith(b"0\r\n\r\n"), "an answer that was given up looks whole"


def test_other_orgs_get_places_beside_an_org_at_its_limit(
    start_servers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streamed_response, "LAG_S", PATIENCE_S)
    server = start_servers(bundles_at_once=2)
    busy, other = office(server, count=COUNT), office(server, count=5)
    with begin_bundle(busy):
        refused = busy.request_bundle(from_seq=0, to_seq=0)
        assert (refused.status, refused.headers["retry-after"]) == (429, "5")
        assert other.request_bundle(from_seq=0, to_seq=0).status == 200


def test_slow_readers_of_two_orgs_leave_their_places_to_a_third(
    start_servers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A16.5: a bundle that nobody reads holds no place, and goes on when it is read."""
    monkeypatch.setattr(streamed_response, "LAG_S", 0.05)
    server = start_servers(bundles_at_once=2)
    orgs = [office(server, count=COUNT), office(server, count=COUNT)]
    third = office(server, count=5)
    with ExitStack() as stack:
        slow = [stack.enter_context(begin_bundle(one)) for one in orgs]
        until(lambda: not server.services.bundles.building, "the places are not given back")
        assert server.services.bundles.places.open == 2
        assert third.request_bundle(from_seq=0, to_seq=4).status == 200
        for connection in slow:
            connection.settimeout(PATIENCE_S)
            received = b""
            while not received.endswith(b"0\r\n\r\n"):
                piece = connection.recv(1 << 16)
                assert piece, "the bundle was broken off"
                received = (received + piece)[-16:]
    until(lambda: not server.services.bundles.places.open, "a bundle is left open")


def test_one_org_can_not_keep_any_number_of_bundles_open(
    start_servers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streamed_response, "LAG_S", 0.05)
    server = start_servers(bundles_at_once=2)
    busy, other = office(server, count=COUNT), office(server, count=5)
    monkeypatch.setattr(server.services.bundles.places._open, "of_org", 2)
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(begin_bundle(busy))
            until(lambda: not server.services.bundles.building)
        assert busy.request_bundle(from_seq=0, to_seq=0).status == 429
        assert other.request_bundle(from_seq=0, to_seq=0).status == 200


def test_a_client_below_the_least_rate_is_disconnected(
    intact_office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reads now and then, so that no single piece waits for long."""
    connections = intact_office.server.connections
    limits = replace(connections.limits, patience_s=1.0, least_rate=1 << 40)
    monkeypatch.setattr(connections, "limits", limits)
    with begin_bundle(intact_office) as connection:
        connection.settimeout(0.1)

        def ended() -> bool:
            try:
                return not connection.recv(4_096)
            except TimeoutError:
                return False
            except ConnectionError:
                return True

        until(ended, "a slow client is still served")
    wait_until_none_is_built(intact_office)


def test_a_frozen_org_has_bundles_but_discloses_nothing(shared_server: Server) -> None:
    here = office(shared_server, count=5)
    freeze = "UPDATE heads SET frozen_at = now(), frozen_reason = 'test' WHERE org_id = $1"
    tamper(shared_server.database, here.org, statement(freeze))
    assert Bundle(here.request_bundle(from_seq=0, to_seq=4)).verdict().tree is True
    refused = here.request_bundle(from_seq=0, to_seq=4, disclose={"fields": ["payload"]})
    assert refused.status == 423
    assert refused.json()["reason"] == "test"
    assert b"PK" not in refused.body


def test_stopped_signing_is_reported_at_once(shared_server: Server) -> None:
    here = office(shared_server, count=5)
    here.append([event(5)])
    here.trees.execute(
        "UPDATE trees SET stopped_at = now(), stopped_reason = 'test' "
        "WHERE org_id = (SELECT id FROM orgs WHERE slug = $1)",
        here.org,
    )
    refused = here.request_bundle(from_seq=0, to_seq=5)
    assert (refused.status, refused.json()["reason"]) == (423, "test")
    assert here.request_bundle(from_seq=0, to_seq=4).status == 200
    here.trees.execute("UPDATE trees SET stopped_at = NULL, stopped_reason = NULL")
