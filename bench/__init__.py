"""Benchmarks: the server's speed against baselines on the same machine. `python -m bench`."""
