"""The contract and the description of the API."""
