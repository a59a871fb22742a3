"""Heads of trails: what this machine acknowledged, and the check before each batch."""
