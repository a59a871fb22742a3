"""The page and quire-verify give the same answers on the same bundles, good and bad.

The tests' browser has all the algorithms. So only the answers that need more trust
than pins are left out, and the verifier does not check those either.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

import pytest

from ledger.evidence import members
from ledger.evidence.trust import Trust
from ledger.evidence.verdict import CHECKS
from ledger.log_keys import parse_trust
from tests.support.bundle_corpus import FOLDER
from tests.support.evidence import judge, members_of, repack, scene
from tests.support.evidence_damage import SCALE, bundle_damages, holds
from tests.support.forged_bundles import BUNDLE, PINS, Forgery, forgeries
from tests.support.hostile_files import hostile_files
from tests.support.offline_page import OfflinePage

pytestmark = pytest.mark.xdist_group("browser")
FORGERIES = list(forgeries())
HOSTILE = dict(hostile_files())
BITS = 100 * SCALE
DAMAGES = 50 * SCALE

Record = Callable[[str, object], None]


def agreed(page: OfflinePage, bundle: bytes, keys: bytes | None = PINS) -> dict[str, object]:
    """The page's answers, after checking that they equal the verifier's."""
    trust = None if keys is None else Trust(parse_trust(keys))
    expected = judge(bundle, trust)
    outcome, answers, reasons = page.judge(bundle, keys)
    assert (outcome, answers) == (expected.outcome, expected.answers()), (
        reasons,
        expected.reasons,
        expected.unreadable,
    )
    return dict(answers)


@pytest.mark.parametrize("name", sorted(path.name for path in FOLDER.glob("*.zip")))
def test_bundles_of_the_corpus(offline_page: OfflinePage, name: str) -> None:
    bundle = (FOLDER / name).read_bytes()
    agreed(offline_page, bundle, (FOLDER / "keys.json").read_bytes())
    agreed(offline_page, bundle, None)


def test_the_unforged_bundle_is_verified(offline_page: OfflinePage) -> None:
    assert judge(BUNDLE, Trust(parse_trust(PINS))).outcome == "verified"
    agreed(offline_page, BUNDLE)
    agreed(offline_page, BUNDLE, members_of(BUNDLE)[members.LOG_KEYS])  # also pins


@pytest.mark.parametrize("forgery", FORGERIES, ids=[forgery.name for forgery in FORGERIES])
def test_forged_bundles(offline_page: OfflinePage, forgery: Forgery) -> None:
    assert agreed(offline_page, forgery.bundle)[forgery.check] is False


def test_every_check_that_can_fail_here_has_failed() -> None:
    never = {"signatures", "external_time"}
    assert {forgery.check for forgery in FORGERIES} == set(CHECKS) - never


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files(offline_page: OfflinePage, name: str) -> None:
    assert set(agreed(offline_page, HOSTILE[name]).values()) == {"not_checked"}
    assert offline_page.judge(HOSTILE[name])[0] == "unreadable"


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def test_single_bits_of_the_file(offline_page: OfflinePage) -> None:
    small = scene(3).bundle()
    for bit in random.Random(11).sample(range(8 * len(small)), BITS):
        agreed(offline_page, flipped(small, bit))


def test_single_bits_of_members_with_a_matching_manifest(offline_page: OfflinePage) -> None:
    held = members_of(scene(3).bundle())
    chance = random.Random(12)
    names = [name for name in held if name not in {members.MANIFEST, members.PAGE}]
    for number in range(BITS):
        name = names[number % len(names)]
        bit = chance.randrange(8 * len(held[name]))
        agreed(offline_page, repack({**held, name: flipped(held[name], bit)}))


def test_random_damage(offline_page: OfflinePage, record_property: Record) -> None:
    verdicts: Counter[str] = Counter()
    for damage in bundle_damages(scene(9).bundle(), DAMAGES, seed=23):
        answers = agreed(offline_page, damage.bundle)
        # Cosignatures and timestamps are not judged by a browser.
        judged = {one for one in damage.not_true if not one.startswith(("external", "witnesses"))}
        assert holds(frozenset(judged), answers), damage.what
        verdicts["refuted" if False in answers.values() else "not refuted"] += 1
    record_property("damages", dict(verdicts))
