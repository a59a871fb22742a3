"""A log in memory that signs any tree a test asks for, honest or not."""

from __future__ import annotations

from hashlib import sha256

from ledger.checkpoint import TreeHead
from ledger.merkle import consistency_proof, leaf_hash, root
from ledger.note import Ed25519Signer, MlDsaSigner, Signer, sign_note
from ledger.submission import Submission


class SmallLog:
    """A log of `leaves` numbered leaves; each `branch` is a different history of the same log."""

    def __init__(self, origin: str = "log.example/anchors", leaves: int = 300) -> None:
        self.origin = origin
        seed = sha256(origin.encode()).digest()
        self.signers: list[Signer] = [
            Ed25519Signer.from_seed(origin, seed),
            MlDsaSigner.from_seed(origin, seed),
        ]
        self._leaves = leaves

    @property
    def policy(self) -> str:
        """The policy lines by which a witness knows this log."""
        return "".join(f"log {signer.vkey()}\n" for signer in self.signers)

    def hashes(self, size: int, branch: int = 0) -> list[bytes]:
        """The leaf hashes of the first `size` leaves; branches differ from leaf 5 on."""
        assert size <= self._leaves
        return [leaf_hash(b"%d %d" % (n, branch if n >= 5 else 0)) for n in range(size)]

    def text(self, size: int, branch: int = 0) -> bytes:
        """The text of the checkpoint."""
        return TreeHead(self.origin, size, root(self.hashes(size, branch)), ()).text()

    def note(self, size: int, branch: int = 0) -> bytes:
        """The signed checkpoint."""
        return sign_note(self.text(size, branch), self.signers, 1_700_000_000)

    def proof(self, old: int, new: int, branch: int = 0) -> list[bytes]:
        """The consistency proof, empty where none is needed."""
        return consistency_proof(old, self.hashes(new, branch)) if 0 < old < new else []

    def body(self, old: int, new: int, branch: int = 0) -> bytes:
        """The body of an add-checkpoint request."""
        return Submission(old, tuple(self.proof(old, new, branch)), self.note(new, branch)).body()
