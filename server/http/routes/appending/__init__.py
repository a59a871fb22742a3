"""Appends, and the proofs that they wait for."""
