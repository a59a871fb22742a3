"""Threats: security events are weighed, scores and levels told, and odd traffic noticed."""
