"""Verifies a whole log in place: an archive, or any log in the form of C2SP tlog-tiles.

Every file is read. The newest checkpoint's signature, every tile and every entry must be right,
every older checkpoint must be of the same tree, and every partial tile or bundle must agree
with the wider one that replaced it.
"""

from __future__ import annotations

from collections.abc import Sequence

from ledger.checkpoint import TreeHead, parse_checkpoint
from ledger.errors import CheckpointError, EvidenceError, NoteError, QuireError
from ledger.evidence.logs.kept import check_kept, newest_kept
from ledger.evidence.logs.source import Source, open_source
from ledger.evidence.logs.trail import ProvedEntries
from ledger.evidence.logs.trusted import LogVerifiers, find_keys
from ledger.evidence.trust import Trust
from ledger.evidence.verdict import Findings, Judgement, unreadable
from ledger.evidence.verification.attestations import judge_cosignatures
from ledger.note import parse_note, parse_vkey
from ledger.tiles import verification
from ledger.tiles.verification import LogReport

CHECKPOINT = "checkpoint"
ASKED = frozenset({"hashes", "tree", "checkpoints", "classical_signature", "keys"})
_OF_ENTRIES = "tile/entries/"
_LEFT_OUT = {
    "signatures": "only the operator's secret key can check them",
    "payloads": "the log has only digests of payloads",
    "anchors": "a log is checked against its own checkpoint; a bundle has an anchor too",
    "external_time": "only bundles have timestamps",
}


def verify_log_at(where: str, trust: Trust | None = None, vkeys: Sequence[str] = ()) -> Judgement:
    """Verify the log in a folder or below a URL.

    Its key is one of ``vkeys`` (C2SP text form), or comes from ``trust``, or is the log's own.
    Raises OSError for a folder that can't be read; anything but a log gives the judgement
    ``unreadable``.
    """
    trust = trust or Trust()
    findings = Findings()
    try:
        with open_source(where) as source:
            return _verify(source, trust, vkeys, findings)
    except QuireError as error:
        return unreadable(str(error))


def _verify(source: Source, trust: Trust, vkeys: Sequence[str], findings: Findings) -> Judgement:
    note = source.read(CHECKPOINT)
    if note is None:
        raise EvidenceError(
            "there is no file named checkpoint: give the folder of one log, or the URL below which "
            "its checkpoint and tiles are"
        )
    head = parse_checkpoint(parse_note(note).text)
    newer = newest_kept(source, head.size)
    if newer is not None:
        findings.warnings.append(
            f"{CHECKPOINT} has size {head.size}, but {newer} is newer and was verified instead"
        )
        note = source.read(newer) or b""
        head = parse_checkpoint(parse_note(note).text)
    findings.about = {"origin": head.origin, "entries": head.size}
    given = [parse_vkey(vkey) for vkey in vkeys]
    keys = find_keys(source, head.origin, given, trust, findings)
    _check_note(note, keys, trust, findings)
    trail = ProvedEntries(keys.slug, findings)
    report = _run(source, head, trail)
    _add_report(report, findings)
    trail.finish(report.entries == head.size)
    asked = ASKED | check_kept(source, head, keys, findings)
    findings.leaves_out_the_rest(_LEFT_OUT)
    asked |= {"pq_signature"} if keys.post_quantum else set()
    asked |= {"witnesses"} if trust.policy is not None else set()
    return findings.judgement(asked | ({"external_time"} if trust.tsa_ca is not None else set()))


def _check_note(note: bytes, keys: LogVerifiers, trust: Trust, findings: Findings) -> None:
    """Check that each kind of key that the log has signed its newest checkpoint."""
    findings.holds("checkpoints", "the newest checkpoint can be read")
    if not keys.classical:
        findings.leaves_out(
            "classical_signature", "no key of the log is known: give one with --key"
        )
    else:
        keys.check("classical_signature", CHECKPOINT, note, keys.classical, findings)
    if keys.post_quantum:
        keys.check("pq_signature", CHECKPOINT, note, keys.post_quantum, findings)
    else:
        findings.leaves_out("pq_signature", "only anchors are signed with ML-DSA-44")
    if trust.policy is None:
        findings.leaves_out("witnesses", "no policy was given with --policy")
        return
    try:
        own = None if trust.policy.logs else [*keys.classical, *keys.post_quantum]
        cosigned = trust.policy.open(note, own)
    except (NoteError, CheckpointError) as error:
        findings.fails("witnesses", str(error))
    else:
        judge_cosignatures(cosigned, findings)


def _run(source: Source, head: TreeHead, trail: ProvedEntries) -> LogReport:
    """Run the verification of :mod:`ledger.tiles`, reading several files at a time."""
    steps = verification(head.size, head.root, trail.take)
    try:
        paths = next(steps)
        while True:
            paths = steps.send(source.read_many(paths))
    except StopIteration as end:
        report: LogReport = end.value
        return report


def _add_report(report: LogReport, findings: Findings) -> None:
    for fault in report.faults:
        check = "hashes" if fault.path.startswith(_OF_ENTRIES) else "tree"
        findings.fails(check, f"{fault.path}: {fault.reason}")
    if not report.complete:
        findings.fails("tree", "there are too many faults: the rest was not read")
    findings.holds("hashes", f"{report.entries} entries have the hashes in their tiles")
    findings.holds("tree", f"{report.tiles} tiles lead to the checkpoint's root")
