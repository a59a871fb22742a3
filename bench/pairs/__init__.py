"""CPU per event of two commits, measured in alternating pairs."""
