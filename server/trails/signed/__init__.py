"""Waiting for signatures: for a tree to grow, and of entries that wait for too long."""
