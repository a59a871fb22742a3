"""The shortest path through the server: append, read back, head."""

from urllib.parse import quote

import pytest

from tests.support.serving import Server


def test_an_event_is_appended_and_read_back(server: Server) -> None:
    event = {"event_type": "user.login", "actor": "alice", "detail": [1, 2, {"deep": None}]}
    receipt = server.request("POST", f"/v1/orgs/{server.org}/entries", event, key=server.admin_key)
    assert receipt.status == 201, receipt.body
    record = receipt.json()["record_id"]
    entry = server.request(
        "GET", f"/v1/orgs/{server.org}/entries/{record}", key=server.admin_key
    ).json()
    assert entry["payload"] == event
    assert entry["actor"] == "alice"
    head = server.request("GET", f"/v1/orgs/{server.org}/head", key=server.admin_key).json()
    assert (head["seq"], head["entry_hash"]) == (0, entry["entry_hash"])


def test_a_misspelt_filter_is_refused_and_named(server: Server) -> None:
    answer = server.request("GET", f"/v1/orgs/{server.org}/entries?acter=bob", key=server.admin_key)
    assert answer.status == 400
    assert "acter" in answer.json()["detail"]


def test_a_viewer_of_a_sealed_org_searches_by_ref_only(server: Server) -> None:
    path = f"/v1/orgs/{server.org}/entries"
    posted = server.request("POST", path, {"actor": "alice"}, key=server.admin_key)
    assert posted.status == 201
    viewer = server.create_key(server.org, "viewer")
    assert server.request("GET", f"{path}?actor=alice", key=viewer).status == 400
    ref = server.request("GET", path, key=viewer).json()["entries"][0]["actor"]
    assert ref.startswith("ref:")
    found = server.request("GET", f"{path}?actor={ref}", key=viewer).json()["entries"]
    assert [entry["seq"] for entry in found] == [0]


@pytest.mark.parametrize("name", ["ref:", "ref:abc", "ref:of a person", f"ref:{'x' * 30}"])
def test_a_name_that_begins_like_a_ref_is_found(server: Server, name: str) -> None:
    path = f"/v1/orgs/{server.org}/entries"
    event = {"actor": name, "subject": name}
    assert server.request("POST", path, event, key=server.admin_key).status == 201
    for role in ("actor", "subject"):
        found = server.request("GET", f"{path}?{role}={quote(name)}", key=server.admin_key)
        assert [entry[role] for entry in found.json()["entries"]] == [name]
    viewer = server.create_key(server.org, "viewer")
    assert server.request("GET", f"{path}?actor={quote(name)}", key=viewer).status == 400


def test_a_new_key_is_not_kept_by_caches(server: Server) -> None:
    path = f"/v1/orgs/{server.org}/keys"
    made = server.request("POST", path, {"name": "a", "role": "viewer"}, key=server.admin_key)
    assert made.headers["cache-control"] == "no-store"


def test_one_org_does_not_fill_the_queue_of_verifications(server: Server) -> None:
    events = [{"n": n} for n in range(5_000)]
    path = f"/v1/orgs/{server.org}"
    assert server.request("POST", f"{path}/entries", events, key=server.admin_key).status == 201
    answers = [
        server.request("POST", f"{path}/verifications", key=server.admin_key) for _ in range(12)
    ]
    assert {answer.status for answer in answers} == {202, 429}
    assert sum(answer.status == 202 for answer in answers) < 12
    other, key = server.create_org()
    done = server.request("POST", f"/v1/orgs/{other}/verifications?wait=60", key=key)
    assert done.status == 200
