"""HTTP: routes, their bodies and their problems. One module per part of the API."""
