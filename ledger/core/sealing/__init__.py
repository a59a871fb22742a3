"""Sealing and opening payloads of orgs that seal."""
