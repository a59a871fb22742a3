"""The verdicts on good bundles of every shape."""

from collections.abc import Callable

import pytest

from ledger.evidence.trust import Trust
from ledger.evidence.verdict import CHECKS
from ledger.log_keys import KeyPins, KeySeeds, rotate
from ledger.policy import parse_policy
from ledger.timestamp import granted, query
from ledger.verdict import NOT_CHECKED
from tests.support.evidence import WITNESS, judge, payload_line, scene
from tests.support.signing import log_keys
from tests.support.timestamp_authority import Mode, TimestampAuthority
from tests.support.trails import NOW_US

POLICY = parse_policy(f"witness w1 {WITNESS.vkey()}\nquorum w1\n".encode())
PINS = log_keys().public().pins()


def stamp(authority: TimestampAuthority, mode: Mode = Mode.GOOD) -> Callable[[bytes], bytes]:
    return lambda note: granted(authority.reply(query(note, 7), mode))


def test_every_check_holds_with_full_trust(shared_authority: TimestampAuthority) -> None:
    bundle = scene().stamped(stamp(shared_authority)).bundle()
    verdict = judge(bundle, Trust(PINS, POLICY, shared_authority.ca_pem))
    assert (verdict.outcome, verdict.exit_code) == ("verified", 0), verdict.reasons
    assert verdict.answers() == {**dict.fromkeys(CHECKS, True), "signatures": NOT_CHECKED}
    assert verdict.warnings == ()
    assert verdict.about["keys"] == "pinned"
    assert "existed_at" in verdict.about


def test_a_bundle_without_a_pin_only_agrees_with_itself() -> None:
    verdict = judge(scene().bundle())
    assert (verdict.outcome, verdict.exit_code) == ("incomplete", 3)
    assert (verdict.keys, verdict.unchecked) == (NOT_CHECKED, ("keys",))
    assert verdict.about["keys"] == "the bundle's own"
    (why,) = verdict.reasons["keys"]
    newest = log_keys().public().newest
    assert "--trust keys.json" in why
    assert f"the operator of {log_keys().public().origin}" in why
    assert f"Key number {newest.position} has the digest {newest.digest}" in why
    assert (verdict.external_time, verdict.witnesses) == (NOT_CHECKED, NOT_CHECKED)


@pytest.mark.parametrize("length", [1, 2, 255, 256, 257, 1001, 2500])
def test_trails_of_many_lengths_verify(length: int) -> None:
    verdict = judge(scene(length).bundle(), Trust(PINS))
    assert verdict.outcome == "verified", verdict.reasons
    assert verdict.links is (True if length > 1 else NOT_CHECKED)


def test_single_entries_and_gaps_verify() -> None:
    trail = scene(50)
    for seqs in ([49], [0], [3, 4, 9, 30, 31, 32]):
        verdict = judge(trail.bundle(seqs), Trust(PINS))
        assert verdict.outcome == "verified", verdict.reasons
        assert verdict.about["entries"] == len(seqs)
    assert judge(trail.bundle([3, 9])).links == NOT_CHECKED


def test_an_org_that_does_not_seal_verifies() -> None:
    trail = scene(sealed=False)
    assert judge(trail.bundle(), Trust(PINS)).outcome == "verified"
    withheld = judge(trail.bundle(line=lambda entry: payload_line(entry, "withheld")))
    assert (withheld.outcome, withheld.exit_code) == ("incomplete", 3)
    assert withheld.payloads == NOT_CHECKED
    assert withheld.tree is True


def test_erased_entries_still_prove_their_place() -> None:
    verdict = judge(scene(4).bundle([2]), Trust(PINS))
    assert verdict.outcome == "verified"
    assert verdict.reasons["payloads"] == ("all as their leaves say: 1 erased",)
    assert verdict.tree is True


@pytest.mark.parametrize(
    ("proofs", "payloads", "unchecked"),
    [
        (False, True, {"tree"}),
        (True, False, {"payloads"}),
        (False, False, {"tree", "payloads"}),
    ],
)
def test_omitted_parts_are_not_checked(proofs: bool, payloads: bool, unchecked: set[str]) -> None:
    verdict = judge(scene().bundle(proofs=proofs, payloads=payloads), Trust(PINS))
    assert (verdict.outcome, verdict.exit_code) == ("incomplete", 3)
    always = {"signatures", "external_time", "witnesses"}
    answers = verdict.answers()
    assert {check for check in CHECKS if answers[check] == NOT_CHECKED} == unchecked | always


def test_without_an_anchor_it_is_incomplete() -> None:
    verdict = judge(scene(anchored=False).bundle(), Trust(PINS))
    assert verdict.outcome == "incomplete"
    assert (verdict.anchors, verdict.pq_signature) == (NOT_CHECKED, NOT_CHECKED)
    assert (verdict.classical_signature, verdict.tree) == (True, True)


def test_missing_parts_that_the_auditor_requires_leave_it_incomplete(
    shared_authority: TimestampAuthority,
) -> None:
    bundle = scene(anchored=False).bundle()
    verdict = judge(bundle, Trust(PINS, POLICY, shared_authority.ca_pem))
    assert verdict.outcome == "incomplete"
    unstamped = judge(scene().bundle(), Trust(PINS, POLICY, shared_authority.ca_pem))
    assert unstamped.outcome == "incomplete"
    assert (unstamped.external_time, unstamped.witnesses) == (NOT_CHECKED, True)


def test_keys_that_were_rotated_since_and_before_verify_under_the_first_pin() -> None:
    first = log_keys()
    second = rotate(first, KeySeeds(b"\x21" * 32, b"\x22" * 32), NOW_US + 1)
    for keys in (first, second):
        verdict = judge(scene(keys=keys).bundle(), Trust(PINS))
        assert verdict.outcome == "verified", verdict.reasons
    newer = KeyPins(second.public().origin, {1: second.public().newest.digest})
    older = judge(scene(keys=first).bundle(), Trust(newer))
    assert (older.outcome, older.unchecked) == ("incomplete", ("keys",))
    assert "get a history that reaches key number 1" in older.reasons["keys"][0]
    only_later = second.public().pins()
    assert judge(scene(keys=first).bundle(), Trust(only_later)).outcome == "verified"


def test_one_good_timestamp_suffices_and_the_bad_one_is_reported(
    shared_authority: TimestampAuthority,
) -> None:
    other, good = stamp(shared_authority, Mode.OTHER_CA), stamp(shared_authority)
    trust = Trust(PINS, tsa_ca=shared_authority.ca_pem)
    both = judge(scene().stamped(other, good).bundle(), trust)
    assert both.outcome == "verified"
    assert any("anchors/7.0.tst" in warning for warning in both.warnings)
    alone = judge(scene().stamped(other).bundle(), trust)
    assert (alone.outcome, alone.external_time) == ("refuted", False)


def test_too_few_cosignatures_leave_it_incomplete() -> None:
    verdict = judge(scene(witnesses=()).bundle(), Trust(PINS, POLICY))
    assert (verdict.outcome, verdict.witnesses) == ("incomplete", NOT_CHECKED)
    assert "ask the operator for the same bundle once more" in verdict.reasons["witnesses"][0]


def test_without_cosignatures_witnesses_is_never_true() -> None:
    none_asked = parse_policy(f"witness w1 {WITNESS.vkey()}\nquorum none\n".encode())
    verdict = judge(scene(witnesses=()).bundle(), Trust(PINS, none_asked))
    assert (verdict.outcome, verdict.witnesses) == ("incomplete", NOT_CHECKED)
    assert judge(scene().bundle(), Trust(PINS, none_asked)).witnesses is True


def test_a_policy_that_lists_logs_must_list_this_one() -> None:
    anchors = [signer.vkey() for signer in log_keys().anchor_signers()]
    others = [signer.vkey() for signer in log_keys(5).anchor_signers()]
    for vkeys, holds in ((anchors, True), (others, False)):
        lines = "".join(f"log {vkey}\n" for vkey in vkeys)
        policy = parse_policy(f"{lines}witness w1 {WITNESS.vkey()}\nquorum w1\n".encode())
        assert judge(scene().bundle(), Trust(PINS, policy)).witnesses is holds
