"""The API keys of orgs and of the platform: read, made, changed, rotated, and watched."""
