"""Who may do what: API keys, roles, and the directory of orgs."""
