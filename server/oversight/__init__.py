"""Oversight: security events and their acknowledgement, and reviews of the trail."""
