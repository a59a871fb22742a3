"""Checks a log's proofs with sigstore's code, in an environment that has sigstore but not Quire.

Reads a JSON object from stdin: the log's Ed25519 public key and key id, and entries with
their inclusion proofs. Prints sigstore's finding for each entry, or "ok".
"""

import json
import sys
from base64 import b64decode, b64encode
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sigstore._internal.merkle import verify_merkle_inclusion
from sigstore._internal.rekor.checkpoint import SignedCheckpoint, verify_checkpoint
from sigstore._internal.trust import Keyring, RekorKeyring
from sigstore.errors import VerificationError
from sigstore.models import TransparencyLogEntry
from sigstore_models.common.v1 import PublicKey, PublicKeyDetails
from sigstore_models.rekor.v1 import TransparencyLogEntry as Fields


def keyring(public_key: bytes) -> RekorKeyring:
    key = Ed25519PublicKey.from_public_bytes(public_key)
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    details = PublicKeyDetails.PKIX_ED25519
    return RekorKeyring(Keyring([PublicKey(raw_bytes=b64encode(der), key_details=details)]))


def entry(key_id: str, leaf: str, proof: dict[str, Any]) -> TransparencyLogEntry:
    """A leaf and its proof, as answered by GET …/proof, in the form of a Rekor log entry."""
    note = proof["checkpoint"]["note"]
    signed = SignedCheckpoint.from_text(note).checkpoint
    fields = {
        "logIndex": str(proof["index"]),
        "logId": {"keyId": key_id},
        "kindVersion": {"kind": "quire", "version": "1"},
        "canonicalizedBody": leaf,
        "inclusionProof": {
            "logIndex": str(proof["index"]),
            "treeSize": str(signed.log_size),
            "rootHash": b64encode(bytes.fromhex(proof["checkpoint"]["root"])).decode(),
            "hashes": [b64encode(bytes.fromhex(one)).decode() for one in proof["hashes"]],
            "checkpoint": {"envelope": note},
        },
    }
    return TransparencyLogEntry(Fields.from_json(json.dumps(fields)))


def found(keys: RekorKeyring, checked: TransparencyLogEntry) -> str:
    try:
        verify_checkpoint(keys, checked)
        verify_merkle_inclusion(checked)
    except VerificationError as error:
        return str(error)
    return "ok"


def main() -> None:
    order = json.load(sys.stdin)
    keys = keyring(b64decode(order["public_key"]))
    for one in order["entries"]:
        checked = entry(order["key_id"], one["leaf"], one["proof"])
        sys.stdout.write(json.dumps(found(keys, checked)) + "\n")


main()
