"""Verification: of one entry, of a whole trail, and as jobs of the server.

:func:`ledger.core.verification.run.verify_trail` streams a trail through worker processes.
``work`` is what its parts hand on: segments, orders, faults, the tally. ``rows`` is the pure
check of one segment's rows, ``trees`` the signed logs beside them. The kinds of faults are in
``work/faults`` and in docs/verification.md.

Nothing is imported here: a worker process starts with what it needs and no more.
"""
