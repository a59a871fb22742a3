"""Retention: months that are archived leave the database when the policy says so."""
