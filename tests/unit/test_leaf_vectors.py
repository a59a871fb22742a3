"""The published leaf vectors, against this code and against one that shares none of it.

The second implementation is written from ``docs/format.md``: standard library,
``rfc8785``, ``blake3`` and ``cryptography`` only.
"""

import hashlib
import hmac
import json
from base64 import b64decode
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import rfc8785
from blake3 import blake3
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ledger.chain import StoredEntry, check_entry
from ledger.entry import parse_record_id, to_datetime
from ledger.keys import SigningKey, SigningKeyring
from ledger.sealing import open_payload, org_data_key, payload_aad
from tests.vectors import make_leaf_vectors

FILES = sorted((Path(__file__).parent.parent / "vectors/leaf").glob("*.json"))
COPIED = ["action", "data_classification", "event_type", "legal_basis", "outcome", "timestamp"]


@pytest.fixture(params=FILES, ids=lambda file: file.stem)
def vector(request: pytest.FixtureRequest) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(request.param.read_bytes())
    return loaded


def test_the_script_makes_exactly_these_files() -> None:
    made = {f"{case.name}.json": make_leaf_vectors.text(case) for case in make_leaf_vectors.CASES}
    assert made == {file.name: file.read_text(encoding="utf-8") for file in FILES}


def hmac_sha256(key: bytes, message: bytes) -> bytes:
    return hmac.new(key, message, hashlib.sha256).digest()


def unpack_short_map(packed: bytes) -> dict[str, str]:
    """The text entries of a MessagePack map whose sizes each fit one byte."""
    found, at = {}, 1
    for _ in range(packed[0] & 15):
        name = packed[at + 1 : at + 1 + (packed[at] & 31)].decode()
        at += 1 + len(name)
        if packed[at] == 0xC4:
            at += 2 + packed[at + 1]
            continue
        found[name] = packed[at + 1 : at + 1 + (packed[at] & 31)].decode()
        at += 1 + len(found[name])
    return found


def seal(event: bytes, keys: dict[str, Any], seal_ref: str, org: str) -> bytes:
    derived = hmac_sha256(bytes.fromhex(keys["org_key"]), b"quire/v1/derive\0org-data")
    data_key = bytes.fromhex(keys["subject_key"]) if keys["subject_key"] else derived
    salt = bytes.fromhex(keys["salt"])
    key = hmac_sha256(data_key, b"quire/v1/payload-key\0" + salt)
    commitment = hashlib.sha256(b"quire/v1/payload-key-commitment\0" + key).digest()
    aad = b"quire/v1/payload\0" + org.encode() + b"\0" + seal_ref.encode()
    return b"\x01" + salt + commitment + AESGCM(key).encrypt(bytes(12), event, aad)


def tag(value: str | None) -> int:
    if value is None:
        return 0
    return int.from_bytes(hashlib.sha256(value.encode()).digest()[:3], "big") or 1


def reproduce(vector: dict[str, Any]) -> dict[str, Any]:
    """All that follows from a vector's input."""
    org, head, keys = vector["org"], vector["head"], vector["sealing"]
    event = b64decode(vector["event"]["base64"])
    is_json = vector["event"]["format"] == "json"
    fields = json.loads(event) if is_json else unpack_short_map(event)
    actor, subject, stored, seal_ref = fields.get("actor"), fields.get("subject"), event, None
    if keys is not None:
        actor, subject = keys["refs"].get(actor), keys["refs"].get(subject)
        seal_ref = subject or "org"
        stored = seal(event, keys, seal_ref, org["slug"])
    digest = {"blake3": blake3(stored).hexdigest(), "seal": seal_ref, "size": len(stored)}
    anchored_us = max(vector["clock_us"], head["anchored_us"])
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=anchored_us)
    seq = head["seq"] + 1
    leaf = rfc8785.dumps(
        {name: fields.get(name) for name in COPIED}
        | {
            "v": 1,
            "actor": actor,
            "subject": subject,
            "org": org["slug"],
            "seq": seq,
            "key": vector["signing_key"]["id"],
            "payload": digest,
            "previous_hash": head["entry_hash"] if seq else None,
            "anchored_at": moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        }
    )
    entry_hash = hashlib.sha256(b"\0" + leaf).digest()
    secret = bytes.fromhex(vector["signing_key"]["secret"])
    return {
        "stored_payload": stored,
        "payload_digest": digest,
        "leaf": leaf.decode(),
        "entry_hash": entry_hash.hex(),
        "signature": hmac_sha256(secret, entry_hash).hex(),
        "anchored_us": anchored_us,
        "actor_tag": tag(actor),
        "subject_tag": tag(subject),
        "record_id": f"rec_{org['id']:08x}{anchored_us:014x}{seq:010x}",
    }


def test_another_implementation_gets_the_same_result(vector: dict[str, Any]) -> None:
    expected = vector["expected"]
    expected["stored_payload"] = b64decode(expected["stored_payload"])
    assert reproduce(vector) == expected


def test_the_entry_of_a_vector_verifies_and_opens(vector: dict[str, Any]) -> None:
    expected, key = vector["expected"], vector["signing_key"]
    org_id, anchored_us, seq = parse_record_id(expected["record_id"])
    row = StoredEntry(
        org_id,
        seq,
        to_datetime(anchored_us),
        expected["actor_tag"],
        expected["subject_tag"],
        bytes.fromhex(expected["entry_hash"]),
        bytes.fromhex(expected["signature"]),
        expected["leaf"].encode(),
        b64decode(expected["stored_payload"]),
    )
    ring = SigningKeyring([SigningKey(key["id"], bytes.fromhex(key["secret"]))], [key["id"]])
    assert check_entry(row, "acme", ring, bytes.fromhex(vector["head"]["entry_hash"])) == []
    keys, event = vector["sealing"], b64decode(vector["event"]["base64"])
    if keys is None:
        assert row.payload == event
        return
    org_key, subject_key = bytes.fromhex(keys["org_key"]), keys["subject_key"]
    data_key = bytes.fromhex(subject_key) if subject_key else org_data_key(org_key)
    aad = payload_aad("acme", expected["payload_digest"]["seal"])
    assert open_payload(data_key, aad, row.payload) == event
