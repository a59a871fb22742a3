"""Verification: of one entry, of a whole trail, and as jobs of the server.

:func:`verify_trail` streams a trail through worker processes; ``scan`` is the
pure check of a stream of rows, ``tally`` puts the parts together. The kinds of
faults are in ``faults`` and in docs/verification.md.
"""

from ledger.core.verification.faults import Checks, Result, VerificationFailed
from ledger.core.verification.trail import Progress, Target, verify_trail

__all__ = ["Checks", "Progress", "Result", "Target", "VerificationFailed", "verify_trail"]
