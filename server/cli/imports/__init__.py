"""Commands that import trails of other systems."""
