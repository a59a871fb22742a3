"""Bundles of a careful forger, with matching digests and manifest, are refuted by other checks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import msgspec
import pytest

from ledger import merkle
from ledger.checkpoint import TreeHead, parse_checkpoint
from ledger.evidence import members
from ledger.evidence.format import Entries, PayloadLine, encode
from ledger.evidence.trust import Trust
from ledger.evidence.verdict import REASONS_MAX, Judgement
from ledger.log_keys import KeySeeds, rotate
from ledger.note import Ed25519Signer, parse_note, sign_note
from ledger.policy import parse_policy
from ledger.proof import TlogProof, parse_proof
from ledger.sealing import DataKey, payload_aad, payload_key, seal_payload
from ledger.timestamp import granted, query
from ledger.verdict import NOT_CHECKED
from tests.support.evidence import (
    WITNESS,
    Scene,
    anchor,
    entries,
    forge,
    judge,
    members_of,
    payload_line,
    repack,
    scene,
)
from tests.support.signing import log_keys
from tests.support.timestamp_authority import TimestampAuthority
from tests.support.trails import NOW_US

SCENE = scene()
BUNDLE = SCENE.bundle()
MEMBERS = members_of(BUNDLE)
LEAVES, PAYLOADS = members.leaves(0), members.payloads(0)
NOTE, ANCHOR = members.checkpoint_note(SCENE.size), members.anchor_note(7)
PINS = Trust(SCENE.keys.public().pins())


def refuted(bundle: bytes, *checks: str, trust: Trust | None = PINS) -> Judgement:
    """Judge the bundle; exactly these checks must fail."""
    verdict = judge(bundle, trust)
    failed = {check for check, answer in verdict.answers().items() if answer is False}
    assert failed == set(checks), (verdict.unreadable, verdict.reasons)
    assert (verdict.outcome, verdict.exit_code) == ("refuted", 1)
    assert all(verdict.reasons[check] for check in checks)
    return verdict


def changed_lines(name: str, lines: Mapping[int, bytes]) -> bytes:
    found = MEMBERS[name].splitlines(keepends=True)
    return b"".join(lines.get(at, line) for at, line in enumerate(found))


def test_the_unforged_bundle_is_verified() -> None:
    assert repack(MEMBERS) == BUNDLE
    assert judge(BUNDLE, PINS).outcome == "verified"


def test_an_edited_leaf() -> None:
    edited = MEMBERS[LEAVES].replace(b'"outcome":"success"', b'"outcome":"failure"', 1)
    refuted(forge(BUNDLE, {LEAVES: edited}), "tree", "links")


def test_a_leaf_in_another_spelling() -> None:
    edited = MEMBERS[LEAVES].replace(b'{"action"', b'{ "action"', 1)
    verdict = refuted(forge(BUNDLE, {LEAVES: edited}), "hashes")
    assert "canonical" in verdict.reasons["hashes"][0]


def test_a_leaf_of_another_org() -> None:
    foreign = entries(SCENE.size, org="umbrella")[5].leaf + b"\n"
    refuted(
        forge(BUNDLE, {LEAVES: changed_lines(LEAVES, {5: foreign})}),
        "hashes",
        "payloads",
        "tree",
        "links",
    )


def test_a_whole_bundle_of_another_org_under_this_org_s_name() -> None:
    other = scene(org="umbrella").bundle()
    origin = SCENE.keys.public().org_origin("acme")
    verdict = refuted(
        forge(other, {}, org="acme", origin=origin),
        "hashes",
        "payloads",
        "checkpoints",
    )
    assert verdict.classical_signature == NOT_CHECKED
    assert "umbrella" in verdict.reasons["checkpoints"][0]


def test_swapped_leaves() -> None:
    lines = MEMBERS[LEAVES].splitlines(keepends=True)
    swapped = changed_lines(LEAVES, {3: lines[4], 4: lines[3]})
    refuted(forge(BUNDLE, {LEAVES: swapped}), "hashes", "payloads", "tree")


def test_swapped_payloads() -> None:
    lines = MEMBERS[PAYLOADS].splitlines(keepends=True)
    swapped = changed_lines(PAYLOADS, {3: lines[4], 4: lines[3]})
    refuted(forge(BUNDLE, {PAYLOADS: swapped}), "payloads")


def test_swapped_proofs() -> None:
    one, two = members.proof(3), members.proof(4)
    swapped = {one: MEMBERS[two], two: MEMBERS[one]}
    verdict = refuted(forge(BUNDLE, swapped), "tree")
    assert len(verdict.reasons["tree"]) == 2


def test_a_proof_under_another_name() -> None:
    renamed = {
        members.proof(99) if name == members.proof(3) else name: data
        for name, data in MEMBERS.items()
    }
    refuted(repack(renamed), "tree")


@pytest.mark.parametrize("hashes", [(), (bytes(32),), (bytes(32),) * 60])
def test_a_proof_with_other_hashes(hashes: tuple[bytes, ...]) -> None:
    proof = TlogProof(3, hashes, SCENE.note).format()
    refuted(forge(BUNDLE, {members.proof(3): proof}), "tree")


def test_a_proof_with_surplus_fields() -> None:
    proof = parse_proof(MEMBERS[members.proof(3)])
    more = msgspec.structs.replace(proof, extra=b"signed by nobody").format()
    refuted(forge(BUNDLE, {members.proof(3): more}), "tree")


def test_a_proof_that_brings_a_checkpoint_of_its_own() -> None:
    leaf = SCENE.entries[3].leaf
    forged = TreeHead(
        SCENE.keys.public().org_origin("acme"), SCENE.size, merkle.root([merkle.leaf_hash(leaf)])
    )
    note = sign_note(forged.text(), SCENE.keys.org_signers("acme"))
    proof = TlogProof(3, parse_proof(MEMBERS[members.proof(3)]).hashes, note).format()
    refuted(forge(BUNDLE, {members.proof(3): proof}), "tree")


def with_note(note: bytes) -> bytes:
    """The bundle with another checkpoint, also in all proofs; its anchor covers the old one."""
    proofs = {
        members.proof(seq): msgspec.structs.replace(
            parse_proof(MEMBERS[members.proof(seq)]), checkpoint=note
        ).format()
        for seq in range(SCENE.size)
    }
    return forge(BUNDLE, {NOTE: note, **proofs})


def test_a_valid_signature_by_an_unknown_key() -> None:
    text = parse_note(SCENE.note).text
    note = sign_note(text, log_keys(2).org_signers("acme"))
    verdict = refuted(with_note(note), "classical_signature", "anchors")
    assert "no known key signed" in verdict.reasons["classical_signature"][0]


def test_a_checkpoint_of_another_log() -> None:
    other = scene(org="umbrella").note
    verdict = refuted(with_note(other), "checkpoints", "anchors")
    assert (verdict.tree, verdict.outcome) == ("not_checked", "refuted")


def test_a_checkpoint_of_the_same_size_with_another_root() -> None:
    forged = TreeHead(SCENE.keys.public().org_origin("acme"), SCENE.size, bytes(32))
    note = sign_note(forged.text(), SCENE.keys.org_signers("acme"))
    refuted(with_note(note), "tree", "anchors")


def test_a_signature_that_does_not_verify() -> None:
    text = parse_note(SCENE.note).text
    signer = SCENE.keys.org_signers("acme")[0]
    forged = text + b"\n" + signer.line(text + b"\n")
    verdict = refuted(with_note(forged), "classical_signature", "anchors")
    assert "does not verify" in verdict.reasons["classical_signature"][0]


def with_anchoring(trail: Scene = SCENE, /, **changes: object) -> bytes:
    """The bundle with these fields of its anchor replaced."""
    assert trail.anchoring is not None
    return replace(trail, anchoring=replace(trail.anchoring, **changes)).bundle()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes",
    [{"nonce": bytes(32)}, {"index": 2}, {"hashes": [bytes(32)] * 3}, {"hashes": []}],
    ids=["nonce", "index", "hashes", "no-hashes"],
)
def test_a_checkpoint_that_is_not_in_the_anchor(changes: dict[str, object]) -> None:
    refuted(with_anchoring(SCENE, **changes), "anchors")


def test_an_anchor_by_unknown_keys() -> None:
    other = anchor(log_keys(2), SCENE.note)
    refuted(with_anchoring(note=other.note), "classical_signature", "pq_signature")


def test_an_anchor_of_another_log() -> None:
    root = parse_checkpoint(parse_note(MEMBERS[ANCHOR]).text).root
    forged = TreeHead("other.example/anchors", 7, root)
    signers = [Ed25519Signer.from_seed(forged.origin, bytes(32))]
    note = sign_note(forged.text(), signers)
    refuted(with_anchoring(note=note), "classical_signature", "pq_signature", "anchors")


def test_an_anchor_that_lost_one_of_its_signatures() -> None:
    classical, post_quantum = SCENE.keys.anchor_signers()
    text = parse_note(MEMBERS[ANCHOR]).text
    refuted(with_anchoring(note=sign_note(text, [classical])), "pq_signature")
    refuted(with_anchoring(note=sign_note(text, [post_quantum])), "classical_signature")


def test_an_anchor_whose_signatures_are_of_two_keys() -> None:
    keys = rotate(SCENE.keys, KeySeeds(b"\x21" * 32, b"\x22" * 32), NOW_US + 1)
    text = parse_note(MEMBERS[ANCHOR]).text
    mixed = sign_note(text, [SCENE.keys.anchor_signers()[0], keys.anchor_signers()[1]])
    verdict = refuted(with_anchoring(scene(keys=keys), note=mixed), "pq_signature", "anchors")
    assert "by the same key" in verdict.reasons["pq_signature"][0]


def test_an_anchor_of_the_same_size_with_another_root() -> None:
    forged = TreeHead(SCENE.keys.public().anchor_origin, 7, bytes(32))
    note = sign_note(forged.text(), SCENE.keys.anchor_signers())
    refuted(with_anchoring(note=note), "anchors")


def test_a_forged_cosignature() -> None:
    policy = parse_policy(f"witness w1 {WITNESS.vkey()}\nquorum w1\n".encode())
    forged = WITNESS.line(TreeHead(SCENE.keys.public().anchor_origin, 7, bytes(32)).text(), 1)
    trust = Trust(PINS.pins, policy)
    verdict = refuted(with_anchoring(cosignatures=forged), "witnesses", trust=trust)
    assert "does not verify" in verdict.reasons["witnesses"][0]


def test_malformed_cosignatures() -> None:
    for lines in (b"\n", b"not a line\n", b"\n\n" + WITNESS.line(parse_note(SCENE.note).text, 1)):
        refuted(with_anchoring(cosignatures=lines), "witnesses")


def test_a_timestamp_of_something_else(shared_authority: TimestampAuthority) -> None:
    token = granted(shared_authority.reply(query(b"another anchor", 7)))
    trust = Trust(PINS.pins, tsa_ca=shared_authority.ca_pem)
    refuted(with_anchoring(tokens=[token]), "external_time", trust=trust)
    refuted(with_anchoring(tokens=[token[:-1]]), "external_time", trust=trust)
    refuted(with_anchoring(tokens=[b""]), "external_time", trust=trust)


def test_a_bundle_wholly_forged_with_keys_of_ones_own() -> None:
    forged = scene(keys=log_keys(2)).bundle()
    own = judge(forged)
    assert (own.outcome, own.about["keys"]) == ("incomplete", "the bundle's own")
    refuted(forged, "classical_signature", "pq_signature", "keys")


def test_malformed_and_foreign_key_histories() -> None:
    other = log_keys(2).public().document()
    for history in (
        other,
        b"{}",
        b"",
        b"\xff",
        MEMBERS[members.LOG_KEYS].replace(b"2026", b"2025"),
    ):
        forged = forge(BUNDLE, {members.LOG_KEYS: history})
        refuted(forged, "classical_signature", "pq_signature", "keys")


def test_payloads_that_do_not_match_their_leaves() -> None:
    entry = SCENE.entries[0]
    line = payload_line(entry)
    assert line.payload is not None
    lies = [
        msgspec.structs.replace(line, payload=line.payload[:-1]),
        msgspec.structs.replace(line, payload=line.payload[:-1] + b"x"),
        msgspec.structs.replace(line, payload=None),
        msgspec.structs.replace(line, key="00" * 32),
        msgspec.structs.replace(line, key=None),
        msgspec.structs.replace(line, state="sealed"),
        msgspec.structs.replace(line, state="plain", key=None),
        msgspec.structs.replace(line, seq=1),
    ]
    for lie in lies:
        payloads = changed_lines(PAYLOADS, {0: encode(lie) + b"\n"})
        refuted(forge(BUNDLE, {PAYLOADS: payloads}), "payloads")


def test_a_payload_sealed_again_for_an_auditor_does_not_pass() -> None:
    entry = SCENE.entries[2]
    other = seal_payload(
        DataKey.of(bytes(32)), bytes(32), payload_aad("acme", "org"), b'{"ok":true}'
    )
    key = payload_key(bytes(32), bytes(32)).hex()
    line = encode(PayloadLine(key, other, entry.seq, "disclosed")) + b"\n"
    refuted(forge(BUNDLE, {PAYLOADS: changed_lines(PAYLOADS, {2: line})}), "payloads")


def test_a_manifest_that_counts_other_entries() -> None:
    for claimed in (Entries(11, 0, 11), Entries(12, 1, 11), Entries(12, 0, 12)):
        refuted(forge(BUNDLE, {}, entries=claimed), "hashes")


def test_more_faults_than_are_reported() -> None:
    edited = MEMBERS[LEAVES].replace(b'"outcome":"success"', b'"outcome":"failure"')
    verdict = refuted(forge(BUNDLE, {LEAVES: edited}), "tree", "links")
    assert len(verdict.reasons["tree"]) == REASONS_MAX + 1
    assert verdict.reasons["tree"][-1] == f"and {SCENE.size - REASONS_MAX} more"
