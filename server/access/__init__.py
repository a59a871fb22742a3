"""Access control: API keys, roles, and the directory of orgs."""
