"""Proofs, checkpoints and anchors over HTTP, each verified with only the log's keys."""

from __future__ import annotations

import base64
import json
import threading
from itertools import pairwise
from typing import Any, NamedTuple

import pytest

from ledger import merkle
from ledger.anchor import blind
from ledger.core import proving
from ledger.log_keys import LogKeyHistory, open_anchor, open_org_checkpoint
from ledger.note import CosignatureSigner, parse_note
from ledger.proof import parse_proof
from server.http.routes.appending import waiting
from tests.support.blocks import edit
from tests.support.serving import PeerAnswer, Server
from tests.support.signed_trees import KEYS, SignedTrees
from tests.support.tampering import Tampering, change, statement, tamper

HISTORY = KEYS.public()
SIZES = (3, 300, 520)


class SignedTree(NamedTuple):
    """An org signed at three sizes, the last of which is not anchored, with one unsigned entry."""

    server: Server
    trees: SignedTrees
    org: str
    key: str
    records: list[str]

    def get(self, path: str, **headers: str) -> PeerAnswer:
        path = f"/v1/orgs/{self.org}/{path}"
        return self.server.request("GET", path, key=self.key, headers=headers)

    def proof(self, seq: int, query: str = "") -> PeerAnswer:
        return self.get(f"entries/{self.records[seq]}/proof{query}")


def append(server: Server, org: str, key: str, count: int, query: str = "") -> Any:
    events = [{"event_type": "proof", "n": number} for number in range(count)]
    path = f"/v1/orgs/{org}/entries{query}"
    answer = server.request("POST", path, events, key=key)
    assert answer.status == 201, answer.body
    return answer.json()


@pytest.fixture(scope="module")
def signed(shared_server: Server) -> SignedTree:
    trees = SignedTrees(shared_server)
    org, key = shared_server.create_org("plain")
    records: list[str] = []
    for size in SIZES:
        made = append(shared_server, org, key, size - len(records))
        records += [entry["record_id"] for entry in made["entries"]]
        trees.sign()
        if size != SIZES[-1]:
            trees.anchor()
    records += [append(shared_server, org, key, 1)["entries"][0]["record_id"]]
    return SignedTree(shared_server, trees, org, key, records)


def hashes_of(proof: Any) -> list[bytes]:
    return [bytes.fromhex(one) for one in proof["hashes"]]


def verify(org: str, proof: Any) -> None:
    """Check a proof with only the log's public keys."""
    note = proof["checkpoint"]["note"].encode()
    opened = open_org_checkpoint(note, org, HISTORY).checkpoint
    assert proof["checkpoint"]["size"] == opened.size
    assert proof["checkpoint"]["root"] == opened.root.hex()
    leaf_hash = bytes.fromhex(proof["leaf_hash"])
    merkle.verify_inclusion(proof["index"], opened.size, leaf_hash, hashes_of(proof), opened.root)
    anchoring = proof["anchoring"]
    if anchoring is not None:
        leaf = blind(bytes.fromhex(anchoring["nonce"]), note)
        assert anchoring["leaf"] == leaf.hex()
        anchor = open_anchor(anchoring["anchor"]["note"].encode(), HISTORY).checkpoint
        merkle.verify_inclusion(
            anchoring["index"],
            anchor.size,
            merkle.leaf_hash(leaf),
            hashes_of(anchoring),
            anchor.root,
        )


@pytest.mark.parametrize("seq", [0, 1, 2, 255, 256, 299, 300, 511, 512, 519])
def test_an_entry_is_proven_in_the_newest_checkpoint(signed: SignedTree, seq: int) -> None:
    answer = signed.proof(seq)
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    proof = answer.json()
    assert (proof["record_id"], proof["index"]) == (signed.records[seq], seq)
    entry = signed.get(f"entries/{signed.records[seq]}").json()
    assert proof["leaf_hash"] == entry["entry_hash"]
    assert proof["checkpoint"]["size"] == SIZES[-1]
    assert proof["anchoring"] is None
    verify(signed.org, proof)


@pytest.mark.parametrize("query", ["?anchored=true", "?size=300"])
def test_an_entry_is_proven_in_an_anchored_checkpoint(signed: SignedTree, query: str) -> None:
    proof = signed.proof(299, query).json()
    assert proof["checkpoint"]["size"] == 300
    assert proof["anchoring"]["anchor"]["size"] == 3  # one of the trail `system`
    assert proof["anchoring"]["timestamps"] == []
    verify(signed.org, proof)


def test_an_entry_is_proven_in_every_checkpoint_that_includes_it(
    signed: SignedTree,
) -> None:
    for size in SIZES:
        proof = signed.proof(2, f"?size={size}").json()
        assert proof["checkpoint"]["size"] == size
        verify(signed.org, proof)


def test_a_proof_of_an_unsigned_entry_can_be_retried(
    signed: SignedTree,
) -> None:
    for seq, query in ((520, ""), (519, "?anchored=true")):
        answer = signed.proof(seq, query)
        assert (answer.status, answer.headers["retry-after"]) == (409, "1")
        assert answer.json()["type"].endswith("/not-yet-signed")
    for query in ("?size=3", "?size=301", "?size=521"):
        assert signed.proof(300, query).status == 404
    for query in ("?size=0", "?size=x", "?size=3&anchored=true", "?sizes=3", f"?size={2**63}"):
        assert signed.proof(0, query).status == 400, query


def test_an_altered_record_id_is_not_proven(signed: SignedTree) -> None:
    record = signed.records[0]
    for other in (record[:-1] + "f", record[:12] + "0" * 14 + record[26:], "rec_0", "x"):
        assert signed.get(f"entries/{other}/proof").status == 404


def test_a_proof_as_a_tlog_proof_file(signed: SignedTree) -> None:
    record = signed.records[1]
    for query, anchored in (("?size=3", True), ("", False)):
        answer = signed.get(f"entries/{record}/proof{query}", accept="text/x-tlog-proof, */*;q=0.1")
        assert answer.headers["content-type"].partition(";")[0] == "text/x-tlog-proof"
        proof = parse_proof(answer.body)
        opened = open_org_checkpoint(proof.checkpoint, signed.org, HISTORY).checkpoint
        document = signed.proof(1, query).json()
        leaf_hash = bytes.fromhex(document["leaf_hash"])
        merkle.verify_inclusion(proof.index, opened.size, leaf_hash, proof.hashes, opened.root)
        extra = None if proof.extra is None else json.loads(proof.extra)
        assert extra == document["anchoring"]
        assert (extra is not None) == anchored


def test_every_checkpoint_ever_signed_is_listed_and_continues_the_one_before(
    signed: SignedTree,
) -> None:
    listed: list[Any] = []
    query = "?limit=2"
    while True:
        page = signed.get(f"checkpoints{query}").json()
        listed += page["checkpoints"]
        if page["next_cursor"] is None:
            break
        query = f"?limit=2&cursor={page['next_cursor']}"
    assert [one["size"] for one in listed] == sorted(SIZES, reverse=True)
    assert [one["anchor_index"] is not None for one in listed] == [False, True, True]
    for newer, older in pairwise(listed):
        answer = signed.get(f"consistency?from={older['size']}&to={newer['size']}").json()
        merkle.verify_consistency(
            older["size"],
            newer["size"],
            bytes.fromhex(older["root"]),
            bytes.fromhex(newer["root"]),
            hashes_of(answer),
        )
    for one in listed:
        opened = open_org_checkpoint(one["note"].encode(), signed.org, HISTORY).checkpoint
        assert (opened.size, opened.root.hex()) == (one["size"], one["root"])
        assert signed.get(f"checkpoints/{one['size']}").json() == one
    for size in ("0", "4", "03", "521", str(2**70), "x", "-3"):
        assert signed.get(f"checkpoints/{size}").status == 404, size


def test_consistency_is_proven_between_any_sizes_that_are_signed_over(
    signed: SignedTree,
) -> None:
    for query in ("from=0&to=520", "from=300&to=300", "from=520"):
        assert signed.get(f"consistency?{query}").json()["hashes"] == []
    assert signed.get("consistency").json() == {"from": 0, "to": 520, "hashes": []}
    assert signed.get("consistency?from=7&to=520").json()["hashes"]
    assert signed.get("consistency?from=7&to=521").status == 409
    for query in ("from=8&to=7", "from=521", "from=x", "to=-1", "form=1", f"to={2**63}"):
        assert signed.get(f"consistency?{query}").status == 400, query
    assert (
        signed.get("consistency?from=a").json()["detail"]
        == "from must be a whole number in decimal digits"
    )


def test_anchors_are_listed_and_continue_each_other(signed: SignedTree) -> None:
    server = signed.server
    anchors = server.request("GET", "/v1/log/anchors").json()
    assert anchors["next_cursor"] is None
    newer, older = anchors["anchors"]
    for one in (newer, older):
        opened = open_anchor(one["note"].encode(), HISTORY).checkpoint
        assert (opened.size, opened.root.hex()) == (one["size"], one["root"])
    query = f"from={older['size']}&to={newer['size']}"
    answer = server.request("GET", f"/v1/log/consistency?{query}").json()
    merkle.verify_consistency(
        older["size"],
        newer["size"],
        bytes.fromhex(older["root"]),
        bytes.fromhex(newer["root"]),
        hashes_of(answer),
    )
    assert server.request("GET", "/v1/log/anchors/77").status == 404


def test_an_anchor_carries_its_attestations(
    signed: SignedTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proving, "ANCHORING_TTL_S", 0.0)
    server = signed.server
    shown = server.request("GET", "/v1/log/anchors/2").json()
    assert (shown["note"], shown["timestamps"]) == (shown["signed"], [])
    witness = CosignatureSigner.from_seed("witness.example/w", b"\x07" * 32)
    text = parse_note(shown["signed"].encode()).text
    insert = "INSERT INTO anchor_cosignatures (size, witness, line) VALUES (2, $1, $2)"
    for time_s in (1_767_268_801, 1_767_268_802):
        blob = base64.b64encode(witness.key_id + witness.sign(text, time_s)).decode()
        line = f"— {witness.name} {blob}\n"
        signed.trees.execute(insert, f"{witness.name}+{witness.key_id.hex()}", line.encode())
    signed.trees.execute(
        "INSERT INTO anchor_tokens (size, gen_time, token) VALUES (2, '2026-01-01Z', $1)", b"token"
    )
    shown = server.request("GET", "/v1/log/anchors/2").json()
    opened = open_anchor(shown["note"].encode(), HISTORY, [witness.verifier()])
    assert [one.time_s for one in opened.note.verified if one.verifier == witness.verifier()] == [
        1_767_268_802
    ]
    assert shown["note"].startswith(shown["signed"])
    (token,) = shown["timestamps"]
    assert base64.b64decode(token["token"]) == b"token"
    assert token["gen_time"] == "2026-01-01T00:00:00.000000Z"
    proof = signed.proof(0, "?size=3").json()
    assert proof["anchoring"]["timestamps"] == shown["timestamps"]
    assert proof["anchoring"]["anchor"]["note"] == shown["note"]
    verify(signed.org, proof)


def test_a_proof_shows_the_attested_anchor(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Attestors sign the newest anchor, which is seldom the first one over a leaf."""
    trees = SignedTrees(server)
    org, key = server.create_org()
    record = append(server, org, key, 1)["entries"][0]["record_id"]
    sizes = []
    for _ in range(4):
        trees.sign()
        size = trees.anchor()
        assert size is not None
        sizes.append(size)
        append(server, org, key, 1)

    def anchoring() -> Any:
        path = f"/v1/orgs/{org}/entries/{record}/proof?size=1"
        proof = server.request("GET", path, key=key).json()
        verify(org, proof)
        shown = proof["anchoring"]
        return shown["anchor"]["size"], "witness" in shown["anchor"]["note"], shown["timestamps"]

    assert anchoring() == (sizes[0], False, [])
    witness = CosignatureSigner.from_seed("witness.example/w", b"\x07" * 32)
    note = server.request("GET", f"/v1/log/anchors/{sizes[1]}").json()["signed"]
    signature = witness.sign(parse_note(note.encode()).text, 1_767_268_801)
    line = f"— {witness.name} {base64.b64encode(witness.key_id + signature).decode()}\n"
    trees.execute(
        "INSERT INTO anchor_cosignatures (size, witness, line) VALUES ($1, $2, $3)",
        sizes[1],
        f"{witness.name}+{witness.key_id.hex()}",
        line.encode(),
    )
    # The answer is cached for a moment.
    monkeypatch.setattr(proving, "ANCHORING_TTL_S", 0.0)
    assert anchoring() == (sizes[1], True, [])
    for size in sizes[2:]:
        trees.execute(
            "INSERT INTO anchor_tokens (size, gen_time, token) VALUES ($1, '2026-01-01Z', $2)",
            size,
            b"token of %d" % size,
        )
    size, cosigned, (token,) = anchoring()
    assert (size, cosigned) == (sizes[2], False)
    assert base64.b64decode(token["token"]) == b"token of %d" % sizes[2]


def test_the_history_of_the_log_s_keys_is_public(signed: SignedTree) -> None:
    answer = signed.server.request("GET", "/v1/log/keys")
    assert answer.headers["content-type"] == "application/json"
    LogKeyHistory.parse(answer.body).check_pins(HISTORY.pins())


def test_an_append_answers_with_its_proof_once_it_is_signed(shared_server: Server) -> None:
    trees = SignedTrees(shared_server)
    org, key = shared_server.create_org()
    path = f"/v1/orgs/{org}/entries?wait=checkpoint"
    answers: list[PeerAnswer] = []

    def ask(body: Any, **headers: str) -> None:
        answers.append(shared_server.request("POST", path, body, key=key, headers=headers))

    minimal = {"prefer": "return=minimal"}
    for asking in (
        threading.Thread(target=ask, args=({"event_type": "x"},)),
        threading.Thread(target=ask, args=([{"n": 1}, {"n": 2}],)),
        threading.Thread(target=ask, args=([{}] * (waiting.MAX_PROVED + 1),)),
        threading.Thread(target=ask, args=([{"n": 3}],), kwargs=minimal),
    ):
        asking.start()
        while asking.is_alive():
            trees.sign()
            asking.join(0.05)
    single, pair, many, brief = [answer.json() for answer in answers]
    assert {answer.status for answer in answers} == {201}
    verify(org, single["proof"])
    assert single["proof"]["record_id"] == single["record_id"]
    for entry in pair["entries"]:
        assert entry["proof"]["leaf_hash"] == entry["entry_hash"]
        assert entry["proof"]["checkpoint"] == pair["checkpoint"]
        verify(org, entry["proof"])
    assert "proof" not in many["entries"][0]
    assert many["checkpoint"]["size"] == len(many["entries"]) + 3
    assert brief["checkpoint"]["size"] > brief["last_seq"]


def test_an_append_not_signed_in_time_reports_that(
    shared_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "WAIT_S", 0.1)
    org, key = shared_server.create_org()
    path = f"/v1/orgs/{org}/entries?wait=checkpoint"
    single = shared_server.request("POST", path, {}, key=key)
    assert (single.status, single.json()["proof"]) == (201, None)
    batch = append(shared_server, org, key, 2, "?wait=checkpoint")
    assert batch["checkpoint"] is None
    assert [entry["proof"] for entry in batch["entries"]] == [None, None]
    assert shared_server.request("GET", f"/v1/orgs/{org}/head", key=key).json()["seq"] == 2


@pytest.mark.parametrize(
    "query", ["wait=", "wait=anchor", "wait=checkpoint&wait=checkpoint", "w=1"]
)
def test_an_append_with_another_query_is_refused(shared_server: Server, query: str) -> None:
    path = f"/v1/orgs/{shared_server.org}/entries?{query}"
    answer = shared_server.request("POST", path, {}, key=shared_server.admin_key)
    assert answer.status == 400


def test_an_entry_after_signing_stopped_is_not_proven(shared_server: Server) -> None:
    org, key = shared_server.create_org()
    append(shared_server, org, key, 1)
    SignedTrees(shared_server).sign()
    record = append(shared_server, org, key, 1)["entries"][0]["record_id"]
    stop = "stopped_at = now(), stopped_reason = 'link_broken: seen'"
    tamper(shared_server.database, org, statement(f"UPDATE trees SET {stop} WHERE org_id = $1"))
    path = f"/v1/orgs/{org}/entries/{record}/proof"
    answer = shared_server.request("GET", path, key=key)
    assert (answer.status, answer.json()["reason"]) == (423, "link_broken: seen")


@pytest.mark.parametrize("tampering", [
    statement("UPDATE tile_parts SET hashes = sha256('x') WHERE org_id = $1 AND level = 0 AND start = 1"),
    statement("DELETE FROM tile_parts WHERE org_id = $1"),
    change(edit, 0, entry_hash=bytes(32)),
    statement("UPDATE checkpoints SET root = sha256('x') WHERE org_id = $1"),
], ids=lambda tampering: tampering.description)  # fmt: skip
def test_an_invalid_proof_is_not_returned(shared_server: Server, tampering: Tampering) -> None:
    trees = SignedTrees(shared_server)
    org, key = shared_server.create_org()
    record = append(shared_server, org, key, 1)["entries"][0]["record_id"]
    trees.sign()
    append(shared_server, org, key, 1)
    trees.sign()
    path = f"/v1/orgs/{org}/entries/{record}/proof"
    assert shared_server.request("GET", path, key=key).status == 200
    tamper(shared_server.database, org, tampering)
    answer = shared_server.request("GET", path, key=key)
    assert answer.status in (500, 503)
    assert record not in answer.body.decode()


@pytest.mark.parametrize("tampering", [
    statement("UPDATE tile_parts SET hashes = sha256('x') WHERE org_id = $1 AND level = 0 AND start = 2"),
    statement("DELETE FROM tile_parts WHERE org_id = $1"),
    statement("UPDATE checkpoints SET root = sha256('x') WHERE org_id = $1 AND size = 2"),
    statement("UPDATE checkpoints SET root = sha256('x') WHERE org_id = $1 AND size = 3"),
], ids=lambda tampering: tampering.description)  # fmt: skip
def test_an_invalid_consistency_proof_is_not_returned(
    shared_server: Server, tampering: Tampering
) -> None:
    trees = SignedTrees(shared_server)
    org, key = shared_server.create_org()
    append(shared_server, org, key, 2)
    trees.sign()
    append(shared_server, org, key, 1)
    trees.sign()
    path = f"/v1/orgs/{org}/consistency?from=2&to=3"
    assert shared_server.request("GET", path, key=key).status == 200
    tamper(shared_server.database, org, tampering)
    assert shared_server.request("GET", path, key=key).status == 503
