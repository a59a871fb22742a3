"""The shortest path through the server: append, read back, head."""

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
