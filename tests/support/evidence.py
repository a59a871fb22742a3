"""Evidence bundles without a server: a trail, its signed trees, and bundles of them.

All parts are made by the production code. Equal arguments give equal bytes, except
for ML-DSA signatures, which are random.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import msgspec

from ledger import merkle, sealing
from ledger.anchor import blind
from ledger.chain import EMPTY_HEAD, Draft, StoredEntry, extend
from ledger.checkpoint import TreeHead
from ledger.entry import Leaf, decode_leaf, payload_digest
from ledger.evidence.format import (
    PayloadLine,
    Request,
    State,
    decode,
    encode,
    read_manifest,
)
from ledger.evidence.members import MANIFEST
from ledger.evidence.reader import BundleFile
from ledger.evidence.trust import Trust
from ledger.evidence.verdict import Judgement
from ledger.evidence.verification import verify_bundle
from ledger.evidence.writer import BundledAnchoring, BundleWriter
from ledger.evidence.zip_layout import ZipWriter
from ledger.log_keys import LogKeys
from ledger.note import CosignatureSigner, Signer, sign_note
from ledger.tiles import StaticLog
from tests.support.signing import log_keys
from tests.support.static_logs import log_files
from tests.support.trails import KEY, NOW_US, ORG, ORG_ID, draft

PAGE = b"<!doctype html><title>the page is not what is tested here</title>\n"
ORG_DATA_KEY = sha256(b"org data key").digest()
WITNESS = CosignatureSigner.from_seed("witness.example/w1", bytes([9]) * 32)
COSIGNED_AT_S = 1_767_268_900
OTHER_CHECKPOINTS = 6
"""Leaves of other orgs in the anchor log, half of them before ours."""

Stamp = Callable[[bytes], bytes]
PINS = Trust(log_keys().public().pins())
"""Trust in the default keys of these trails."""


def data_key(seal: str) -> bytes:
    """The data key of a person, or of the org, in these trails."""
    return ORG_DATA_KEY if seal == sealing.ORG_SEAL else sha256(seal.encode()).digest()


def state_of(leaf: Leaf) -> State:
    """The state of a payload in these bundles, chosen by its seq so that every state occurs."""
    if leaf.payload.seal is None:
        return "plain"
    states: tuple[State, ...] = ("disclosed", "sealed", "erased", "disclosed")
    return states[leaf.seq % len(states)]


def payload_line(entry: StoredEntry, state: State | None = None) -> PayloadLine:
    """The payload line of an entry."""
    leaf = decode_leaf(entry.leaf)
    state = state or state_of(leaf)
    key = None
    if state == "disclosed" and leaf.payload.seal is not None:
        salt = sealing.sealed_salt(entry.payload)
        key = sealing.payload_key(data_key(leaf.payload.seal), salt).hex()
    return PayloadLine(key, None if state == "withheld" else entry.payload, entry.seq, state)


def entries(length: int, *, sealed: bool = True, org: str = ORG) -> list[StoredEntry]:
    """The entries of a trail; in a sealed org every third payload is sealed with the org's key."""
    drafts = [_draft(number, sealed, org) for number in range(length)]
    return extend(ORG_ID, org, EMPTY_HEAD, drafts, NOW_US, KEY)[0]


def _draft(number: int, sealed: bool, org: str) -> Draft:
    payload = b'{"action":"approve","number":%d}' % number
    if not sealed:
        return draft(payload, subject=f"person {number % 5}")
    subject = None if number % 3 == 2 else f"ref:{'person':A<20}{number % 5:02}"
    seal = subject or sealing.ORG_SEAL
    salt = sha256(b"salt %d" % number).digest()
    aad = sealing.payload_aad(org, seal)
    stored = sealing.seal_payload(sealing.DataKey.of(data_key(seal)), salt, aad, payload)
    made = draft(stored, actor=f"ref:{'actor':A<22}", subject=subject)
    made.digest = payload_digest(stored, seal)
    return made


@dataclass(frozen=True)
class Scene:
    """The inputs of a bundle: a trail, its checkpoint, and the anchor over it."""

    keys: LogKeys
    entries: list[StoredEntry]
    org: str
    note: bytes
    anchoring: BundledAnchoring | None
    log: StaticLog
    names: Mapping[str, str] | None = field(default=None)

    @property
    def size(self) -> int:
        return len(self.entries)

    def stamped(self, *stamps: Stamp) -> Scene:
        """A copy of the scene with timestamp tokens over the anchor."""
        assert self.anchoring is not None
        tokens = [stamp(self.anchoring.note) for stamp in stamps]
        return replace(self, anchoring=replace(self.anchoring, tokens=tokens))

    def bundle(
        self,
        seqs: Iterable[int] | None = None,
        *,
        proofs: bool = True,
        payloads: bool = True,
        line: Callable[[StoredEntry], PayloadLine] = payload_line,
        origin: str | None = None,
    ) -> bytes:
        """A bundle of these entries, by default of all."""
        chosen = list(range(self.size) if seqs is None else seqs)
        request = Request(
            from_seq=chosen[0],
            to_seq=chosen[-1],
            include_merkle_proofs=proofs,
            include_payloads=payloads,
            include_pq_attestation=self.anchoring is not None,
        )
        out = BytesIO()
        origin = origin or self.keys.public().org_origin(self.org)
        writer = BundleWriter(out.write, self.org, origin, request)
        writer.begin(PAGE, self.keys.public().document())
        writer.add_checkpoint(self.size, self.note, self.anchoring)
        for seq in chosen:
            entry = self.entries[seq]
            proof = self.log.inclusion_proof(seq) if proofs else None
            writer.add_entry(seq, entry.leaf, proof, line(entry) if payloads else None)
        writer.finish(self.names)
        return out.getvalue()


def scene(
    length: int = 12,
    *,
    sealed: bool = True,
    org: str = ORG,
    keys: LogKeys | None = None,
    anchored: bool = True,
    witnesses: Iterable[Signer] = (WITNESS,),
) -> Scene:
    """A signed trail of this length, by default also anchored and cosigned."""
    keys = keys or log_keys()
    made = entries(length, sealed=sealed, org=org)
    files, root = log_files([entry.leaf for entry in made])
    checkpoint = TreeHead(keys.public().org_origin(org), length, root)
    note = sign_note(checkpoint.text(), keys.org_signers(org))
    anchoring = anchor(keys, note, witnesses) if anchored else None
    return Scene(keys, made, org, note, anchoring, StaticLog(files.get, length))


def anchor(keys: LogKeys, note: bytes, witnesses: Iterable[Signer] = ()) -> BundledAnchoring:
    """An anchor over this checkpoint and some checkpoints of other orgs."""
    nonce = sha256(b"nonce" + note).digest()
    leaves = [sha256(b"other %d" % number).digest() for number in range(OTHER_CHECKPOINTS)]
    index = OTHER_CHECKPOINTS // 2
    leaves.insert(index, blind(nonce, note))
    hashes = [merkle.leaf_hash(leaf) for leaf in leaves]
    checkpoint = TreeHead(keys.public().anchor_origin, len(leaves), merkle.root(hashes))
    anchor_note = sign_note(checkpoint.text(), keys.anchor_signers(), NOW_US // 1_000_000)
    lines = [witness.line(checkpoint.text(), COSIGNED_AT_S) for witness in witnesses]
    proof = merkle.inclusion_proof(index, hashes)
    return BundledAnchoring(index, len(leaves), nonce, proof, anchor_note, b"".join(lines))


def judge(bundle: bytes, trust: Trust | None = None) -> Judgement:
    """The verdict on a bundle in memory."""
    return verify_bundle(BytesIO(bundle), trust)


def members_of(bundle: bytes) -> dict[str, bytes]:
    """Every member's bytes by name, in order, the manifest last."""
    file = BundleFile(BytesIO(bundle))
    return {member.name: file.read(member) for member in file.members}


def repack(changed: Mapping[str, bytes], **manifest: object) -> bytes:
    """A bundle of these members with a matching manifest, as a careful forger makes it.

    ``manifest`` replaces fields of the manifest.
    """
    out = BytesIO()
    zip_writer = ZipWriter(out.write)
    added = [zip_writer.add(name, data) for name, data in changed.items() if name != MANIFEST]
    original = decode(read_manifest, changed[MANIFEST], MANIFEST)
    fitting = msgspec.structs.replace(original, members=tuple(added))
    zip_writer.add(MANIFEST, encode(msgspec.structs.replace(fitting, **manifest)))
    zip_writer.finish()
    return out.getvalue()


def forge(bundle: bytes, changes: Mapping[str, bytes], **manifest: object) -> bytes:
    """A bundle with some members replaced, and a matching manifest."""
    return repack({**members_of(bundle), **changes}, **manifest)


def write_log(folder: Path, made: list[StoredEntry], older: Iterable[int] = ()) -> Path:
    """Write a trail's log as files, with checkpoints and partial files of older sizes."""
    leaves = [entry.leaf for entry in made]
    keys = log_keys()
    written = {"log-keys.json": keys.public().document()}
    for size in (*older, len(made)):
        files, root = log_files(leaves[:size])
        text = TreeHead(keys.public().org_origin(ORG), size, root).text()
        note = sign_note(text, keys.org_signers(ORG))
        name = "checkpoint" if size == len(made) else f"checkpoints/{size:016}"
        written |= files | {name: note}
    for path, data in written.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return folder
