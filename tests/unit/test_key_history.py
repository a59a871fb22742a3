"""The public history of the logs' keys: its verification, its pins, and every alteration."""

import base64
import hashlib
import json
from functools import partial
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PublicKey
from hypothesis import given
from hypothesis import strategies as st
from rfc8785 import dumps

from ledger.errors import ForeignHistory, KeyHistoryError
from ledger.log_keys import KeyPins, LogKeyHistory, generate, parse_trust, rotate
from tests.support.log_keys import NOW_US, ORIGIN, Change, keys, put, seeds
from tests.support.trails import raises_only


def reverse(document: dict[str, Any]) -> None:
    document["keys"].reverse()


def drop(index: int) -> Change:
    return lambda document: document["keys"].pop(index)


def swap_signatures(document: dict[str, Any]) -> None:
    document["keys"][1]["signatures"].reverse()


def sign_by_another(document: dict[str, Any]) -> None:
    other = json.loads(rotate(keys(1), seeds(7), NOW_US).public().document())["keys"][1]
    document["keys"][1]["signatures"] = other["signatures"]


def lose_own_signature(document: dict[str, Any]) -> None:
    document["keys"][1]["signatures"].pop()


def lose_signature_of_the_one_before(document: dict[str, Any]) -> None:
    document["keys"][1]["signatures"].pop(0)


def sign_twice(document: dict[str, Any]) -> None:
    signatures = document["keys"][1]["signatures"]
    signatures.append(signatures[-1])


def cross_keys(document: dict[str, Any]) -> None:
    one, two = (key["statement"] for key in document["keys"][:2])
    two["ed25519"] = one["ed25519"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("origin", value="other.example"), "the key history names the log"),
        (put("keys", value=[]), "1 to 100 keys"),
        (reverse, "not the log's first key"),
        (drop(0), "not the log's first key"),
        (drop(1), "does not follow"),
        (put("keys", 0, "statement", "created_at", value="2026-01-01T12:00:00.000001Z"), "verify"),
        (put("keys", 1, "statement", "created_at", value="2026-01-01T11:59:59.000000Z"), "older"),
        (put("keys", 0, "statement", "created_at", value="2026-01-01T12:00:00Z"), "not a time"),
        (
            put("keys", 0, "statement", "created_at", value="2026-02-30T12:00:00.000000Z"),
            "not a time",
        ),
        (put("keys", 0, "statement", "position", value=1), "not the log's first key"),
        (put("keys", 1, "statement", "position", value=2), "does not follow"),
        (put("keys", 0, "statement", "previous", value="00" * 32), "not the log's first key"),
        (put("keys", 1, "statement", "previous", value=None), "does not follow"),
        (put("keys", 1, "statement", "previous", value="00" * 32), "does not follow"),
        (put("keys", 1, "statement", "origin", value="other.example"), "belongs to the log"),
        (put("keys", 0, "statement", "origin", value="no origin"), "without scheme"),
        (
            put("keys", 0, "statement", "id", value="lk-0000000000000000"),
            "does not fit the public keys",
        ),
        (put("keys", 0, "statement", "v", value=2), "version 1, not 2"),
        (cross_keys, "does not fit the public keys"),
        (swap_signatures, "in this order"),
        (lose_own_signature, "in this order"),
        (lose_signature_of_the_one_before, "in this order"),
        (sign_twice, "in this order"),
        (sign_by_another, "in this order"),
        (put("keys", 1, "signatures", 0, "ed25519", value=""), "Ed25519"),
        (put("keys", 1, "signatures", 0, "ml_dsa_44", value=""), "ML-DSA-44"),
        (put("keys", 1, "signatures", 1, "ed25519", value="AAAA"), "Ed25519"),
        (put("keys", 1, "signatures", 1, "ml_dsa_44", value="AAAA"), "ML-DSA-44"),
        (put("keys", 0, "signatures", 0, "ed25519", value="!"), "must be JSON"),
        (put("keys", 0, "statement", "extra", value=1), "must be JSON"),
        (put("keys", 0, "extra", value=1), "must be JSON"),
        (put("extra", value=1), "must be JSON"),
    ],
)
def test_an_altered_history_is_refused(change: Change, message: str) -> None:
    document = json.loads(keys(3).public().document())
    change(document)
    with pytest.raises(KeyHistoryError, match=message):
        LogKeyHistory.parse(json.dumps(document).encode())


def test_signatures_of_another_statement_do_not_verify() -> None:
    document = json.loads(keys(2).public().document())
    other = json.loads(rotate(keys(1), seeds(1), NOW_US + 5).public().document())
    document["keys"][1]["signatures"] = other["keys"][1]["signatures"]
    with pytest.raises(KeyHistoryError, match="does not verify"):
        LogKeyHistory.parse(json.dumps(document).encode())


def test_the_spelling_of_a_history_does_not_matter() -> None:
    document = keys(2).public().document()
    spelled = json.dumps(json.loads(document), indent=3, sort_keys=True).encode()
    assert LogKeyHistory.parse(spelled).document() == document
    assert LogKeyHistory.of(keys(2).public().encoded_statements()).document() == document


def test_a_statement_is_signed_as_the_format_says() -> None:
    first, second = json.loads(keys(2).public().document())["keys"]
    body = dumps(second["statement"])
    assert second["statement"]["previous"] == hashlib.sha256(dumps(first["statement"])).hexdigest()
    for signer, signatures in zip((first, second), second["signatures"], strict=True):
        public = {
            name: base64.b64decode(signer["statement"][name]) for name in ("ed25519", "ml_dsa_44")
        }
        digest = hashlib.sha256(public["ed25519"] + public["ml_dsa_44"]).hexdigest()
        assert signatures["key"] == signer["statement"]["id"] == f"lk-{digest[:16]}"
        message = b"quire/v1/log-key\0" + body
        Ed25519PublicKey.from_public_bytes(public["ed25519"]).verify(
            base64.b64decode(signatures["ed25519"]), message
        )
        MLDSA44PublicKey.from_public_bytes(public["ml_dsa_44"]).verify(
            base64.b64decode(signatures["ml_dsa_44"]), message
        )


def test_a_history_is_pinned_at_any_length() -> None:
    one, two, three = (keys(count).public() for count in (1, 2, 3))
    for history in (one, two, three):
        for pinned in (one, two, three):
            history.check_pins(KeyPins.parse(pinned.pins().document()))
            history.check_pins(parse_trust(pinned.document()))
            history.check_pins(parse_trust(pinned.pins().document()))


def test_one_pin_is_enough() -> None:
    history = keys(3).public()
    for key in history.keys:
        history.check_pins(KeyPins(ORIGIN, {key.position: key.digest}))
    with pytest.raises(ForeignHistory, match="reaches key number 2"):
        keys(2).public().check_pins(KeyPins(ORIGIN, {2: history.keys[2].digest}))


def test_another_history_is_foreign() -> None:
    pins = keys(2).public().pins()
    forged = generate(ORIGIN, seeds(50), NOW_US)
    with pytest.raises(ForeignHistory, match="key number 0"):
        forged.public().check_pins(pins)
    with pytest.raises(ForeignHistory, match="but the pins to"):
        keys(2, "other.example").public().check_pins(pins)
    forked = rotate(keys(1), seeds(51), NOW_US)
    with pytest.raises(ForeignHistory, match="key number 1"):
        forked.public().check_pins(pins)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b'{"origin": "a", "pins": []}',
        b'{"origin": "a b", "pins": [{"position": 0, "sha256": "%s"}]}' % (b"0" * 64),
        b'{"origin": "a", "pins": [{"position": -1, "sha256": "%s"}]}' % (b"0" * 64),
        b'{"origin": "a", "pins": [{"position": 100, "sha256": "%s"}]}' % (b"0" * 64),
        b'{"origin": "a", "pins": [{"position": 0, "sha256": "%s"}]}' % (b"0" * 63),
        b'{"origin": "a", "pins": [{"position": 0, "sha256": "%s"}]}' % (b"F" * 64),
        b'{"origin": "a", "pins": [{"position": 0, "sha256": "%s"}, {"position": 0, "sha256": "%s"}]}'
        % (b"0" * 64, b"1" * 64),
        b" " * 70_000,
    ],
)
def test_malformed_pins_are_refused(data: bytes) -> None:
    with pytest.raises(KeyHistoryError):
        KeyPins.parse(data)
    with pytest.raises(KeyHistoryError, match="neither pins"):
        parse_trust(data)


values: st.SearchStrategy[object] = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.text()
    | st.binary(max_size=40).map(lambda raw: base64.b64encode(raw).decode())
)


@given(
    st.sampled_from(
        ["created_at", "ed25519", "id", "ml_dsa_44", "origin", "position", "previous", "v"]
    ),
    st.integers(0, 2),
    values,
)
def test_any_value_in_a_statement_raises_only_its_own_error(
    name: str, index: int, value: object
) -> None:
    document = json.loads(keys(3).public().document())
    document["keys"][index]["statement"][name] = value
    data = json.dumps(document).encode()
    raises_only(KeyHistoryError, partial(LogKeyHistory.parse, data))
