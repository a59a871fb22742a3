"""Writing an archive: what a trail has grown by, as objects that are stored once and in order."""
