"""Logs of this server are verified with the Go project's own packages for notes and tiles."""

import copy
import json
import re
import subprocess
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from ledger.note import Ed25519Signer
from tests.support.served_log import LONG_GROWTH, ServedLog
from tests.support.served_log import served_log as write_log
from tests.support.signed_trees import SignedTrees

pytestmark = pytest.mark.xdist_group("served_log")


def check(program: Path, url: str, vkey: str, proofs: list[dict[str, Any]]) -> tuple[int, str]:
    """Run the checker; returns its exit code and its last line."""
    lines = "\n".join(map(json.dumps, proofs))
    done = subprocess.run(
        [program, url, vkey], input=lines, capture_output=True, text=True, timeout=120, check=False
    )
    assert not done.stderr, done.stderr
    return done.returncode, done.stdout.strip()


def test_an_orgs_log_and_its_proofs_verify(logchecker: Path, served_log: ServedLog) -> None:
    every_proof_verifies(logchecker, served_log)


@pytest.mark.slow
def test_a_log_of_three_levels_of_tiles_verifies(
    logchecker: Path, served_log: ServedLog, tmp_path: Path
) -> None:
    every_proof_verifies(logchecker, write_log(served_log.server, tmp_path, LONG_GROWTH))


def every_proof_verifies(logchecker: Path, log: ServedLog) -> None:
    proofs = log.inclusions() + log.consistencies()
    assert len(proofs) > 25
    answer = check(logchecker, log.url, log.vkey, proofs)
    assert answer == (0, f"{log.sizes[-1]} entries, {len(proofs)} proofs")


def test_an_empty_log_verifies(logchecker: Path, served_log: ServedLog) -> None:
    org, key = served_log.server.create_org("plain")
    path = f"/v1/orgs/{org}"
    made = served_log.server.request("PATCH", path, {"log_public": True}, key=key)
    assert made.status == 200
    SignedTrees(served_log.server).sign()
    (verifier,) = served_log.history.org_verifiers(org)
    url = f"{served_log.server.url}{path}/log"
    assert check(logchecker, url, verifier.vkey(), []) == (0, "0 entries, 0 proofs")


def test_the_anchor_log_commits_to_every_checkpoint(
    logchecker: Path, served_log: ServedLog
) -> None:
    anchorings = [served_log.inclusion(0, size)["anchoring"] for size in served_log.sizes]
    proofs = [
        {
            "index": anchoring["index"],
            "leaf_hash": sha256(b"\x00" + bytes.fromhex(anchoring["leaf"])).hexdigest(),
            "hashes": anchoring["hashes"],
            "checkpoint": anchoring["anchor"],
        }
        for anchoring in anchorings
    ]
    answer = check(logchecker, served_log.anchors_url, served_log.anchors_vkey, proofs)
    code, said = answer
    entries, proved = map(int, re.findall(r"\d+", said))
    assert (code, proved) == (0, len(served_log.sizes))
    assert entries >= proved  # other tests of this log anchor too


def _other_hash(proof: dict[str, Any]) -> None:
    proof["hashes"][0] = "00" * 32


def _other_place(proof: dict[str, Any]) -> None:
    proof["index"] += 1


def _other_leaf(proof: dict[str, Any]) -> None:
    proof["leaf_hash"] = "00" * 32


def _other_root(proof: dict[str, Any]) -> None:
    note: str = proof["checkpoint"]["note"]
    proof["checkpoint"]["note"] = note.replace("\n300\n", "\n301\n")


@pytest.mark.parametrize("spoil", [_other_hash, _other_place, _other_leaf, _other_root])
def test_a_spoiled_proof_is_refused(
    logchecker: Path, served_log: ServedLog, spoil: Callable[[dict[str, Any]], None]
) -> None:
    proof = copy.deepcopy(served_log.inclusion(17, 300))
    spoil(proof)
    code, reason = check(logchecker, served_log.url, served_log.vkey, [proof])
    assert code == 1
    assert "invalid" in reason or "not verifiable" in reason


def test_another_key_is_refused(logchecker: Path, served_log: ServedLog) -> None:
    origin = served_log.history.org_origin(served_log.org)
    other = Ed25519Signer.from_seed(origin, bytes(32)).vkey()
    code, reason = check(logchecker, served_log.url, other, [])
    assert (code, "no verifiable signatures" in reason) == (1, True)
