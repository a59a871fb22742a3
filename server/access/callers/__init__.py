"""The acts of callers of one process, counted and noted in memory."""
