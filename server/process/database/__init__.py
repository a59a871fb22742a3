"""The database of a server: its start, the logins that it needs, the connections that it takes."""
