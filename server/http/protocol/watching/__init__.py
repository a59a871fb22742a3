"""Watches connections: how many there are, what they wait for, and how fast they move bytes."""
