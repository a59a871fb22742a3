"""The data that the parts of a verification exchange: segments, setups, trust, faults, tally."""
