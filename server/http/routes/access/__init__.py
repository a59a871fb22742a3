"""The routes of orgs, their API keys and their rate limits."""
