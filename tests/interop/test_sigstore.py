"""Proofs of this server are verified by the code with which sigstore verifies Rekor's proofs."""

import copy
import json
import subprocess
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest

from ledger.note import Ed25519Signer, Verifier
from tests.support.object_storage import DONE, PYTHON
from tests.support.served_log import ServedLog

pytestmark = pytest.mark.xdist_group("served_log")

CLIENT = Path(__file__).with_name("sigstore_client.py")


def findings(verifier: Verifier, entries: list[tuple[bytes, dict[str, Any]]]) -> list[str]:
    assert DONE.exists(), "run `make .venv-s3`: sigstore is installed there, apart from .venv"
    order = {
        "public_key": b64encode(verifier.public_key).decode(),
        "key_id": b64encode(verifier.key_id).decode(),
        "entries": [{"leaf": b64encode(leaf).decode(), "proof": proof} for leaf, proof in entries],
    }
    done = subprocess.run(
        [PYTHON, "-I", "-W", "ignore", CLIENT],
        input=json.dumps(order),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_every_proof_verifies(served_log: ServedLog) -> None:
    (verifier,) = served_log.history.org_verifiers(served_log.org)
    entries = [(served_log.leaf(proof["index"]), proof) for proof in served_log.inclusions()]
    assert findings(verifier, entries) == ["ok"] * len(entries)


def test_altered_proofs_are_refused(served_log: ServedLog) -> None:
    (verifier,) = served_log.history.org_verifiers(served_log.org)
    leaf, proof = served_log.leaf(17), served_log.inclusion(17, 300)
    elsewhere, longer, resigned = copy.deepcopy(proof), copy.deepcopy(proof), copy.deepcopy(proof)
    elsewhere["index"] = 16
    longer["hashes"].append("00" * 32)
    resigned["checkpoint"]["note"] = proof["checkpoint"]["note"].replace("\n300\n", "\n301\n")
    wrong = [(leaf + b" ", proof), (leaf, elsewhere), (leaf, longer), (leaf, resigned)]
    assert [finding.partition(":")[0] for finding in findings(verifier, wrong)] == [
        "inclusion proof contains invalid root hash",
        "inclusion proof contains invalid root hash",
        "inclusion proof has wrong size",
        "checkpoint",
    ]
    other = Ed25519Signer.from_seed(verifier.name, bytes(32)).verifier()
    assert findings(other, [(leaf, proof)])[0].startswith("checkpoint: Signature not found")
