"""Obtains attestations of anchors: timestamps (RFC 3161) and cosignatures of witnesses."""
