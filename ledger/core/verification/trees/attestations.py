"""What others said of the anchors: timestamp tokens, and witnesses' cosignatures."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

from ledger.core.verification.work.faults import NO_ENTRY
from ledger.core.verification.work.segments import FaultList
from ledger.core.verification.work.trust import TrailTrust
from ledger.errors import NoteError, TimestampError
from ledger.note import parse_note
from ledger.storage.tree_out import Attestation, TreeReader

if TYPE_CHECKING:
    from ledger.policy import Policy


class Attestations:
    """Holds them against what is trusted; what nobody is trusted for is not looked at."""

    def __init__(self, trust: TrailTrust) -> None:
        self._authorities = trust.authorities
        self._policy = None if trust.witnesses is None else _policy(trust.witnesses)
        self._anchor: int | None = None
        self._cosigned: set[str] = set()
        self.attested: dict[str, int] = {}
        """By check: the size of the largest anchor of which an attestation was found right."""

    async def read(
        self,
        trees: TreeReader,
        sizes: tuple[int, int],
        faults: FaultList,
        held: set[str],
        *,
        newest: bool = False,
    ) -> None:
        """Verify those of the anchors above the first of these sizes, up to the second.

        ``newest``: they are read from the newest on, and no further than to one that is right.
        """
        if self._authorities is not None:
            async with aclosing(trees.tokens(*sizes, newest_first=newest)) as tokens:
                async for token in tokens:
                    self._check_token(token, faults, held)
                    if newest and "external_time" in held:
                        break
        if self._policy is not None:
            async with aclosing(trees.cosignatures(*sizes, newest_first=newest)) as lines:
                async for line in lines:
                    self._check_line(line, self._policy, faults, held)
                    if newest and "witnesses" in held:
                        break

    def _check_token(self, token: Attestation, faults: FaultList, held: set[str]) -> None:
        from ledger.timestamp import verify  # noqa: PLC0415 - a worker starts with what it needs

        if token.note is None or token.data is None:
            reason = "the anchor is gone" if token.note is None else "too large to be one"
        else:
            try:
                verify(token.data, token.note, self._authorities or b"")
            except TimestampError as error:
                reason = str(error)
            else:
                self._hold("external_time", token.size, held)
                return
        what = f"a timestamp of the anchor of size {token.size}: {reason}"
        faults.add(NO_ENTRY, "timestamp_invalid", what)

    def _check_line(
        self, line: Attestation, policy: Policy, faults: FaultList, held: set[str]
    ) -> None:
        if self._anchor != line.size:
            self._anchor, self._cosigned = line.size, set()
        try:
            if line.note is None or line.data is None:
                raise NoteError("the anchor is gone, or the line is too large to be one")
            self._cosigned |= policy.cosigned_by(parse_note(line.note), line.data)
        except NoteError as error:
            what = f"a cosignature of the anchor of size {line.size}: {error}"
            faults.add(NO_ENTRY, "cosignature_invalid", what)
            return
        if self._cosigned and policy.satisfied_by(self._cosigned):
            self._hold("witnesses", line.size, held)

    def _hold(self, check: str, size: int, held: set[str]) -> None:
        held.add(check)
        self.attested[check] = max(size, self.attested.get(check, 0))


def _policy(data: bytes) -> Policy:
    from ledger.policy import parse_policy  # noqa: PLC0415 - as above

    return parse_policy(data)
