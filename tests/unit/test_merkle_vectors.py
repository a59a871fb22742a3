"""Published Merkle proofs, right and wrong; where they come from says their README."""

import hashlib
import json
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ledger.errors import MerkleError
from ledger.merkle import (
    Edge,
    inclusion_proof,
    leaf_hash,
    node_hash,
    root,
    subtree_consistency_proof,
    verify_consistency,
    verify_inclusion,
    verify_subtree_consistency,
    verify_subtree_inclusion,
)

VECTORS = Path(__file__).parent.parent / "vectors/merkle"
PUBLISHED = VECTORS / "transparency-dev"
FILES = sorted(PUBLISHED.rglob("*.json"))
CT_TREE = json.loads((VECTORS / "ct_tree.json").read_bytes())


def hashes(encoded: list[str] | None) -> list[bytes]:
    return [b64decode(each) for each in encoded or []]


def verify(kind: str, vector: dict[str, Any]) -> None:
    """Raises MerkleError where the proof of the vector is refused."""
    proof = hashes(vector["proof"])
    if kind.endswith("inclusion"):
        root, leaf = hashes([vector["root"] or "", vector["leafHash"] or ""])
        if kind == "inclusion":
            verify_inclusion(vector["leafIdx"], vector["treeSize"], leaf, proof, root)
        else:
            start, end = vector["start"], vector["end"]
            verify_subtree_inclusion(vector["leafIdx"], start, end, leaf, proof, root)
        return
    root1, root2 = hashes([vector["root1"] or "", vector["root2"] or ""])
    if kind == "consistency":
        verify_consistency(vector["size1"], vector["size2"], root1, root2, proof)
    else:
        start, end = vector["start"], vector["end"]
        verify_subtree_consistency(start, end, vector["size"], root1, root2, proof)


def test_all_published_proofs_are_here() -> None:
    wrong = [json.loads(file.read_bytes())["wantErr"] for file in FILES]
    assert (len(wrong), sum(wrong)) == (518, 482)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PUBLISHED)))
def test_published_proof(file: Path) -> None:
    vector = json.loads(file.read_bytes())
    kind = file.relative_to(PUBLISHED).parts[0]
    if vector["wantErr"]:
        with pytest.raises(MerkleError, match=r"\w+ \w+ \w+"):
            verify(kind, vector)
    else:
        verify(kind, vector)


def test_the_tree_of_certificate_transparency() -> None:
    leaves = [leaf_hash(bytes.fromhex(leaf)) for leaf in CT_TREE["leaves_hex"]]
    assert [leaf.hex() for leaf in leaves] == CT_TREE["leaf_hashes_hex"]
    level = leaves
    for height in (1, 2, 3):
        level = [node_hash(*level[at : at + 2]) for at in range(0, len(level), 2)]
        assert [node.hex() for node in level] == CT_TREE[f"level{height}_hex"]
    edge = Edge()
    for size, expected in enumerate(CT_TREE["roots_hex_by_size"]):
        assert edge.root().hex() == root(leaves[:size]).hex() == expected
        edge.extend(leaves[size : size + 1])


LARGEST = 130
LEAVES = [leaf_hash(bytes([index])) for index in range(LARGEST)]


def subtrees(size: int) -> Iterator[tuple[int, int]]:
    """Every subtree that ends within a tree of ``size``, as the draft defines them."""
    for end in range(1, size + 1):
        for start in range(end):
            if start % (1 << (end - start - 1).bit_length()) == 0:
                yield start, end


def line(*parts: object, proof: list[bytes]) -> bytes:
    return " ".join([*map(str, parts), *(each.hex() for each in proof)]).encode() + b"\n"


def test_digest_of_all_subtree_hashes() -> None:
    digest = hashlib.sha256()
    for start, end in subtrees(LARGEST):
        digest.update(line(f"[{start}, {end})", proof=[root(LEAVES[start:end])]))
    assert digest.hexdigest() == "94a95384a8c69acea9b50d035a58285b3a777cb7a724005faa5e1f1e1190007f"


def test_digest_of_all_inclusion_proofs() -> None:
    digest = hashlib.sha256()
    for start, end in subtrees(LARGEST):
        subtree = root(LEAVES[start:end])
        for index in range(start, end):
            proof = inclusion_proof(index - start, LEAVES[start:end])
            verify_subtree_inclusion(index, start, end, LEAVES[index], proof, subtree)
            digest.update(line(index, f"[{start}, {end})", proof=proof))
    assert digest.hexdigest() == "ac2a8f989e44d99e399db448050ff5f19757df53cfb716aa81015d3955d8163f"


def test_digest_of_all_consistency_proofs() -> None:
    digest = hashlib.sha256()
    roots = {span: root(LEAVES[slice(*span)]) for span in subtrees(LARGEST)}
    for size in range(LARGEST + 1):
        for start, end in subtrees(size):
            proof = subtree_consistency_proof(start, end, LEAVES[:size])
            verify_subtree_consistency(start, end, size, roots[start, end], roots[0, size], proof)
            digest.update(line(f"[{start}, {end})", size, proof=proof))
    assert digest.hexdigest() == "c586ebbb73a5621baf2140095d87dde934e3b6503a562a1a5215b8209edd083d"
