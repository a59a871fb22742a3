"""Speed: what the server does against what the machine could do. `python -m bench`."""
