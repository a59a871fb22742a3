"""Metrics need their token or the private listener; strangers learn from readyz only whether."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from server.http.operators import SharedReading, database_gauges
from tests.support.clusters import Cluster
from tests.support.serving import AS_OPERATOR, METRICS_TOKEN, Server, start_server

DETAILS = {"database", "migrations", "sequencer", "clock", "appends", "signing"}


@pytest.fixture(scope="module")
def private(postgres_cluster: Cluster, session_dir: Path) -> Iterator[tuple[Server, Server]]:
    """A server without a token, by its API's address and by that of its private listener."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    database = postgres_cluster.migrated()
    server = start_server(database, session_dir / "private", metrics_port=port, metrics_token=None)
    yield server, replace(server, url=f"http://127.0.0.1:{port}")
    server.stop()
    postgres_cluster.drop(database)


@pytest.mark.parametrize(
    "sent",
    [
        {},
        {"authorization": "Bearer "},
        {"authorization": f"Bearer {METRICS_TOKEN}x"},
        {"authorization": f"Bearer {METRICS_TOKEN[:-1]}"},
        {"authorization": f"Basic {METRICS_TOKEN}"},
        {"authorization": f"Bearer {METRICS_TOKEN[:-1]}\xe9"},
        {"x-forwarded-for": "127.0.0.1"},
        {"host": "127.0.0.1:9"},
    ],
)
def test_metrics_need_their_token(shared_server: Server, sent: dict[str, str]) -> None:
    answer = shared_server.request("GET", "/metrics", headers=sent)
    assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert b"quire_entries" not in answer.body


def test_no_api_key_reads_metrics(shared_server: Server) -> None:
    for key in (shared_server.platform_key, shared_server.admin_key):
        assert shared_server.request("GET", "/metrics", key=key).status == 401
    assert "\nquire_unsigned_entries " in shared_server.metrics()


def test_without_token_and_listener_nobody_reads_metrics(private: tuple[Server, Server]) -> None:
    public, _ = private
    assert public.settings.metrics_token is None
    for headers in ({}, AS_OPERATOR, {"authorization": "Bearer None"}, {"authorization": "Bearer"}):
        assert public.request("GET", "/metrics", headers=headers).status == 401


def test_the_private_listener_serves_metrics_and_health_only(
    private: tuple[Server, Server],
) -> None:
    _, listener = private
    assert listener.request("GET", "/metrics").body.startswith(b"# HELP quire_")
    assert listener.request("GET", "/readyz").json().keys() == {"ready", *DETAILS}
    assert listener.request("GET", "/livez").status == 200
    for method, path in (
        ("GET", "/v1/whoami"),
        ("GET", "/v1/orgs"),
        ("POST", "/v1/orgs/x/entries"),
        ("GET", "/v1/log/checkpoint"),
        ("GET", "/docs"),
        ("OPTIONS", "/v1/orgs"),
    ):
        answer = listener.request(method, path, key=listener.platform_key)
        assert answer.status == 404, path
        assert answer.headers["cache-control"] == "no-store"


def test_the_private_listener_is_known_by_its_socket(private: tuple[Server, Server]) -> None:
    public, listener = private
    host = listener.url.removeprefix("http://")
    for headers in ({"host": host}, {"x-forwarded-host": host, "x-forwarded-port": host[-5:]}):
        assert public.request("GET", "/metrics", headers=headers).status == 401
        assert public.request("GET", "/readyz", headers=headers).json() == {"ready": True}


def test_readyz_tells_a_stranger_only_whether(shared_server: Server) -> None:
    for key in (None, shared_server.admin_key, "quire_live_but_no_key"):
        answer = shared_server.request("GET", "/readyz", key=key)
        assert (answer.status, answer.json()) == (200, {"ready": True})
    for answer in (
        shared_server.readiness(),
        shared_server.request("GET", "/readyz", key=shared_server.platform_key),
    ):
        assert answer.json().keys() == {"ready", *DETAILS}


def test_a_stranger_s_calls_measure_nothing(shared_server: Server) -> None:
    """The gauges read the head of each org: for operators only."""
    assert shared_server.services is not None
    gauges = shared_server.services.part(database_gauges)
    shared_server.metrics()
    measured = gauges._last
    for _ in range(20):
        assert shared_server.request("GET", "/readyz").status == 200
        assert shared_server.request("GET", "/metrics").status == 401
    assert gauges._last is measured


async def test_calls_of_a_moment_share_a_reading() -> None:
    read: list[int] = []

    async def reading() -> int:
        await asyncio.sleep(0)
        read.append(1)
        return len(read)

    shared = SharedReading(reading, fresh_s=3_600)
    assert await asyncio.gather(*(shared.get() for _ in range(50))) == [1] * 50
    old = SharedReading(reading, fresh_s=-1)
    assert (await old.get(), await old.get()) == (2, 3)
