"""Commands for orgs, entries, verification and bundles."""
