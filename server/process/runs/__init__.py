"""One run of a server: its banner, why it ends, and its start and stop as rows for the trail."""
