"""Damaged evidence, and checks that damage made impossible, are never called true or verified."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from ledger.evidence.logs import verify_log_at
from ledger.evidence.trust import Trust
from ledger.policy import parse_policy
from ledger.timestamp import granted, query, verify
from ledger.verdict import Verdict
from tests.support.evidence import PINS, WITNESS, entries, judge, members_of, scene, write_log
from tests.support.evidence_damage import SCALE, bundle_damages, damage_files, holds
from tests.support.timestamp_authority import TimestampAuthority

BUNDLES = 500 * SCALE
LOGS = 120 * SCALE
POLICY = parse_policy(f"witness w1 {WITNESS.vkey()}\nquorum w1\n".encode())

Record = Callable[[str, object], None]


def test_damaged_bundles(shared_authority: TimestampAuthority, record_property: Record) -> None:
    trust = Trust(PINS.pins, POLICY, shared_authority.ca_pem)
    made = scene(9).stamped(lambda note: granted(shared_authority.reply(query(note, 7))))
    bundle = made.bundle()
    assert judge(bundle, trust).verdict is Verdict.VERIFIED
    note = members_of(bundle)["anchors/7.note"]
    said = verify(members_of(bundle)["anchors/7.0.tst"], note, trust.tsa_ca or b"")
    verdicts: Counter[str] = Counter()
    for damage in bundle_damages(bundle, BUNDLES, seed=21):
        judgement = judge(damage.bundle, trust)
        verdicts[judgement.outcome] += 1
        assert all(type(answer) in {bool, str} for answer in judgement.answers().values())
        if judgement.verdict is Verdict.VERIFIED:
            # Parts of a token's envelope (RFC 5652) are not signed; changing them changes no statement.
            assert damage.not_true == {"external_time"}, damage.what
            token = members_of(damage.bundle)["anchors/7.0.tst"]
            assert verify(token, note, trust.tsa_ca or b"") == said
            verdicts["unchanged in meaning"] += 1
            continue
        tokens = {"external_time"} & damage.not_true
        assert holds(damage.not_true - tokens, judgement.answers()), (damage.what, judgement)
    record_property("damages", dict(verdicts))
    assert verdicts["refuted"] > BUNDLES // 2


def test_damaged_logs(tmp_path: Path, record_property: Record) -> None:
    log = write_log(tmp_path / "acme", entries(600), (3, 256, 300, 511))
    assert verify_log_at(str(log), PINS).verdict is Verdict.VERIFIED
    files = sorted(path for path in log.rglob("*") if path.is_file())
    chance, verdicts = random.Random(22), Counter[str]()
    for _ in range(LOGS):
        what, path, before = damage_files(log, files, chance)
        judgement = verify_log_at(str(log), PINS)
        path.write_bytes(before)
        verdicts[judgement.outcome] += 1
        # Older checkpoints and outgrown partial files may be missing: nothing needs them.
        past = "checkpoints/" in what or ".p/" in what
        if judgement.verdict is Verdict.VERIFIED:
            assert what.startswith("lost"), (what, judgement)
            assert past, (what, judgement)
    record_property("damages", dict(verdicts))
    assert verdicts["refuted"] > LOGS // 2
