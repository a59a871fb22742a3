"""Real losses of acknowledged entries: found, named in the trail, accepted."""
