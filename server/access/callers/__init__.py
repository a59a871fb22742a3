"""What callers of one process do, counted and noted in memory."""
