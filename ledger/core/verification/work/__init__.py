"""The work of a verification as its parts hand it on: segments, orders, trust, faults, tally."""
