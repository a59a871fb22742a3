"""Trails as the server serves them: appended to, read, guarded, and let go."""
