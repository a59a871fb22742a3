"""What the objects of an archive are called and hold: names, rows, packs, records."""
