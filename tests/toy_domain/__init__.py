"""A domain that is plugged into the server from here, and from nowhere else."""
