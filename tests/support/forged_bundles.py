"""Bundles of a careful forger, with matching digests and manifest, each with a check that must fail."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final, NamedTuple

import msgspec

from ledger.checkpoint import TreeHead
from ledger.evidence import members
from ledger.evidence.format import Entries, encode
from ledger.log_keys import KeySeeds, rotate
from ledger.note import Ed25519Signer, parse_note, sign_note
from ledger.proof import TlogProof, parse_proof
from tests.support.evidence import (
    Scene,
    anchor,
    forge,
    members_of,
    payload_line,
    repack,
    scene,
)
from tests.support.signing import log_keys
from tests.support.trails import NOW_US

SCENE: Final = scene()
BUNDLE: Final = SCENE.bundle()
MEMBERS: Final = members_of(BUNDLE)
PINS: Final = SCENE.keys.public().pins().document()
LEAVES, PAYLOADS = members.leaves(0), members.payloads(0)
NOTE, ANCHOR = members.checkpoint_note(SCENE.size), members.anchor_note(7)
_ORIGIN: Final = SCENE.keys.public().org_origin("acme")


class Forgery(NamedTuple):
    """A forged bundle, and a check that must fail on it."""

    name: str
    bundle: bytes
    check: str


def forgeries() -> Iterator[Forgery]:
    """Forgeries that together make every check of a browser fail."""
    yield from _leaves()
    yield from _payloads()
    yield from _proofs()
    yield from _checkpoints()
    yield from _anchors()
    yield from _keys()


def _leaves() -> Iterator[Forgery]:
    held = MEMBERS[LEAVES]
    edited = held.replace(b'"outcome":"success"', b'"outcome":"failure"', 1)
    damaged = BUNDLE.replace(b'"outcome":"success"', b'"outcome":"failure"', 1)
    yield Forgery("damaged", damaged, "hashes")
    yield Forgery("readme", BUNDLE.replace(b"WHAT THIS IS", b"WHAT IT IS  ", 1), "hashes")
    for name, old, new in (
        ("spelling", b'{"action"', b'{ "action"'),
        ("control", b"success", b"suc\xc2\x85s"),
        ("not-utf8", b"success", b"suc\xffess"),
        ("escape", b'"acme"', b'"\\u0061cme"'),
        ("member", b'"v":1', b'"v":1,"w":1'),
        ("version", b'"v":1', b'"v":2'),
    ):
        yield Forgery(f"leaf-{name}", forge(BUNDLE, {LEAVES: held.replace(old, new, 1)}), "hashes")
    yield Forgery("leaf-counts", forge(BUNDLE, {}, entries=Entries(11, 0, 11)), "hashes")
    yield Forgery("leaf-edited", forge(BUNDLE, {LEAVES: edited}), "links")
    yield Forgery("leaf-order", forge(BUNDLE, {LEAVES: _swapped(held)}), "hashes")


def _payloads() -> Iterator[Forgery]:
    line = payload_line(SCENE.entries[0])
    assert line.payload is not None
    changes: dict[str, dict[str, object]] = {
        "bytes": {"payload": line.payload[:-1] + b"x"},
        "size": {"payload": line.payload[:-1]},
        "absent": {"payload": None},
        "key": {"key": "00" * 32},
        "no-key": {"key": None},
        "state": {"state": "plain", "key": None},
        "seq": {"seq": 1},
    }
    _, *rest = MEMBERS[PAYLOADS].splitlines(keepends=True)
    for name, change in changes.items():
        first = encode(msgspec.structs.replace(line, **change)) + b"\n"
        forged = forge(BUNDLE, {PAYLOADS: b"".join((first, *rest))})
        yield Forgery(f"payload-{name}", forged, "payloads")
    swapped = forge(BUNDLE, {PAYLOADS: _swapped(MEMBERS[PAYLOADS])})
    yield Forgery("payload-order", swapped, "payloads")


def _proofs() -> Iterator[Forgery]:
    one, two = members.proof(3), members.proof(4)
    good = parse_proof(MEMBERS[one])
    files = {
        "hashes": msgspec.structs.replace(good, hashes=(bytes(32), *good.hashes[1:])).format(),
        "short": TlogProof(3, (), SCENE.note).format(),
        "long": TlogProof(3, (*good.hashes, bytes(32)), SCENE.note).format(),
        "extra": msgspec.structs.replace(good, extra=b"signed by nobody").format(),
        "header": MEMBERS[one].replace(b"@v1", b"@v2"),
        "spelling": MEMBERS[one].replace(b"index 3", b"index 03"),
        "cut": MEMBERS[one][:-1],
        "other": MEMBERS[two],
    }
    for name, file in files.items():
        yield Forgery(f"proof-{name}", forge(BUNDLE, {one: file}), "tree")
    renamed = {members.proof(99) if name == one else name: data for name, data in MEMBERS.items()}
    yield Forgery("proof-name", repack(renamed), "tree")


def _checkpoints() -> Iterator[Forgery]:
    signers, text = SCENE.keys.org_signers("acme"), parse_note(SCENE.note).text

    def signed(size: int, root: bytes, *extensions: str) -> bytes:
        return _with_note(sign_note(TreeHead(_ORIGIN, size, root, extensions).text(), signers))

    other = scene(org="umbrella")
    stranger = sign_note(text, log_keys(2).org_signers("acme"))
    bad = text + b"\n" + signers[0].line(text + b"\n")
    yield Forgery("checkpoint-signer", _with_note(stranger), "classical_signature")
    yield Forgery("checkpoint-signature", _with_note(bad), "classical_signature")
    yield Forgery("checkpoint-none", _with_note(b"nothing\n"), "checkpoints")
    yield Forgery("checkpoint-of-another-log", _with_note(other.note), "checkpoints")
    yield Forgery("checkpoint-root", signed(12, bytes(32)), "tree")
    yield Forgery("checkpoint-size", signed(13, bytes(32)), "checkpoints")
    yield Forgery("checkpoint-huge", signed(2**63 - 1, bytes(32)), "checkpoints")
    yield Forgery("checkpoint-extended", signed(12, bytes(32), "more"), "anchors")
    bundle = forge(other.bundle(), {}, org="acme", origin=_ORIGIN)
    yield Forgery("another-org", bundle, "checkpoints")


def _anchors() -> Iterator[Forgery]:
    classical, post_quantum = SCENE.keys.anchor_signers()
    origin, text = SCENE.keys.public().anchor_origin, parse_note(MEMBERS[ANCHOR]).text
    rotated = rotate(SCENE.keys, KeySeeds(b"\x21" * 32, b"\x22" * 32), NOW_US + 1)
    other = TreeHead("other.example/anchors", 7, bytes(32)).text()
    both = [classical, post_quantum]
    elsewhere = post_quantum.line(TreeHead(origin, 8, bytes(32)).text(), 1)
    notes = {
        "stranger": (anchor(log_keys(2), SCENE.note).note, "pq_signature"),
        "no-pq": (sign_note(text, [classical]), "pq_signature"),
        "no-classical": (sign_note(text, [post_quantum]), "classical_signature"),
        "bad-pq": (sign_note(text, [classical]) + elsewhere, "pq_signature"),
        "other-log": (sign_note(other, both), "anchors"),
        "other-root": (sign_note(TreeHead(origin, 7, bytes(32)).text(), both), "anchors"),
        "extended": (sign_note(text + b"more\n", [classical]) + elsewhere, "pq_signature"),
    }
    for name, (note, check) in notes.items():
        yield Forgery(f"anchor-{name}", _anchored(SCENE, note=note), check)
    mixed = sign_note(text, [classical, rotated.anchor_signers()[1]])
    bundle = _anchored(scene(keys=rotated), note=mixed)
    yield Forgery("anchor-of-two-keys", bundle, "pq_signature")
    places: dict[str, dict[str, object]] = {
        "nonce": {"nonce": bytes(32)},
        "index": {"index": 2},
        "no-hashes": {"hashes": []},
        "hashes": {"hashes": [bytes(32)] * 3},
    }
    for name, change in places.items():
        yield Forgery(f"anchor-{name}", _anchored(SCENE, **change), "anchors")
    for name, lines in (
        ("none", b"not a line\n"),
        ("empty", b"\n"),
        ("base64", "— w A\n".encode()),
    ):
        yield Forgery(f"cosignatures-{name}", _anchored(SCENE, cosignatures=lines), "witnesses")


def _keys() -> Iterator[Forgery]:
    document = MEMBERS[members.LOG_KEYS]
    histories = {
        "object": b"{}",
        "empty": b"",
        "not-utf8": b"\xff",
        "deep": b"[" * 100_000,
        "time": document.replace(b"2026", b"2025"),
        "position": document.replace(b'"position":0', b'"position":1'),
        "version": document.replace(b'"v":1', b'"v":2'),
        "signature": document[:-10] + b"A" + document[-9:],
        "foreign": log_keys(2).public().document(),
    }
    for name, history in histories.items():
        forged = forge(BUNDLE, {members.LOG_KEYS: history})
        yield Forgery(f"keys-{name}", forged, "keys")
    yield Forgery("wholly-forged", scene(keys=log_keys(2)).bundle(), "pq_signature")
    twin = Ed25519Signer.from_seed(_ORIGIN, bytes(32))
    own = sign_note(parse_note(SCENE.note).text, [twin])
    yield Forgery("keys-own", _with_note(own), "classical_signature")


def _swapped(lines: bytes) -> bytes:
    """The lines with the fourth and the fifth swapped."""
    found = lines.splitlines(keepends=True)
    found[3], found[4] = found[4], found[3]
    return b"".join(found)


def _anchored(trail: Scene, **changes: object) -> bytes:
    assert trail.anchoring is not None
    return replace(trail, anchoring=replace(trail.anchoring, **changes)).bundle()  # type: ignore[arg-type]


def _with_note(note: bytes) -> bytes:
    """The bundle with another checkpoint, also in all its proofs."""
    changed = {NOTE: note}
    for seq in range(SCENE.size):
        proof = parse_proof(MEMBERS[members.proof(seq)])
        changed[members.proof(seq)] = msgspec.structs.replace(proof, checkpoint=note).format()
    return forge(BUNDLE, changed)
