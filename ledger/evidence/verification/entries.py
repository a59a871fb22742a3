"""Checks the entries batch by batch: leaves, links, payloads, and the proofs to the checkpoint."""

from __future__ import annotations

from typing import Final

from ledger.entry import Leaf, decode_leaf, entry_hash
from ledger.errors import EvidenceError, MalformedLeaf, MerkleError, ProofError
from ledger.evidence import members
from ledger.evidence.format import BATCH_ENTRIES_MAX, ENTRIES_MAX
from ledger.evidence.verdict import Findings
from ledger.evidence.verification.contents import Contents
from ledger.evidence.verification.payloads import Payloads
from ledger.evidence.verification.proofs import Proofs
from ledger.evidence.verification.tree_head import TrailHead

_PROOF_NAMES: Final = "proofs/"


def check_entries(contents: Contents, head: TrailHead, findings: Findings) -> None:
    """Check all batches, up to the first member that belongs to none."""
    entries = _Entries(contents, head, findings)
    batch = 0
    while contents.peek() == members.leaves(batch):
        entries.check_batch(batch)
        batch += 1
    entries.finish()


class _Entries:
    """The checks of all entries, with the state that one entry leaves for the next."""

    def __init__(self, contents: Contents, head: TrailHead, findings: Findings) -> None:
        self._contents = contents
        self._manifest = contents.manifest
        self._inclusion = Proofs(head.checkpoint, head.note) if head.checkpoint else None
        self._findings = findings
        self._payloads = Payloads(self._manifest.org, findings)
        self._count = self._proofs = self._links = self._unreadable = 0
        self._first_seq: int | None = None
        self._seq = -1
        self._hash = ""
        """Seq and entry hash of the leaf before, in hex."""

    def check_batch(self, batch: int) -> None:
        request = self._manifest.request
        name = members.leaves(batch)
        lines = split_lines(name, self._contents.take(name))
        self._count += len(lines)
        if self._count > ENTRIES_MAX:
            raise EvidenceError(f"the bundle has more than {ENTRIES_MAX} entries")
        leaves = [self._check_leaf(f"{name} line {at}", line) for at, line in enumerate(lines, 1)]
        hashes = [entry_hash(line) for line in lines]
        self._check_links(leaves, hashes)
        if request.include_payloads:
            name = members.payloads(batch)
            self._payloads.check(leaves, split_lines(name, self._contents.take(name)), name)
        if request.include_merkle_proofs:
            for leaf, digest in zip(leaves, hashes, strict=True):
                self._check_proof(leaf, digest)

    def finish(self) -> None:
        """Record the findings about all entries together."""
        findings, entries = self._findings, self._manifest.entries
        if (self._count, self._first_seq, self._seq) != (
            entries.count,
            entries.first_seq,
            entries.last_seq,
        ):
            findings.fails("hashes", "the entries are not those that the manifest counts")
        findings.holds("hashes", f"{self._count} leaves, all members as the manifest lists them")
        if self._links:
            findings.holds("links", f"{self._links} entries follow the one before them")
        else:
            findings.leaves_out("links", "no two entries of the bundle follow one another")
        if self._manifest.request.include_payloads:
            self._payloads.finish()
        else:
            findings.leaves_out("payloads", "the bundle was made without payloads")
        if not self._manifest.request.include_merkle_proofs:
            findings.leaves_out(
                "tree", "the bundle was made without proofs: nothing signed covers it"
            )
        elif self._inclusion is None:
            findings.leaves_out("tree", "the proofs end in a checkpoint that is not the right one")
        else:
            findings.holds("tree", f"{self._proofs} proofs lead to the checkpoint's root")
        self._leave_out_unreadable()

    def _leave_out_unreadable(self) -> None:
        """Record the checks as not made for leaves that can't be read: they must not be True."""
        if self._unreadable:
            for check in ("links", "payloads", "tree"):
                self._findings.leaves_out(
                    check, f"{self._unreadable} leaves can't be read, so it was not checked of them"
                )

    def _check_leaf(self, where: str, line: bytes) -> Leaf | None:
        try:
            leaf = decode_leaf(line)
        except MalformedLeaf as error:
            self._findings.fails("hashes", f"{where}: {error}")
            self._unreadable += 1
            return None
        if leaf.org != self._manifest.org:
            self._findings.fails("hashes", f"{where}: the leaf is of org {leaf.org!r}")
        return leaf

    def _check_links(self, leaves: list[Leaf | None], hashes: list[bytes]) -> None:
        for leaf, digest in zip(leaves, hashes, strict=True):
            if leaf is None:
                self._seq, self._hash = self._seq + 1, ""
                continue
            if self._first_seq is None:
                self._first_seq = leaf.seq
            elif leaf.seq <= self._seq:
                self._findings.fails("hashes", f"entry {leaf.seq} stands behind {self._seq}")
            elif leaf.seq == self._seq + 1 and self._hash:
                self._links += 1
                if leaf.previous_hash != self._hash:
                    reason = f"entry {leaf.seq} does not name the hash of the entry before it"
                    self._findings.fails("links", reason)
            self._seq, self._hash = leaf.seq, digest.hex()

    def _check_proof(self, leaf: Leaf | None, digest: bytes) -> None:
        name = self._contents.peek()
        if not name.startswith(_PROOF_NAMES):
            raise EvidenceError(f"a proof should be the next member of the bundle, not {name!r}")
        data = self._contents.take_next()
        if leaf is None or self._inclusion is None:
            return
        if name != members.proof(leaf.seq):
            self._findings.fails(
                "tree", f"{name} stands where the proof of entry {leaf.seq} should"
            )
            return
        try:
            self._inclusion.check(leaf.seq, digest, data)
        except (ProofError, MerkleError) as error:
            self._findings.fails("tree", f"{name}: {error}")
        else:
            self._proofs += 1


def split_lines(name: str, data: bytes) -> list[bytes]:
    """Split an NDJSON member into lines without their newlines. Raises EvidenceError."""
    lines = data.split(b"\n", BATCH_ENTRIES_MAX + 1)
    if lines.pop() or not 1 <= len(lines) <= BATCH_ENTRIES_MAX:
        raise EvidenceError(
            f"{name} must be 1 to {BATCH_ENTRIES_MAX} lines, each ended by a newline"
        )
    return lines
