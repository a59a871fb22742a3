"""Verification: of one entry, of a whole trail, and as jobs of the server.

:func:`verify_trail` streams a trail through worker processes; ``scan`` is the
pure check of a stream of rows, ``tally`` puts the parts together. The kinds of
faults are in ``faults`` and in docs/verification.md.

Nothing is imported here: a worker process starts with what it needs and no more.
"""
