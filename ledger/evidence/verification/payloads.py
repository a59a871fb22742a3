"""Checks payloads: each against the digest in its leaf, and the disclosed ones by opening them."""

from __future__ import annotations

from collections import Counter

from blake3 import blake3

from ledger.entry import Leaf
from ledger.errors import EvidenceError, FormatError, SealingError
from ledger.evidence.format import PayloadLine, decode, read_payload
from ledger.evidence.verdict import Findings
from ledger.sealing import open_with_payload_key, payload_aad


class Payloads:
    """Checks payload lines against leaves, and counts their states."""

    def __init__(self, org: str, findings: Findings) -> None:
        self._org = org
        self._findings = findings
        self._states: Counter[str] = Counter()

    def check(self, leaves: list[Leaf | None], lines: list[bytes], name: str) -> None:
        """Check one member, a line for each leaf. Raises EvidenceError where it can't be read."""
        if len(lines) != len(leaves):
            raise EvidenceError(f"{name} has {len(lines)} lines for {len(leaves)} leaves")
        for at, (leaf, line) in enumerate(zip(leaves, lines, strict=True), 1):
            payload = decode(read_payload, line, f"{name} line {at}")
            self._states[payload.state] += 1
            if leaf is None:
                continue
            reason = self._fault(leaf, payload)
            if reason:
                self._findings.fails("payloads", f"entry {leaf.seq}: {reason}")

    def finish(self) -> None:
        """Record the finding about all payloads."""
        counts = ", ".join(f"{count} {state}" for state, count in sorted(self._states.items()))
        withheld = self._states["withheld"]
        if withheld:
            self._findings.leaves_out("payloads", f"{withheld} are not in the bundle ({counts})")
        else:
            self._findings.holds("payloads", f"all as their leaves say: {counts}")

    def _fault(self, leaf: Leaf, line: PayloadLine) -> str | None:
        """Return the fault of a payload, or None."""
        fault = _form_fault(leaf, line)
        if fault or line.payload is None:
            return fault
        if len(line.payload) != leaf.payload.size:
            return f"the payload has {len(line.payload)} bytes, the leaf says {leaf.payload.size}"
        if blake3(line.payload).hexdigest() != leaf.payload.blake3:
            return "the payload does not have the digest that the leaf gives"
        return self._opening_fault(line.payload, line.key, leaf.payload.seal)

    def _opening_fault(self, sealed: bytes, key: str | None, seal: str | None) -> str | None:
        if key is None or seal is None:
            return None
        try:
            open_with_payload_key(bytes.fromhex(key), payload_aad(self._org, seal), sealed)
        except (SealingError, FormatError) as error:
            return f"the disclosed key does not open it: {error}"
        return None


def _form_fault(leaf: Leaf, line: PayloadLine) -> str | None:
    """Return the fault of a line that shows before its payload's bytes are checked, or None."""
    if line.seq != leaf.seq:
        return f"the payload in its place is that of entry {line.seq}"
    if (line.key is not None) != (line.state == "disclosed"):
        return f"a payload that is {line.state} has a key, or one that is disclosed has none"
    if (line.payload is None) != (line.state == "withheld"):
        return f"a payload that is {line.state} has bytes, or has none"
    if line.state != "withheld" and (leaf.payload.seal is None) != (line.state == "plain"):
        return f"a payload with seal {leaf.payload.seal!r} can't be {line.state}"
    return None
