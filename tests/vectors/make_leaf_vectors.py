"""Writes the vectors of the leaf format: ``python -m tests.vectors.make_leaf_vectors``.

Every input is fixed, so the files come out the same each time; a test holds
them against this script and against an implementation that shares no code
with it. ``docs/format.md`` explains the fields.
"""

from __future__ import annotations

import json
from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, NamedTuple

from ledger import sealing
from ledger.chain import EMPTY_HEAD, Draft, ChainHead, extend
from ledger.entry import payload_digest, record_id, search_tag
from ledger.event import EventFields, is_json_payload, parse_json, parse_msgpack
from ledger.keys import SigningKey

FOLDER: Final = Path(__file__).parent / "leaf"
CLOCK_US: Final = 1_767_268_800_000_000  # 2026-01-01T12:00:00Z
LIMITS: Final = {"max_events": 1, "max_payload": 1_048_576}


def made_up(label: str, length: int = 32) -> bytes:
    """Bytes that look random and are the same each time."""
    return sha256(label.encode()).digest()[:length]


KEY: Final = SigningKey("k-2026", made_up("signing key"))
HEAD: Final = ChainHead(41, made_up("entry hash of the head"), CLOCK_US - 1)
ORG_KEY: Final = made_up("org key")
REFS: Final = {"ada": "ref:AAECAwQFBgcICQoLDA0ODw", "bob": "ref:EBESExQVFhcYGRobHB0eHw"}


class Case(NamedTuple):
    """One vector's input."""

    name: str
    description: str
    body: bytes
    head: ChainHead = HEAD
    seals: bool = False
    key: SigningKey = KEY
    clock_us: int = CLOCK_US


CASES: Final = [
    Case(
        "plain-first",
        "The first entry of a plain org: previous_hash is null, seq 0.",
        b'{"event_type":"invoice.approved","actor":"ada","action":"approve",'
        b'"outcome":"success","subject":"bob","timestamp":"2026-01-01T11:59:59Z",'
        b'"data_classification":"internal","legal_basis":"contract","amount":"120.00"}',
        head=EMPTY_HEAD,
    ),
    Case("plain-linked", "A later entry with no recognised field.", b'{"amount": 1e3}\n'),
    Case(
        "plain-unicode",
        "Text that needs escapes, and text beyond the Basic Multilingual Plane.",
        '{"actor":"\\"\\\\/\\u20ac €","subject":"\\ud83d\\ude00😀","action":""}'.encode(),
    ),
    Case(
        "plain-clock-behind",
        "The clock stands before the head: the entry takes the head's time.",
        b"{}",
        clock_us=CLOCK_US - 1_000_000,
    ),
    Case(
        "plain-long-key",
        "A signing secret longer than the block of SHA-256, which HMAC hashes first.",
        b'{"actor":"ada"}',
        key=SigningKey("long", made_up("a") + made_up("b") + made_up("c")),
    ),
    Case(
        "plain-msgpack",
        "A MessagePack event; unique_key is recognised, but stands in no leaf.",
        b"\x83\xa5actor\xa3ada\xaaunique_key\xa2u1\xa3raw\xc4\x02\x00\xff",
    ),
    Case(
        "sealed-subject",
        "Sealed under the subject's key; actor and subject stand in the leaf as refs.",
        b'{"event_type":"login","actor":"ada","subject":"bob","ip":"192.0.2.1"}',
        seals=True,
    ),
    Case(
        "sealed-org",
        "An event of a sealed org that names no subject: sealed under the org's data key.",
        b'{"event_type":"login","actor":"ada"}',
        seals=True,
    ),
]


def subject_key(name: str) -> bytes:
    """The made-up subject key of a person."""
    return made_up(f"subject key of {name}")


def _sealing(case: Case, fields: EventFields) -> dict[str, Any] | None:
    if not case.seals:
        return None
    people = [name for name in (fields.actor, fields.subject) if name is not None]
    return {
        "org_key": ORG_KEY.hex(),
        "subject_key": None if fields.subject is None else subject_key(fields.subject).hex(),
        "refs": {name: REFS[name] for name in people},
        "salt": made_up(f"salt of {case.name}").hex(),
    }


def _draft(case: Case, fields: EventFields, event: bytes) -> Draft:
    actor, subject, stored, seal = fields.actor, fields.subject, event, None
    if case.seals:
        data_key = sealing.org_data_key(ORG_KEY) if subject is None else subject_key(subject)
        actor = None if actor is None else REFS[actor]
        subject = None if subject is None else REFS[subject]
        seal = sealing.ORG_SEAL if subject is None else subject
        salt, aad = made_up(f"salt of {case.name}"), sealing.payload_aad("acme", seal)
        stored = sealing.seal_payload(sealing.DataKey.of(data_key), salt, aad, event)
    return Draft(
        action=fields.action,
        actor=actor,
        data_classification=fields.data_classification,
        event_type=fields.event_type,
        legal_basis=fields.legal_basis,
        outcome=fields.outcome,
        digest=payload_digest(stored, seal),
        subject=subject,
        timestamp=fields.timestamp,
        actor_tag=search_tag(actor),
        subject_tag=search_tag(subject),
        payload=stored,
    )


def vector(case: Case) -> dict[str, Any]:
    """One vector in the form of its file."""
    is_json = is_json_payload(case.body)
    (event,) = (
        parse_json(case.body, **LIMITS)[0]
        if is_json
        else parse_msgpack(b"\x91" + case.body, **LIMITS)
    )
    draft = _draft(case, event.fields, event.payload)
    (entry,), head = extend(7, "acme", case.head, [draft], case.clock_us, case.key)
    digest = draft.digest
    return {
        "description": case.description,
        "org": {"id": 7, "slug": "acme", "privacy": "sealed" if case.seals else "plain"},
        "event": {
            "format": "json" if is_json else "msgpack",
            "base64": b64encode(event.payload).decode(),
        }
        | ({"text": event.payload.decode()} if is_json else {}),
        "sealing": _sealing(case, event.fields),
        "head": {
            "seq": case.head.seq,
            "entry_hash": case.head.entry_hash.hex(),
            "anchored_us": case.head.anchored_us,
        },
        "clock_us": case.clock_us,
        "signing_key": {"id": case.key.key_id, "secret": case.key.secret.hex()},
        "expected": {
            "stored_payload": b64encode(entry.payload).decode(),
            "payload_digest": {"blake3": digest.blake3, "seal": digest.seal, "size": digest.size},
            "leaf": entry.leaf.decode(),
            "entry_hash": entry.entry_hash.hex(),
            "signature": entry.signature.hex(),
            "anchored_us": head.anchored_us,
            "actor_tag": entry.actor_tag,
            "subject_tag": entry.subject_tag,
            "record_id": record_id(7, head.anchored_us, entry.seq),
        },
    }


def text(case: Case) -> str:
    """The content of a vector's file."""
    return json.dumps(vector(case), indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    """Write all files anew."""
    FOLDER.mkdir(exist_ok=True)
    for case in CASES:
        (FOLDER / f"{case.name}.json").write_text(text(case), encoding="utf-8")


if __name__ == "__main__":
    main()
