"""Limits: rates of requests, of keys, orgs and addresses, and daily quotas of orgs."""
