"""Evidence bundles over HTTP, each verified offline with only the log's pinned keys."""

from __future__ import annotations

import base64
import json
import threading
import zipfile
from typing import Any

import pytest

from ledger import sealing
from ledger.entry import decode_leaf, parse_record_id
from ledger.errors import SealingError
from ledger.evidence.verdict import Judgement
from server.http.routes import bundles, disclosures
from tests.support.offices import ANN, BOB, COUNT, CYD, PERSONS, Bundle, Office, event, office
from tests.support.serving import PeerAnswer, Server

HOLDS = ("hashes", "payloads", "tree", "checkpoints", "classical_signature")
ANCHORED = (*HOLDS, "anchors", "pq_signature")


@pytest.fixture(scope="module")
def sealed(shared_server: Server) -> Office:
    return office(shared_server)


@pytest.fixture(scope="module")
def plain(shared_server: Server) -> Office:
    return office(shared_server, "plain", 300)


def verified(bundle: Bundle, *checks: str) -> Judgement:
    verdict = bundle.verdict()
    assert verdict.unreadable is None
    assert {check: verdict.answers()[check] for check in checks} == dict.fromkeys(checks, True)
    assert False not in verdict.answers().values(), verdict.reasons
    return verdict


def opened(office: Office, line: Any, seal: str) -> bytes:
    aad = sealing.payload_aad(office.org, seal)
    payload = base64.b64decode(line["payload"])
    return sealing.open_with_payload_key(bytes.fromhex(line["key"]), aad, payload)


def test_a_range_with_everything(sealed: Office) -> None:
    bundle = sealed.bundle(from_seq=250, to_seq=COUNT - 1)
    verdict = verified(bundle, *ANCHORED, "links")
    assert verdict.outcome == "verified"
    assert bundle.seqs() == list(range(250, COUNT))
    assert bundle.manifest["entries"] == {"count": 370, "first_seq": 250, "last_seq": COUNT - 1}
    assert bundle.manifest["request"]["from_seq"] == 250
    assert {line["state"] for line in bundle.payloads().values()} == {"sealed"}
    assert bundle.headers["content-disposition"] == (
        f'attachment; filename="quire-{sealed.org}-250-{COUNT - 1}.zip"'
    )
    assert "content-length" not in bundle.headers


@pytest.mark.parametrize("seq", [0, 255, 256, 511, 512, COUNT - 1])
def test_one_record_of_each_corner_of_the_tree(sealed: Office, seq: int) -> None:
    bundle = sealed.bundle(record_ids=[sealed.records[seq]])
    verified(bundle, *ANCHORED)
    assert bundle.seqs() == [seq]


def test_records_come_in_the_trail_s_order_and_once(sealed: Office) -> None:
    asked = [sealed.records[seq] for seq in (513, 3, 300, 3)]
    bundle = sealed.bundle(record_ids=asked)
    verified(bundle, *ANCHORED)
    assert bundle.seqs() == [3, 300, 513]
    assert bundle.manifest["request"]["record_ids"] == asked


def test_a_filter_selects_all_matching_entries(sealed: Office) -> None:
    bundle = sealed.bundle(filter={"subject": BOB, "event_type": "case.1"})
    verified(bundle, *ANCHORED)
    assert bundle.seqs() == [n for n in range(COUNT) if n % 3 == 1 and n % 2 == 1]
    asked = bundle.manifest["request"]["filter"]
    assert asked["event_type"] == "case.1"
    assert asked["subject"].startswith("ref:"), "the name would outlive its erasure"
    assert BOB.encode() not in bundle.bytes


def test_omitted_parts_are_not_in_the_bundle(sealed: Office) -> None:
    bare = sealed.bundle(
        from_seq=3,
        to_seq=9,
        include_merkle_proofs=False,
        include_payloads=False,
        include_pq_attestation=False,
    )
    verified(bare, "hashes", "links", "checkpoints")
    folders = {name.partition("/")[0] for name in bare.zip.namelist() if "/" in name}
    assert folders == {"leaves", "checkpoints"}
    assert bare.manifest["anchor"] is None


def test_a_plain_org_s_payloads_are_plain(plain: Office) -> None:
    bundle = plain.bundle(from_seq=0, to_seq=299)
    verified(bundle, *ANCHORED)
    lines = bundle.payloads()
    assert {line["state"] for line in lines.values()} == {"plain"}
    assert json.loads(base64.b64decode(lines[7]["payload"]))["number"] == 7


def test_disclosing_one_record_opens_exactly_that_one(sealed: Office) -> None:
    place = parse_record_id(sealed.records[4])
    bundle = sealed.bundle(
        from_seq=0, to_seq=11, disclose={"records": [sealed.records[4]], "fields": ["payload"]}
    )
    verified(bundle, *ANCHORED)
    lines = bundle.payloads()
    states = {seq: line["state"] for seq, line in lines.items()}
    assert states == {seq: "disclosed" if seq == place.seq else "sealed" for seq in range(12)}
    leaves = [decode_leaf(line) for line in bundle.lines("leaves/")]
    seal = leaves[4].payload.seal
    assert seal is not None
    assert json.loads(opened(sealed, lines[4], seal)) == event(4)
    # The disclosed key does not open the same person's other records.
    for seq in (1, 7, 10):
        assert leaves[seq].payload.seal == seal
        with pytest.raises(SealingError):
            opened(sealed, {**lines[seq], "key": lines[4]["key"]}, seal)
    assert "names.json" not in bundle.zip.namelist()


def test_disclosing_names_names_those_of_the_records_only(sealed: Office) -> None:
    records = [sealed.records[0]]
    bundle = sealed.bundle(
        from_seq=0, to_seq=5, disclose={"records": records, "fields": ["actor", "subject"]}
    )
    verified(bundle, *ANCHORED)
    assert sorted(bundle.names().values()) == [ANN, "clerk"]
    assert {line["state"] for line in bundle.payloads().values()} == {"sealed"}
    everyone = sealed.bundle(from_seq=0, to_seq=5, disclose={"fields": ["subject"]})
    assert sorted(everyone.names().values()) == sorted(PERSONS)


def test_a_disclosure_is_an_entry_of_the_trail(sealed: Office) -> None:
    before = sealed.server.request("GET", f"/v1/orgs/{sealed.org}/head", key=sealed.key).json()
    sealed.bundle(from_seq=0, to_seq=2)
    sealed.bundle(
        record_ids=[sealed.records[seq] for seq in (2, 5)],
        disclose={"records": "all", "fields": ["payload", "subject"]},
    )
    path = f"/v1/orgs/{sealed.org}/entries?limit=1"
    newest = sealed.server.request("GET", path, key=sealed.key).json()["entries"][0]
    assert newest["seq"] == before["seq"] + 1
    assert newest["event_type"] == "quire.bundle_disclosed"
    payload = newest["payload"]
    assert payload["actor"].startswith("key:")
    assert payload["fields"] == ["payload", "subject"]
    assert (payload["first_seq"], payload["last_seq"], payload["count"]) == (2, 5, 2)
    assert (payload["runs"], payload["part"], payload["parts"]) == ([[2, 2], [5, 5]], 1, 1)


@pytest.mark.parametrize("whole", [True, False])
def test_every_disclosed_entry_is_recorded_before_the_first_byte(
    sealed: Office, monkeypatch: pytest.MonkeyPatch, whole: bool
) -> None:
    monkeypatch.setattr(disclosures, "RUNS_MAX", 100)
    chosen = [*range(0, 500, 2), 501, 502]
    records = [sealed.records[seq] for seq in chosen]
    path = f"/v1/orgs/{sealed.org}"
    head = sealed.server.request("GET", f"{path}/head", key=sealed.key).json()["seq"]
    asked = {"record_ids": records} if whole else {"from_seq": 0, "to_seq": 502}
    sealed.bundle(**asked, disclose={"records": "all" if whole else records, "fields": ["payload"]})
    page = sealed.server.request("GET", f"{path}/entries?limit=10", key=sealed.key).json()
    recorded = [entry["payload"] for entry in reversed(page["entries"]) if entry["seq"] > head]
    assert {part["event_type"] for part in recorded} == {"quire.bundle_disclosed"}
    assert [(part["part"], part["parts"]) for part in recorded] == [(1, 3), (2, 3), (3, 3)]
    named = [n for part in recorded for first, last in part["runs"] for n in range(first, last + 1)]
    assert named == chosen
    assert sum(part["count"] for part in recorded) == len(chosen)


def test_an_erased_subject_is_included_and_still_proves_its_place(shared_server: Server) -> None:
    here = office(shared_server, count=9)
    path = f"/v1/orgs/{here.org}/subjects/{BOB}"
    assert here.server.request("DELETE", path, key=here.key).status == 200
    bundle = here.bundle(from_seq=0, to_seq=8, disclose={"fields": ["payload", "actor", "subject"]})
    verified(bundle, *ANCHORED, "links")
    lines = bundle.payloads()
    assert [lines[seq]["state"] for seq in range(3)] == ["disclosed", "erased", "disclosed"]
    assert all(lines[seq]["key"] is None for seq in (1, 4, 7))
    assert sorted(bundle.names().values()) == [ANN, "clerk", CYD]
    assert BOB.encode() not in bundle.bytes


def test_the_same_request_makes_the_same_bytes(sealed: Office) -> None:
    asked: dict[str, Any] = {"from_seq": 0, "to_seq": COUNT - 1}
    first = sealed.bundle(**asked)
    assert sealed.bundle(**asked).bytes == first.bytes
    sealed.append([event(0)])
    sealed.trees.sign()
    sealed.trees.anchor()
    assert sealed.bundle(**asked).bytes == first.bytes, "entries of later change no older bundle"


def test_the_manifest_is_the_last_member_and_nothing_is_compressed(sealed: Office) -> None:
    bundle = sealed.bundle(from_seq=0, to_seq=1)
    infos = bundle.zip.infolist()
    assert infos[-1].filename == "manifest.json"
    assert {info.compress_type for info in infos} == {zipfile.ZIP_STORED}
    assert bundle.zip.testzip() is None


@pytest.mark.parametrize("disclose", [None, {"records": "all", "fields": ["payload"]}])
def test_records_of_others_are_never_included(sealed: Office, plain: Office, disclose: Any) -> None:
    own = sealed.records[0]
    for theirs in (plain.records[0], "rec_" + "0" * 32, "x", own[:12] + "0" * 14 + own[26:]):
        answer = sealed.request_bundle(record_ids=[sealed.records[0], theirs], disclose=disclose)
        assert answer.status == 404, answer.body
        asked = {"records": [theirs], "fields": ["payload"]}
        answer = sealed.request_bundle(from_seq=0, to_seq=3, disclose=asked)
        assert answer.status in {400, 404}
    for office_, key in ((sealed, plain.key), (plain, sealed.key)):
        assert office_.request_bundle(key, from_seq=0, to_seq=0).status == 404


def test_a_viewer_gets_bundles_and_discloses_nothing(sealed: Office) -> None:
    viewer = sealed.server.create_key(sealed.org, "viewer")
    bundle = sealed.bundle(viewer, from_seq=0, to_seq=5)
    verified(bundle, *ANCHORED)
    assert {line["state"] for line in bundle.payloads().values()} == {"sealed"}
    refused = sealed.request_bundle(viewer, from_seq=0, to_seq=0, disclose={"fields": ["payload"]})
    assert refused.status == 403
    assert sealed.request_bundle(viewer, filter={"subject": BOB}).status == 400
    ref = decode_leaf(bundle.lines("leaves/")[1]).subject
    by_ref = sealed.bundle(viewer, filter={"subject": ref})
    assert by_ref.seqs()[0] == 1


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({}, 400),
        ({"record_ids": []}, 400),
        ({"from_seq": 5, "to_seq": 4}, 400),
        ({"from_seq": 0, "filter": {}}, 400),
        ({"from_seq": -1}, 400),
        ({"from_seq": 0, "to_seq": 2**40}, 400),
        ({"from_seq": 0, "to_seq": 10_000}, 404),
        ({"from_seq": 10_000}, 404),
        ({"filter": {"subject": "nobody"}}, 404),
        ({"filter": {"event_type": "no.such"}}, 404),
        ({"filter": {"since": "yesterday"}}, 400),
        ({"filter": {"subjct": "bob"}}, 400),
        ({"from_seq": 0, "disclose": {"fields": []}}, 400),
        ({"from_seq": 0, "disclose": {"fields": ["actor", "actor"]}}, 400),
        ({"from_seq": 0, "disclose": {"records": []}}, 400),
        ({"from_seq": 0, "include_payloads": False, "disclose": {}}, 400),
        ({"form_seq": 0}, 400),
    ],
)
def test_an_invalid_bundle_request_is_refused(sealed: Office, asked: Any, status: int) -> None:
    answer = sealed.request_bundle(**asked)
    assert answer.status == status, answer.body
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_record_outside_the_bundle_is_not_disclosed(sealed: Office) -> None:
    asked = {"records": [sealed.records[9]], "fields": ["payload"]}
    assert sealed.request_bundle(from_seq=0, to_seq=8, disclose=asked).status == 400


def test_entries_that_are_not_anchored_are_waited_for(
    shared_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = office(shared_server, count=2)
    here.append([event(2)])
    monkeypatch.setattr(bundles, "POLL_INTERVAL_S", 10**6)  # the wait ends at once
    answer = here.request_bundle(from_seq=0, to_seq=2)
    assert (answer.status, answer.headers["retry-after"]) == (409, "1")
    assert answer.json()["type"].endswith("/not-yet-signed")
    here.trees.sign()
    assert here.request_bundle(from_seq=0, to_seq=2).status == 409
    without = here.bundle(from_seq=0, to_seq=2, include_pq_attestation=False)
    verified(without, *HOLDS)
    monkeypatch.undo()
    waited: list[PeerAnswer] = []
    asking = threading.Thread(
        target=lambda: waited.append(here.request_bundle(from_seq=0, to_seq=2))
    )
    asking.start()
    here.trees.anchor()
    asking.join()
    verified(Bundle(waited[0]), *ANCHORED)


def test_too_many_entries_and_too_many_bundles(start_servers: Any) -> None:
    server = start_servers(max_bundle_entries=5, bundles_at_once=1, bundle_wait_seconds=5.0)
    server.org, server.admin_key = server.create_org()
    here = office(server, count=6)
    assert here.request_bundle(from_seq=0, to_seq=5).status == 400
    assert here.request_bundle(filter={"actor": "clerk"}).status == 400
    assert here.request_bundle(record_ids=here.records).status == 400
    assert here.bundle(from_seq=1, to_seq=5).seqs() == [1, 2, 3, 4, 5]
    services = server.services
    with services.bundles.place(1):
        answer = here.request_bundle(from_seq=0, to_seq=0)
    assert (answer.status, answer.headers["retry-after"]) == (503, "5")
    assert here.request_bundle(from_seq=0, to_seq=0).status == 200
