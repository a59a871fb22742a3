"""One hostile org, or a stranger, attacks a running server while another org works (`make soak`)."""
