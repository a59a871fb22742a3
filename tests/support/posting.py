"""Appending over HTTP in a test, and reading the answers."""

from __future__ import annotations

from typing import Any

from tests.support.serving import PeerAnswer, Server

JSON, NDJSON, MSGPACK = "application/json", "application/x-ndjson", "application/msgpack"


def append(
    server: Server, body: Any, content_type: str | None = JSON, **headers: str
) -> PeerAnswer:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    if content_type is not None:
        sent["content-type"] = content_type
    path = f"/v1/orgs/{server.org}/entries"
    return server.request("POST", path, body, key=server.admin_key, headers=sent)


def problem_of(answer: PeerAnswer) -> str:
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == answer.status
    return str(problem["type"]).rpartition("/")[2]


def head_seq(server: Server) -> int:
    answer = server.request("GET", f"/v1/orgs/{server.org}/head", key=server.admin_key)
    return int(answer.json()["seq"])


def post(server: Server, org: str, key: str) -> PeerAnswer:
    return server.request("POST", f"/v1/orgs/{org}/entries", {"event_type": "x"}, key=key)
