"""Writes a bundle as a stream, its members in the order of the format.

::

    writer = BundleWriter(write, "acme", "audit.example.com/orgs/acme", request)
    writer.begin(page, log_keys)
    writer.add_checkpoint(size, note, anchoring)
    for …: writer.add_entry(seq, leaf, proof, payload)
    writer.finish(names)

The writer verifies nothing; a caller that must not hand out an invalid bundle checks the parts
before. Memory holds one batch of entries and the manifest's list of the members so far.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ledger.errors import EvidenceError
from ledger.evidence import members, texts
from ledger.evidence.format import (
    BATCH_BYTES,
    BATCH_ENTRIES_MAX,
    ENTRIES_MAX,
    FORMAT,
    MEMBER_BYTES_MAX,
    TOKENS_MAX,
    VERSION,
    BundledLeaf,
    Entries,
    Manifest,
    Member,
    PayloadLine,
    Request,
    encode,
)
from ledger.evidence.zip_layout import Write, ZipWriter
from ledger.proof import TlogProof


@dataclass(frozen=True, slots=True)
class BundledAnchoring:
    """The proof that a checkpoint is in an anchor, and the anchor's attestations.

    ``note`` is the anchor as the log alone signed it, ``cosignatures`` the witnesses' signature
    lines (b"" for none), ``hashes`` the inclusion proof of the blinded leaf, ``tokens`` RFC 3161
    tokens (DER) for ``note``.
    """

    index: int
    size: int
    nonce: bytes
    hashes: Sequence[bytes]
    note: bytes
    cosignatures: bytes = b""
    tokens: Sequence[bytes] = ()


class _Batch:
    """Entries that are written together."""

    def __init__(self) -> None:
        self.leaves: list[bytes] = []
        self.payloads: list[bytes] = []
        self.proofs: list[tuple[str, bytes]] = []
        self._leaf_bytes = self._payload_bytes = 0

    def has_room(self, leaf: bytes, payload: bytes) -> bool:
        if not self.leaves:
            return True
        return (
            len(self.leaves) < BATCH_ENTRIES_MAX
            and self._leaf_bytes + len(leaf) <= BATCH_BYTES
            and self._payload_bytes + len(payload) <= BATCH_BYTES
        )

    def add(self, leaf: bytes, payload: bytes) -> None:
        self.leaves.append(leaf)
        self.payloads.append(payload)
        self._leaf_bytes += len(leaf)
        self._payload_bytes += len(payload)


class BundleWriter:
    """Writes one bundle. Raises EvidenceError for calls out of order and for unfit arguments."""

    def __init__(self, write: Write, org: str, origin: str, request: Request) -> None:
        self._zip = ZipWriter(write)
        self._org, self._origin, self._request = org, origin, request
        self._members: list[Member] = []
        self._checkpoint: tuple[int, bytes] | None = None
        self._anchor: int | None = None
        self._batch = _Batch()
        self._batches = 0
        self._count, self._first_seq, self._last_seq = 0, -1, -1

    def begin(self, page: bytes, log_keys: bytes) -> None:
        """Write the texts, the offline page and the key history (``LogKeyHistory.document()``)."""
        if self._members:
            raise EvidenceError("the bundle has begun already")
        self._add(members.README, texts.README)
        self._add(members.STATEMENT, texts.STATEMENT)
        self._add(members.PAGE, page)
        self._add(members.LOG_KEYS, log_keys)

    def add_checkpoint(self, size: int, note: bytes, anchoring: BundledAnchoring | None) -> None:
        """Write the org's signed checkpoint, in which all proofs end, and its anchor, if any."""
        if not self._members or self._checkpoint is not None:
            raise EvidenceError("a bundle has one checkpoint, right after its keys")
        self._checkpoint = size, note
        self._add(members.checkpoint_note(size), note)
        if anchoring is not None:
            self._anchor = anchoring.size
            self._add_anchor(size, anchoring)

    def add_entry(
        self,
        seq: int,
        leaf: bytes,
        proof: Sequence[bytes] | None,
        payload: PayloadLine | None,
    ) -> None:
        """Add the next entry, by ascending seq.

        ``proof`` is its inclusion proof in the checkpoint, ``payload`` its line; the request
        decides whether each is given for all entries or for none.
        """
        if self._checkpoint is None:
            raise EvidenceError("entries come after the checkpoint")
        if not self._last_seq < seq < self._checkpoint[0]:
            raise EvidenceError(
                f"entry {seq} can't follow entry {self._last_seq} in a bundle of "
                f"{self._checkpoint[0]} signed entries"
            )
        if self._count == ENTRIES_MAX:
            raise EvidenceError(f"a bundle has at most {ENTRIES_MAX} entries; ask for fewer")
        if (proof is not None) != self._request.include_merkle_proofs:
            raise EvidenceError("give proofs exactly when include_merkle_proofs is true")
        if (payload is not None) != self._request.include_payloads:
            raise EvidenceError("give payloads exactly when include_payloads is true")
        self._first_seq = seq if self._count == 0 else self._first_seq
        self._last_seq = seq
        self._count += 1
        leaf_line = leaf + b"\n"
        line = b"" if payload is None else encode(payload) + b"\n"
        if not self._batch.has_room(leaf_line, line):
            self._flush()
        self._batch.add(leaf_line, line)
        if proof is not None:
            file = TlogProof(seq, tuple(proof), self._checkpoint[1]).format()
            self._batch.proofs.append((members.proof(seq), file))

    def finish(self, names: Mapping[str, str] | None = None) -> Manifest:
        """Write the last batch, the names and the manifest; return the manifest.

        ``names`` are the names of persons by their refs, None where they were not requested.
        """
        if self._checkpoint is None or self._count == 0:
            raise EvidenceError("a bundle has a checkpoint and at least one entry")
        self._flush()
        if names is not None:
            self._add(members.NAMES, encode(dict(sorted(names.items()))))
        manifest = Manifest(
            self._anchor,
            self._checkpoint[0],
            Entries(self._count, self._first_seq, self._last_seq),
            FORMAT,
            tuple(self._members),
            self._org,
            self._origin,
            self._request,
            VERSION,
        )
        self._zip.add(members.MANIFEST, encode(manifest))
        self._zip.finish()
        return manifest

    def _add_anchor(self, checkpoint: int, anchoring: BundledAnchoring) -> None:
        index, size = anchoring.index, anchoring.size
        if len(anchoring.tokens) > TOKENS_MAX:
            raise EvidenceError(f"an anchor has at most {TOKENS_MAX} timestamps in a bundle")
        leaf = BundledLeaf(index, size, anchoring.nonce.hex(), checkpoint)
        self._add(members.checkpoint_leaf(checkpoint), encode(leaf))
        cosigned = anchoring.note + anchoring.cosignatures
        proof = TlogProof(index, tuple(anchoring.hashes), cosigned)
        self._add(members.checkpoint_proof(checkpoint), proof.format())
        self._add(members.anchor_note(size), anchoring.note)
        if anchoring.cosignatures:
            self._add(members.anchor_cosignatures(size), anchoring.cosignatures)
        for number, token in enumerate(anchoring.tokens):
            self._add(members.anchor_token(size, number), token)

    def _flush(self) -> None:
        batch, self._batch = self._batch, _Batch()
        self._add(members.leaves(self._batches), b"".join(batch.leaves))
        if self._request.include_payloads:
            self._add(members.payloads(self._batches), b"".join(batch.payloads))
        for name, file in batch.proofs:
            self._add(name, file)
        self._batches += 1

    def _add(self, name: str, data: bytes) -> None:
        if len(data) > MEMBER_BYTES_MAX:
            raise EvidenceError(
                f"{name} would have {len(data)} bytes; the limit is {MEMBER_BYTES_MAX}"
            )
        self._members.append(self._zip.add(name, data))
