"""A domain that is plugged into the server without a change outside this folder."""
