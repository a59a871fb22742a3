"""The rows of one segment of a trail: read, judged, hashed."""
