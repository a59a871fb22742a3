"""Entries that can't be read are a problem with a name, of their org alone."""

from __future__ import annotations

from tests.support.blocks import raw_bit
from tests.support.posting import post
from tests.support.serving import Server
from tests.support.tampering import change, tamper

EVENTS = [{"actor": "ada", "n": number} for number in range(100)]
FIRST_BIT = 13
"""A bit of the first frame of leaves, which holds the entries 0 to 31."""


def test_what_can_t_be_read_is_named_and_nothing_else_is_lost(shared_server: Server) -> None:
    server = shared_server
    org, key = server.create_org("plain")
    path = f"/v1/orgs/{org}/entries"
    made = server.request("POST", path, EVENTS, key=key).json()["entries"]
    tamper(server.database, org, change(raw_bit, 0, "leaves", FIRST_BIT))
    for lost in (f"{path}/{made[5]['record_id']}", f"{path}?order=asc"):
        answer = server.request("GET", lost, key=key)
        assert (answer.status, answer.json()["type"].rsplit("/")[-1]) == (500, "trail-damaged")
        assert answer.json()["detail"].startswith("entries 0 to 31 can't be read: ")
        assert "full verification" in answer.json()["detail"]
    assert server.request("GET", f"{path}/{made[40]['record_id']}", key=key).status == 200
    assert len(server.request("GET", path, key=key).json()["entries"]) == 68
    other, other_key = server.create_org("plain")
    assert post(server, other, other_key).status == 201
