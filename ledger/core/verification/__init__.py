"""Verification of one entry, of a whole trail, and as jobs of the server.

:func:`ledger.core.verification.run.verify_trail` streams a trail through worker processes.
``work`` has the data that its parts exchange: segments, setups, faults, the tally. ``rows`` is the
pure check of one segment's rows, ``trees`` the check of the signed logs. The kinds of faults are in
``work/faults`` and in docs/verification.md.

Nothing is imported here, so that a worker process imports only the modules it needs.
"""
