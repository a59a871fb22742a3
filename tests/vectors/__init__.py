"""Published vectors, and the scripts that make them."""
