"""What others attest: the time of an anchor (RFC 3161), and that witnesses saw it too."""
