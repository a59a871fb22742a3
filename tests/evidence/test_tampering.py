"""Every single-bit change of a bundle is refused, or lies outside the signed bytes."""

from __future__ import annotations

import random
from functools import cache

from ledger.evidence import members
from ledger.evidence.trust import Trust
from ledger.policy import parse_policy
from ledger.timestamp import granted, query, verify
from tests.support.evidence import WITNESS, judge, members_of, repack, scene
from tests.support.timestamp_authority import TimestampAuthority

POSITIONS = 2_000
REFUSED = {"refuted", "unreadable"}
UNSIGNED = {members.README, members.STATEMENT, members.PAGE, members.NAMES}
"""Unsigned members: a forger can replace them together with the manifest."""


@cache
def stamped(authority: TimestampAuthority) -> tuple[bytes, Trust]:
    """A bundle with every optional part, and trust for each of them."""

    def stamp(note: bytes) -> bytes:
        return granted(authority.reply(query(note, 7)))

    trail = scene(3)
    policy = parse_policy(f"witness w1 {WITNESS.vkey()}\nquorum w1\n".encode())
    trust = Trust(trail.keys.public().pins(), policy, authority.ca_pem)
    bundle = trail.stamped(stamp).bundle()
    verdict = judge(bundle, trust)
    assert verdict.outcome == "verified", verdict.reasons
    return bundle, trust


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def test_any_bit_of_the_file(shared_authority: TimestampAuthority) -> None:
    bundle, trust = stamped(shared_authority)
    manifest = bundle.rindex(members_of(bundle)[members.MANIFEST])
    start = bundle.index(b'"request":', manifest)
    request = range(start, bundle.index(b',"version":', start))
    bits = random.Random(7).sample(range(8 * len(bundle)), POSITIONS)
    outside = [bit for bit in bits if judge(flipped(bundle, bit), trust).outcome not in REFUSED]
    # The request is stated and not signed; every other change is refused.
    assert [bit for bit in outside if bit // 8 not in request] == []


def test_any_bit_of_each_member_with_a_matching_manifest(
    shared_authority: TimestampAuthority,
) -> None:
    bundle, trust = stamped(shared_authority)
    held = members_of(bundle)
    chance = random.Random(8)
    signed = [name for name in held if name not in UNSIGNED and name != members.MANIFEST]
    places = [(name, chance.randrange(8 * len(held[name]))) for name in signed]  # each bit once
    while len(places) < POSITIONS:
        name = chance.choice(signed)
        places.append((name, chance.randrange(8 * len(held[name]))))
    token = members.anchor_token(7, 0)
    said = verify(held[token], held[members.anchor_note(7)], trust.tsa_ca or b"")
    for name, bit in places:
        changed = {**held, name: flipped(held[name], bit)}
        if judge(repack(changed), trust).outcome in REFUSED:
            continue
        # Parts of a token's envelope (RFC 5652) are not signed; changing them changes no statement.
        assert name == token, (name, bit)
        assert verify(changed[name], held[members.anchor_note(7)], trust.tsa_ca or b"") == said


def test_unsigned_members_are_still_in_the_manifest(
    shared_authority: TimestampAuthority,
) -> None:
    bundle, trust = stamped(shared_authority)
    held = members_of(bundle)
    for name in (members.README, members.STATEMENT, members.PAGE):
        changed = {**held, name: flipped(held[name], 9)}
        assert judge(repack(changed), trust).outcome == "verified"
        at = bundle.index(held[name])
        damaged = judge(flipped(bundle, 8 * at + 9), trust)
        assert (damaged.outcome, damaged.hashes) == ("refuted", False)
        assert name in damaged.reasons["hashes"][0]
