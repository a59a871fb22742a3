"""Checks of the signed logs: trees over leaves and tiles, their heads, anchors, attestations."""
